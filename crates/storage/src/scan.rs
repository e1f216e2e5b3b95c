//! Reading everything below a prefix in parts, for what must not hold it all in memory.

use tokio::sync::mpsc;

use crate::{Entry, Revision, Snapshot, StoreError};

/// About as many bytes of keys and values, or as many entries, as one part has.
pub const PART_BYTES: usize = 1 << 20;
pub const PART_ENTRIES: usize = 4096;
/// Parts that are read ahead of the reader.
const AHEAD: usize = 2;

/// One part, or why there are no more.
pub type Part = Result<Vec<Entry>, StoreError>;

/// What goes from who reads the store to who uses it. Without an end the reading was cut off, and what came is not
/// everything.
enum Step {
    Part(Part),
    End,
}

/// Every entry below a prefix at one revision, in the byte order of their keys, part by part. Dropping
/// it ends the reading.
pub struct Scan {
    pub revision: Revision,
    steps: mpsc::Receiver<Step>,
    ended: bool,
}

impl Scan {
    /// A scan of what its sender is given.
    pub fn channel(revision: Revision) -> (ScanSender, Scan) {
        let (sender, steps) = mpsc::channel(AHEAD);
        (ScanSender(sender), Scan { revision, steps, ended: false })
    }

    /// A scan of what was read already.
    pub fn of(snapshot: Snapshot) -> Scan {
        let (ScanSender(sender), scan) = Scan::channel(snapshot.revision);
        // A part and the end fit into an empty queue.
        let _ = sender.try_send(Step::Part(Ok(snapshot.entries)));
        let _ = sender.try_send(Step::End);
        scan
    }

    /// The next part; after an error, and after the last one, `None`. Cancel safe.
    pub async fn next(&mut self) -> Option<Part> {
        if self.ended {
            return None;
        }
        let part = match self.steps.recv().await {
            Some(Step::Part(part)) => Some(part),
            Some(Step::End) => None,
            None => Some(Err(StoreError::CutOff)),
        };
        self.ended = !matches!(part, Some(Ok(_)));
        part
    }
}

/// Where a scan's parts come from.
pub struct ScanSender(mpsc::Sender<Step>);

impl ScanSender {
    /// Hands on a part; false where there will be no more, since it is an error or since nobody reads.
    pub async fn send(&self, part: Part) -> bool {
        let failed = part.is_err();
        self.0.send(Step::Part(part)).await.is_ok() && !failed
    }

    /// Tells that this was everything.
    pub async fn end(self) {
        // Nobody reads any more: nobody is to be told.
        let _ = self.0.send(Step::End).await;
    }
}

/// Collects entries into parts.
#[derive(Default)]
pub struct Parts {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Parts {
    /// Adds an entry; answers a part when it is full.
    pub fn push(&mut self, entry: Entry) -> Option<Vec<Entry>> {
        self.bytes += entry.key.len() + entry.value.len();
        self.entries.push(entry);
        (self.bytes >= PART_BYTES || self.entries.len() >= PART_ENTRIES).then(|| {
            self.bytes = 0;
            std::mem::take(&mut self.entries)
        })
    }

    /// What is left.
    pub fn finish(self) -> Vec<Entry> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_cut_off_does_not_look_whole() {
        for (ends, expected) in
            [(true, "2"), (false, "2, then the reading of the store was cut off before its end")]
        {
            let (sender, mut scan) = Scan::channel(7);
            tokio::spawn(async move {
                for _ in 0..2 {
                    assert!(sender.send(Ok(Vec::new())).await);
                }
                if ends {
                    sender.end().await;
                }
            });
            let (mut parts, mut error) = (0, String::new());
            while let Some(part) = scan.next().await {
                match part {
                    Ok(_) => parts += 1,
                    Err(cause) => error = format!(", then {cause}"),
                }
            }
            assert_eq!(format!("{parts}{error}"), expected);
        }
    }

    #[tokio::test]
    async fn nothing_follows_an_error() {
        let (sender, mut scan) = Scan::channel(7);
        assert!(!sender.send(Err(StoreError::Closed)).await);
        assert!(matches!(scan.next().await, Some(Err(StoreError::Closed))));
        assert!(scan.next().await.is_none());
    }
}
