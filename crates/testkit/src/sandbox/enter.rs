//! Runs one command inside a sandbox and passes its end on.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe, setpgid, setsid};

use super::cgroups;

/// How a command is entered.
#[derive(Debug, Default)]
pub struct Options {
    /// Kills the command's process group after this time; the exit code is then 124.
    pub timeout: Option<Duration>,
    /// Where the command's process, as the host numbers it, is written before it starts.
    pub pid_file: Option<PathBuf>,
    /// Makes standard input the controlling terminal.
    pub terminal: bool,
}

/// Runs `command` in the namespaces of the process `init`; answers its exit code, 128 and the number for a
/// signal, as shells do.
///
/// Must be called before the process has a second thread.
pub fn enter(init: i32, options: &Options, command: &[OsString]) -> Result<u8> {
    // A signal that arrives before the wait stays pending.
    let mut child_ended = SigSet::empty();
    child_ended.add(Signal::SIGCHLD);
    child_ended.thread_block()?;
    join_namespaces(init)?;
    let (go, start) = pipe()?;
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            drop(start);
            let mut byte = [0];
            let _ = nix::unistd::read(&go, &mut byte);
            drop(go);
            let error = run(options, command, &child_ended).expect_err("a command that runs does not return");
            eprintln!("error: {error:#}");
            std::process::exit(126);
        }
        ForkResult::Parent { child } => child,
    };
    if let Some(path) = &options.pid_file {
        fs::write(path, child.to_string())?;
    }
    drop(start);
    wait(child, options.timeout)
}

fn join_namespaces(init: i32) -> Result<()> {
    let kinds = [
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let files = kinds
        .iter()
        .map(|(name, flag)| Ok((File::open(format!("/proc/{init}/ns/{name}"))?, *flag)))
        .collect::<Result<Vec<_>>>()
        .with_context(|| format!("process {init} holds no sandbox"))?;
    let directory = std::env::current_dir()?;
    for (file, flag) in files {
        setns(file, flag)?;
    }
    std::env::set_current_dir(directory)?;
    Ok(())
}

/// Becomes the command.
fn run(options: &Options, command: &[OsString], blocked: &SigSet) -> Result<std::convert::Infallible> {
    die_with_parent()?;
    cgroups::join_leaf()?;
    if options.terminal {
        setsid()?;
        // SAFETY: TIOCSCTTY takes a number.
        Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })
            .context("standard input is no terminal")?;
    } else {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    }
    blocked.thread_unblock()?;
    let (program, arguments) = command.split_first().context("no command")?;
    Err(Command::new(program).args(arguments).exec())
        .with_context(|| format!("cannot run {}", program.display()))
}

/// Asks for SIGKILL at the end of the thread that started this process.
pub fn die_with_parent() -> Result<()> {
    // SAFETY: prctl with PR_SET_PDEATHSIG takes a signal's number and touches no memory.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    Ok(())
}

fn wait(child: Pid, timeout: Option<Duration>) -> Result<u8> {
    if let Some(timeout) = timeout
        && !ends_within(timeout)?
    {
        eprintln!("killed: it took longer than {timeout:?}");
        let _ = killpg(child, Signal::SIGKILL);
        let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
        waitpid(child, None)?;
        return Ok(124);
    }
    Ok(match waitpid(child, None)? {
        WaitStatus::Exited(_, code) => u8::try_from(code).unwrap_or(u8::MAX),
        WaitStatus::Signaled(_, signal, _) => 128 + signal as u8,
        WaitStatus::Stopped(..)
        | WaitStatus::PtraceEvent(..)
        | WaitStatus::PtraceSyscall(_)
        | WaitStatus::Continued(_)
        | WaitStatus::StillAlive => unreachable!("only ends are waited for"),
    })
}

/// Waits for SIGCHLD, which must be blocked.
fn ends_within(timeout: Duration) -> Result<bool> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    let limit = libc::timespec { tv_sec: timeout.as_secs() as libc::time_t, tv_nsec: 0 };
    // SAFETY: both pointers are to values that live until the call returns; no details are asked for.
    let result = unsafe { libc::sigtimedwait(signals.as_ref(), std::ptr::null_mut(), &limit) };
    match Errno::result(result) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
