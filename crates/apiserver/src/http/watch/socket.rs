//! Watches over WebSocket (RFC 6455): one message per event, text for JSON and binary for protobuf.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use sampan_api::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::super::{ResponseBody, answer};
use super::{Media, Sender};

/// Clients send nothing but the end.
const MAX_RECEIVED: usize = 4096;

/// Whether a request wants its answer over WebSocket.
pub fn is_asked(headers: &HeaderMap) -> bool {
    let has = |name, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// Answers the handshake; the watch then runs for as long as the connection.
pub fn serve(
    mut request: Request<Incoming>,
    sender: Sender,
    media: Media,
) -> Result<Response<ResponseBody>, Status> {
    let headers = request.headers();
    let key =
        headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| Status::bad_request("missing Sec-WebSocket-Key"))?;
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Status::bad_request("missing or bad WebSocket Version"));
    }
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(Status::internal)?;
    let upgraded = hyper::upgrade::on(&mut request);
    // Ends with the connection, or with the watch's own deadline.
    tokio::spawn(async move {
        match upgraded.await {
            Ok(upgraded) => {
                let config = WebSocketConfig::default()
                    .max_message_size(Some(MAX_RECEIVED))
                    .max_frame_size(Some(MAX_RECEIVED));
                let socket =
                    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config))
                        .await;
                run(socket, sender, media).await;
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a watch was not upgraded")
            }
        }
    });
    let mut response = Response::new(answer::full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

async fn run<S>(socket: WebSocketStream<S>, mut sender: Sender, media: Media)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let (mut sink, mut received) = socket.split();
    loop {
        tokio::select! {
            frame = sender.next_frame() => {
                let Some(frame) = frame else { break };
                let Some(message) = message(frame, media) else { break };
                if sink.send(message).await.is_err() {
                    return;
                }
            }
            message = received.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    let _ = sink.close().await;
}

/// A message has its own length: the one before a protobuf event is left out.
fn message(frame: Bytes, media: Media) -> Option<Message> {
    match media {
        Media::Protobuf => Some(Message::Binary(frame.slice(4..))),
        Media::Json | Media::Yaml => Utf8Bytes::try_from(frame).ok().map(Message::Text),
    }
}
