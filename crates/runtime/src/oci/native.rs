//! Containers, by system calls.
//!
//! `create` opens on the machine what the container will have (its root, the sources of mounts, its
//! cgroup), then forks the first process into the new namespaces. That process puts its root
//! together, enters it, becomes the user and says `ready`; the program runs when the supervisor gives
//! the word. Nothing is kept on disk about a container: what must be undone is the cgroup, and all
//! the rest ends with the processes.
//!
//! What keeps the machine safe:
//! - Paths are resolved below the container's root by the kernel: see [`root`].
//! - The processes are not dumpable until `execve`, and their executable lies on a read-only mount
//!   (see `client::launch`): nobody in the container can read the supervisor's memory, and
//!   executing `/proc/self/exe` gives no way to write the file.
//! - They keep only the descriptors that they need, each closed by `execve`.
//! - What a spec asks for and nothing here does is refused, not ignored.

pub mod capabilities;
mod container;
mod devices;
mod error;
pub mod handshake;
mod home;
mod id_map;
mod kernel;
mod masks;
mod mount_options;
mod mounts;
mod namespaces;
mod process;
mod program;
mod root;
mod seccomp;
mod streams;
mod sysctl;
mod tenant;
mod terminal;

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

use super::{OciError, OciRuntime, Spawned, Stdio, load_spec};
use crate::cgroup::Cgroup;
use container::Container;
pub use error::NativeError;
use error::failed;
use kernel::{Forked, fork_into};
pub use mounts::read_only_copy;
use seccomp::Filter;
use tenant::Tenant;

/// The exit status of a process that did not become the user's.
const NOT_EXECUTED: i32 = 255;

pub struct NativeRuntime {
    /// Where compiled filters are kept.
    pub filters: PathBuf,
}

impl NativeRuntime {
    fn plan(&self, spec: &Spec, process: &Process) -> Result<process::Plan, NativeError> {
        let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        let filter = profile.map(|profile| Filter::cached(profile, &self.filters)).transpose()?;
        Ok(process::Plan::new(process, filter)?)
    }

    fn create_container(&self, spec: &Spec, stdio: Stdio) -> Result<Spawned, NativeError> {
        hide()?;
        let process = spec.process().as_ref().ok_or(NativeError::Missing("process"))?;
        let plan = self.plan(spec, process)?;
        let linux = spec.linux().as_ref().ok_or(NativeError::Missing("linux"))?;
        let cgroup = cgroup(spec)?;
        let resources = linux.resources().clone().unwrap_or_default();
        let membership = cgroup.create(&resources).map_err(failed("making the cgroup"))?;
        let container = Container::prepare(spec, &cgroup, membership, plan)?;
        container.namespaces.join()?;
        adjust_oom_score(process)?;
        let (ours, theirs) = handshake::pair().map_err(failed("making a socket"))?;
        let new = u64::from(container.namespaces.new.bits().cast_unsigned());
        let forked = fork_into(new, container.membership.unified()).map_err(failed("forking"))?;
        let pid = match forked {
            Forked::Child => run(theirs.as_fd(), |socket| container.run(socket, stdio)),
            Forked::Parent { child } => child,
        };
        drop(theirs);
        drop(stdio);
        if container.namespaces.maps_users() {
            container.namespaces.map_users(pid).map_err(failed("mapping users"))?;
            handshake::go(ours.as_fd()).map_err(failed("going on"))?;
        }
        let terminal = handshake::wait_ready(ours.as_fd())?;
        Ok(Spawned { pid, terminal, start: Some(ours) })
    }

    fn execute(
        &self,
        spec: &Spec,
        pid: i32,
        process: &Process,
        stdio: Stdio,
    ) -> Result<Spawned, NativeError> {
        hide()?;
        let plan = self.plan(spec, process)?;
        let membership = cgroup(spec)?.membership().map_err(failed("finding the cgroup"))?;
        let tenant = Tenant::prepare(spec, pid, membership, plan)?;
        tenant.join_pid_namespace()?;
        adjust_oom_score(process)?;
        let (ours, theirs) = handshake::pair().map_err(failed("making a socket"))?;
        let pid = match fork_into(0, tenant.membership.unified()).map_err(failed("forking"))? {
            Forked::Child => run(theirs.as_fd(), |socket| tenant.run(socket, stdio)),
            Forked::Parent { child } => child,
        };
        drop(theirs);
        drop(stdio);
        let terminal = handshake::wait_ready(ours.as_fd())?;
        Ok(Spawned { pid, terminal, start: None })
    }
}

impl OciRuntime for NativeRuntime {
    fn create(&self, _id: &str, bundle: &Path, stdio: Stdio) -> Result<Spawned, OciError> {
        Ok(self.create_container(&load_spec(bundle)?, stdio)?)
    }

    /// It was given the means with the container.
    fn start(&self, _id: &str) -> Result<(), OciError> {
        Ok(())
    }

    /// There is nothing to forget.
    fn delete(&self, _id: &str) -> Result<(), OciError> {
        Ok(())
    }

    fn exec(
        &self,
        target: super::Target<'_>,
        process: &Process,
        _scratch: &Path,
        stdio: Stdio,
    ) -> Result<Spawned, OciError> {
        Ok(self.execute(&load_spec(target.bundle)?, target.pid, process, stdio)?)
    }
}

/// From here on nobody may look into this process, or those that it forks, until they execute
/// something else.
fn hide() -> Result<(), NativeError> {
    nix::sys::prctl::set_dumpable(false).map_err(failed("hiding"))
}

fn cgroup(spec: &Spec) -> Result<Cgroup, NativeError> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    Cgroup::new(path.ok_or(NativeError::Missing("linux.cgroupsPath"))?).map_err(failed("finding the cgroup"))
}

/// Of this process, for those that it forks. A score that may not be set (it is below ours and we lack
/// `CAP_SYS_RESOURCE`) stays ours, as other engines do when they run in a container themselves.
fn adjust_oom_score(process: &Process) -> Result<(), NativeError> {
    let Some(score) = process.oom_score_adj() else { return Ok(()) };
    match std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map_err(failed("setting the OOM score")),
    }
}

/// A forked process's whole life.
fn run<'a>(
    socket: BorrowedFd<'a>,
    work: impl FnOnce(BorrowedFd<'a>) -> Result<Infallible, NativeError>,
) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(|| work(socket)));
    let text = match &outcome {
        Ok(Err(error)) => crate::supervisor::chain(error),
        Ok(Ok(never)) => match *never {},
        Err(_) => "the set-up of the container panicked".to_owned(),
    };
    handshake::tell_failure(socket, &text);
    // SAFETY: ends the process; destructors belong to the parent.
    unsafe { libc::_exit(NOT_EXECUTED) }
}
