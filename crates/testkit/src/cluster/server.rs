//! The process of `sampan server`.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::DEADLINE;

/// How long what an ended server printed may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the server's process does, in the order in which it is seen.
#[derive(Debug)]
enum Event {
    Line(String),
    Ended(ExitStatus),
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    pid: i32,
    events: Receiver<Event>,
}

impl Server {
    /// Starts it, and returns when it says that it is ready. What it prints is appended to `log`.
    pub fn start(mut command: Command, pid_file: &Path, log: &Path) -> Result<Server> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (sender, events) = channel();
        let log = Arc::new(OpenOptions::new().create(true).append(true).open(log)?);
        record(child.stdout.take().expect("piped"), log.clone(), sender.clone());
        record(child.stderr.take().expect("piped"), log, sender.clone());
        wait_in_thread(child, sender);
        let mut server = Server { pid: 0, events };
        server.wait_until_ready()?;
        // Written before the server ran.
        server.pid = std::fs::read_to_string(pid_file)?.trim().parse().context("no process number")?;
        Ok(server)
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    fn wait_until_ready(&self) -> Result<()> {
        let end = Instant::now() + DEADLINE;
        let mut lines = Vec::new();
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Event::Line(line)) if is_ready(&line) => return Ok(()),
                Ok(Event::Line(line)) => lines.push(line),
                Ok(Event::Ended(status)) => {
                    // What it said last may come after the news of its end.
                    while let Ok(event) = self.events.recv_timeout(LAST_WORDS) {
                        if let Event::Line(line) = event {
                            lines.push(line);
                        }
                    }
                    bail!("the server ended with {status} before it was ready:\n{}", lines.join("\n"))
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    bail!("the server is not ready after {DEADLINE:?}:\n{}", lines.join("\n"))
                }
            }
        }
    }

    /// Sends `signal` and waits for the end.
    pub fn end(mut self, signal: Signal) -> Result<ExitStatus> {
        let pid = std::mem::take(&mut self.pid);
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal} to the server"))?;
        let end = Instant::now() + DEADLINE;
        loop {
            match self.events.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(Event::Ended(status)) => return Ok(status),
                Ok(Event::Line(_)) => {}
                Err(error) => {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    bail!("the server does not end after {signal}: {error}");
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.pid != 0 {
            // It may have ended by itself; its number is not given to another process before it is reaped,
            // and the events say when that was.
            let ended = self.events.try_iter().any(|event| matches!(event, Event::Ended(_)));
            if !ended {
                let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
            }
        }
    }
}

/// The log line by which the server says that everything is ready.
fn is_ready(line: &str) -> bool {
    line.contains(" INFO ") && line.contains(": ready ")
}

fn record(stream: impl Read + Send + 'static, log: Arc<std::fs::File>, sender: Sender<Event>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let _ = (&*log).write_all(&[line.as_slice(), b"\n"].concat());
            // Nobody listens once it is ready.
            let _ = sender.send(Event::Line(String::from_utf8_lossy(&line).into_owned()));
        }
    });
}

fn wait_in_thread(mut child: Child, sender: Sender<Event>) {
    std::thread::spawn(move || {
        if let Ok(status) = child.wait() {
            let _ = sender.send(Event::Ended(status));
        }
    });
}
