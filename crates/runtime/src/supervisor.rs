//! The supervisor process: one per pod.
//!
//! One thread, one loop around `poll`. It never waits for anything else: what blocks (the OCI runtime)
//! runs in [jobs](job), forks of this process. It keeps running when the server goes, and keeps what
//! happened meanwhile for the next server.

mod connection;
mod container;
mod daemon;
mod events;
mod job;
mod pod_init;
mod requests;
mod streams;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use crate::protocol::{Event, Failure, Reply, Response};
use crate::sandbox::{PodNamespaces, SandboxConfig, SandboxDir};
use connection::Connection;
use container::Container;
use job::Job;
use streams::StreamSource;

/// Servers, and whoever else looks on.
const MAX_CONNECTIONS: usize = 64;
/// Read from one descriptor before the others have their turn, in bytes.
const CHUNK: usize = 8 << 10;
/// How long a log that could not be written waits for its next attempt.
const LOG_RETRY_MS: u16 = 1000;

/// Everything that `sampan supervisor --dir DIR` does.
///
/// Must be called while the process has one thread. Says `ready` or why not on its standard output,
/// and goes on in the background: the process that was called ends at once.
pub fn main(dir: &Path) -> ExitCode {
    daemon::run(dir)
}

/// Who waits for the answer to a call.
#[derive(Clone, Copy, Debug)]
struct Caller {
    connection: u64,
    call: u64,
}

/// A process that a caller runs in a container.
struct RunningExec {
    pid: i32,
    connection: u64,
}

/// What a descriptor that is ready belongs to. Keys are never used again, so one that is gone by the
/// time its turn comes is recognised.
#[derive(Clone, Copy, Debug)]
enum Source {
    Listener,
    Signals,
    Connection(u64),
    Job(u64),
    Stream(u64, StreamSource),
}

struct Supervisor {
    dir: SandboxDir,
    config: SandboxConfig,
    namespaces: PodNamespaces,
    boot_id: String,
    /// What containers start from: ours is lower.
    oom_score_adj: Option<String>,
    listener: UnixListener,
    signals: SignalFd,
    next_key: u64,
    connections: BTreeMap<u64, Connection>,
    containers: BTreeMap<u64, Container>,
    jobs: BTreeMap<u64, Job>,
    execs: BTreeMap<u64, RunningExec>,
    /// Exits of processes that a job in flight may turn out to have made.
    unclaimed: Vec<events::ChildExit>,
    /// Set when asked to end: who to tell.
    ending: Option<Caller>,
    buffer: Vec<u8>,
}

impl Supervisor {
    /// Serves until shut down.
    fn run(&mut self) -> io::Result<()> {
        loop {
            for (source, flags) in self.wait()? {
                self.handle(source, flags);
            }
            self.connections.retain(|_, connection| connection.is_open());
            if self.ending.is_some() && self.containers.is_empty() && self.jobs.is_empty() {
                self.end();
                return Ok(());
            }
        }
    }

    fn wait(&mut self) -> io::Result<Vec<(Source, PollFlags)>> {
        let mut fds = Vec::new();
        let mut sources = Vec::new();
        let mut add = |source, fd, flags| {
            fds.push(PollFd::new(fd, flags));
            sources.push(source);
        };
        self.interests(&mut add);
        let stuck = self.containers.values().any(|container| !container.streams.is_log_flushed());
        let timeout = if stuck { PollTimeout::from(LOG_RETRY_MS) } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let flags: Vec<PollFlags> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        drop(fds);
        if stuck {
            self.retry_logs();
        }
        Ok(sources.into_iter().zip(flags).filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn interests<'a>(&'a self, add: &mut impl FnMut(Source, BorrowedFd<'a>, PollFlags)) {
        add(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN);
        if self.connections.len() < MAX_CONNECTIONS {
            add(Source::Listener, self.listener.as_fd(), PollFlags::POLLIN);
        }
        for (&key, connection) in &self.connections {
            add(Source::Connection(key), connection.as_fd(), connection.interest());
        }
        for (&key, job) in &self.jobs {
            add(Source::Job(key), job.as_fd(), PollFlags::POLLIN);
        }
        for (&key, container) in &self.containers {
            container.streams.interests(&mut |source, fd, flags| add(Source::Stream(key, source), fd, flags));
        }
    }

    fn handle(&mut self, source: Source, flags: PollFlags) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.reap(),
            Source::Connection(key) => self.connection_ready(key, flags),
            Source::Job(key) => self.job_ready(key),
            Source::Stream(key, source) => self.stream_ready(key, source, flags),
        }
    }

    fn key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    fn accept(&mut self) {
        match self.listener.accept() {
            Ok((stream, _)) => match Connection::new(stream) {
                Ok(connection) => {
                    let key = self.key();
                    self.connections.insert(key, connection);
                }
                Err(error) => complain("accepting a connection", &error),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => complain("accepting a connection", &error),
        }
    }

    fn connection_ready(&mut self, key: u64, flags: PollFlags) {
        let Some(connection) = self.connections.get_mut(&key) else { return };
        if flags.contains(PollFlags::POLLOUT) {
            connection.write();
        }
        if flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            connection.read(&mut self.buffer);
        }
        while let Some(frame) = self.connections.get_mut(&key).and_then(Connection::next_frame) {
            self.call(key, frame);
        }
    }

    fn stream_ready(&mut self, key: u64, source: StreamSource, flags: PollFlags) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let rotated = container.streams.ready(source, flags, &mut self.buffer);
        let id = container.status.id.clone();
        self.announce_rotation(&id, rotated);
    }

    fn retry_logs(&mut self) {
        let mut rotated = Vec::new();
        for container in self.containers.values_mut() {
            rotated.push((container.status.id.clone(), container.streams.flush_log()));
        }
        for (id, to) in rotated {
            self.announce_rotation(&id, to);
        }
    }

    fn announce_rotation(&mut self, id: &str, to: Option<std::path::PathBuf>) {
        if let Some(to) = to {
            self.announce(&Event::LogRotated { id: id.to_owned(), to });
        }
    }

    /// To everybody who subscribed.
    fn announce(&mut self, event: &Event) {
        for connection in self.connections.values_mut().filter(|connection| connection.subscribed) {
            connection.send(&Reply::Event(event.clone()), Vec::new());
        }
    }

    fn answer(&mut self, caller: Caller, result: Result<Response, Failure>) {
        self.answer_with(caller, result, Vec::new());
    }

    fn answer_with(
        &mut self,
        caller: Caller,
        result: Result<Response, Failure>,
        fds: Vec<std::os::fd::OwnedFd>,
    ) {
        if let Some(connection) = self.connections.get_mut(&caller.connection) {
            connection.send(&Reply::Answer { id: caller.call, result }, fds);
        }
    }

    /// The last things: nothing runs any more.
    fn end(&mut self) {
        if let Some(parent) = &self.config.cgroup_parent
            && let Err(error) = crate::cgroup::Cgroup::new(parent).and_then(|cgroup| cgroup.remove())
        {
            complain("removing the pod's cgroup", &error);
        }
        for path in [self.dir.socket(), self.dir.identity()] {
            if let Err(error) = std::fs::remove_file(path) {
                complain("removing a file at the end", &error);
            }
        }
        if let Some(caller) = self.ending.take() {
            self.answer(caller, Ok(Response::Done));
        }
    }
}

/// To the supervisor's log, with the chain of causes.
fn complain(what: &str, error: &dyn std::error::Error) {
    eprintln!("{} {what}: {}", jiff::Timestamp::now(), chain(error));
}

/// An error and its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // Some libraries repeat their source's message.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}
