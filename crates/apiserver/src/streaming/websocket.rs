//! WebSocket (RFC 6455) with Kubernetes' channel subprotocols.
//!
//! Each message starts with a byte that names its channel. In the `base64` variants messages are text:
//! a digit for the channel, then base64. In version 5, channel 255 ends the channel that its one byte
//! names. The tunnel variant carries a SPDY/3.1 connection in binary messages, without channels.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue};
use sampan_api::Status;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::command::{Channels, Command, Version};
use super::forward::Target;
use super::multiplex::{Activity, CHUNK_BYTES, Outgoing, QUEUE, Sink};
use super::{CLOSE_LIMIT, UpgradeResponse, spdy, words};

/// The most that a message may carry. kubectl sends 32 KiB at a time, other clients what they are given.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// The channel that ends others, since version 5.
const CLOSE_CHANNEL: u32 = 255;

/// How messages are to be read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Channels(Codec),
    /// SPDY/3.1 inside.
    Tunnel,
}

/// A channel subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Codec {
    base64: bool,
    /// How errors are written.
    version: Version,
    /// Whether channel 255 ends others.
    closes: bool,
}

const fn channels(base64: bool, version: Version, closes: bool) -> Protocol {
    Protocol::Channels(Codec { base64, version, closes })
}

/// The subprotocol of clients that name none.
const PLAIN: Protocol = channels(false, Version::V1V2, false);

pub(super) const COMMAND_PROTOCOLS: &[(&str, Protocol)] = &[
    ("v5.channel.k8s.io", channels(false, Version::V4, true)),
    ("v4.channel.k8s.io", channels(false, Version::V4, false)),
    ("v4.base64.channel.k8s.io", channels(true, Version::V4, false)),
    ("channel.k8s.io", PLAIN),
    ("base64.channel.k8s.io", channels(true, Version::V1V2, false)),
];

pub(super) const FORWARD_PROTOCOLS: &[(&str, Protocol)] = &[
    ("SPDY/3.1+portforward.k8s.io", Protocol::Tunnel),
    ("v4.channel.k8s.io", channels(false, Version::V4, false)),
    ("v4.base64.channel.k8s.io", channels(true, Version::V4, false)),
    ("portforward.k8s.io", PLAIN),
];

const KEY: HeaderName = http::header::SEC_WEBSOCKET_KEY;
const PROTOCOL: HeaderName = http::header::SEC_WEBSOCKET_PROTOCOL;

/// Agrees on a subprotocol and answers the handshake.
pub(super) fn accept(
    headers: &HeaderMap,
    ours: &'static [(&'static str, Protocol)],
) -> Result<(Protocol, UpgradeResponse), Status> {
    let version = headers.get(http::header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    if version != Some(b"13") {
        return Err(Status::bad_request("unsupported WebSocket version; 13 is"));
    }
    let key =
        headers.get(KEY).ok_or_else(|| Status::bad_request("the Sec-WebSocket-Key header is missing"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(Status::internal)?;
    let mut response = super::switching_protocols("websocket");
    response.headers_mut().insert(http::header::SEC_WEBSOCKET_ACCEPT, accept);
    if !headers.contains_key(PROTOCOL) {
        return Ok((PLAIN, response));
    }
    let common = words(headers, &PROTOCOL).find_map(|wanted| ours.iter().find(|(name, _)| *name == wanted));
    let Some((name, protocol)) = common else {
        let names: Vec<&str> = ours.iter().map(|(name, _)| *name).collect();
        // What the client asked for may be a credential, and is not repeated.
        let message = format!("requested protocol(s) are not supported; supports [{}]", names.join(" "));
        return Err(Status::failure(403, "Forbidden", message));
    };
    response.headers_mut().insert(PROTOCOL, HeaderValue::from_static(name));
    Ok((*protocol, response))
}

async fn open<C: AsyncRead + AsyncWrite + Unpin>(connection: C) -> WebSocketStream<C> {
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_MESSAGE_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await
}

impl Codec {
    fn encode(self, channel: u32, bytes: &[u8]) -> Message {
        // Channels are numbered by us: two per port, and at most 128 ports.
        let channel = channel as u8;
        if self.base64 {
            let mut text = String::from(char::from(b'0'.wrapping_add(channel)));
            STANDARD.encode_string(bytes, &mut text);
            return Message::text(text);
        }
        let mut message = BytesMut::with_capacity(1 + bytes.len());
        message.put_u8(channel);
        message.put_slice(bytes);
        Message::Binary(message.freeze())
    }

    /// Channel and bytes of a message; `None` for what carries nothing.
    fn decode(self, message: Bytes) -> Option<(u32, Bytes)> {
        let channel = *message.first()?;
        let bytes = message.slice(1..);
        if !self.base64 {
            return Some((u32::from(channel), bytes));
        }
        let bytes = STANDARD.decode(&bytes).ok()?;
        Some((u32::from(channel.checked_sub(b'0')?), bytes.into()))
    }
}

/// Who gets what the client sends on a channel.
type Inputs = HashMap<u32, mpsc::Sender<Bytes>>;

/// Serves channels until `work` is done and everything was sent. A client that was silent for too long drops
/// `work`; one that left gives it [`CLOSE_LIMIT`] to take what was sent before.
async fn serve<C: AsyncRead + AsyncWrite + Unpin>(
    connection: C,
    activity: &Activity,
    codec: Codec,
    inputs: Inputs,
    messages: mpsc::Receiver<Outgoing>,
    work: impl Future<Output = ()>,
) {
    let (to, from) = open(connection).await.split();
    let reading = read(from, codec, inputs, activity);
    let working = async {
        work.await;
        Ok(())
    };
    let working = async { tokio::try_join!(working, write(to, codec, messages, activity)) };
    tokio::pin!(reading, working);
    tokio::select! {
        () = &mut reading => drop(tokio::time::timeout(CLOSE_LIMIT, working).await),
        ended = &mut working => if ended.is_ok() {
            // Bytes that arrive at a closed socket would take back what the client has not read yet.
            drop(tokio::time::timeout(CLOSE_LIMIT, reading).await);
        },
        () = activity.idle() => {}
    }
}

async fn read(
    mut from: impl Stream<Item = Result<Message, Error>> + Unpin,
    codec: Codec,
    mut inputs: Inputs,
    activity: &Activity,
) {
    while let Some(Ok(message)) = from.next().await {
        activity.touch();
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
            Message::Close(_) => return,
        };
        let Some((channel, bytes)) = codec.decode(bytes) else { continue };
        if codec.closes && channel == CLOSE_CHANNEL {
            if let Some(channel) = bytes.first() {
                inputs.remove(&u32::from(*channel));
            }
            continue;
        }
        if let Some(input) = inputs.get(&channel)
            && !bytes.is_empty()
        {
            // A receiver that is gone reads nothing more.
            let _ = input.send(bytes).await;
        }
    }
}

async fn write(
    mut to: impl futures_util::Sink<Message, Error = Error> + Unpin,
    codec: Codec,
    mut messages: mpsc::Receiver<Outgoing>,
    activity: &Activity,
) -> Result<(), Error> {
    while let Some(message) = messages.recv().await {
        match message {
            Outgoing::Data { stream, bytes } => to.send(codec.encode(stream, &bytes)).await?,
            // Channels end with the connection.
            Outgoing::End { .. } => {}
            Outgoing::Reply { .. } | Outgoing::Reset { .. } | Outgoing::Pong { .. } => {}
        }
        activity.touch();
    }
    to.send(normal_close()).await
}

fn normal_close() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Exec or attach: channels 0 to 4 are stdin, stdout, stderr, error and resize.
pub(super) async fn run_command<C: AsyncRead + AsyncWrite + Unpin>(
    connection: C,
    activity: Arc<Activity>,
    protocol: Protocol,
    command: Command,
) {
    let Protocol::Channels(codec) = protocol else { return };
    let flags = command.streams();
    let (outgoing, messages) = mpsc::channel(QUEUE);
    let (to_stdin, stdin) = mpsc::channel(QUEUE);
    let (to_resize, resize) = mpsc::channel(QUEUE);
    let sink = |channel| Sink::new(channel, outgoing.clone());
    let channels = Channels {
        version: codec.version,
        stdin: flags.stdin.then_some(stdin),
        stdout: flags.stdout.then(|| sink(1)),
        stderr: flags.stderr.then(|| sink(2)),
        error: sink(3),
        resize: flags.tty.then_some(resize),
    };
    drop(outgoing);
    let work = async move {
        // An empty message tells the client that the session is open.
        let first = channels.stdout.as_ref().or(channels.stderr.as_ref()).unwrap_or(&channels.error);
        if first.send(Bytes::new()).await.is_ok() {
            command.run(channels).await;
        }
    };
    let inputs = HashMap::from([(0, to_stdin), (4, to_resize)]);
    serve(connection, &activity, codec, inputs, messages, work).await;
}

/// Port-forward: through a tunnel, or with two channels (data and error) for each port of the query.
pub(super) async fn run_forward<C: AsyncRead + AsyncWrite + Unpin>(
    connection: C,
    activity: Arc<Activity>,
    protocol: Protocol,
    target: Target,
    ports: Vec<u16>,
) {
    let codec = match protocol {
        Protocol::Channels(codec) => codec,
        Protocol::Tunnel => return tunnel(connection, activity, target).await,
    };
    let (outgoing, messages) = mpsc::channel(QUEUE);
    let mut inputs = Inputs::new();
    let forwards = FuturesUnordered::new();
    for (port, channel) in ports.into_iter().zip((0..).step_by(2)) {
        let (to_input, input) = mpsc::channel(QUEUE);
        inputs.insert(channel, to_input);
        let data = Sink::new(channel, outgoing.clone());
        let error = Sink::new(channel + 1, outgoing.clone());
        let target = &target;
        forwards.push(async move {
            // Each channel starts with its port.
            let first = Bytes::copy_from_slice(&port.to_le_bytes());
            if data.send(first.clone()).await.is_ok() && error.send(first).await.is_ok() {
                target.forward(port, input, data, error).await;
            }
        });
    }
    drop(outgoing);
    let work = forwards.collect::<()>();
    serve(connection, &activity, codec, inputs, messages, work).await;
}

/// Carries a SPDY connection in binary messages.
async fn tunnel<C: AsyncRead + AsyncWrite + Unpin>(connection: C, activity: Arc<Activity>, target: Target) {
    let (inside, outside) = tokio::io::duplex(2 * CHUNK_BYTES);
    let (mut from_spdy, mut to_spdy) = tokio::io::split(outside);
    let (mut to, mut from) = open(connection).await.split();
    let inbound = async {
        while let Some(Ok(message)) = from.next().await {
            match message {
                Message::Binary(bytes) => {
                    if to_spdy.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                Message::Close(_) => break,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        // The SPDY side takes this for the client's departure, and ends.
        let _ = to_spdy.shutdown().await;
        std::future::pending::<()>().await;
    };
    let outbound = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK_BYTES);
            match from_spdy.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => to.send(Message::Binary(buffer.split().freeze())).await?,
            }
        }
        to.send(normal_close()).await
    };
    let session = async { tokio::join!(spdy::run_forward(inside, activity, target), outbound) };
    tokio::select! {
        ((), sent) = session => {
            if let Err(error) = sent {
                tracing::debug!(error = &error as &dyn std::error::Error, "a tunnel ended early");
            }
        }
        () = inbound => {}
    }
}
