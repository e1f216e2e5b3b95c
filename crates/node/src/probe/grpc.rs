//! The gRPC health checking protocol (`grpc.health.v1.Health/Check`), over HTTP/2 in the clear.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Outcome, plain};

const ANSWER_LIMIT: usize = 64 << 10;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Asks for the health of a service; the empty name is the server's own.
pub async fn check(address: SocketAddr, service: &str, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, ask(address, service)).await {
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(status)) => {
            Outcome::Failure(format!("service unhealthy (responded with \"{}\")", status_name(status)))
        }
        Ok(Err(message)) => Outcome::Failure(message),
        Err(_) => {
            Outcome::Failure(format!("timeout: failed to connect service \"{address}\" within {timeout:?}"))
        }
    }
}

fn status_name(status: u64) -> &'static str {
    match status {
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

/// The serving status, or the message of the failure.
async fn ask(address: SocketAddr, service: &str) -> Result<u64, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("error: failed to connect service \"{address}\": {}", plain(&error)))?;
    let failed = |error: hyper::Error| format!("error: health rpc failed: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(failed)?;
    // It ends when the sender is dropped.
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(encode(service)))
        .map_err(|error| format!("error: health rpc failed: {error}"))?;
    let answer = sender.send_request(request).await.map_err(failed)?;
    let headers = answer.headers().clone();
    let body = Limited::new(answer.into_body(), ANSWER_LIMIT)
        .collect()
        .await
        .map_err(|error| format!("error: health rpc failed: {error}"))?;
    drop(sender);
    connection.abort();
    let code = |headers: &http::HeaderMap| {
        headers
            .get("grpc-status")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse::<u32>().ok())
    };
    let code = body.trailers().and_then(code).or_else(|| code(&headers));
    match code {
        Some(0) => Ok(decode(&body.to_bytes())),
        Some(12) => {
            Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
                .into())
        }
        Some(5) => Ok(3),
        Some(other) => Err(format!("error: health rpc failed: rpc error: code = {other}")),
        None => Err("error: health rpc failed: the answer has no status".into()),
    }
}

/// A gRPC message with a `HealthCheckRequest`.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(&message);
    framed.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The status in a gRPC message with a `HealthCheckResponse`; 0 where there is none.
fn decode(framed: &[u8]) -> u64 {
    let Some(message) = framed.get(5..) else { return 0 };
    match message {
        [0x08, status, ..] => u64::from(*status),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(encode("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(encode("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = "x".repeat(300);
        assert_eq!(encode(&long)[5..8], [0x0a, 0xac, 0x02]);
        for (bytes, expected) in
            [(&[0, 0, 0, 0, 2, 8, 1][..], 1), (&[0, 0, 0, 0, 0], 0), (&[0, 0], 0), (&[], 0)]
        {
            assert_eq!(decode(bytes), expected, "{bytes:?}");
        }
    }
}
