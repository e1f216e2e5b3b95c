//! Asks the kernel early for what the start of a container waits for.
//!
//! To move a process into a cgroup, the kernel takes a lock that costs forks nothing until somebody
//! wants it. The first who wants it waits for a grace period of RCU, 10 to 30 ms; whoever follows
//! within another one does not. So the node moves itself to where it is, which changes nothing,
//! while the pod's network is made, and goes on for a moment, so that the container finds the lock
//! at hand when it gets there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const ROOT: &str = "/sys/fs/cgroup";
/// How long after the request the lock is kept at hand: the pod's sandbox is made meanwhile.
const KEPT: Duration = Duration::from_millis(80);
/// Less than any grace period.
const PAUSE: Duration = Duration::from_millis(5);

/// Keeps the lock at hand for all pods of the node.
#[derive(Debug, Default)]
pub struct AttachLock {
    /// `None` while nobody keeps it.
    until: Mutex<Option<Instant>>,
}

impl AttachLock {
    /// Keeps the lock at hand for a moment from now on, in the background.
    pub fn keep(self: &Arc<Self>) {
        let kept = self.until.lock().replace(Instant::now() + KEPT).is_some();
        if !kept {
            let this = self.clone();
            tokio::spawn(async move {
                while this.wanted() {
                    let prepared = tokio::task::spawn_blocking(prepare).await;
                    if !matches!(prepared, Ok(Ok(()))) {
                        // Containers then wait for themselves.
                        *this.until.lock() = None;
                        break;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
    }

    /// Whether the moment is not over; when it is, the next request begins anew.
    fn wanted(&self) -> bool {
        let mut until = self.until.lock();
        *until = until.filter(|until| Instant::now() < *until);
        until.is_some()
    }
}

/// Takes the lock once; what waits is the caller.
fn prepare() -> io::Result<()> {
    let own = std::process::id().to_string();
    let hierarchies = std::fs::read_to_string("/proc/self/cgroup")?;
    for path in own_cgroups(&hierarchies) {
        // What is mounted may be seen from elsewhere than this process's namespace of cgroups; only
        // where it finds itself is writing itself no move.
        let Ok(processes) = std::fs::read_to_string(&path) else { continue };
        if processes.lines().any(|process| process == own) {
            return std::fs::write(&path, "0");
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Where the lines of `/proc/self/cgroup` (cgroups(7)) say that this process is. All hierarchies
/// share the lock.
fn own_cgroups(hierarchies: &str) -> impl Iterator<Item = PathBuf> {
    hierarchies.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let directory = controllers.strip_prefix("name=").unwrap_or(controllers);
        Some(Path::new(ROOT).join(directory).join(path.strip_prefix('/')?).join("cgroup.procs"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<&str>) {
        assert_eq!(own_cgroups(line).next(), expected.map(PathBuf::from), "{line:?}");
    }

    #[test]
    fn places() {
        check("0::/", Some("/sys/fs/cgroup/cgroup.procs"));
        check(
            "0::/system.slice/sampan.service",
            Some("/sys/fs/cgroup/system.slice/sampan.service/cgroup.procs"),
        );
        check("4:cpu,cpuacct:/a:b", Some("/sys/fs/cgroup/cpu,cpuacct/a:b/cgroup.procs"));
        check("1:name=systemd:/x", Some("/sys/fs/cgroup/systemd/x/cgroup.procs"));
        check("3:memory:relative", None);
        check("3:memory", None);
        check("", None);
    }

    #[test]
    fn stays_where_it_is() {
        let before = std::fs::read_to_string("/proc/self/cgroup").expect("Linux has cgroups");
        // Not everybody may write there.
        let _ = prepare();
        let after = std::fs::read_to_string("/proc/self/cgroup").expect("Linux has cgroups");
        assert_eq!(before, after);
    }
}
