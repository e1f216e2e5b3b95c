//! The OCI runtime: what makes containers out of bundles.
//!
//! Everything here blocks, changes the process it runs in, and may fork: it runs in a fork of the
//! supervisor that ends afterwards (see `supervisor::job`). The container's processes then become
//! the supervisor's children, since it is their nearest subreaper.

mod external;
pub mod native;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

use crate::protocol::ExecConfig;
use crate::sandbox::{RuntimeKind, SandboxConfig, SandboxDir};
pub use external::ExternalRuntime;
use native::{NativeError, NativeRuntime};

/// Why an OCI runtime did not do it.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    #[error("reading {path}")]
    Spec { path: PathBuf, source: oci_spec::OciSpecError },
    #[error("the spec has no process")]
    NoProcess,
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
    #[error("writing the process for an exec")]
    Process(#[source] serde_json::Error),
    #[error(transparent)]
    Native(#[from] NativeError),
    /// What an external runtime printed.
    #[error("{binary} {command}: {message}")]
    External { binary: PathBuf, command: &'static str, message: String },
    #[error("the runtime sent no terminal")]
    NoTerminal,
}

impl OciError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> OciError {
        move |source| OciError::Io { what, source }
    }
}

/// Where a process's standard streams go.
pub enum Stdio {
    Streams {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// To a terminal, whose master side comes back.
    Terminal,
}

/// A process that a runtime made.
#[derive(Debug)]
pub struct Spawned {
    pub pid: i32,
    pub terminal: Option<OwnedFd>,
    /// How a container is [started](native::handshake::go), where that needs no runtime.
    pub start: Option<OwnedFd>,
}

/// A container that runs.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub id: &'a str,
    pub bundle: &'a Path,
    /// Of its first process, a child of the supervisor.
    pub pid: i32,
}

/// The operations of the OCI runtime specification that a supervisor needs. Signals are not among
/// them: the supervisor is the parent and sends them itself.
pub trait OciRuntime {
    /// Sets up a container from its bundle; the user's process waits to be started.
    fn create(&self, id: &str, bundle: &Path, stdio: Stdio) -> Result<Spawned, OciError>;
    fn start(&self, id: &str) -> Result<(), OciError>;
    /// Forgets a container whose processes are gone.
    fn delete(&self, id: &str) -> Result<(), OciError>;
    /// Runs `process` in a container. `scratch` is an empty directory that is removed afterwards.
    fn exec(
        &self,
        target: Target<'_>,
        process: &Process,
        scratch: &Path,
        stdio: Stdio,
    ) -> Result<Spawned, OciError>;
}

/// The runtime that a pod is configured for.
pub fn runtime(config: &SandboxConfig, dir: &SandboxDir) -> Box<dyn OciRuntime> {
    match &config.runtime {
        RuntimeKind::Native => {
            let filters = config.filters.clone().unwrap_or_else(|| dir.filters());
            Box::new(NativeRuntime { filters })
        }
        RuntimeKind::External { binary } => {
            Box::new(ExternalRuntime { binary: binary.clone(), root: dir.runtime_root() })
        }
    }
}

/// The spec in a bundle.
pub fn load_spec(bundle: &Path) -> Result<Spec, OciError> {
    let path = bundle.join("config.json");
    Spec::load(&path).map_err(|source| OciError::Spec { path, source })
}

/// Rewrites what a spec asks an external runtime for in vain: an OOM score that this process may not
/// set (it is below ours and we lack `CAP_SYS_RESOURCE`) becomes ours, as other engines do when they
/// run in a container themselves.
pub fn adapt_spec(bundle: &Path) -> Result<(), OciError> {
    let mut spec = load_spec(bundle)?;
    let before = spec.clone();
    if let Some(process) = spec.process_mut() {
        let own = "/proc/self/oom_score_adj";
        let denied = |score: i32| {
            let result = std::fs::write(own, score.to_string());
            result.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        };
        if process.oom_score_adj().is_some_and(denied) {
            let ours = std::fs::read_to_string(own).map_err(OciError::io("reading our OOM score"))?;
            process.set_oom_score_adj(ours.trim().parse().ok());
        }
    }
    if spec != before {
        let path = bundle.join("config.json");
        spec.save(&path).map_err(|source| OciError::Spec { path, source })?;
    }
    Ok(())
}

/// The process of an exec: the container's own with the differences that `config` names, as in other
/// CRI runtimes.
pub fn exec_process(spec: &Spec, config: &ExecConfig) -> Result<Process, OciError> {
    let mut process = spec.process().clone().ok_or(OciError::NoProcess)?;
    process.set_terminal(Some(config.tty)).set_args(Some(config.argv.clone()));
    if let Some(cwd) = &config.cwd {
        process.set_cwd(cwd.clone());
    }
    let name = |entry: &str| entry.split_once('=').map_or(entry, |(name, _)| name).to_owned();
    let ours: Vec<String> = config.env.iter().map(|entry| name(entry)).collect();
    let mut env = process.env().clone().unwrap_or_default();
    env.retain(|entry| !ours.contains(&name(entry)));
    if config.user.is_some() {
        // The runtime looks the new user's home up where none is given.
        env.retain(|entry| name(entry) != "HOME");
    }
    env.extend(config.env.iter().cloned());
    process.set_env(Some(env));
    if let Some(user) = &config.user {
        let mut oci_user = process.user().clone();
        oci_user.set_uid(user.uid).set_gid(user.gid);
        oci_user.set_additional_gids(Some(user.additional_gids.clone()));
        process.set_user(oci_user);
    }
    Ok(process)
}

const CONSOLE_SOCKET: &str = "console.sock";

/// A socket at which a runtime hands over the master side of a terminal.
struct ConsoleSocket {
    listener: UnixListener,
    /// Short enough for an address, as long as the directory is open.
    path: PathBuf,
    _dir: File,
}

impl ConsoleSocket {
    fn bind(dir: &Path) -> Result<ConsoleSocket, OciError> {
        let path = dir.join(CONSOLE_SOCKET);
        let failed = "making a console socket";
        let listener = crate::socket::bind(&path).map_err(OciError::io(failed))?;
        let (dir, path) = crate::socket::short_path(&path).map_err(OciError::io(failed))?;
        Ok(ConsoleSocket { listener, path, _dir: dir })
    }

    /// To be called when the runtime is done: it does not wait.
    fn receive(&self) -> Result<OwnedFd, OciError> {
        let failed = "receiving the terminal";
        let (stream, _) = self.listener.accept().map_err(OciError::io(failed))?;
        let mut name = [0; 4096];
        let (_, fds) = crate::socket::receive(stream.as_fd(), &mut name).map_err(OciError::io(failed))?;
        fds.into_iter().next().ok_or(OciError::NoTerminal)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        // Left over, it goes with the container's directory.
        let _gone = std::fs::remove_file(&self.path);
    }
}
