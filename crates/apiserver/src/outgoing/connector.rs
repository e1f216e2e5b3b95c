//! Making connections: look up, dial, TLS.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::service::{ServiceError, ServiceTarget};
use super::tls;

const DIAL_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("unsupported protocol scheme {0:?}")]
    Scheme(String),
    #[error("dial tcp: lookup {host}: no such host")]
    Lookup { host: String },
    #[error("dial tcp {address}: connect: {}", plain(source))]
    Dial { address: String, source: io::Error },
    #[error("dial tcp {address}: i/o timeout")]
    DialTimeout { address: String },
    #[error("net/http: TLS handshake timeout")]
    HandshakeTimeout,
    #[error("{}", tls::describe(source))]
    Handshake { source: io::Error },
    #[error("{0:?} is no name of a server")]
    Name(String),
}

/// Makes the connections of one client.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    service: Option<ServiceTarget>,
    tls: Arc<rustls::ClientConfig>,
    server_name: Option<String>,
}

impl Connector {
    pub fn new(
        service: Option<ServiceTarget>,
        tls: Arc<rustls::ClientConfig>,
        server_name: Option<String>,
    ) -> Self {
        Connector { shared: Arc::new(Shared { service, tls, server_name }) }
    }
}

impl Shared {
    async fn connect(&self, uri: &Uri) -> Result<Stream, ConnectError> {
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            other => return Err(ConnectError::Scheme(other.map(Scheme::to_string).unwrap_or_default())),
        };
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (dialed, port) = match &self.service {
            Some(service) => service.resolve()?,
            None => (host.clone(), uri.port_u16().unwrap_or(if secure { 443 } else { 80 })),
        };
        let stream = dial(&dialed, port).await?;
        if !secure {
            return Ok(Stream::Plain(TokioIo::new(stream)));
        }
        let name = self.server_name.clone().unwrap_or(host);
        let name = ServerName::try_from(name.clone()).map_err(|_| ConnectError::Name(name))?;
        let handshake = TlsConnector::from(self.tls.clone()).connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(Stream::Secure(Box::new(TokioIo::new(stream)))),
            Ok(Err(source)) => Err(ConnectError::Handshake { source }),
            Err(_) => Err(ConnectError::HandshakeTimeout),
        }
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let dialing = async {
        let addresses = tokio::net::lookup_host((host, port)).await;
        let addresses = addresses.map_err(|_| ConnectError::Lookup { host: host.to_owned() })?;
        let mut failed = ConnectError::Lookup { host: host.to_owned() };
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(source) => failed = ConnectError::Dial { address: address.to_string(), source },
            }
        }
        Err(failed)
    };
    let timed_out = |_| ConnectError::DialTimeout { address: shown };
    let stream = tokio::time::timeout(DIAL_TIMEOUT, dialing).await.map_err(timed_out)??;
    // Only a matter of speed.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// An error of the operating system, as Go prints it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

impl tower_service::Service<Uri> for Connector {
    type Response = Stream;
    type Error = Arc<ConnectError>;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move { shared.connect(&uri).await.map_err(Arc::new) })
    }
}

/// A connection.
pub enum Stream {
    Plain(TokioIo<TcpStream>),
    Secure(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        match self {
            Stream::Secure(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2") => {
                connected.negotiated_h2()
            }
            Stream::Secure(_) | Stream::Plain(_) => connected,
        }
    }
}

impl Read for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Secure(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Secure(stream) => Pin::new(stream.as_mut()).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Secure(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Secure(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
