//! Exec and attach, whatever carries them: standard streams in and out, and how it ended.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sampan_api::Status;
use sampan_api::status::{Cause, StatusDetails};
use sampan_client::node_streams::{
    ByteReader, ByteWriter, ExecSession, ExitStatus, NodeStreams, StreamFlags, TerminalSize,
};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use super::multiplex::{CHUNK_BYTES, Sink};
use super::query::CommandQuery;
use super::{ContainerRef, words};

/// More bytes than this without a whole terminal size are not one.
const MAX_RESIZE_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandKind {
    Exec,
    Attach,
}

/// What a client asked for.
pub(super) struct Command {
    pub node: Arc<dyn NodeStreams>,
    pub target: ContainerRef,
    pub query: CommandQuery,
    pub kind: CommandKind,
}

/// The versions of the remote command protocol that differ here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// No resizing; errors as text.
    V1V2,
    /// Errors as text.
    V3,
    /// Errors as `Status`.
    V4,
}

impl Version {
    pub fn of_spdy(protocol: &str) -> Self {
        match protocol {
            "v4.channel.k8s.io" => Version::V4,
            "v3.channel.k8s.io" => Version::V3,
            _ => Version::V1V2,
        }
    }

    pub fn resizes(self) -> bool {
        match self {
            Version::V1V2 => false,
            Version::V3 | Version::V4 => true,
        }
    }

    fn encode(self, outcome: &Status) -> Bytes {
        match self {
            Version::V4 => serde_json::to_vec(outcome).unwrap_or_default().into(),
            Version::V1V2 | Version::V3 if outcome.status == "Success" => Bytes::new(),
            Version::V1V2 | Version::V3 => Bytes::from(outcome.to_string()),
        }
    }
}

/// The client's ends of a command's streams.
pub(super) struct Channels {
    pub version: Version,
    pub stdin: Option<mpsc::Receiver<Bytes>>,
    pub stdout: Option<Sink>,
    pub stderr: Option<Sink>,
    pub error: Sink,
    pub resize: Option<mpsc::Receiver<Bytes>>,
}

impl Command {
    pub fn streams(&self) -> StreamFlags {
        self.query.streams
    }

    async fn start(&self) -> Result<ExecSession, Status> {
        let ContainerRef { pod, container } = &self.target;
        match self.kind {
            CommandKind::Exec => {
                self.node.exec(pod, container, self.query.command.clone(), self.query.streams).await
            }
            CommandKind::Attach => self.node.attach(pod, container, self.query.streams).await,
        }
    }

    /// Runs from start to end, and tells the client how it ended.
    pub async fn run(self, channels: Channels) {
        let Channels { version, stdin, stdout, stderr, error, resize } = channels;
        let outcome = match self.start().await {
            Ok(session) => {
                let exit = pump(session, stdin, stdout.as_ref(), stderr.as_ref(), resize).await;
                self.outcome(exit)
            }
            Err(status) => self.failed(status),
        };
        for output in [stdout, stderr].into_iter().flatten() {
            output.end().await;
        }
        let text = version.encode(&outcome);
        // A client that is gone needs no outcome.
        if text.is_empty() || error.send(text).await.is_ok() {
            error.end().await;
        }
    }

    fn outcome(&self, exit: Result<ExitStatus, Status>) -> Status {
        match (exit, self.kind) {
            (Err(status), _) => self.failed(status),
            // Whoever attaches learns a container's exit code from its status.
            (Ok(_), CommandKind::Attach) | (Ok(ExitStatus { code: 0 }), CommandKind::Exec) => {
                Status { code: 0, ..Status::success() }
            }
            (Ok(ExitStatus { code }), CommandKind::Exec) => non_zero_exit(&self.query.command, code),
        }
    }

    fn failed(&self, status: Status) -> Status {
        if status.code != 500 {
            return status;
        }
        // What an internal error says of itself is not repeated.
        let why = status.message.trim_start_matches("Internal error occurred: ");
        match self.kind {
            CommandKind::Exec => Status::internal(format!("error executing command in container: {why}")),
            CommandKind::Attach => Status::internal(format!("error attaching to container: {why}")),
        }
    }
}

/// What clients read an exit code from.
fn non_zero_exit(command: &[String], code: i32) -> Status {
    let command = command.join(" ");
    let message = format!(
        "command terminated with non-zero exit code: error executing command [{command}], exit code {code}"
    );
    let cause = Cause { reason: "ExitCode".to_owned(), message: code.to_string(), field: String::new() };
    let mut status = Status::failure(0, "NonZeroExitCode", message);
    status.details = Some(StatusDetails { causes: vec![cause], ..StatusDetails::default() });
    status
}

/// Moves bytes until the process ended, or the client left it, and its output was sent.
async fn pump(
    session: ExecSession,
    stdin: Option<mpsc::Receiver<Bytes>>,
    stdout: Option<&Sink>,
    stderr: Option<&Sink>,
    resize: Option<mpsc::Receiver<Bytes>>,
) -> Result<ExitStatus, Status> {
    let ExecSession { stdin: process_stdin, stdout: out, stderr: err, resize: sizes, ends_with_input, exit } =
        session;
    let (input_end, input_ended) = oneshot::channel();
    let end = async {
        tokio::select! {
            exit = exit => exit,
            Ok(()) = input_ended, if ends_with_input => Ok(ExitStatus { code: 0 }),
        }
    };
    let output = async {
        let ((), (), exit) = tokio::join!(copy_out(out, stdout), copy_out(err, stderr), end);
        exit
    };
    let input = async {
        let typing = async {
            copy_in(stdin, process_stdin).await;
            // Nobody waits for it any more where the process ended before.
            let _ = input_end.send(());
        };
        tokio::join!(typing, copy_sizes(resize, sizes));
        // The output still comes.
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        exit = output => exit,
        never = input => match never {},
    }
}

async fn copy_out(from: Option<ByteReader>, to: Option<&Sink>) {
    let (Some(mut from), Some(to)) = (from, to) else { return };
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK_BYTES);
        match from.read_buf(&mut buffer).await {
            // A pseudo-terminal whose process ended reports an error where a pipe reports its end.
            Ok(0) | Err(_) => return,
            Ok(_) => {
                if to.send(buffer.split().freeze()).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn copy_in(from: Option<mpsc::Receiver<Bytes>>, to: Option<ByteWriter>) {
    let (Some(mut from), Some(mut to)) = (from, to) else { return };
    while let Some(bytes) = from.recv().await {
        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
            // The process closed its input; what else comes is read and dropped.
            while from.recv().await.is_some() {}
            return;
        }
    }
    // Fails only where the process is gone already.
    let _ = to.shutdown().await;
}

#[derive(Deserialize)]
struct Resize {
    #[serde(rename = "Width", alias = "width")]
    width: u16,
    #[serde(rename = "Height", alias = "height")]
    height: u16,
}

async fn copy_sizes(from: Option<mpsc::Receiver<Bytes>>, to: Option<mpsc::Sender<TerminalSize>>) {
    let (Some(mut from), Some(to)) = (from, to) else { return };
    let mut sizes = SizeReader::default();
    while let Some(bytes) = from.recv().await {
        let Ok(found) = sizes.feed(&bytes) else { return };
        for size in found {
            if to.send(size).await.is_err() {
                return;
            }
        }
    }
}

/// Reads JSON objects that follow one another, cut anywhere.
#[derive(Default)]
pub(super) struct SizeReader {
    buffer: BytesMut,
}

/// Bytes that are no terminal size.
#[derive(Debug)]
pub(super) struct NoSize;

impl SizeReader {
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<TerminalSize>, NoSize> {
        if self.buffer.len() + bytes.len() > MAX_RESIZE_BYTES {
            return Err(NoSize);
        }
        self.buffer.extend_from_slice(bytes);
        let mut found = Vec::new();
        let mut stream = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Resize>();
        loop {
            match stream.next() {
                Some(Ok(Resize { width, height })) => found.push(TerminalSize { width, height }),
                Some(Err(error)) if error.is_eof() => break,
                Some(Err(_)) => return Err(NoSize),
                None => break,
            }
        }
        let read = stream.byte_offset();
        let _ = self.buffer.split_to(read);
        Ok(found)
    }
}

/// The first of the client's versions that we speak.
pub(super) fn first_common(
    headers: &http::HeaderMap,
    name: &http::HeaderName,
    ours: &[&'static str],
) -> Option<&'static str> {
    words(headers, name).find_map(|wanted| ours.iter().find(|own| **own == wanted).copied())
}
