//! The first process of a sandbox: sets up what is seen inside, then reaps orphans.

use std::fs;
use std::os::fd::RawFd;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::cgroups::{self, Hierarchy, Kind};

/// Runs until it is killed; returns only an error.
pub fn init(name: &str, ready: RawFd) -> anyhow::Error {
    match set_up(name).and_then(|()| tell(ready)) {
        Ok(()) => reap(),
        Err(error) => error,
    }
}

fn set_up(name: &str) -> Result<()> {
    super::enter::die_with_parent()?;
    cgroups::join(name)?;
    // The cgroup that it is in becomes the root that is seen inside.
    unshare(CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("cannot make namespaces")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("cannot make mounts private")?;
    filesystem("proc", "/proc", "")?;
    let hierarchies = cgroups::hierarchies()?;
    filesystem("sysfs", "/sys", "")?;
    mount_cgroups(&hierarchies)?;
    cgroups::join_leaf()?;
    loopback_up().context("cannot set the loopback link up")
}

fn filesystem(kind: &str, target: &str, options: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(kind), target, Some(kind), flags, Some(options))
        .with_context(|| format!("cannot mount {kind} ({options}) on {target}"))
}

/// Mounts the host's hierarchies as they are seen from the new root.
fn mount_cgroups(hierarchies: &[Hierarchy]) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    if hierarchies.iter().any(|hierarchy| hierarchy.path != root) {
        filesystem("tmpfs", "/sys/fs/cgroup", "mode=755")?;
    }
    for hierarchy in hierarchies {
        let target = hierarchy.path.to_str().context("a cgroup's path is no text")?;
        fs::create_dir_all(target)?;
        match &hierarchy.kind {
            Kind::V2 => filesystem("cgroup2", target, "")?,
            Kind::V1(name) if name.starts_with("name=") => {
                filesystem("cgroup", target, &format!("none,{name}"))?;
            }
            Kind::V1(controllers) => filesystem("cgroup", target, controllers)?,
        }
    }
    Ok(())
}

/// Sets `lo` up: the only link there is.
fn loopback_up() -> Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::AsRawFd as _;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all bytes zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

fn tell(ready: RawFd) -> Result<()> {
    // SAFETY: the caller gives up this descriptor, which nothing else in this process uses.
    let ready = unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(ready) };
    nix::unistd::write(&ready, b".")?;
    Ok(())
}

/// Reaps what lost its parent, as the first process of any system does.
fn reap() -> anyhow::Error {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    if let Err(error) = signals.thread_block() {
        return error.into();
    }
    loop {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        if let Err(error) = signals.wait() {
            return error.into();
        }
    }
}
