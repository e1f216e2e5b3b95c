//! Another process in a container that runs.

use std::convert::Infallible;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getppid, setsid};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::container::become_root;
use super::error::{NativeError, failed};
use super::kernel;
use super::root::Root;
use super::{process, streams, terminal};
use crate::cgroup::Membership;
use crate::descriptors::close_all_but;
use crate::oci::Stdio;

/// Everything that the process needs, open and checked.
pub struct Tenant {
    pub membership: Membership,
    process: process::Plan,
    /// The container's first process.
    init: OwnedFd,
    maps_users: bool,
}

impl Tenant {
    /// `pid` is that of the container's first process, a child of the one whose fork this is.
    pub fn prepare(
        spec: &Spec,
        pid: i32,
        membership: Membership,
        process: process::Plan,
    ) -> Result<Tenant, NativeError> {
        let init = kernel::pidfd_open(pid).map_err(failed("finding the container's process"))?;
        // A number may be another's by now, a descriptor cannot: it is of a child of the supervisor,
        // and that still is there.
        let parent = fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| parent(&stat));
        if parent != Some(getppid().as_raw()) || !kernel::is_alive(init.as_fd()) {
            return Err(NativeError::Gone(pid));
        }
        let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        let maps_users =
            namespaces.iter().copied().flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
        Ok(Tenant { membership, process, init, maps_users })
    }

    /// For the process that is forked next: its number is told by who forks it.
    pub fn join_pid_namespace(&self) -> Result<(), NativeError> {
        setns(&self.init, CloneFlags::CLONE_NEWPID).map_err(failed("joining the PID namespace"))
    }

    /// All that the process does, until it is the user's. Returns only why it is not.
    pub fn run(self, socket: BorrowedFd<'_>, stdio: Stdio) -> Result<Infallible, NativeError> {
        let mut keep = vec![self.init.as_raw_fd(), socket.as_raw_fd()];
        keep.extend(self.membership.tasks.iter().map(AsRawFd::as_raw_fd));
        keep.extend(streams::fds(&stdio));
        close_all_but(&keep).map_err(failed("closing descriptors"))?;
        self.membership.join().map_err(failed("entering the cgroup"))?;
        self.process.confine()?;
        setsid().map_err(failed("making a session"))?;
        kernel::new_session_keyring().map_err(failed("making a session keyring"))?;
        streams::own(&stdio, self.process.uid).map_err(failed("giving streams to the user"))?;
        self.join_namespaces()?;
        umask(Mode::empty());
        let terminal = match stdio {
            Stdio::Streams { .. } => None,
            Stdio::Terminal => {
                let root = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
                let root = Root::new(root.map_err(failed("opening the root"))?);
                Some(terminal::make(&root, self.process.uid).map_err(failed("making a terminal"))?)
            }
        };
        let program = self.process.take_over(stdio, terminal, socket)?;
        Err(NativeError::Said(self.process.execute(&program)))
    }

    fn join_namespaces(&self) -> Result<(), NativeError> {
        let mut all = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP;
        // One's own user namespace cannot be joined again.
        all.set(CloneFlags::CLONE_NEWUSER, self.maps_users);
        setns(&self.init, all).map_err(failed("joining the container"))?;
        if self.maps_users {
            become_root().map_err(failed("becoming root of a user namespace"))?;
        }
        Ok(())
    }
}

/// The parent in a `/proc/<pid>/stat`; the name before it may hold anything.
fn parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent("12 (a) b) S 34 5 6"), Some(34));
        assert_eq!(parent("12 (a"), None);
    }
}
