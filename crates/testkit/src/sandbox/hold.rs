//! The guardian: holds namespaces for as long as its standard input is open.

use std::fs;
use std::io::{Read as _, Write as _, stdin, stdout};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe, setsid};

use super::{cgroups, inside};

/// Makes the namespaces, says which process is their first, and clears all away at the end of standard
/// input. Prints a line for each thing that it could not remove.
///
/// Must be called before the process has a second thread.
pub fn hold(name: &str, directory: &Path) -> Result<()> {
    // Ctrl-C reaches every process of the terminal's group, and this one must survive it to clear up.
    setsid().context("cannot leave the session")?;
    let result = namespaces(name);
    let mut output = stdout().lock();
    if let Err(error) = &result {
        writeln!(output, "{error:#}")?;
    }
    // The test may already be gone, with nobody left to tell.
    if let Err(error) = cgroups::remove(name) {
        let _ = writeln!(output, "{error:#}");
    }
    if let Err(error) = fs::remove_dir_all(directory) {
        let _ = writeln!(output, "{}: {error}", directory.display());
    }
    result
}

fn namespaces(name: &str) -> Result<()> {
    cgroups::create(name)?;
    unshare(CloneFlags::CLONE_NEWPID).context("cannot make a namespace of processes")?;
    let (mut ready, signal_ready) = pipe()?;
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    let init = match unsafe { fork() }? {
        ForkResult::Child => {
            drop(ready);
            let error = inside::init(name, signal_ready.as_raw_fd());
            eprintln!("error: {error:#}");
            std::process::exit(1);
        }
        ForkResult::Parent { child } => child,
    };
    drop(signal_ready);
    let held = read_byte(&mut ready).and_then(|()| wait_for_end(init));
    // Killing the first process of a namespace kills all others, and it is reaped after them.
    let _ = kill(init, Signal::SIGKILL);
    waitpid(init, None)?;
    held
}

fn read_byte(ready: &mut std::os::fd::OwnedFd) -> Result<()> {
    let mut byte = [0];
    if nix::unistd::read(&*ready, &mut byte)? == 0 {
        bail!("the namespaces could not be set up");
    }
    Ok(())
}

fn wait_for_end(init: Pid) -> Result<()> {
    let mut output = stdout().lock();
    writeln!(output, "held by {init}")?;
    output.flush()?;
    // Nothing is ever written: what counts is the end.
    let mut nothing = Vec::new();
    stdin().lock().read_to_end(&mut nothing)?;
    Ok(())
}
