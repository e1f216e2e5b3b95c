//! What happens by itself: processes end, jobs finish.

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::container::{Container, Phase};
use super::job::{Job, Made, Purpose};
use super::{Caller, RunningExec, Supervisor, complain};
use crate::cgroup::Cgroup;
use crate::oci;
use crate::protocol::{ContainerState, Event, ExitStatus, Failure, FailureKind, Reply, Response};
use crate::record;
use crate::sandbox::RuntimeKind;

/// Exits of unknown processes that are kept while a job is in flight. A job makes one process that
/// matters and a few that do not.
const MAX_UNCLAIMED: usize = 1024;
/// How long killed processes have to end before a deletion fails.
pub(super) const KILL_TIMEOUT_MS: u16 = 10_000;

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildExit {
    pid: i32,
    exit_code: i32,
    signal: Option<i32>,
    finished_at: Timestamp,
}

impl ChildExit {
    /// From what `waitpid` says, real-time signals included: nix's reading of it fails for those, when
    /// the child is reaped already.
    fn new(pid: i32, status: i32) -> ChildExit {
        let finished_at = Timestamp::now();
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            return ChildExit { pid, exit_code: 128 + signal, signal: Some(signal), finished_at };
        }
        ChildExit { pid, exit_code: libc::WEXITSTATUS(status), signal: None, finished_at }
    }

    fn status(self, oom_killed: bool) -> ExitStatus {
        let ChildExit { exit_code, signal, finished_at, .. } = self;
        ExitStatus { exit_code, signal, oom_killed, finished_at }
    }
}

impl Supervisor {
    /// Waits for every child that ended: containers, execs, jobs and their orphans.
    pub(super) fn reap(&mut self) {
        // Signals of one kind merge: what was queued says nothing about how many ended.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let mut status = 0;
            // SAFETY: the kernel writes to a live integer. Children that merely stop are not asked for.
            match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
                Ok(0) | Err(Errno::ECHILD) => return,
                Ok(pid) => self.child_exited(ChildExit::new(pid, status)),
                Err(Errno::EINTR) => {}
                Err(error) => return complain("waiting for children", &error),
            }
        }
    }

    fn child_exited(&mut self, exit: ChildExit) {
        let of_container = self
            .containers
            .iter()
            .find(|(_, container)| container.has_process() && container.status.pid as i32 == exit.pid);
        if let Some((&key, _)) = of_container {
            return self.container_exited(key, exit);
        }
        let of_exec = self.execs.iter().find(|(_, exec)| exec.pid == exit.pid).map(|(&key, _)| key);
        if let Some(key) = of_exec {
            return self.exec_exited(key, exit);
        }
        if !self.jobs.is_empty() {
            if self.unclaimed.len() == MAX_UNCLAIMED {
                self.unclaimed.remove(0);
            }
            self.unclaimed.push(exit);
        }
    }

    fn claim(&mut self, pid: i32) -> Option<ChildExit> {
        let position = self.unclaimed.iter().position(|exit| exit.pid == pid)?;
        Some(self.unclaimed.remove(position))
    }

    fn exec_exited(&mut self, key: u64, exit: ChildExit) {
        let Some(RunningExec { connection, .. }) = self.execs.remove(&key) else { return };
        if let Some(connection) = self.connections.get_mut(&connection) {
            let event = Event::ExecExited { exec: key, status: exit.status(false) };
            connection.send(&Reply::Event(event), Vec::new());
        }
    }

    fn container_exited(&mut self, key: u64, exit: ChildExit) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        if let Phase::Starting { exited } = &mut container.phase {
            *exited = Some(exit);
            return;
        }
        let cgroup = Cgroup::new(&container.cgroup);
        let oom_killed = cgroup.as_ref().is_ok_and(|cgroup| cgroup.oom_kills() > 0);
        if container.shares_processes
            && let Err(error) = cgroup.and_then(|cgroup| cgroup.signal(Signal::SIGKILL as i32))
        {
            complain("killing what is left of a container", &error);
        }
        let rotated = container.streams.finish(&mut self.buffer);
        let status = exit.status(oom_killed);
        container.phase = Phase::Exited;
        container.status.state = ContainerState::Exited;
        container.status.exit = Some(status.clone());
        let id = container.status.id.clone();
        let removal = container.removal;
        self.save(key);
        for to in rotated {
            self.announce_rotation(&id, Some(to));
        }
        self.announce(&Event::Exited { id, status });
        if let Some(removal) = removal {
            self.delete(key, removal.caller);
        }
    }

    pub(super) fn job_ready(&mut self, key: u64) {
        let Some(job) = self.jobs.get_mut(&key) else { return };
        let Some(result) = job.result(&mut self.buffer) else { return };
        let Some(job) = self.jobs.remove(&key) else { return };
        // What became an orphan before the result was told may be reapable by now.
        match job.purpose {
            Purpose::Create { container, caller } => self.created(container, caller, result),
            Purpose::Start { container, caller } => self.started(container, caller, result),
            Purpose::Delete { container, caller } => self.deleted(container, caller, result),
            Purpose::Exec { caller } => self.executed(caller, result),
        }
        if self.jobs.is_empty() {
            self.unclaimed.clear();
        }
    }

    fn created(&mut self, key: u64, caller: Caller, result: Result<Made, String>) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let result = result.and_then(|made| {
            let pid = made.pid.ok_or("the OCI runtime made no process")?;
            if let Some(terminal) = made.terminal {
                let stdin = container.stdin;
                container.streams.set_terminal(terminal, stdin).map_err(|error| error.to_string())?;
            }
            container.start = made.start;
            Ok(pid)
        });
        match result {
            Ok(pid) => {
                container.status.pid = pid.unsigned_abs();
                container.status.created_at = Timestamp::now();
                container.phase = Phase::Created;
                let status = container.status.clone();
                self.save(key);
                self.answer(caller, Ok(Response::Container(Box::new(status))));
                if let Some(exit) = self.claim(pid) {
                    self.container_exited(key, exit);
                }
                self.continue_ending(key);
            }
            Err(message) => {
                self.containers.remove(&key).inspect(|container| self.forget(container));
                self.answer(caller, Err(Failure::new(FailureKind::Runtime, message)));
            }
        }
    }

    pub(super) fn started(&mut self, key: u64, caller: Caller, result: Result<Made, String>) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let exited = match std::mem::replace(&mut container.phase, Phase::Created) {
            Phase::Starting { exited } => exited,
            other => {
                container.phase = other;
                None
            }
        };
        match result {
            Ok(_) => {
                let started_at = Timestamp::now();
                container.phase = Phase::Running;
                container.status.state = ContainerState::Running;
                container.status.started_at = Some(started_at);
                let status = container.status.clone();
                self.save(key);
                self.announce(&Event::Started { id: status.id.clone(), pid: status.pid, started_at });
                self.answer(caller, Ok(Response::Container(Box::new(status))));
            }
            Err(message) => self.answer(caller, Err(Failure::new(FailureKind::Runtime, message))),
        }
        if let Some(exit) = exited {
            self.container_exited(key, exit);
        }
    }

    fn executed(&mut self, caller: Caller, result: Result<Made, String>) {
        let made = result.and_then(|made| {
            let pid = made.pid.ok_or("the OCI runtime made no process")?;
            Ok((pid, made.terminal))
        });
        match made {
            Ok((pid, terminal)) => {
                let exec = self.key();
                self.execs.insert(exec, RunningExec { pid, connection: caller.connection });
                let response = Response::Exec { exec, pid: pid.unsigned_abs() };
                self.answer_with(caller, Ok(response), terminal.into_iter().collect());
                if let Some(exit) = self.claim(pid) {
                    self.exec_exited(exec, exit);
                }
            }
            Err(message) => self.answer(caller, Err(Failure::new(FailureKind::Runtime, message))),
        }
    }

    /// Kills what is left and deletes, in a job.
    pub(super) fn delete(&mut self, key: u64, caller: Option<Caller>) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        container.phase = Phase::Deleting;
        container.removal = None;
        let (id, cgroup) = (container.status.id.clone(), container.cgroup.clone());
        if self.config.runtime == RuntimeKind::Native
            && Cgroup::new(&cgroup).is_ok_and(|cgroup| cgroup.remove_if_empty())
        {
            // Nothing ran in it any more, and nothing else is to be forgotten.
            return self.deleted(key, caller, Ok(Made::default()));
        }
        let runtime = oci::runtime(&self.config, &self.dir);
        let purpose = Purpose::Delete { container: key, caller };
        let job = Job::spawn(purpose, self.oom_score_adj.as_deref(), &[], || {
            let text = |error: std::io::Error| error.to_string();
            let cgroup = Cgroup::new(&cgroup).map_err(text)?;
            cgroup.kill(KILL_TIMEOUT_MS).map_err(text)?;
            runtime.delete(&id).map_err(|error| super::chain(&error))?;
            cgroup.remove().map_err(text)?;
            Ok(Made::default())
        });
        match job {
            Ok(job) => {
                let job_key = self.key();
                self.jobs.insert(job_key, job);
            }
            Err(error) => self.deleted(key, caller, Err(error.to_string())),
        }
    }

    fn deleted(&mut self, key: u64, caller: Option<Caller>, result: Result<Made, String>) {
        let answer = match result {
            Ok(_) => {
                self.containers.remove(&key).inspect(|container| self.forget(container));
                Ok(Response::Done)
            }
            Err(message) => {
                if let Some(container) = self.containers.get_mut(&key) {
                    container.phase = Phase::Exited;
                }
                if let Some(ending) = self.ending.take() {
                    self.answer(ending, Err(Failure::new(FailureKind::Runtime, message.clone())));
                }
                Err(Failure::new(FailureKind::Runtime, message))
            }
        };
        if let Some(caller) = caller {
            self.answer(caller, answer);
        }
    }

    /// Removes a container's files.
    pub(super) fn forget(&self, container: &Container) {
        if let Err(error) = std::fs::remove_dir_all(self.dir.container(&container.status.id)) {
            complain("removing a container's files", &error);
        }
    }

    pub(super) fn save(&self, key: u64) {
        let Some(container) = self.containers.get(&key) else { return };
        let path = self.dir.container_state(&container.status.id);
        if let Err(error) = record::write(&path, &container.record()) {
            complain("saving a container's state", &error);
        }
    }
}
