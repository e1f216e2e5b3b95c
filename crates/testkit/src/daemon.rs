//! Other projects' servers inside a sandbox.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sandbox::Sandbox;

/// A server that stays in the foreground and is silent. Killed when dropped, at the latest with its sandbox.
#[derive(Debug)]
pub struct Daemon {
    /// What entered the sandbox, and ends with the server.
    entered: Child,
    pid_file: PathBuf,
}

impl Daemon {
    /// Starts one under a name that no other has there. `complete` gives the command its program and arguments.
    pub fn start(sandbox: &Sandbox, name: &str, complete: impl FnOnce(&mut Command)) -> Result<Daemon> {
        let pid_file = sandbox.directory().join(format!("{name}.pid"));
        let _ = std::fs::remove_file(&pid_file);
        let mut command = sandbox.enter(&["--pid-file", pid_file.to_str().context("a path of text")?]);
        complete(&mut command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let entered = command.spawn().with_context(|| format!("cannot run {name}"))?;
        Ok(Daemon { entered, pid_file })
    }

    /// Its process, as the host numbers it.
    pub fn pid(&self) -> Result<i32> {
        let text = std::fs::read_to_string(&self.pid_file)?;
        text.trim().parse().context("no process number")
    }

    /// Ends it without a chance to say so.
    pub fn kill(mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid()?), Signal::SIGKILL)?;
        self.entered.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.entered.try_wait(), Ok(None)) {
            if let Ok(pid) = self.pid() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = self.entered.kill();
            let _ = self.entered.wait();
        }
    }
}
