//! What servers ask for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::pipe2;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::container::{Container, Phase, Removal};
use super::job::{Job, Made, Purpose};
use super::streams::Streams;
use super::{Caller, Supervisor, chain, complain};
use crate::cgroup::{Cgroup, send_signal};
use crate::log::LogFile;
use crate::oci::{self, Spawned, Stdio, Target};
use crate::protocol::frame::Frame;
use crate::protocol::{
    Call, ContainerConfig, ExecConfig, Failure, FailureKind, Hello, MAX_ID, Request, Response, VERSION,
};
use crate::record;

type RawSpec = Box<RawValue>;

/// Containers of one pod, and execs and jobs at one time.
const MAX_CONTAINERS: usize = 256;
const MAX_EXECS: usize = 1024;
const MAX_JOBS: usize = 64;

/// A request is answered now, or later by the one who finishes it.
type Outcome = Result<Option<Response>, Failure>;

/// What the supervisor itself needs to know of a spec.
#[derive(Deserialize)]
struct SpecOutline {
    linux: Option<LinuxOutline>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinuxOutline {
    cgroups_path: Option<PathBuf>,
    #[serde(default)]
    namespaces: Vec<NamespaceOutline>,
}

#[derive(Deserialize)]
struct NamespaceOutline {
    #[serde(rename = "type")]
    kind: String,
    path: Option<PathBuf>,
}

/// Only the part of a call that is needed to refuse it.
#[derive(Deserialize)]
struct CallOutline {
    id: u64,
}

fn refuse<T>(kind: FailureKind, message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::new(kind, message))
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::new(FailureKind::Runtime, format!("{what}: {error}"))
}

impl Supervisor {
    pub(super) fn call(&mut self, connection: u64, frame: Frame) {
        let call = match frame.decode::<Call<RawSpec>>() {
            Ok(call) => call,
            Err(error) => {
                complain("a server's request", &error);
                if let Ok(CallOutline { id }) = frame.decode() {
                    let failure = Failure::new(FailureKind::Invalid, chain(&error));
                    self.answer(Caller { connection, call: id }, Err(failure));
                }
                return;
            }
        };
        let caller = Caller { connection, call: call.id };
        match self.request(caller, call.request, frame.fds) {
            Ok(Some(response)) => self.answer(caller, Ok(response)),
            Ok(None) => {}
            Err(failure) => self.answer(caller, Err(failure)),
        }
    }

    fn request(&mut self, caller: Caller, request: Request<RawSpec>, fds: Vec<OwnedFd>) -> Outcome {
        match request {
            Request::Hello { subscribe } => {
                if let Some(connection) = self.connections.get_mut(&caller.connection) {
                    connection.subscribed = subscribe;
                }
                Ok(Some(Response::Hello(Box::new(self.hello()))))
            }
            Request::Create { config } => self.create(caller, *config),
            Request::Start { id } => self.start(caller, &id),
            Request::Signal { id, signal, all } => self.signal(&id, signal, all),
            Request::Remove { id, force } => self.remove(caller, &id, force),
            Request::Exec { id, config } => self.exec(caller, &id, config, fds),
            Request::SignalExec { exec, signal } => self.signal_exec(exec, signal),
            Request::Resize { id, rows, columns } => self.resize(&id, rows, columns),
            Request::Attach { id, stdin, stdout, stderr } => self.attach(&id, [stdin, stdout, stderr], fds),
            Request::ReopenLog { id } => self.with_log(&id, |log| log.reopen().map(|()| None)),
            Request::RotateLog { id } => self.with_log(&id, |log| log.rotate().map(Some)),
            Request::Stats { id } => {
                let (_, container) = self.find(&id)?;
                let cgroup = Cgroup::new(&container.cgroup).map_err(failed("finding the cgroup"))?;
                Ok(Some(Response::Stats(cgroup.stats())))
            }
            Request::UpdateResources { id, resources } => {
                let (_, container) = self.find(&id)?;
                let cgroup = Cgroup::new(&container.cgroup).map_err(failed("finding the cgroup"))?;
                cgroup.update(&resources).map_err(failed("updating resources"))?;
                Ok(Some(Response::Done))
            }
            Request::Shutdown { force } => self.shutdown(caller, force),
        }
    }

    fn hello(&self) -> Hello {
        let visible = self.containers.values().filter(|container| container.is_visible());
        Hello {
            version: VERSION,
            pid: std::process::id(),
            boot_id: self.boot_id.clone(),
            config: self.config.clone(),
            namespaces: self.namespaces.clone(),
            containers: visible.map(|container| container.status.clone()).collect(),
        }
    }

    fn find(&mut self, id: &str) -> Result<(u64, &mut Container), Failure> {
        let found = self
            .containers
            .iter_mut()
            .find(|(_, container)| container.is_visible() && container.status.id == id);
        match found {
            Some((&key, container)) => Ok((key, container)),
            None => refuse(FailureKind::NotFound, format!("no container {id:?}")),
        }
    }

    fn check_capacity(&self) -> Result<(), Failure> {
        if self.ending.is_some() {
            return refuse(FailureKind::WrongState, "the supervisor is shutting down");
        }
        if self.jobs.len() >= MAX_JOBS || self.execs.len() >= MAX_EXECS {
            return refuse(FailureKind::Exhausted, "too many operations at once");
        }
        Ok(())
    }

    fn create(&mut self, caller: Caller, config: ContainerConfig<RawSpec>) -> Outcome {
        self.check_capacity()?;
        check_id(&config.id)?;
        if self.containers.values().any(|container| container.status.id == config.id) {
            let message = format!("container {:?} exists", config.id);
            return refuse(FailureKind::AlreadyExists, message);
        }
        if self.containers.len() >= MAX_CONTAINERS {
            return refuse(FailureKind::Exhausted, format!("{MAX_CONTAINERS} containers in one pod"));
        }
        let outline: SpecOutline = serde_json::from_str(config.spec.get())
            .map_err(|error| Failure::new(FailureKind::Invalid, format!("spec: {error}")))?;
        let Some((cgroup, linux)) =
            outline.linux.and_then(|mut linux| Some((linux.cgroups_path.take()?, linux)))
        else {
            return refuse(FailureKind::Invalid, "spec without linux.cgroupsPath");
        };
        if let Err(error) = Cgroup::new(&cgroup) {
            return refuse(FailureKind::Invalid, error.to_string());
        }
        let private = linux.namespaces.iter().any(|n| n.kind == "pid" && n.path.is_none());
        let log = config.log_path.as_deref().map(|path| LogFile::open(path, config.log_limits));
        let log = log.transpose().map_err(failed("opening the log"))?;
        let streams = Streams::new(log, config.stdin_once);
        let mut container = Container::new(config.id.clone(), cgroup, config.log_path.clone(), streams);
        container.shares_processes = !private;
        container.stdin = config.stdin;
        let bundle = self.dir.container(&config.id);
        let result = self.spawn_create(caller, &config, &bundle, &mut container);
        match result {
            Ok(key) => {
                self.containers.insert(key, container);
                Ok(None)
            }
            Err(error) => {
                self.forget(&container);
                Err(failed("creating a container")(error))
            }
        }
    }

    fn spawn_create(
        &mut self,
        caller: Caller,
        config: &ContainerConfig<RawSpec>,
        bundle: &Path,
        container: &mut Container,
    ) -> io::Result<u64> {
        std::fs::create_dir_all(bundle)?;
        std::fs::write(bundle.join("config.json"), config.spec.get())?;
        // Before anything is made, so that a clean-up knows what there may be.
        record::write(&self.dir.container_state(&config.id), &container.record())?;
        let stdio = if config.tty {
            Stdio::Terminal
        } else {
            let (stdin, input) = if config.stdin {
                let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
                (reader, Some(writer))
            } else {
                (null()?, None)
            };
            let (output, stdout) = pipe2(OFlag::O_CLOEXEC)?;
            let (errors, stderr) = pipe2(OFlag::O_CLOEXEC)?;
            container.streams.set_pipes(input, output, errors)?;
            Stdio::Streams { stdin, stdout, stderr }
        };
        let key = self.key();
        let keep = descriptors(&stdio);
        let runtime = oci::runtime(&self.config, &self.dir);
        let purpose = Purpose::Create { container: key, caller };
        let cgroup = container.cgroup.clone();
        let job = Job::spawn(purpose, self.oom_score_adj.as_deref(), &keep, || {
            let created = runtime.create(&config.id, bundle, stdio);
            match created {
                Ok(Spawned { pid, terminal, start }) => Ok(Made { pid: Some(pid), terminal, start }),
                Err(error) => {
                    let message = chain(&error);
                    // The first error is the one to tell; a runtime that failed may leave anything.
                    let cleaned = Cgroup::new(&cgroup).and_then(|cgroup| {
                        cgroup.kill(super::events::KILL_TIMEOUT_MS)?;
                        let _half_made = runtime.delete(&config.id);
                        cgroup.remove()
                    });
                    if let Err(error) = cleaned {
                        complain("cleaning up after a failed creation", &error);
                    }
                    Err(message)
                }
            }
        })?;
        let job_key = self.key();
        self.jobs.insert(job_key, job);
        Ok(key)
    }

    fn start(&mut self, caller: Caller, id: &str) -> Outcome {
        self.check_capacity()?;
        let (key, container) = self.find(id)?;
        if container.phase != Phase::Created || container.removal.is_some() {
            return refuse(FailureKind::WrongState, format!("container {id:?} is not waiting to be started"));
        }
        container.phase = Phase::Starting { exited: None };
        if let Some(start) = container.start.take() {
            // A process that ended meanwhile is told of as such.
            let _gone = oci::native::handshake::go(start.as_fd());
            self.started(key, caller, Ok(Made::default()));
            return Ok(None);
        }
        let runtime = oci::runtime(&self.config, &self.dir);
        let purpose = Purpose::Start { container: key, caller };
        let job = Job::spawn(purpose, self.oom_score_adj.as_deref(), &[], || {
            runtime.start(id).map_err(|error| chain(&error))?;
            Ok(Made::default())
        });
        match job {
            Ok(job) => {
                let job_key = self.key();
                self.jobs.insert(job_key, job);
                Ok(None)
            }
            Err(error) => {
                let (_, container) = self.find(id)?;
                container.phase = Phase::Created;
                Err(failed("starting a container")(error))
            }
        }
    }

    fn signal(&mut self, id: &str, signal: i32, all: bool) -> Outcome {
        let (_, container) = self.find(id)?;
        if container.has_process() {
            let sent = if all {
                Cgroup::new(&container.cgroup).and_then(|cgroup| cgroup.signal(signal))
            } else {
                send_signal(container.status.pid as i32, signal)
            };
            sent.map_err(failed("sending a signal"))?;
        }
        Ok(Some(Response::Done))
    }

    fn remove(&mut self, caller: Caller, id: &str, force: bool) -> Outcome {
        let (key, container) = self.find(id)?;
        if container.removal.is_some() {
            return refuse(FailureKind::WrongState, format!("container {id:?} is being removed"));
        }
        match container.phase {
            Phase::Exited => {
                self.delete(key, Some(caller));
                Ok(None)
            }
            Phase::Created => self.kill_and_remove(key, Some(caller)),
            Phase::Starting { .. } | Phase::Running if force => self.kill_and_remove(key, Some(caller)),
            Phase::Starting { .. } | Phase::Running => {
                refuse(FailureKind::WrongState, format!("container {id:?} is running"))
            }
            Phase::Creating | Phase::Deleting => {
                refuse(FailureKind::WrongState, format!("container {id:?} is being made or removed"))
            }
        }
    }

    /// The deletion follows when the first process is reaped.
    fn kill_and_remove(&mut self, key: u64, caller: Option<Caller>) -> Outcome {
        let Some(container) = self.containers.get_mut(&key) else { return Ok(None) };
        send_signal(container.status.pid as i32, Signal::SIGKILL as i32)
            .map_err(failed("killing a container"))?;
        container.removal = Some(Removal { caller });
        Ok(None)
    }

    fn exec(&mut self, caller: Caller, id: &str, config: ExecConfig, fds: Vec<OwnedFd>) -> Outcome {
        self.check_capacity()?;
        let wanted = [config.stdin, config.stdout, config.stderr];
        let [stdin, stdout, stderr] = distribute(wanted, fds)?;
        if config.tty && wanted.contains(&true) {
            return refuse(FailureKind::Invalid, "a terminal and descriptors contradict each other");
        }
        if config.argv.is_empty() {
            return refuse(FailureKind::Invalid, "nothing to execute");
        }
        let (_, container) = self.find(id)?;
        if container.phase != Phase::Running {
            return refuse(FailureKind::WrongState, format!("container {id:?} is not running"));
        }
        let pid = container.status.pid.cast_signed();
        let stdio = if config.tty {
            Stdio::Terminal
        } else {
            let or_null = |fd: Option<OwnedFd>| fd.map_or_else(null, Ok);
            let open = failed("opening /dev/null");
            let streams = or_null(stdin).and_then(|stdin| Ok([stdin, or_null(stdout)?, or_null(stderr)?]));
            let [stdin, stdout, stderr] = streams.map_err(open)?;
            Stdio::Streams { stdin, stdout, stderr }
        };
        let keep = descriptors(&stdio);
        let bundle = self.dir.container(id);
        let runtime = oci::runtime(&self.config, &self.dir);
        let job_key = self.key();
        let scratch = self.dir.scratch(job_key);
        let job = Job::spawn(Purpose::Exec { caller }, self.oom_score_adj.as_deref(), &keep, || {
            let spec = oci::load_spec(&bundle).map_err(|error| chain(&error))?;
            let process = oci::exec_process(&spec, &config).map_err(|error| chain(&error))?;
            std::fs::create_dir_all(&scratch).map_err(|error| error.to_string())?;
            let result = runtime.exec(Target { id, bundle: &bundle, pid }, &process, &scratch, stdio);
            if let Err(error) = std::fs::remove_dir_all(&scratch) {
                complain("removing the files of an exec", &error);
            }
            let spawned = result.map_err(|error| chain(&error))?;
            Ok(Made { pid: Some(spawned.pid), terminal: spawned.terminal, start: None })
        });
        self.jobs.insert(job_key, job.map_err(failed("executing"))?);
        Ok(None)
    }

    fn signal_exec(&mut self, exec: u64, signal: i32) -> Outcome {
        match self.execs.get(&exec) {
            Some(running) => {
                send_signal(running.pid, signal).map_err(failed("sending a signal"))?;
                Ok(Some(Response::Done))
            }
            None => refuse(FailureKind::NotFound, format!("no exec {exec}")),
        }
    }

    fn resize(&mut self, id: &str, rows: u16, columns: u16) -> Outcome {
        let (_, container) = self.find(id)?;
        let Some(terminal) = container.streams.terminal() else {
            return refuse(FailureKind::WrongState, format!("container {id:?} has no terminal"));
        };
        crate::terminal::set_size(terminal, rows, columns).map_err(failed("resizing a terminal"))?;
        Ok(Some(Response::Done))
    }

    fn attach(&mut self, id: &str, wanted: [bool; 3], fds: Vec<OwnedFd>) -> Outcome {
        let [stdin, stdout, stderr] = distribute(wanted, fds)?;
        let (_, container) = self.find(id)?;
        if container.phase == Phase::Exited {
            return refuse(FailureKind::WrongState, format!("container {id:?} has exited"));
        }
        container.streams.attach(stdin, stdout, stderr).map_err(failed("attaching"))?;
        Ok(Some(Response::Done))
    }

    fn with_log(
        &mut self,
        id: &str,
        work: impl FnOnce(&mut LogFile) -> io::Result<Option<PathBuf>>,
    ) -> Outcome {
        let (_, container) = self.find(id)?;
        let Some(log) = container.streams.log() else {
            return refuse(FailureKind::WrongState, format!("container {id:?} has no log"));
        };
        let rotated = work(log).map_err(failed("changing the log"))?;
        self.announce_rotation(id, rotated);
        Ok(Some(Response::Done))
    }

    fn shutdown(&mut self, caller: Caller, force: bool) -> Outcome {
        if self.ending.is_some() {
            return refuse(FailureKind::WrongState, "the supervisor is shutting down");
        }
        if !force && (!self.containers.is_empty() || !self.jobs.is_empty()) {
            return refuse(FailureKind::WrongState, "containers are left");
        }
        self.ending = Some(caller);
        let keys: Vec<u64> = self.containers.keys().copied().collect();
        for key in keys {
            self.continue_ending(key);
        }
        Ok(None)
    }

    /// While shutting down: brings one container nearer to its end.
    pub(super) fn continue_ending(&mut self, key: u64) {
        let Some(container) = self.containers.get(&key) else { return };
        if self.ending.is_none() || container.removal.is_some() {
            return;
        }
        match container.phase {
            Phase::Exited => self.delete(key, None),
            Phase::Created | Phase::Starting { .. } | Phase::Running => {
                if let Err(failure) = self.kill_and_remove(key, None) {
                    complain("shutting down", &failure);
                }
            }
            // Comes here again when it is made; goes by itself when it is being removed.
            Phase::Creating | Phase::Deleting => {}
        }
    }
}

/// The rule of the OCI runtimes, so that an id is also one plain file name.
fn check_id(id: &str) -> Result<(), Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > MAX_ID || id == "." || id == ".." || !id.chars().all(allowed) {
        return refuse(FailureKind::Invalid, format!("{id:?} is not a container id"));
    }
    Ok(())
}

/// Hands descriptors to those who want one.
fn distribute(wanted: [bool; 3], fds: Vec<OwnedFd>) -> Result<[Option<OwnedFd>; 3], Failure> {
    let expected = wanted.iter().filter(|&&wanted| wanted).count();
    if expected != fds.len() {
        let message = format!("{expected} descriptors announced, {} came", fds.len());
        return refuse(FailureKind::Invalid, message);
    }
    let mut fds = fds.into_iter();
    Ok(wanted.map(|wanted| if wanted { fds.next() } else { None }))
}

fn null() -> io::Result<OwnedFd> {
    Ok(std::fs::File::options().read(true).write(true).open("/dev/null")?.into())
}

fn descriptors(stdio: &Stdio) -> Vec<std::os::fd::RawFd> {
    match stdio {
        Stdio::Streams { stdin, stdout, stderr } => {
            vec![stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()]
        }
        Stdio::Terminal => Vec::new(),
    }
}
