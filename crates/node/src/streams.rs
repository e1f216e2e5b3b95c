//! What the API server asks of the node for its clients: logs, exec, attach, port-forward.

mod terminal;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use jiff::Timestamp;
use nix::fcntl::OFlag;
use sampan_api::Status;
use sampan_client::node_streams::{
    BoxDuplex, ByteReader, ByteWriter, ExecSession, ExitStatus, LogOptions, LogStream, NodeStreams, PodRef,
    StreamFlags, TerminalSize,
};
use sampan_runtime::{ExecConfig, RequestError, Streams, Supervisor};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use crate::images::chain;
use crate::logs::{self, Follow, Selection};
use crate::node::Node;
use crate::pod;
use crate::worker::run::View;
use crate::worker::state::{ContainerRecord, Phase};
use terminal::Terminal;

/// How long a port of a pod may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a pod may take to be adopted once its state is known.
const ADOPTION: Duration = Duration::from_secs(5);
/// New sizes of a terminal that may wait.
const RESIZES: usize = 4;

#[async_trait]
impl NodeStreams for Node {
    async fn logs(&self, pod: &PodRef, container: &str, options: LogOptions) -> Result<LogStream, Status> {
        let view = self.find(pod)?;
        let (run, running, directory) = {
            let view = view.borrow();
            let record = record(&view, container)?;
            let run = logged_run(record, pod, options.previous)?;
            let running = record.running().map(|running| running.id.clone()).filter(|_| !options.previous);
            let config = &self.shared().config;
            (run, running, config.log_dir(&pod.namespace, &pod.name, pod::uid(&view.pod)))
        };
        let path = logs::path(&directory, container, run);
        if !path.exists() {
            let message = format!("unable to retrieve container logs for {container} in pod {}", pod.name);
            return Err(Status::internal(message));
        }
        let follow = match (options.follow, running) {
            (true, Some(id)) => Follow::Until(ended(view, container.to_owned(), id)),
            (true, None) | (false, _) => Follow::No,
        };
        let selection = Selection::new(&options, Timestamp::now());
        Ok(logs::read(path, selection, options.tail_lines, follow))
    }

    async fn exec(
        &self,
        pod: &PodRef,
        container: &str,
        command: Vec<String>,
        streams: StreamFlags,
    ) -> Result<ExecSession, Status> {
        let (supervisor, id) = self.running(pod, container).await?;
        let config = ExecConfig { argv: command, tty: streams.tty, ..ExecConfig::default() };
        if streams.tty {
            return exec_terminal(&supervisor, &id, config, streams).await;
        }
        let (session, far) = Session::open(streams)?;
        let mut exec = supervisor.exec(&id, config, far).await.map_err(refused)?;
        let exit = async move {
            let status = exec.wait().await.map_err(refused)?;
            Ok(ExitStatus { code: status.exit_code })
        };
        Ok(ExecSession {
            stdin: session.stdin,
            stdout: session.stdout,
            stderr: session.stderr,
            resize: None,
            ends_with_input: false,
            exit: exit.boxed(),
        })
    }

    async fn attach(
        &self,
        pod: &PodRef,
        container: &str,
        streams: StreamFlags,
    ) -> Result<ExecSession, Status> {
        let view = self.find(pod)?;
        let (supervisor, id) = self.running(pod, container).await?;
        let (tty, stdin, once) = {
            let view = view.borrow();
            let spec = pod::any_container(pod::spec(&view.pod), container);
            let flag = |flag: Option<bool>| flag.unwrap_or(false);
            spec.map_or((false, false, false), |spec| {
                (flag(spec.tty), flag(spec.stdin), flag(spec.stdin_once))
            })
        };
        // A terminal has one output, and a container without standard input takes none.
        let wanted = StreamFlags { stdin: streams.stdin && stdin, stderr: streams.stderr && !tty, ..streams };
        let (session, far) = Session::open(wanted)?;
        supervisor.attach(&id, far).await.map_err(refused)?;
        let resize = (streams.tty && tty).then(|| resize_container(supervisor, id.clone()));
        let stdin = match (session.stdin, streams.stdin) {
            (None, true) => Some(Box::new(tokio::io::sink()) as ByteWriter),
            (stdin, _) => stdin,
        };
        let stderr = match (session.stderr, streams.stderr && !streams.tty) {
            (None, true) => Some(Box::new(tokio::io::empty()) as ByteReader),
            (stderr, _) => stderr,
        };
        let exit = exit_of(view, container.to_owned(), id);
        let ends_with_input = wanted.stdin && (tty || !once);
        Ok(ExecSession { stdin, stdout: session.stdout, stderr, resize, ends_with_input, exit: exit.boxed() })
    }

    async fn port_forward(&self, pod: &PodRef, port: u16) -> Result<BoxDuplex, Status> {
        let view = self.find(pod)?;
        let namespace = {
            let view = view.borrow();
            let sandbox = view.sandbox.as_ref();
            let sandbox = sandbox.ok_or_else(|| Status::bad_request(format!("pod {pod} has no sandbox")))?;
            sandbox.network_namespace.clone()
        };
        let connected = tokio::task::spawn_blocking(move || connect(namespace.as_deref(), port)).await;
        let stream = connected.map_err(Status::internal)?.map_err(|error| {
            Status::internal(format!(
                "failed to connect to localhost:{port} inside namespace of pod {pod}: {error}"
            ))
        })?;
        let stream = tokio::net::TcpStream::from_std(stream).map_err(Status::internal)?;
        Ok(Box::new(stream))
    }
}

impl Node {
    fn find(&self, pod: &PodRef) -> Result<watch::Receiver<View>, Status> {
        let found = self.view(&pod.namespace, &pod.name, &pod.uid);
        found.ok_or_else(|| {
            Status::failure(404, "NotFound", format!("pod \"{}\" not found on this node", pod.name))
        })
    }

    /// The supervisor and the id of a container that runs. Where the pod is just being adopted, its
    /// supervisor is waited for.
    async fn running(&self, pod: &PodRef, container: &str) -> Result<(Supervisor, String), Status> {
        let mut view = self.find(pod)?;
        let gone = || {
            Status::internal(format!("unable to upgrade connection: container not found (\"{container}\")"))
        };
        record(&view.borrow(), container)?.running().ok_or_else(gone)?;
        let settled = view.wait_for(|view| {
            view.sandbox.is_some() || record(view, container).is_ok_and(|record| record.running().is_none())
        });
        let view = tokio::time::timeout(ADOPTION, settled).await.map_err(|_| gone())?.map_err(|_| gone())?;
        let id = record(&view, container)?.running().map(|running| running.id.clone()).ok_or_else(gone)?;
        let supervisor = view.sandbox.as_ref().map(|sandbox| sandbox.supervisor.clone()).ok_or_else(gone)?;
        Ok((supervisor, id))
    }
}

fn record<'a>(view: &'a View, container: &str) -> Result<&'a ContainerRecord, Status> {
    let found = view.containers.iter().find(|record| record.name == container);
    found.ok_or_else(|| {
        let message = format!("container {container} is not valid for pod {}", pod::name(&view.pod));
        Status::bad_request(message)
    })
}

/// The number of the run whose log is asked for.
fn logged_run(record: &ContainerRecord, pod: &PodRef, previous: bool) -> Result<i32, Status> {
    let name = &record.name;
    if previous {
        let message = format!("previous terminated container \"{name}\" in pod \"{}\" not found", pod.name);
        return record.previous_run().ok_or_else(|| Status::bad_request(message));
    }
    record.logged_run().ok_or_else(|| {
        let why = match &record.phase {
            Phase::Waiting(waiting) | Phase::Starting(waiting) => match waiting.reason.as_str() {
                "ErrImagePull" | "ImagePullBackOff" => "trying and failing to pull image".to_owned(),
                reason => reason.to_owned(),
            },
            Phase::Running(_) | Phase::Stopping(_) | Phase::Exited(_) => String::new(),
        };
        Status::bad_request(format!(
            "container \"{name}\" in pod \"{}\" is waiting to start: {why}",
            pod.name
        ))
    })
}

/// Becomes true when the container with this id has ended.
fn ended(mut view: watch::Receiver<View>, container: String, id: String) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            // Without a worker the container is not followed any more.
            _ = view.wait_for(|view| !runs(view, &container, &id)) => {}
            () = sender.closed() => {}
        }
        sender.send_replace(true);
    });
    receiver
}

fn runs(view: &View, container: &str, id: &str) -> bool {
    let record = view.containers.iter().find(|record| record.name == container);
    record.and_then(ContainerRecord::running).is_some_and(|running| running.id == id)
}

async fn exit_of(
    mut view: watch::Receiver<View>,
    container: String,
    id: String,
) -> Result<ExitStatus, Status> {
    let lost = || Status::internal("the container is not followed any more");
    let view = view.wait_for(|view| !runs(view, &container, &id)).await.map_err(|_| lost())?;
    let record = view.containers.iter().find(|record| record.name == container).ok_or_else(lost)?;
    let current = match &record.phase {
        Phase::Exited(ended) => Some(ended),
        Phase::Waiting(_) | Phase::Starting(_) | Phase::Running(_) | Phase::Stopping(_) => None,
    };
    let ended = current.into_iter().chain(&record.last).find(|ended| ended.id == id);
    ended.map(|ended| ExitStatus { code: ended.exit_code }).ok_or_else(lost)
}

fn refused(error: RequestError) -> Status {
    Status::internal(chain(&error))
}

/// Our ends of a process's streams.
#[derive(Default)]
struct Session {
    stdin: Option<ByteWriter>,
    stdout: Option<ByteReader>,
    stderr: Option<ByteReader>,
}

impl Session {
    /// Makes the pipes; the far ends go to the process.
    fn open(flags: StreamFlags) -> Result<(Session, Streams), Status> {
        let make = || -> io::Result<(Session, Streams)> {
            let mut session = Session::default();
            let mut far = Streams::default();
            if flags.stdin {
                let (reader, writer) = pipe_pair()?;
                session.stdin = Some(Box::new(pipe::Sender::from_owned_fd(writer)?));
                far.stdin = Some(reader);
            }
            if flags.stdout {
                let (reader, writer) = pipe_pair()?;
                session.stdout = Some(Box::new(pipe::Receiver::from_owned_fd(reader)?));
                far.stdout = Some(writer);
            }
            if flags.stderr {
                let (reader, writer) = pipe_pair()?;
                session.stderr = Some(Box::new(pipe::Receiver::from_owned_fd(reader)?));
                far.stderr = Some(writer);
            }
            Ok((session, far))
        };
        make().map_err(|error| Status::internal(format!("cannot make the streams: {error}")))
    }
}

fn pipe_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

async fn exec_terminal(
    supervisor: &Supervisor,
    id: &str,
    config: ExecConfig,
    flags: StreamFlags,
) -> Result<ExecSession, Status> {
    let mut exec = supervisor.exec(id, config, Streams::default()).await.map_err(refused)?;
    let master = exec.terminal.take().ok_or_else(|| Status::internal("the process has no terminal"))?;
    let terminal = Terminal::new(master).map_err(Status::internal)?;
    let (sender, mut sizes) = mpsc::channel::<TerminalSize>(RESIZES);
    let handle = Arc::downgrade(&terminal.shared());
    tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            let Some(terminal) = handle.upgrade() else { return };
            if let Err(error) = sampan_runtime::resize_terminal(terminal.get_ref(), size.height, size.width) {
                tracing::debug!(%error, "a terminal keeps its size");
            }
        }
    });
    let exit = async move {
        let status = exec.wait().await.map_err(refused)?;
        Ok(ExitStatus { code: status.exit_code })
    };
    Ok(ExecSession {
        stdin: flags.stdin.then(|| Box::new(terminal.clone()) as ByteWriter),
        stdout: Some(Box::new(terminal)),
        stderr: None,
        resize: Some(sender),
        ends_with_input: false,
        exit: exit.boxed(),
    })
}

fn resize_container(supervisor: Supervisor, id: String) -> mpsc::Sender<TerminalSize> {
    let (sender, mut sizes) = mpsc::channel::<TerminalSize>(RESIZES);
    tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            if let Err(error) = supervisor.resize(&id, size.height, size.width).await {
                tracing::debug!(error = chain(&error), "a terminal keeps its size");
            }
        }
    });
    sender
}

/// Connects to loopback inside a network namespace, on a thread that never comes back from there.
fn connect(namespace: Option<&Path>, port: u16) -> Result<std::net::TcpStream, String> {
    let dial = || -> io::Result<std::net::TcpStream> {
        let four = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let six = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port);
        let stream = std::net::TcpStream::connect_timeout(&four, CONNECT)
            .or_else(|error| std::net::TcpStream::connect_timeout(&six, CONNECT).map_err(|_| error))?;
        stream.set_nonblocking(true)?;
        // Interactive protocols come through here.
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    match namespace {
        Some(path) => match sampan_net::namespace::run_in(path, dial) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(chain(&error)),
        },
        None => dial().map_err(|error| error.to_string()),
    }
}
