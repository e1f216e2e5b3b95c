//! Ending what a dead supervisor left.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use crate::cgroup::{Cgroup, kill_process};
use crate::record::{self, ContainerRecord, SupervisorRecord};
use crate::sandbox::{SandboxConfig, SandboxDir};

/// How long killed processes have to end.
const KILL_TIMEOUT_MS: u16 = 10_000;

/// What could not be ended or removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    #[error("reading {path}")]
    Record { path: PathBuf, source: io::Error },
    #[error("killing the processes of {what}")]
    Kill { what: String, source: io::Error },
    #[error("removing cgroup {path}")]
    Cgroup { path: PathBuf, source: io::Error },
    #[error("unmounting {path}")]
    Unmount { path: PathBuf, source: io::Error },
    #[error("removing {path}")]
    Remove { path: PathBuf, source: io::Error },
}

/// Kills a supervisor, if it still runs, and all its containers' processes; removes their cgroups,
/// what is mounted below the directory, and the directory. The containers' logs stay. Idempotent; a
/// directory that does not exist is clean. Blocks for as long as processes take to die.
pub fn cleanup(dir: &Path) -> Result<(), CleanupError> {
    let files = SandboxDir::new(dir);
    if let Some(supervisor) = read::<SupervisorRecord>(&files.identity())?
        && record::boot_id().is_ok_and(|boot_id| boot_id == supervisor.boot_id)
    {
        for identity in [Some(supervisor.supervisor), supervisor.pod_init].into_iter().flatten() {
            if identity.is_alive() {
                kill_process(identity.pid, KILL_TIMEOUT_MS)
                    .map_err(|source| CleanupError::Kill { what: "the supervisor".to_owned(), source })?;
            }
        }
    }
    for path in container_states(&files)? {
        if let Some(container) = read::<ContainerRecord>(&path)? {
            remove_cgroup(&container.cgroup)?;
        }
    }
    if let Some(parent) = read::<SandboxConfig>(&files.config())?.and_then(|config| config.cgroup_parent) {
        remove_cgroup(&parent)?;
    }
    unmount_below(dir)?;
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CleanupError::Remove { path: dir.to_path_buf(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, CleanupError> {
    record::read(path).map_err(|source| CleanupError::Record { path: path.to_path_buf(), source })
}

fn container_states(files: &SandboxDir) -> Result<Vec<PathBuf>, CleanupError> {
    let path = files.containers();
    match fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => Ok(entries.into_iter().map(|entry| entry.path().join("state.json")).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(CleanupError::Record { path, source }),
    }
}

fn remove_cgroup(path: &Path) -> Result<(), CleanupError> {
    let failed = |source| CleanupError::Cgroup { path: path.to_path_buf(), source };
    let cgroup = Cgroup::new(path).map_err(failed)?;
    let what = || path.display().to_string();
    cgroup.kill(KILL_TIMEOUT_MS).map_err(|source| CleanupError::Kill { what: what(), source })?;
    cgroup.remove().map_err(failed)
}

fn unmount_below(dir: &Path) -> Result<(), CleanupError> {
    let path = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(path)
        .map_err(|source| CleanupError::Record { path: path.to_path_buf(), source })?;
    // Later mounts may lie on earlier ones.
    for path in mounts.lines().rev().filter_map(mount_point).filter(|path| path.starts_with(dir)) {
        umount2(&path, MntFlags::MNT_DETACH)
            .map_err(|error| CleanupError::Unmount { path: path.clone(), source: error.into() })?;
    }
    Ok(())
}

/// The fifth field; the kernel writes blanks and backslashes as three octal digits.
fn mount_point(line: &str) -> Option<PathBuf> {
    let field = line.split(' ').nth(4)?.as_bytes();
    let (mut bytes, mut rest) = (Vec::with_capacity(field.len()), field);
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    Some(std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let check = |field: &str, expected: &str| {
            let line = format!("36 35 98:0 / {field} rw - ext4 /dev/sda rw");
            assert_eq!(mount_point(&line), Some(PathBuf::from(expected)));
        };
        check("/run/a", "/run/a");
        check("/run/a\\040b", "/run/a b");
        check("/run/\\134040", "/run/\\040");
        check("/odd\\9", "/odd\\9");
        assert_eq!(mount_point("36 35"), None);
    }

    #[test]
    fn what_is_not_there_is_clean() {
        cleanup(Path::new("/run/sampan-was-never-here")).expect("nothing to do");
    }
}
