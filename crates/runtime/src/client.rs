//! The server's handle to one pod's supervisor.

mod connection;
mod launch;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::runtime::{LinuxResources, Spec};
use tokio::sync::{mpsc, oneshot};

use crate::protocol::frame::FrameError;
use crate::protocol::{
    ContainerConfig, ContainerStatus, Event, ExecConfig, ExitStatus, Failure, Hello, Request, Response,
    Stats, VERSION,
};
use crate::sandbox::{SOCKET, SandboxConfig};
use connection::{Answer, Connection};
pub(crate) use launch::READY;

/// Why a supervisor could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens: it is dead or was never there. [`cleanup`](crate::cleanup::cleanup) its
    /// directory.
    #[error("no supervisor at {path}")]
    Dead { path: PathBuf, source: io::Error },
    #[error("the supervisor at {path} does not answer as one")]
    Hello { path: PathBuf, source: RequestError },
    #[error("the supervisor speaks version {theirs} of the protocol, this server {VERSION}")]
    Version { theirs: u32 },
}

/// Why a supervisor could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("cannot prepare the supervisor's directory {dir}")]
    Prepare { dir: PathBuf, source: io::Error },
    #[error("cannot run {exe}")]
    Spawn { exe: PathBuf, source: io::Error },
    /// It said why it cannot serve, or died before it could.
    #[error("the supervisor did not start: {reason}")]
    NotReady { reason: String },
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The supervisor refused; the only variant after which it is still there.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The connection is gone: the supervisor died or the receiver of events did not keep up.
    #[error("the connection to the supervisor is closed")]
    Disconnected,
    #[error("request cannot be sent")]
    Frame(#[from] FrameError),
    #[error("the supervisor gave an answer to another question")]
    UnexpectedAnswer,
}

/// Descriptors for an exec or an attach: the far ends of what the caller reads and writes. The
/// caller's ends must not share an open file with them (pipes and socket pairs do not).
#[derive(Debug, Default)]
pub struct Streams {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// A process that runs in a container because of [`Supervisor::exec`].
#[derive(Debug)]
pub struct Exec {
    pub exec: u64,
    pub pid: u32,
    /// The master side of the terminal, when one was asked for; dropping it hangs up the process.
    pub terminal: Option<OwnedFd>,
    exit: oneshot::Receiver<ExitStatus>,
}

impl Exec {
    /// Waits until the process ends. Safe to cancel.
    pub async fn wait(&mut self) -> Result<ExitStatus, RequestError> {
        (&mut self.exit).await.map_err(|_| RequestError::Disconnected)
    }
}

/// Sets the size of a terminal by its master side.
pub fn resize_terminal(terminal: impl AsFd, rows: u16, columns: u16) -> io::Result<()> {
    crate::terminal::set_size(terminal.as_fd(), rows, columns)
}

/// A connection to a supervisor. Clones share it; it closes with the last. The supervisor goes on.
#[derive(Clone)]
pub struct Supervisor {
    connection: Arc<Connection>,
    hello: Arc<Hello>,
    dir: Arc<Path>,
}

impl Supervisor {
    /// Starts a supervisor and connects to it.
    ///
    /// Runs `exe supervisor --dir DIR`, which must call
    /// [`supervisor::main`](crate::supervisor::main) before it makes any thread. `dir` is made when
    /// missing and belongs to the supervisor; its path must be absolute and stay the same. Returns
    /// when containers can be created. Cancelled, it may leave a supervisor behind: `cleanup` the
    /// directory.
    ///
    /// The receiver gives the events in order and ends when the connection does. It must be read
    /// from: a connection that 1,024 events wait for is closed.
    pub async fn launch(
        exe: &Path,
        dir: &Path,
        config: &SandboxConfig,
    ) -> Result<(Supervisor, mpsc::Receiver<Event>), LaunchError> {
        launch::launch(exe, dir, config).await?;
        Ok(Supervisor::connect(dir).await?)
    }

    /// Connects to a supervisor that runs, to adopt its containers: see [`Supervisor::hello`].
    pub async fn connect(dir: &Path) -> Result<(Supervisor, mpsc::Receiver<Event>), ConnectError> {
        let path = dir.join(SOCKET);
        let dead = |source| ConnectError::Dead { path: path.clone(), source };
        let stream = crate::socket::connect(&path).map_err(dead)?;
        let stream = tokio::net::UnixStream::from_std(stream).map_err(dead)?;
        let (connection, events) = Connection::open(stream);
        let answer = connection.call(Request::Hello { subscribe: true }, Vec::new()).await;
        let hello = match answer.map(|answer| answer.response) {
            Ok(Response::Hello(hello)) => hello,
            Ok(_) => return Err(ConnectError::Hello { path, source: RequestError::UnexpectedAnswer }),
            Err(source) => return Err(ConnectError::Hello { path, source }),
        };
        if hello.version != VERSION {
            return Err(ConnectError::Version { theirs: hello.version });
        }
        let supervisor =
            Supervisor { connection: Arc::new(connection), hello: Arc::from(hello), dir: Arc::from(dir) };
        Ok((supervisor, events))
    }

    /// What the supervisor said when this connection was made. The containers in it are of that
    /// moment; the events follow on.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts the pod's namespaces into a spec: see [`PodNamespaces::join`](crate::sandbox::PodNamespaces::join).
    pub fn join_namespaces(&self, spec: &mut Spec) {
        self.hello.namespaces.join(&self.hello.config, spec);
    }

    /// Asks again for everything that [`Supervisor::hello`] tells, as of now.
    pub async fn refresh(&self) -> Result<Hello, RequestError> {
        match self.call(Request::Hello { subscribe: true }, Streams::default()).await?.response {
            Response::Hello(hello) => Ok(*hello),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    /// Creates a container: all is set up but the user's process waits for [`Supervisor::start`].
    pub async fn create(&self, mut config: ContainerConfig) -> Result<ContainerStatus, RequestError> {
        if let Some(process) = config.spec.process_mut() {
            process.set_terminal(Some(config.tty));
        }
        self.container(Request::Create { config: Box::new(config) }).await
    }

    /// Starts a created container.
    pub async fn start(&self, id: &str) -> Result<ContainerStatus, RequestError> {
        self.container(Request::Start { id: id.to_owned() }).await
    }

    /// Sends a signal by its number to the container's first process, or to `all` of its processes.
    /// Signalling a container that exited does nothing.
    pub async fn signal(&self, id: &str, signal: i32, all: bool) -> Result<(), RequestError> {
        self.done(Request::Signal { id: id.to_owned(), signal, all }, Streams::default()).await
    }

    /// Deletes a container and what the kernel holds for it. Its log stays. With `force` a running
    /// container is killed first.
    pub async fn remove(&self, id: &str, force: bool) -> Result<(), RequestError> {
        self.done(Request::Remove { id: id.to_owned(), force }, Streams::default()).await
    }

    /// Runs a process in a running container. The flags `stdin`, `stdout` and `stderr` of `config`
    /// are set from `streams`, which must be empty when `config.tty`.
    pub async fn exec(
        &self,
        id: &str,
        mut config: ExecConfig,
        streams: Streams,
    ) -> Result<Exec, RequestError> {
        config.stdin = streams.stdin.is_some();
        config.stdout = streams.stdout.is_some();
        config.stderr = streams.stderr.is_some();
        let answer = self.call(Request::Exec { id: id.to_owned(), config }, streams).await?;
        match (answer.response, answer.exit) {
            (Response::Exec { exec, pid }, Some(exit)) => {
                Ok(Exec { exec, pid, terminal: answer.fds.into_iter().next(), exit })
            }
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    /// Sends a signal to a process started by [`Supervisor::exec`], by its number.
    pub async fn signal_exec(&self, exec: u64, signal: i32) -> Result<(), RequestError> {
        self.done(Request::SignalExec { exec, signal }, Streams::default()).await
    }

    /// Sets the size of a container's terminal. For that of an exec: [`resize_terminal`].
    pub async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<(), RequestError> {
        self.done(Request::Resize { id: id.to_owned(), rows, columns }, Streams::default()).await
    }

    /// Attaches to a container's streams. Returns when attached; the descriptors in `streams` are
    /// closed when the output ends. A reader that does not read holds up the container's output.
    pub async fn attach(&self, id: &str, streams: Streams) -> Result<(), RequestError> {
        let request = Request::Attach {
            id: id.to_owned(),
            stdin: streams.stdin.is_some(),
            stdout: streams.stdout.is_some(),
            stderr: streams.stderr.is_some(),
        };
        self.done(request, streams).await
    }

    pub async fn reopen_log(&self, id: &str) -> Result<(), RequestError> {
        self.done(Request::ReopenLog { id: id.to_owned() }, Streams::default()).await
    }

    pub async fn rotate_log(&self, id: &str) -> Result<(), RequestError> {
        self.done(Request::RotateLog { id: id.to_owned() }, Streams::default()).await
    }

    pub async fn stats(&self, id: &str) -> Result<Stats, RequestError> {
        match self.call(Request::Stats { id: id.to_owned() }, Streams::default()).await?.response {
            Response::Stats(stats) => Ok(stats),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    /// Changes the limits of a container; what is absent in `resources` stays.
    pub async fn update_resources(&self, id: &str, resources: LinuxResources) -> Result<(), RequestError> {
        let request = Request::UpdateResources { id: id.to_owned(), resources: Box::new(resources) };
        self.done(request, Streams::default()).await
    }

    /// Ends the supervisor and removes the pod's cgroup. Refused while a container is left, unless
    /// `force`. The directory may be removed afterwards.
    pub async fn shutdown(&self, force: bool) -> Result<(), RequestError> {
        self.done(Request::Shutdown { force }, Streams::default()).await
    }

    async fn container(&self, request: Request) -> Result<ContainerStatus, RequestError> {
        match self.call(request, Streams::default()).await?.response {
            Response::Container(status) => Ok(*status),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    async fn done(&self, request: Request, streams: Streams) -> Result<(), RequestError> {
        match self.call(request, streams).await?.response {
            Response::Done => Ok(()),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    async fn call(&self, request: Request, streams: Streams) -> Result<Answer, RequestError> {
        let fds = [streams.stdin, streams.stdout, streams.stderr].into_iter().flatten().collect();
        self.connection.call(request, fds).await
    }
}
