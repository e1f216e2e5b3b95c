//! What is on disk about a container and its supervisor, for those who come after a crash.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::protocol::ContainerStatus;

/// `containers/<id>/state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// As in `linux.cgroupsPath`.
    pub cgroup: PathBuf,
    /// `None` while it is being created.
    pub status: Option<ContainerStatus>,
}

/// A process, told apart from a later one with the same number by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    pub pid: i32,
    /// In clock ticks since boot.
    pub start_time: u64,
}

/// `supervisor.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SupervisorRecord {
    pub supervisor: ProcessIdentity,
    /// The first process of the pod's shared PID namespace.
    pub pod_init: Option<ProcessIdentity>,
    pub boot_id: String,
}

impl ProcessIdentity {
    pub fn of(pid: i32) -> io::Result<ProcessIdentity> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start_time = parse_start_time(&stat).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "a process's stat without its start")
        })?;
        Ok(ProcessIdentity { pid, start_time })
    }

    pub fn is_alive(&self) -> bool {
        ProcessIdentity::of(self.pid).is_ok_and(|now| now == *self)
    }
}

/// Field 22; the name in field 2 may hold anything, also spaces and brackets.
fn parse_start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Replaces a file as a whole.
pub fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(value)?)?;
    fs::rename(&new, path)
}

/// `None` when there is no such file.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kernel's number of this boot.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_do_not_hide_the_start() {
        let rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        for name in ["cat", "a b", "x) S 1 2", ")"] {
            assert_eq!(parse_start_time(&format!("12 ({name}){rest}")), Some(4711), "{name}");
        }
        for broken in ["", "12", "12 (cat) S 1"] {
            assert_eq!(parse_start_time(broken), None, "{broken}");
        }
    }
}
