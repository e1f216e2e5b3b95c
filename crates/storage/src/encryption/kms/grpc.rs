//! Unary gRPC calls over a unix socket: one HTTP/2 connection, made anew when it is lost.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HeaderMap, TE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// The longest answer: a key and its annotations.
const ANSWER_BYTES: usize = 256 << 10;
/// The flag and the length before a message.
const FRAME_BYTES: usize = 5;

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("cannot connect to unix://{}: {source}", path.display())]
    Connect { path: PathBuf, source: std::io::Error },
    #[error("the connection failed: {0}")]
    Connection(#[from] hyper::Error),
    #[error("rpc error: code = DeadlineExceeded desc = no answer within {0:?}")]
    Timeout(Duration),
    #[error("rpc error: code = {code} desc = {message}")]
    Status { code: &'static str, message: String },
    #[error("the answer is no gRPC: {0}")]
    Protocol(&'static str),
    #[error("the answer has more than {ANSWER_BYTES} bytes")]
    TooLarge,
}

/// A client of one service.
pub struct Client {
    path: PathBuf,
    timeout: Duration,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Client {
    pub fn new(path: PathBuf, timeout: Duration) -> Self {
        Client { path, timeout, connection: Mutex::new(None) }
    }

    /// Calls `method` (`/package.Service/Method`) with an encoded message; answers the encoded answer.
    pub async fn call(&self, method: &'static str, message: &[u8]) -> Result<Bytes, CallError> {
        match tokio::time::timeout(self.timeout, self.attempt(method, message)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout(self.timeout)),
        }
    }

    async fn attempt(&self, method: &'static str, message: &[u8]) -> Result<Bytes, CallError> {
        let mut sender = self.sender().await?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://localhost{method}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .header("grpc-timeout", format!("{}m", self.timeout.as_millis().min(99_999_999)))
            .body(Full::new(frame(message)))
            .expect("a method's name is a path");
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(CallError::Protocol("its HTTP status is not 200"));
        }
        let headers = response.headers().clone();
        let collected = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let collected = collected.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => CallError::Connection(*error),
            Err(error) if error.is::<LengthLimitError>() => CallError::TooLarge,
            Err(_) => CallError::Protocol("its body broke off"),
        })?;
        // Who has nothing to say but the status says it in the headers.
        let trailers = collected.trailers().cloned().unwrap_or(headers);
        check_status(&trailers)?;
        unframe(collected.to_bytes())
    }

    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, CallError> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = &*connection
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|source| CallError::Connect { path: self.path.clone(), source })?;
        let (sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // Ends when the last sender is gone, or the connection.
        tokio::spawn(async move {
            let _ = driver.await;
        });
        *connection = Some(sender.clone());
        Ok(sender)
    }
}

fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(FRAME_BYTES + message.len());
    out.put_u8(0);
    out.put_u32(message.len() as u32);
    out.extend_from_slice(message);
    out.freeze()
}

fn unframe(body: Bytes) -> Result<Bytes, CallError> {
    let Some((head, message)) = body.split_first_chunk::<FRAME_BYTES>() else {
        return Err(CallError::Protocol("it has no message"));
    };
    let [compressed, length @ ..] = *head;
    if compressed != 0 {
        return Err(CallError::Protocol("its message is compressed, which was not offered"));
    }
    if message.len() != u32::from_be_bytes(length) as usize {
        return Err(CallError::Protocol("its length is not that of one message"));
    }
    Ok(body.slice(FRAME_BYTES..))
}

fn check_status(headers: &HeaderMap) -> Result<(), CallError> {
    let Some(status) = headers.get("grpc-status") else {
        return Err(CallError::Protocol("it has no grpc-status"));
    };
    let code = match status.as_bytes() {
        b"0" => return Ok(()),
        b"1" => "Canceled",
        b"3" => "InvalidArgument",
        b"4" => "DeadlineExceeded",
        b"5" => "NotFound",
        b"7" => "PermissionDenied",
        b"8" => "ResourceExhausted",
        b"9" => "FailedPrecondition",
        b"10" => "Aborted",
        b"11" => "OutOfRange",
        b"12" => "Unimplemented",
        b"13" => "Internal",
        b"14" => "Unavailable",
        b"15" => "DataLoss",
        b"16" => "Unauthenticated",
        _ => "Unknown",
    };
    let message = headers.get("grpc-message").map(|text| unescape(text.as_bytes())).unwrap_or_default();
    Err(CallError::Status { code, message })
}

/// gRPC writes bytes beyond printable ASCII as `%` and two hexadecimal digits.
fn unescape(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.split_first_chunk::<2>().and_then(|(digits, after)| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        match digits.filter(|_| byte == b'%') {
            Some((escaped, after)) => {
                out.push(escaped);
                rest = after;
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_whole_message_is_an_answer() {
        assert_eq!(unframe(frame(b"abc")).expect("whole"), "abc");
        for body in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x01ab"] {
            assert!(unframe(Bytes::from_static(body)).is_err(), "{body:?}");
        }
    }

    #[test]
    fn errors_are_in_grpcs_words() {
        let check = |status: &'static str, message: &'static str, expected: &str| {
            let headers = HeaderMap::from_iter([
                ("grpc-status".parse().expect("a name"), status.parse().expect("a value")),
                ("grpc-message".parse().expect("a name"), message.parse().expect("a value")),
            ]);
            let error = check_status(&headers).expect_err("an error");
            assert_eq!(error.to_string(), expected);
        };
        check("14", "no%20key %41%", "rpc error: code = Unavailable desc = no key A%");
        check("99", "", "rpc error: code = Unknown desc = ");
        assert!(matches!(check_status(&HeaderMap::new()), Err(CallError::Protocol(_))));
    }
}
