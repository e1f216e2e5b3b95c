//! What a node and its pods use: the contract between those who ask (the API server) and the node, which
//! measures when it is asked and never else.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sampan_api::Status;

/// One reading of everything on a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub at: Timestamp,
    pub node: String,
    pub booted_at: Timestamp,
    pub machine: Machine,
    pub pods: Vec<PodUsage>,
    /// Whether something that runs could not be read.
    pub incomplete: bool,
}

/// The machine as a whole, pods included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub cores: u32,
    /// Nanoseconds of all CPUs since the machine started.
    pub cpu_ns: u64,
    pub memory: MachineMemory,
    /// That holds pods and images.
    pub file_system: FileSystem,
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineMemory {
    pub total: u64,
    pub usage: u64,
    /// Usage less the page cache that can go at any time.
    pub working_set: u64,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub swap_total: u64,
    pub swap_usage: u64,
}

/// Bytes and numbers of inodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    pub capacity: u64,
    pub available: u64,
    pub used: u64,
    pub inodes: u64,
    pub inodes_free: u64,
}

/// A pod that has containers which run.
#[derive(Clone, Debug, PartialEq)]
pub struct PodUsage {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// The path of its cgroup; each container's is below it, named by its id.
    pub cgroup: String,
    pub started_at: Timestamp,
    /// Of the whole pod, counted by the kernel: what its ended containers used is part of it.
    pub total: Usage,
    /// `None` in the node's own network.
    pub network: Option<Network>,
    pub containers: Vec<ContainerUsage>,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerUsage {
    pub name: String,
    /// Unique in the life of the node: a container that starts again has another one.
    pub id: String,
    /// As its status shows it.
    pub image: String,
    pub started_at: Timestamp,
    pub usage: Usage,
}

/// What a cgroup uses. What the kernel does not count is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of all CPUs.
    pub cpu_ns: u64,
    pub cpu_user_ns: u64,
    pub cpu_system_ns: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
    /// CPU time in each period, and the period, microseconds.
    pub quota_us: Option<(u64, u64)>,
    /// Bytes, as all that follows but faults, failures and pids.
    pub memory_usage: u64,
    pub memory_working_set: u64,
    pub memory_rss: u64,
    pub memory_cache: u64,
    pub memory_swap: u64,
    pub memory_limit: Option<u64>,
    pub page_faults: u64,
    pub major_page_faults: u64,
    pub memory_failures: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// What went over a pod's link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub received: Traffic,
    pub sent: Traffic,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// Two readings of one node, the later one current: what rates are made of.
#[derive(Clone, Debug)]
pub struct Window {
    pub before: Arc<Reading>,
    pub now: Arc<Reading>,
}

/// CPU over a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Billionths of a core.
    pub nano_cores: u64,
    pub over: Duration,
}

impl Window {
    /// Of the machine.
    pub fn machine(&self) -> Option<Rate> {
        rate(self.before.at, self.before.machine.cpu_ns, self.now.at, self.now.machine.cpu_ns)
    }

    /// Of a container of the later reading. One that was not there before has used nothing when it started.
    pub fn container(&self, container: &ContainerUsage) -> Option<Rate> {
        let containers = self.before.pods.iter().flat_map(|pod| &pod.containers);
        let known = containers.into_iter().find(|known| known.id == container.id);
        let (since, used) =
            known.map_or((container.started_at, 0), |known| (self.before.at, known.usage.cpu_ns));
        rate(since, used, self.now.at, container.usage.cpu_ns)
    }

    /// Of a pod of the later reading.
    pub fn pod(&self, pod: &PodUsage) -> Option<Rate> {
        let known = self.before.pods.iter().find(|known| known.uid == pod.uid);
        let (since, used) = known.map_or((pod.started_at, 0), |known| (self.before.at, known.total.cpu_ns));
        rate(since, used, self.now.at, pod.total.cpu_ns)
    }
}

fn rate(since: Timestamp, before: u64, at: Timestamp, now: u64) -> Option<Rate> {
    let over = Duration::try_from(at.duration_since(since)).ok().filter(|over| !over.is_zero())?;
    let nano_cores = u128::from(now.saturating_sub(before)) * 1_000_000_000 / over.as_nanos();
    Some(Rate { nano_cores: u64::try_from(nano_cores).unwrap_or(u64::MAX), over })
}

/// A node that measures what it uses.
#[async_trait]
pub trait NodeUsage: Send + Sync + 'static {
    /// What is used now, at most about a second old.
    async fn reading(&self) -> Result<Arc<Reading>, Status>;

    /// The same with an earlier reading. Where there is none of the last half minute, this takes a second.
    async fn window(&self) -> Result<Window, Status>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).expect("a time")
    }

    fn container(id: &str, started_at: Timestamp, cpu_ns: u64) -> ContainerUsage {
        ContainerUsage {
            name: "c".into(),
            id: id.into(),
            image: "i".into(),
            started_at,
            usage: Usage { cpu_ns, ..Usage::default() },
        }
    }

    fn reading(time: Timestamp, cpu_ns: u64, containers: Vec<ContainerUsage>) -> Arc<Reading> {
        let pod = PodUsage {
            namespace: "n".into(),
            name: "p".into(),
            uid: "u".into(),
            cgroup: "/u".into(),
            started_at: at(0),
            total: Usage { cpu_ns, ..Usage::default() },
            network: None,
            containers,
        };
        Arc::new(Reading {
            at: time,
            node: "n".into(),
            booted_at: at(0),
            machine: Machine { cpu_ns: 10 * cpu_ns, ..Machine::default() },
            pods: vec![pod],
            incomplete: false,
        })
    }

    #[test]
    fn rates_are_over_the_window_or_the_life_of_a_container() {
        let before = reading(at(10_000), 1_000_000_000, vec![container("a", at(0), 500_000_000)]);
        let containers = vec![container("a", at(0), 700_000_000), container("b", at(11_000), 500_000_000)];
        let window = Window { before, now: reading(at(12_000), 1_800_000_000, containers) };
        let pod = &window.now.pods[0];
        let seconds = Duration::from_secs;
        let check = |rate: Option<Rate>, nano_cores: u64, over: Duration| {
            assert_eq!(rate, Some(Rate { nano_cores, over }));
        };
        check(window.container(&pod.containers[0]), 100_000_000, seconds(2));
        check(window.container(&pod.containers[1]), 500_000_000, seconds(1));
        check(window.pod(pod), 400_000_000, seconds(2));
        check(window.machine(), 4_000_000_000, seconds(2));
        // Just started, or clocks that went back: nothing can be said.
        assert_eq!(window.container(&container("c", at(12_000), 5)), None);
        assert_eq!(window.container(&container("c", at(13_000), 5)), None);
    }
}
