//! Requests that this server makes of others: webhooks, aggregated API servers, pods and services
//! that somebody reaches through it.
//!
//! A [`Client`] is made once per peer configuration and keeps its connections: idle ones are reused,
//! and dropped with the client. A service is looked up at each new connection, so that a client
//! follows its service's address. Texts of errors are those that Go's HTTP client has, since they are
//! shown to users inside Kubernetes' own messages.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};

mod connector;
mod service;
#[cfg(test)]
mod tests;
mod tls;

pub use connector::ConnectError;
pub use service::{ServiceError, ServiceTarget, Services};
pub use tls::{ClientIdentity, TlsError, Trust};

use connector::Connector;

/// The body of a request that is sent.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Idle connections are closed after this time.
const IDLE: Duration = Duration::from_secs(90);
/// The most idle connections to one peer.
const MAX_IDLE: usize = 16;

/// Which protocols a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// What upgrades need, and what spreads requests over the endpoints of a service.
    Http1,
    /// HTTP/2 where the peer has it.
    Any,
}

/// What a client is made from.
pub struct ClientConfig {
    /// Where connections go. Absent: to the host of each request's URI.
    pub service: Option<ServiceTarget>,
    pub trust: Trust,
    pub identity: Option<ClientIdentity>,
    /// The name that the peer's certificate must be for. Absent: the host of each request's URI.
    pub server_name: Option<String>,
    pub protocols: Protocols,
}

/// Connections to a peer.
#[derive(Clone)]
pub struct Client {
    pool: legacy::Client<Connector, Body>,
}

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    #[error(transparent)]
    Connect(#[from] Arc<ConnectError>),
    #[error("context deadline exceeded")]
    TimedOut,
    /// The peer closed the connection instead of answering.
    #[error("EOF")]
    Closed,
    #[error("{0}")]
    Http(String),
    #[error("http: response body too large, the limit is {limit} bytes")]
    TooLarge { limit: usize },
}

impl Client {
    /// A client that connects to the host of each request and asks for no certificate.
    pub fn to_anyone() -> Self {
        let config = ClientConfig {
            service: None,
            trust: Trust::Anyone,
            identity: None,
            server_name: None,
            protocols: Protocols::Http1,
        };
        Client::new(config).expect("the default protocol versions are known to the provider")
    }

    pub fn new(config: ClientConfig) -> Result<Self, TlsError> {
        let tls = tls::client_config(&config.trust, config.identity, config.protocols)?;
        let connector = Connector::new(config.service, tls, config.server_name);
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(MAX_IDLE);
        builder.timer(TokioTimer::new());
        Ok(Client { pool: builder.build(connector) })
    }

    /// Sends a request with an absolute URI and answers with the response's head; its body follows.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        self.pool.request(request).await.map_err(|error| SendError::of(&error))
    }

    /// Sends a request and reads the whole answer, all within `timeout`.
    pub async fn exchange(
        &self,
        request: Request<Body>,
        timeout: Duration,
        limit: usize,
    ) -> Result<Response<Bytes>, SendError> {
        let exchange = async {
            let (head, body) = self.send(request).await?.into_parts();
            let collected = Limited::new(body, limit).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { SendError::TooLarge { limit } } else { SendError::Closed }
            })?;
            Ok(Response::from_parts(head, collected.to_bytes()))
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(SendError::TimedOut))
    }
}

impl SendError {
    fn of(error: &legacy::Error) -> Self {
        let mut source = error.source();
        while let Some(cause) = source {
            if let Some(connect) = cause.downcast_ref::<Arc<ConnectError>>() {
                return SendError::Connect(connect.clone());
            }
            if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
                let closed = hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled();
                return if closed { SendError::Closed } else { SendError::Http(chain(hyper)) };
            }
            source = cause.source();
        }
        SendError::Http(chain(error))
    }

    /// Whether nobody answered at all, as opposed to an answer that was not understood.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, SendError::Connect(_) | SendError::TimedOut | SendError::Closed)
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A whole body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}
