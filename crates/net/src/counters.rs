//! What went over the links of pods, as the kernel counts it.

use std::collections::HashMap;
use std::io;

use crate::link::host_link_name;

/// What went over one link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub received: Direction,
    pub sent: Direction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direction {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// The traffic of every pod at one moment.
#[derive(Clone, Debug, Default)]
pub struct PodTraffic {
    by_host_link: HashMap<String, Traffic>,
}

impl PodTraffic {
    /// Reads the counters of all links of this thread's network namespace at once.
    pub fn read() -> io::Result<PodTraffic> {
        Ok(PodTraffic { by_host_link: parse(&std::fs::read_to_string("/proc/thread-self/net/dev")?) })
    }

    /// Of a pod, as the pod sees it: what the node's end sent, the pod received.
    pub fn of(&self, pod_uid: &str) -> Option<Traffic> {
        let Traffic { received, sent } = *self.by_host_link.get(&host_link_name(pod_uid))?;
        Some(Traffic { received: sent, sent: received })
    }
}

/// `/proc/net/dev`: two lines of headings, then a name and sixteen numbers a line.
fn parse(text: &str) -> HashMap<String, Traffic> {
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_ascii_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let direction = |at: usize| {
            let [bytes, packets, errors, dropped] = *numbers.get(at..at + 4)?.first_chunk::<4>()?;
            Some(Direction { bytes, packets, errors, dropped })
        };
        Some((name.trim().to_owned(), Traffic { received: direction(0)?, sent: direction(8)? }))
    };
    text.lines().skip(2).filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_sends_the_pod_receives() {
        let link = host_link_name("u");
        let text = format!(
            "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
             {link}: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0\nbroken: 1 2 x\n short: 1 2\n"
        );
        let traffic = PodTraffic { by_host_link: parse(&text) };
        let expected = Traffic {
            received: Direction { bytes: 500, packets: 6, errors: 7, dropped: 8 },
            sent: Direction { bytes: 100, packets: 2, errors: 3, dropped: 4 },
        };
        assert_eq!(traffic.of("u"), Some(expected));
        assert_eq!(traffic.of("another"), None);
        assert_eq!(traffic.by_host_link.len(), 2);
    }
}
