//! How a supervisor comes to life.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, dup2_stdout, fork, sethostname, setsid};

use super::{CHUNK, Supervisor, chain, complain, pod_init};
use crate::client::READY;
use crate::record::{self, ProcessIdentity, SupervisorRecord};
use crate::sandbox::{NamespaceMode, PidMode, PodNamespaces, SandboxConfig, SandboxDir};
use crate::socket;

/// Before the containers, when memory runs out: the figure that other container engines give theirs.
const OOM_SCORE_ADJ: &str = "-998";

/// Why a supervisor cannot serve.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the directory of a supervisor must be an absolute path")]
    RelativeDir,
    #[error("there is no sandbox.json")]
    NoConfig,
    #[error("another supervisor serves this directory")]
    Taken,
    #[error("containers of a dead supervisor are left: clean up first")]
    NotClean,
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
}

fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> StartError {
    move |source| StartError::Io { what, source: source.into() }
}

pub fn run(dir: &Path) -> ExitCode {
    // It was executed by a descriptor, whose number would be its name. One that stays as it is
    // harms nobody.
    let _unnamed = nix::sys::prctl::set_name(c"sampan");
    // The caller may be the leader of a group and then cannot have a session; the fork can.
    // SAFETY: the process has one thread, so the child may use all that the parent may.
    match unsafe { fork() } {
        Ok(ForkResult::Parent { .. }) => return ExitCode::SUCCESS,
        Ok(ForkResult::Child) => {}
        Err(error) => return refuse(&failed("forking")(error)),
    }
    let mut supervisor = match prepare(dir) {
        Ok(supervisor) => supervisor,
        Err(error) => return refuse(&error),
    };
    if let Err(error) = say_ready(&supervisor.dir) {
        complain("saying ready", &error);
        return ExitCode::FAILURE;
    }
    match supervisor.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain("waiting for something to do", &error);
            ExitCode::FAILURE
        }
    }
}

/// Whoever started us reads it.
fn refuse(error: &StartError) -> ExitCode {
    println!("{}", chain(error));
    ExitCode::FAILURE
}

/// From here on, nobody reads our standard output: it joins the log.
fn say_ready(dir: &SandboxDir) -> io::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(READY.as_bytes())?;
    stdout.flush()?;
    let log = OpenOptions::new().append(true).create(true).open(dir.log())?;
    dup2_stdout(log.as_fd())?;
    Ok(())
}

fn prepare(dir: &Path) -> Result<Supervisor, StartError> {
    if !dir.is_absolute() {
        return Err(StartError::RelativeDir);
    }
    let dir = SandboxDir::new(dir);
    let config: SandboxConfig =
        record::read(&dir.config()).map_err(failed("reading sandbox.json"))?.ok_or(StartError::NoConfig)?;
    if socket::connect(&dir.socket()).is_ok() {
        return Err(StartError::Taken);
    }
    std::fs::create_dir_all(dir.containers()).map_err(failed("making directories"))?;
    std::fs::create_dir_all(dir.runtime_root()).map_err(failed("making directories"))?;
    let mut left = std::fs::read_dir(dir.containers()).map_err(failed("looking for containers"))?;
    if left.next().is_some() {
        return Err(StartError::NotClean);
    }
    setsid().map_err(failed("making a session"))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(failed("becoming a subreaper"))?;
    // All of them: it ends by request only. Those that tell of a fault of ours cannot be blocked.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).map_err(failed("blocking signals"))?;
    let mut child_signals = SigSet::empty();
    child_signals.add(nix::sys::signal::Signal::SIGCHLD);
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&child_signals, flags).map_err(failed("listening to signals"))?;
    let oom_score_adj = protect_from_oom();
    let (namespaces, pod_init) = make_namespaces(&dir, &config)?;
    let boot_id = record::boot_id().map_err(failed("reading the boot id"))?;
    let identity = |pid| ProcessIdentity::of(pid).map_err(failed("reading our own start time"));
    let record = SupervisorRecord {
        supervisor: identity(std::process::id() as i32)?,
        pod_init: pod_init.map(identity).transpose()?,
        boot_id: boot_id.clone(),
    };
    record::write(&dir.identity(), &record).map_err(failed("writing supervisor.json"))?;
    let listener = socket::bind(&dir.socket()).map_err(failed("listening"))?;
    Ok(Supervisor {
        dir,
        config,
        namespaces,
        boot_id,
        oom_score_adj,
        listener,
        signals,
        next_key: 0,
        connections: Default::default(),
        containers: Default::default(),
        jobs: Default::default(),
        execs: Default::default(),
        unclaimed: Vec::new(),
        ending: None,
        buffer: vec![0; CHUNK],
    })
}

/// Returns the score to give back to containers; `None` when ours could not be changed.
fn protect_from_oom() -> Option<String> {
    let path = "/proc/self/oom_score_adj";
    let original = std::fs::read_to_string(path).ok()?.trim().to_owned();
    match std::fs::write(path, OOM_SCORE_ADJ) {
        Ok(()) => Some(original),
        // Without CAP_SYS_RESOURCE, as in a container, there is no such protection.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => {
            complain("lowering the OOM score, going on without", &error);
            None
        }
    }
}

fn make_namespaces(
    dir: &SandboxDir,
    config: &SandboxConfig,
) -> Result<(PodNamespaces, Option<i32>), StartError> {
    let own = |kind: &str| Some(format!("/proc/{}/ns/{kind}", std::process::id()).into());
    let mut namespaces = PodNamespaces::default();
    if config.ipc == NamespaceMode::Pod {
        unshare(CloneFlags::CLONE_NEWIPC).map_err(failed("making an IPC namespace"))?;
        namespaces.ipc = own("ipc");
    }
    if config.uts == NamespaceMode::Pod {
        unshare(CloneFlags::CLONE_NEWUTS).map_err(failed("making a UTS namespace"))?;
        sethostname(&config.hostname).map_err(failed("setting the hostname"))?;
        namespaces.uts = own("uts");
    }
    let pod_init = match config.pid {
        PidMode::Container | PidMode::Host => None,
        PidMode::Pod => {
            let pid = pod_init::spawn(dir.path()).map_err(failed::<Errno>("starting the pod's init"))?;
            namespaces.pid = Some(format!("/proc/{pid}/ns/pid").into());
            Some(pid)
        }
    };
    Ok((namespaces, pod_init))
}
