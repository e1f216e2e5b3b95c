//! Where a service is reached, and the connection to there.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// A place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Unix(PathBuf),
    /// `host:port`, without TLS.
    Plain(String),
    Tls {
        address: String,
        /// What the server's certificate must name.
        host: String,
        files: Arc<TlsFiles>,
    },
}

/// What TLS is done with. Read anew for each connection, so that renewed files are used by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    pub authority: PathBuf,
    /// The client's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    Connect(#[from] io::Error),
    #[error("cannot read {path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("{host:?} is no name that a certificate can have")]
    Name { host: String },
    #[error("the client's certificate and its key are of no use: {0}")]
    Identity(rustls::Error),
}

/// A stream of bytes to an endpoint.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
            Endpoint::Plain(address) => write!(f, "http://{address}"),
            Endpoint::Tls { address, .. } => write!(f, "https://{address}"),
        }
    }
}

impl Endpoint {
    /// The host of requests.
    pub(super) fn authority(&self) -> &str {
        match self {
            Endpoint::Unix(_) => "localhost",
            Endpoint::Plain(address) | Endpoint::Tls { address, .. } => address,
        }
    }

    /// Whether the other side can vanish without the kernel's noticing.
    pub(super) fn may_fall_silent(&self) -> bool {
        match self {
            Endpoint::Unix(_) => false,
            Endpoint::Plain(_) | Endpoint::Tls { .. } => true,
        }
    }

    pub(super) async fn connect(&self) -> Result<Box<dyn Transport>, EndpointError> {
        match self {
            Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Endpoint::Plain(address) => Ok(Box::new(tcp(address).await?)),
            Endpoint::Tls { address, host, files } => {
                let config = Arc::new(files.config()?);
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| EndpointError::Name { host: host.clone() })?;
                let stream = tcp(address).await?;
                Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
            }
        }
    }
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl TlsFiles {
    /// Reads the files.
    pub fn config(&self) -> Result<ClientConfig, EndpointError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority)? {
            roots.add(certificate).map_err(|error| unreadable(&self.authority, &error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(EndpointError::Identity)?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
                builder.with_client_auth_cert(chain, key).map_err(EndpointError::Identity)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error| unreadable(path, &error))?;
    if found.is_empty() {
        return Err(unreadable(path, &"it holds no certificate"));
    }
    Ok(found)
}

fn unreadable(path: &Path, reason: &dyn fmt::Display) -> EndpointError {
    EndpointError::File { path: path.to_owned(), reason: reason.to_string() }
}
