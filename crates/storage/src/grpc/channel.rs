//! One HTTP/2 connection to an endpoint, made anew when it is lost, and single calls over it.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, TE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Mutex;

use super::frame::frame;
use super::stream::{Outgoing, Receiver, Sender};
use super::{Code, Endpoint, EndpointError};

/// A connection that says nothing for so long is asked whether it lives, and ended when it does not say
/// so. Servers refuse who asks more often than every 5 s.
const PING_AFTER: Duration = Duration::from_secs(6);
const PONG_WITHIN: Duration = Duration::from_secs(3);
/// What may be on its way to us, in bytes.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect { endpoint: String, source: EndpointError },
    #[error("the connection failed: {0}")]
    Connection(#[from] hyper::Error),
    #[error("rpc error: code = DeadlineExceeded desc = no answer within {0:?}")]
    Timeout(Duration),
    #[error("rpc error: code = {code:?} desc = {message}")]
    Status { code: Code, message: String },
    #[error("the answer is no gRPC: {0}")]
    Protocol(&'static str),
    #[error("the answer has more than {limit} bytes")]
    TooLarge { limit: usize },
}

/// A client of one endpoint.
pub struct Channel {
    endpoint: Endpoint,
    /// Headers of every call.
    headers: &'static [(&'static str, &'static str)],
    /// The longest message of an answer, in bytes.
    limit: usize,
    connection: Mutex<Option<SendRequest<Outgoing>>>,
}

impl Channel {
    pub fn new(endpoint: Endpoint, limit: usize) -> Self {
        Channel { endpoint, headers: &[], limit, connection: Mutex::new(None) }
    }

    /// The same, with headers that every call carries.
    pub fn with_headers(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Channel { headers, ..self }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Calls `method` (`/package.Service/Method`) with an encoded message; answers the encoded answer.
    pub async fn call(
        &self,
        method: &'static str,
        message: &[u8],
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        within(timeout, async {
            let body = Outgoing::One(Some(frame(message)));
            let response = self.send(method, body, Some(timeout)).await?;
            let mut answers = Receiver::new(response, self.limit);
            let Some(answer) = answers.next().await? else {
                return Err(CallError::Protocol("it has no message"));
            };
            match answers.next().await? {
                None => Ok(answer),
                Some(_) => Err(CallError::Protocol("it has more than one message")),
            }
        })
        .await
    }

    /// Begins a call that goes on both ways, with its first message; answers when the other side did.
    pub async fn open(
        &self,
        method: &'static str,
        first: &[u8],
        timeout: Duration,
    ) -> Result<(Sender, Receiver), CallError> {
        let (sender, body) = Outgoing::stream();
        within(timeout, async {
            // There is room for one.
            let _ = sender.send(first).await;
            let response = self.send(method, body, None).await?;
            Ok((sender, Receiver::new(response, self.limit)))
        })
        .await
    }

    async fn send(
        &self,
        method: &'static str,
        body: Outgoing,
        timeout: Option<Duration>,
    ) -> Result<Response<hyper::body::Incoming>, CallError> {
        let mut sender = self.sender().await?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}{method}", self.endpoint.authority()))
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers");
        if let Some(timeout) = timeout {
            request = request.header("grpc-timeout", format!("{}m", timeout.as_millis().min(99_999_999)));
        }
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a method's name is a path");
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(CallError::Protocol("its HTTP status is not 200"));
        }
        Ok(response)
    }

    async fn sender(&self) -> Result<SendRequest<Outgoing>, CallError> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = &*connection
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let transport = self.endpoint.connect().await.map_err(|source| self.unreachable(source))?;
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(self.endpoint.may_fall_silent().then_some(PING_AFTER))
            .keep_alive_timeout(PONG_WITHIN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(transport))
            .await
            .map_err(|error| self.unreachable(std::io::Error::other(error).into()))?;
        // Ends when the last sender is gone, or the connection.
        tokio::spawn(async move {
            let _ = driver.await;
        });
        *connection = Some(sender.clone());
        Ok(sender)
    }

    fn unreachable(&self, source: EndpointError) -> CallError {
        CallError::Connect { endpoint: self.endpoint.to_string(), source }
    }
}

async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::time::timeout(timeout, call).await.unwrap_or(Err(CallError::Timeout(timeout)))
}
