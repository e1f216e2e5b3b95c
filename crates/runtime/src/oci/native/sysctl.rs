//! Kernel parameters of a container's namespaces.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use oci_spec::runtime::LinuxNamespaceType;

use super::root::Root;

#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    #[error("sysctl {0:?} is not in a separate kernel namespace")]
    NotNamespaced(String),
    #[error("sysctl {0:?} is not a name")]
    Name(String),
    #[error("setting sysctl {name:?}")]
    Write { name: String, source: io::Error },
}

/// Parameters of the IPC namespace beyond those of message queues.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Checks that a parameter is of one of the container's own namespaces, not of the machine.
pub fn check(name: &str, namespaces: &[LinuxNamespaceType]) -> Result<(), SysctlError> {
    let needed = if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        LinuxNamespaceType::Ipc
    } else if name.starts_with("net.") {
        LinuxNamespaceType::Network
    } else if name == "kernel.domainname" || name == "kernel.hostname" {
        LinuxNamespaceType::Uts
    } else {
        return Err(SysctlError::NotNamespaced(name.to_owned()));
    };
    if !namespaces.contains(&needed) {
        return Err(SysctlError::NotNamespaced(name.to_owned()));
    }
    path(name).map(drop)
}

fn path(name: &str) -> Result<PathBuf, SysctlError> {
    let parts: Vec<&str> = name.split('.').collect();
    if parts.iter().any(|part| part.is_empty() || part.contains('/')) {
        return Err(SysctlError::Name(name.to_owned()));
    }
    Ok(Path::new("/proc/sys").join(parts.join("/")))
}

/// Sets them through the container's own `/proc`, in the container's process.
pub fn write(parameters: &HashMap<String, String>, root: &Root) -> Result<(), SysctlError> {
    for (name, value) in parameters {
        let failed = |source| SysctlError::Write { name: name.clone(), source };
        let file = root
            .open_with(&path(name)?, OFlag::O_WRONLY, ResolveFlag::RESOLVE_NO_SYMLINKS)
            .map_err(|error| failed(error.into()))?;
        // A volume may lie there.
        if fstatfs(&file).map_err(|error| failed(error.into()))?.filesystem_type() != PROC_SUPER_MAGIC {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "/proc is something else")));
        }
        File::from(file).write_all(value.as_bytes()).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_parameters_are_not_a_container_s() {
        let own = [LinuxNamespaceType::Ipc, LinuxNamespaceType::Network];
        for name in ["net.ipv4.ip_forward", "kernel.shm_rmid_forced", "fs.mqueue.msg_max"] {
            check(name, &own).unwrap_or_else(|error| panic!("{error}"));
            assert!(check(name, &[]).is_err(), "{name}");
        }
        for name in ["kernel.panic", "vm.swappiness", "kernel.hostname", "net./x", "net..x", "fs.file-max"] {
            assert!(check(name, &own).is_err(), "{name}");
        }
    }
}
