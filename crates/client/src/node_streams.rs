//! The contract between the API server and a node for everything that is a stream of bytes:
//! container logs, exec, attach and port-forward.
//!
//! The node implements [`NodeStreams`]; the API server carries the streams to clients over
//! WebSocket or SPDY. Neither knows the other. Back-pressure is that of the byte streams: a side
//! that does not read stops the side that writes.
//!
//! Life time: dropping what a method returned is how a client that went away is told to the node.
//! After that the node releases everything that it held for the session; a process started by
//! `exec` loses its standard input and terminal but is not killed otherwise, as with kubelet.

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use sampan_api::Status;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// One pod. `uid` is empty where the caller does not care which pod of that name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Which part of a container's log to send (`PodLogOptions`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on sending what the container writes until it ends or the reader leaves.
    pub follow: bool,
    /// The log of the container's previous run.
    pub previous: bool,
    /// Only lines of the last seconds; positive.
    pub since_seconds: Option<i64>,
    /// Only lines at or after this time. Never together with `since_seconds`.
    pub since_time: Option<jiff::Timestamp>,
    /// Only this many lines from the end; 0 is none.
    pub tail_lines: Option<u64>,
    /// Stop after this many bytes; positive.
    pub limit_bytes: Option<u64>,
    /// Put the time of each line (RFC 3339 with nanoseconds) and a space before it.
    pub timestamps: bool,
}

/// Log bytes as they are sent to the client. An error ends the stream.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Which standard streams the client wants, and whether they are one terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamFlags {
    pub stdin: bool,
    pub stdout: bool,
    /// Never with `tty`: a terminal has one output.
    pub stderr: bool,
    pub tty: bool,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus {
    /// The exit code; 128 plus the signal's number for a process killed by a signal.
    pub code: i32,
}

pub type ByteReader = Box<dyn AsyncRead + Send + Unpin>;
pub type ByteWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// A process or a container's main process with its standard streams.
///
/// The streams are present exactly where [`StreamFlags`] asked for them. With a terminal, `stdout`
/// carries everything and `stderr` is absent.
pub struct ExecSession {
    /// Shutting it down (or dropping it) gives the process end of file.
    pub stdin: Option<ByteWriter>,
    /// Ends when the process, and everyone who inherited the stream, closed it. Implementations
    /// bound how long they wait for the inheritors after the process ended.
    pub stdout: Option<ByteReader>,
    pub stderr: Option<ByteReader>,
    /// New terminal sizes; present with `tty`.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// The session ends with its input: whoever typed to a container that goes on reading leaves it then.
    pub ends_with_input: bool,
    /// Completes when the process ended (exec) or the container ended (attach). An error means
    /// that the process could not be started or was lost.
    pub exit: BoxFuture<'static, Result<ExitStatus, Status>>,
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSession")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .field("resize", &self.resize.is_some())
            .finish_non_exhaustive()
    }
}

/// A connection to a port of a pod.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub type BoxDuplex = Box<dyn Duplex>;

/// What a node can stream. Container names are resolved by the caller: never empty.
///
/// Errors are the ones that a client is shown: 404 where the pod or container is not on this node,
/// 400 where the container is not in a state that allows the operation, 500 for failures.
#[async_trait]
pub trait NodeStreams: Send + Sync + 'static {
    async fn logs(&self, pod: &PodRef, container: &str, options: LogOptions) -> Result<LogStream, Status>;

    /// Starts a process in a running container.
    async fn exec(
        &self,
        pod: &PodRef,
        container: &str,
        command: Vec<String>,
        streams: StreamFlags,
    ) -> Result<ExecSession, Status>;

    /// Joins the main process of a running container. `streams.tty` is what the client asked for;
    /// the container's own `tty` decides.
    async fn attach(
        &self,
        pod: &PodRef,
        container: &str,
        streams: StreamFlags,
    ) -> Result<ExecSession, Status>;

    /// Connects to a TCP port inside the pod's network namespace, on loopback.
    async fn port_forward(&self, pod: &PodRef, port: u16) -> Result<BoxDuplex, Status>;
}
