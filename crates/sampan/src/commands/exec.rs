//! `sampan exec`: runs a command in a container, over a WebSocket (`v5.channel.k8s.io`, KEP-4006).

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use clap::Args;
use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use sampan_api::{Gvr, Status};
use sampan_client::remote::{Query, Stream, path};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};

use super::cluster::{Cluster, ClusterArgs};
use super::logs::{container, pod_name};
use super::terminal::{self, RawTerminal};

const PODS: Gvr = Gvr::new("", "v1", "pods");
/// The protocol, and the one before it, which cannot tell the end of standard input.
const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";

/// The channels of the protocol: the first byte of each message.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

#[derive(Args, Debug)]
pub struct ExecArgs {
    pod: String,
    /// Container [default: the pod's default or first]
    #[arg(short, long)]
    container: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Pass standard input on
    #[arg(short = 'i', long)]
    stdin: bool,
    /// With a terminal
    #[arg(short = 't', long)]
    tty: bool,
    /// Command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// What is sent to the container.
enum Outgoing {
    Input(Bytes),
    InputEnd,
    Size(u16, u16),
}

impl ExecArgs {
    pub async fn run(self) -> Result<ExitCode> {
        let cluster = self.cluster.open()?;
        let pod = pod_name(&self.pod)?;
        let container = container(&cluster, pod, self.container.as_deref()).await?;
        let mut tty = self.tty;
        if tty && self.stdin && !terminal::is_terminal() {
            eprintln!("Unable to use a TTY - input is not a terminal or the right kind of file");
            tty = false;
        }
        let mut query = Query::new();
        query.add("container", &container).add("stdout", "true");
        for (key, set) in [("stdin", self.stdin), ("tty", tty), ("stderr", !tty)] {
            if set {
                query.add(key, "true");
            }
        }
        for word in &self.command {
            query.add("command", word);
        }
        let path = format!("{}/exec", path(&PODS, Some(&cluster.namespace), Some(pod)));
        let (socket, protocol) = connect(&cluster, &query.at(path)).await?;
        let raw = (tty && self.stdin).then(RawTerminal::enter).transpose();
        let raw = raw.context("the terminal cannot be made raw")?;
        let session = session(socket, self.stdin, tty, protocol == V5);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        // The terminal is given back also when the command is told to end.
        let code = tokio::select! {
            code = session => code,
            _ = terminate.recv() => Ok(ExitCode::from(143)),
            _ = hang_up.recv() => Ok(ExitCode::from(129)),
        };
        drop(raw);
        code
    }
}

/// Opens the WebSocket; answers it and the protocol that the server chose.
async fn connect(cluster: &Cluster, path: &str) -> Result<(WebSocketStream<Stream>, String)> {
    let url = format!("wss://{}{path}", cluster.remote.authority());
    let mut request = url.into_client_request().context("the request cannot be made")?;
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v5.channel.k8s.io, v4.channel.k8s.io"));
    if let Some(header) = cluster.remote.authorization()? {
        request.headers_mut().insert(AUTHORIZATION, header);
    }
    let stream = cluster.remote.connect().await?;
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, response)) => {
            let protocol = response.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|name| name.to_str().ok());
            let protocol = protocol.filter(|name| [V5, V4].contains(name));
            Ok((socket, protocol.context("the server chose no protocol for exec")?.to_owned()))
        }
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().unwrap_or_default();
            match serde_json::from_slice::<Status>(body) {
                Ok(status) if status.status == "Failure" => Err(status.into()),
                Ok(_) | Err(_) => bail!("the server answered {} to exec", response.status()),
            }
        }
        Err(error) => Err(error).context("exec cannot be opened"),
    }
}

/// Passes everything on until the command has ended; answers its exit code.
async fn session(
    socket: WebSocketStream<Stream>,
    stdin: bool,
    tty: bool,
    can_close: bool,
) -> Result<ExitCode> {
    let (mut sink, mut stream) = socket.split();
    let (sender, mut outgoing) = mpsc::channel(16);
    if tty {
        tokio::spawn(follow_size(sender.clone()));
    }
    if stdin {
        tokio::spawn(read_input(sender.clone()));
    }
    // Kept, so that the channel does not end before the command.
    let _sender = sender;
    let mut out = tokio::io::stdout();
    let mut err = tokio::io::stderr();
    loop {
        tokio::select! {
            Some(message) = outgoing.recv() => {
                if let Some(message) = encode(message, can_close) {
                    sink.send(Message::Binary(message)).await.context("the connection broke off")?;
                }
            }
            message = stream.next() => {
                let data = match message.transpose().context("the connection broke off")? {
                    Some(Message::Binary(data)) => data,
                    Some(Message::Close(_)) | None => bail!("the connection ended before the command"),
                    Some(Message::Ping(_) | Message::Pong(_) | Message::Text(_) | Message::Frame(_)) => continue,
                };
                match data.split_first() {
                    Some((&STDOUT, bytes)) => {
                        out.write_all(bytes).await?;
                        out.flush().await?;
                    }
                    Some((&STDERR, bytes)) => {
                        err.write_all(bytes).await?;
                        err.flush().await?;
                    }
                    Some((&ERROR, bytes)) => return exit_code(bytes),
                    Some(_) | None => {}
                }
            }
        }
    }
}

fn encode(message: Outgoing, can_close: bool) -> Option<Bytes> {
    let framed = |channel: u8, bytes: &[u8]| {
        let mut framed = BytesMut::with_capacity(bytes.len() + 1);
        framed.put_u8(channel);
        framed.put_slice(bytes);
        framed.freeze()
    };
    match message {
        Outgoing::Input(bytes) => Some(framed(STDIN, &bytes)),
        Outgoing::InputEnd => can_close.then(|| framed(CLOSE, &[STDIN])),
        Outgoing::Size(columns, rows) => {
            Some(framed(RESIZE, json!({"Width": columns, "Height": rows}).to_string().as_bytes()))
        }
    }
}

async fn read_input(sender: mpsc::Sender<Outgoing>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        // An input that cannot be read has ended.
        let length = stdin.read(&mut buffer).await.unwrap_or(0);
        let message = match length {
            0 => Outgoing::InputEnd,
            length => Outgoing::Input(Bytes::copy_from_slice(&buffer[..length])),
        };
        if sender.send(message).await.is_err() || length == 0 {
            return;
        }
    }
}

async fn follow_size(sender: mpsc::Sender<Outgoing>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Some((columns, rows)) = terminal::size()
            && sender.send(Outgoing::Size(columns, rows)).await.is_err()
        {
            return;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}

/// What the end of the command makes of this process.
fn exit_code(status: &[u8]) -> Result<ExitCode> {
    let status: Status = serde_json::from_slice(status).context("the command's end cannot be read")?;
    if status.status == "Success" {
        return Ok(ExitCode::SUCCESS);
    }
    let code =
        status.details.iter().flat_map(|details| &details.causes).find(|cause| cause.reason == "ExitCode");
    match code.and_then(|cause| cause.message.parse::<i32>().ok()) {
        // As a shell does with codes that do not fit.
        Some(code) if status.reason == "NonZeroExitCode" => {
            eprintln!("command terminated with exit code {code}");
            Ok(ExitCode::from((code & 0xff) as u8))
        }
        Some(_) | None => Err(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_channel() {
        let check = |message, can_close, expected: Option<&[u8]>| {
            assert_eq!(encode(message, can_close).as_deref(), expected);
        };
        check(Outgoing::Input(Bytes::from_static(b"ab")), true, Some(b"\0ab"));
        check(Outgoing::InputEnd, true, Some(&[255, 0]));
        check(Outgoing::InputEnd, false, None);
        check(Outgoing::Size(80, 24), true, Some(b"\x04{\"Height\":24,\"Width\":80}"));
    }

    #[test]
    fn the_commands_code_is_passed_on() {
        let failed = json!({"status": "Failure", "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}});
        let code = |value: &str| format!("{:?}", exit_code(value.as_bytes()).expect("a code"));
        assert_eq!(code(&failed.to_string()), format!("{:?}", ExitCode::from(7)));
        assert_eq!(code(r#"{"status":"Success"}"#), format!("{:?}", ExitCode::SUCCESS));
        let error =
            exit_code(br#"{"status":"Failure","message":"no such container"}"#).expect_err("an error");
        assert_eq!(error.to_string(), "no such container");
        assert!(exit_code(b"?").is_err());
    }
}
