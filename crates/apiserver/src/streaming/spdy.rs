//! SPDY/3.1, the transport of kubectl before WebSocket, and inside its port-forward tunnel.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, HeaderName, HeaderValue};
use sampan_api::Status;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::command::{Channels, Command, Version, first_common};
use super::forward::Target;
use super::multiplex::Activity;
use super::{STREAM_CREATION_LIMIT, UpgradeResponse};

mod connection;
mod frame;
pub(super) mod fuzzing;
mod headers;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use connection::Incoming;

pub(super) const COMMAND_PROTOCOLS: &[&str] =
    &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
pub(super) const FORWARD_PROTOCOLS: &[&str] = &["portforward.k8s.io"];

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// The most port-forward requests that may wait for their second stream.
const MAX_PENDING_PAIRS: usize = 256;

/// Agrees on a protocol; empty where the client names none, as the oldest ones do.
pub(super) fn negotiate(headers: &HeaderMap, ours: &[&'static str]) -> Result<&'static str, Status> {
    if !headers.contains_key(PROTOCOL_VERSION) {
        return Ok("");
    }
    first_common(headers, &PROTOCOL_VERSION, ours).ok_or_else(|| {
        let theirs: Vec<&str> = super::words(headers, &PROTOCOL_VERSION).collect();
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            theirs.join(" "),
            ours.join(" ")
        );
        Status::failure(403, "Forbidden", message)
    })
}

pub(super) fn switching_protocols(protocol: &'static str) -> UpgradeResponse {
    let mut response = super::switching_protocols("SPDY/3.1");
    if !protocol.is_empty() {
        response.headers_mut().insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    }
    response
}

/// Exec or attach over SPDY.
pub(super) async fn run_command<C: AsyncRead + AsyncWrite>(
    connection: C,
    activity: Arc<Activity>,
    version: Version,
    command: Command,
) {
    connection::serve(connection, &activity, move |mut streams| async move {
        let limit = STREAM_CREATION_LIMIT;
        match tokio::time::timeout(limit, collect(&mut streams, version, &command)).await {
            Ok(Some(channels)) => command.run(channels).await,
            Ok(None) => {}
            Err(_) => tracing::debug!("a client did not open its streams in time"),
        }
    })
    .await;
}

/// Waits for the streams that the request promised.
async fn collect(
    streams: &mut mpsc::Receiver<Incoming>,
    version: Version,
    command: &Command,
) -> Option<Channels> {
    let flags = command.streams();
    let (mut stdin, mut stdout, mut stderr, mut error, mut resize) = (None, None, None, None, None);
    let wants_resize = flags.tty && version.resizes();
    while (flags.stdin && stdin.is_none())
        || (flags.stdout && stdout.is_none())
        || (flags.stderr && stderr.is_none())
        || (wants_resize && resize.is_none())
        || error.is_none()
    {
        let stream = streams.recv().await?;
        match stream.header("streamtype") {
            Some("stdin") => stdin = Some(stream.input),
            Some("stdout") => stdout = Some(stream.output),
            Some("stderr") => stderr = Some(stream.output),
            Some("resize") => resize = Some(stream.input),
            Some("error") => error = Some(stream.output),
            kind => tracing::debug!(?kind, "a stream of unknown type"),
        }
    }
    Some(Channels { version, stdin, stdout, stderr, error: error?, resize })
}

/// Port-forward over SPDY: any number of connections, each a data and an error stream.
pub(super) async fn run_forward<C: AsyncRead + AsyncWrite>(
    connection: C,
    activity: Arc<Activity>,
    target: Target,
) {
    connection::serve(connection, &activity, move |mut streams| async move {
        let target = &target;
        let mut forwards = FuturesUnordered::new();
        let mut pairs = Pairs::default();
        loop {
            tokio::select! {
                stream = streams.recv() => match stream {
                    Some(stream) => {
                        if let Some(pair) = pairs.add(stream).await {
                            forwards.push(async move {
                                target.forward(pair.port, pair.data.input, pair.data.output, pair.error.output).await;
                            });
                        }
                    }
                    None => break,
                },
                Some(()) = forwards.next() => {}
            }
        }
        while forwards.next().await.is_some() {}
    })
    .await;
}

/// Streams that wait for their other half, by request.
#[derive(Default)]
struct Pairs {
    waiting: HashMap<String, Half>,
}

struct Half {
    since: Instant,
    is_data: bool,
    stream: Incoming,
}

struct Pair {
    port: u16,
    data: Incoming,
    error: Incoming,
}

impl Pairs {
    /// Takes in a stream; answers with its pair when that is whole.
    async fn add(&mut self, stream: Incoming) -> Option<Pair> {
        let is_data = match stream.header("streamtype") {
            Some("data") => true,
            Some("error") => false,
            _ => return refuse(stream, "invalid stream type").await,
        };
        let port = stream.header("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
        let Some(port) = port else { return refuse(stream, "the port header is not a port").await };
        // The oldest clients name no request, and open the error stream first.
        let request = match stream.header("requestid") {
            Some(request) => request.to_owned(),
            None if is_data => stream.id.saturating_sub(2).to_string(),
            None => stream.id.to_string(),
        };
        match self.waiting.remove(&request) {
            Some(half) if half.is_data == is_data => {
                let message =
                    format!("error processing stream for request {request}: stream already assigned");
                self.waiting.insert(request, half);
                refuse(stream, &message).await
            }
            Some(half) if is_data => Some(Pair { port, data: stream, error: half.stream }),
            Some(half) => Some(Pair { port, data: half.stream, error: stream }),
            None => {
                self.make_room().await;
                self.waiting.insert(request, Half { since: Instant::now(), is_data, stream });
                None
            }
        }
    }

    /// Gives up on halves that waited too long, or on the oldest of too many.
    async fn make_room(&mut self) {
        let now = Instant::now();
        let late = |half: &Half| now.duration_since(half.since) > STREAM_CREATION_LIMIT;
        let mut over: Vec<String> =
            self.waiting.iter().filter(|(_, half)| late(half)).map(|(request, _)| request.clone()).collect();
        if over.is_empty() && self.waiting.len() >= MAX_PENDING_PAIRS {
            let oldest = self.waiting.iter().min_by_key(|(_, half)| half.since);
            over.extend(oldest.map(|(request, _)| request.clone()));
        }
        for request in over {
            if let Some(half) = self.waiting.remove(&request) {
                let message = format!("(request={request}) timed out waiting for streams");
                refuse(half.stream, &message).await;
            }
        }
    }
}

/// Ends a stream that cannot be used; one for errors carries the reason.
async fn refuse(stream: Incoming, reason: &str) -> Option<Pair> {
    tracing::debug!(stream = stream.id, reason, "refused a stream");
    if stream.header("streamtype") == Some("error") {
        // A client that is gone needs no reason.
        let _ = stream.output.send(bytes::Bytes::from(reason.to_owned())).await;
    }
    stream.output.end().await;
    None
}
