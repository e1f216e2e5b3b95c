//! Connections to a server: TCP, then TLS with the authorities and the certificate of a kubeconfig.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::kubeconfig::Access;

/// A connection to the server.
pub type Stream = TlsStream<TcpStream>;

/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Why no connection can be made with what a kubeconfig says.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{0:?} is not an https URL of a server")]
    Server(String),
    #[error("{0:?} is not the name of a server")]
    ServerName(String),
    #[error("the {what} is not PEM")]
    Pem {
        what: &'static str,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("the system's certificate authorities cannot be read")]
    NoAuthorities,
    #[error("TLS refuses the certificates or the key")]
    Tls(#[from] rustls::Error),
}

/// Makes connections to one server.
pub struct Dialer {
    /// Scheme, host and port, and the path that requests stand below.
    base: String,
    authority: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
    any: TlsConnector,
    http1: TlsConnector,
}

impl Dialer {
    pub fn new(access: &Access) -> Result<Self, ConnectError> {
        let bad = || ConnectError::Server(access.server.clone());
        let uri: Uri = access.server.parse().map_err(|_| bad())?;
        if uri.scheme_str() != Some("https") {
            return Err(bad());
        }
        let host = uri.host().ok_or_else(bad)?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = access.tls_server_name.clone().unwrap_or_else(|| host.clone());
        let authority = uri.authority().ok_or_else(bad)?.to_string();
        let config = client_config(access)?;
        let with_protocols = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Ok(Dialer {
            base: format!("https://{authority}{}", uri.path().trim_end_matches('/')),
            authority,
            host,
            port: uri.port_u16().unwrap_or(443),
            name: ServerName::try_from(name.clone()).map_err(|_| ConnectError::ServerName(name))?,
            any: with_protocols(&[b"h2", b"http/1.1"]),
            http1: with_protocols(&[b"http/1.1"]),
        })
    }

    /// The URL of a path of the API.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A connection for HTTP/1.1.
    pub async fn dial_http1(&self) -> io::Result<Stream> {
        self.dial(&self.http1).await
    }

    async fn dial(&self, tls: &TlsConnector) -> io::Result<Stream> {
        let connecting = async {
            let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
            tcp.set_nodelay(true)?;
            tls.connect(self.name.clone(), tcp).await
        };
        let timed_out = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection within 10 seconds");
        tokio::time::timeout(CONNECT_TIME, connecting).await.map_err(timed_out)?
    }
}

fn client_config(access: &Access) -> Result<ClientConfig, ConnectError> {
    let pem = |what| move |source| ConnectError::Pem { what, source };
    let mut roots = RootCertStore::empty();
    match &access.certificate_authority {
        Some(bytes) => {
            for certificate in CertificateDer::pem_slice_iter(bytes) {
                roots.add(certificate.map_err(pem("certificate authority"))?)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(ConnectError::NoAuthorities);
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    match &access.credentials.certificate {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
            let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("client key"))?;
            Ok(builder.with_client_auth_cert(chain.map_err(pem("client certificate"))?, key)?)
        }
    }
}

/// What hyper's pool asks for connections.
#[derive(Clone)]
pub struct Connector {
    dialer: Arc<Dialer>,
}

impl Connector {
    pub fn new(dialer: Arc<Dialer>) -> Self {
        Connector { dialer }
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = Pooled;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Pooled>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.dialer.clone();
        Box::pin(async move { Ok(Pooled { stream: TokioIo::new(dialer.dial(&dialer.any).await?) }) })
    }
}

/// A connection in hyper's pool.
pub struct Pooled {
    stream: TokioIo<Stream>,
}

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        let (_, session) = self.stream.inner().get_ref();
        let connected = Connected::new();
        if session.alpn_protocol() == Some(b"h2") { connected.negotiated_h2() } else { connected }
    }
}

impl Read for Pooled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Pooled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
