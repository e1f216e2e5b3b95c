//! A container's cgroup in every hierarchy: version 1, version 2, and both at once.
//!
//! One file per concern: where hierarchies are mounted, which files take which values, how a cgroup
//! is made and entered, which devices it may open, what it uses. Here it is limited, killed and removed.

mod create;
mod device_filter;
mod devices;
mod hierarchy;
mod settings;
pub mod usage;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use oci_spec::runtime::LinuxResources;

use crate::protocol::Stats;
pub use create::Membership;
use hierarchy::Hierarchy;
use settings::{Setting, settings};
use usage::Usage;

/// Rounds of killing: processes may fork while they are being killed.
const KILL_ROUNDS: usize = 32;

/// Every hierarchy's directory of one cgroup.
#[derive(Clone, Debug)]
pub struct Cgroup {
    dirs: Vec<(Hierarchy, PathBuf)>,
}

impl Cgroup {
    /// `path` is as in `linux.cgroupsPath`, absolute. Refuses the root: it holds the whole machine.
    pub fn new(path: &Path) -> io::Result<Cgroup> {
        let below = path.strip_prefix("/").unwrap_or(path);
        let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        if !path.is_absolute() || !plain || below.as_os_str().is_empty() {
            let message = format!("{} is not an absolute cgroup path below the root", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Cgroup::below(hierarchy::mounted()?, below))
    }

    fn below(hierarchies: &[Hierarchy], path: &Path) -> Cgroup {
        let dirs = hierarchies.iter().map(|hierarchy| (hierarchy.clone(), hierarchy.mount.join(path)));
        Cgroup { dirs: dirs.collect() }
    }

    /// The directory that counts and limits `controller`.
    fn controller(&self, controller: &str) -> Option<(&Path, bool)> {
        let version_1 = self.dirs.iter().find(|(h, _)| h.controllers.iter().any(|name| name == controller));
        let unified = || self.dirs.iter().find(|(h, _)| h.unified);
        version_1.or_else(unified).map(|(hierarchy, dir)| (dir.as_path(), hierarchy.unified))
    }

    /// Processes in the cgroup and below it.
    pub fn processes(&self) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        for (_, dir) in &self.dirs {
            collect_processes(dir, &mut pids);
        }
        pids
    }

    /// Signals every process; with `SIGKILL` until no new one appears.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let mut seen = BTreeSet::new();
        for _ in 0..KILL_ROUNDS {
            let fresh: Vec<i32> = self.processes().difference(&seen).copied().collect();
            if fresh.is_empty() {
                return Ok(());
            }
            for pid in fresh {
                seen.insert(pid);
                send_signal(pid, signal)?;
            }
            if signal != Signal::SIGKILL as i32 {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Kills every process and waits until they are gone, at most `timeout_ms`.
    pub fn kill(&self, timeout_ms: u16) -> io::Result<()> {
        for _ in 0..KILL_ROUNDS {
            let processes = self.processes();
            if processes.is_empty() {
                return Ok(());
            }
            for pid in processes {
                kill_process(pid, timeout_ms)?;
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "processes keep appearing in the cgroup"))
    }

    /// Removes the cgroup where nothing is in it and nothing below it, without waiting for anything.
    /// Returns whether it is gone everywhere.
    pub fn remove_if_empty(&self) -> bool {
        let gone = |dir: &Path| match std::fs::remove_dir(dir) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        self.dirs.iter().all(|(_, dir)| gone(dir))
    }

    /// Removes the cgroup and those below it, in every hierarchy. No process may be left in it.
    pub fn remove(&self) -> io::Result<()> {
        self.dirs.iter().try_for_each(|(_, dir)| remove_tree(dir))
    }

    /// How many processes were killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let Some((dir, unified)) = self.controller("memory") else { return 0 };
        let file = if unified { "memory.events" } else { "memory.oom_control" };
        std::fs::read_to_string(dir.join(file)).ok().and_then(|text| keyed(&text, "oom_kill")).unwrap_or(0)
    }

    /// What a supervisor tells of it.
    pub fn stats(&self) -> Stats {
        let Usage { cpu, memory, pids } = self.usage();
        Stats {
            cpu_usage_ns: cpu.total_ns,
            memory_usage: memory.usage,
            memory_working_set: memory.working_set,
            memory_rss: memory.rss,
            memory_limit: memory.limit,
            page_faults: memory.page_faults,
            major_page_faults: memory.major_page_faults,
            pids,
        }
    }

    /// Changes CPU, memory and process limits; those that are absent stay.
    pub fn update(&self, resources: &LinuxResources) -> io::Result<()> {
        self.limit(&settings(resources, |name| self.is_unified(name)))
    }

    fn limit(&self, limits: &[Setting]) -> io::Result<()> {
        for Setting { controller, file, value } in limits {
            let Some((dir, _)) = self.controller(controller) else {
                let message = format!("no cgroup controller {controller}");
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            };
            write(&dir.join(file.as_ref()), value)?;
        }
        Ok(())
    }

    fn is_unified(&self, controller: &str) -> bool {
        self.controller(controller).is_some_and(|(_, unified)| unified)
    }
}

/// Signals one process, real-time signals included; one that is gone already is no error.
pub fn send_signal(pid: i32, signal: i32) -> io::Result<()> {
    // Zero and negative numbers address groups, or everybody.
    if pid <= 0 || !(1..=LAST_SIGNAL).contains(&signal) {
        let message = format!("no signal {signal} for process {pid}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // SAFETY: reads and writes no memory of ours.
    match Errno::result(unsafe { libc::kill(pid, signal) }) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `SIGRTMAX` of the kernel.
pub const LAST_SIGNAL: i32 = 64;

/// Kills one process and waits until it ended, at most `timeout_ms`.
pub fn kill_process(pid: i32, timeout_ms: u16) -> io::Result<()> {
    // SAFETY: makes a descriptor, or fails.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if raw < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) };
    }
    // SAFETY: the kernel just made it for us, and nobody else owns it.
    let process = unsafe { OwnedFd::from_raw_fd(raw as RawFd) };
    send_signal(pid, Signal::SIGKILL as i32)?;
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, timeout_ms) {
            Ok(0) => {
                let message = format!("process {pid} does not end");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Replaces what a file of a cgroup says; such files exist or are not to be.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let written =
        std::fs::File::options().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|error| {
        io::Error::new(error.kind(), format!("writing {value} to {}: {error}", path.display()))
    })
}

fn collect_processes(dir: &Path, pids: &mut BTreeSet<i32>) {
    let Ok(text) = std::fs::read_to_string(dir.join("cgroup.procs")) else { return };
    // Zero stands for a process of another PID namespace, and would signal our own group.
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|&pid| pid > 0));
    for child in children(dir) {
        collect_processes(&child, pids);
    }
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in children(dir) {
        remove_tree(&child)?;
    }
    match std::fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("removing {}: {error}", dir.display())))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}

fn read_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn read_keyed(path: &Path, key: &str) -> Option<u64> {
    keyed(&std::fs::read_to_string(path).ok()?, key)
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests;
