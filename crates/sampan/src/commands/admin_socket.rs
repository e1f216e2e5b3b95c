//! Speaking to a running server on this machine through its socket.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// The longest answer that is not a stream.
const MAX_ANSWER: usize = 64 << 20;

pub type Body = BoxBody<Bytes, std::io::Error>;

pub fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

pub fn empty() -> Body {
    BodyExt::boxed(Empty::new().map_err(|never| match never {}))
}

pub fn full(bytes: Vec<u8>) -> Body {
    BodyExt::boxed(Full::new(Bytes::from(bytes)).map_err(|never| match never {}))
}

pub async fn send(socket: &Path, method: Method, path: &str, body: Body) -> Result<Value> {
    let (connection, response) = request_on(socket, method, path, body).await?;
    let value = answer(response).await;
    connection.abort();
    value
}

pub type Answer = hyper::Response<hyper::body::Incoming>;
pub type Connection = tokio::task::JoinHandle<hyper::Result<()>>;

pub async fn request_on(
    socket: &Path,
    method: Method,
    path: &str,
    body: Body,
) -> Result<(Connection, Answer)> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!("cannot reach a running server at {}; start it, or name its --data-dir", socket.display())
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "sampan")
        .header("content-type", "application/json")
        .body(body)?;
    Ok((connection, sender.send_request(request).await?))
}

pub async fn answer(response: Answer) -> Result<Value> {
    let status = response.status();
    let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let answer = answer.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
    let value: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
    if !status.is_success() {
        match value["error"].as_str() {
            Some(message) => bail!("{message}"),
            None => bail!("the server answered {status}: {}", String::from_utf8_lossy(&answer)),
        }
    }
    Ok(value)
}
