//! HTTP/1.1 requests to registries, over TLS or in plain where that is allowed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use super::RegistryOptions;
use super::error::TransportError;

const MAX_IDLE_PER_ORIGIN: usize = 4;

/// A server: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub is_tls: bool,
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}:{}", if self.is_tls { "https" } else { "http" }, self.host, self.port)
    }
}

pub(super) struct Transport {
    idle: Mutex<HashMap<Origin, Vec<SendRequest<Full<Bytes>>>>>,
    tls: OnceCell<Arc<ClientConfig>>,
    extra_roots: Vec<CertificateDer<'static>>,
    insecure_hosts: Vec<String>,
    timeout: Duration,
}

impl Transport {
    pub(super) fn new(options: &RegistryOptions) -> Self {
        Transport {
            idle: Mutex::new(HashMap::new()),
            tls: OnceCell::new(),
            extra_roots: options.extra_roots.clone(),
            insecure_hosts: options.insecure_hosts.clone(),
            timeout: options.timeout,
        }
    }

    /// The base address of a registry by its name in references.
    pub(super) fn registry_uri(&self, host: &str) -> String {
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let scheme = if self.allows_plain(host) { "http" } else { "https" };
        format!("{scheme}://{host}")
    }

    /// Plain HTTP goes to this machine itself and where the configuration says so.
    fn allows_plain(&self, authority: &str) -> bool {
        if self.insecure_hosts.iter().any(|host| host == authority) {
            return true;
        }
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        };
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    pub(super) fn origin(&self, uri: &Uri) -> Result<Origin, TransportError> {
        let fail = || TransportError::Address(uri.to_string());
        let authority = uri.authority().ok_or_else(fail)?;
        if authority.as_str().contains('@') {
            return Err(fail());
        }
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if self.allows_plain(authority.as_str()) => false,
            Some("http") => return Err(TransportError::Plain(authority.to_string())),
            _ => return Err(fail()),
        };
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Origin { is_tls, host: authority.host().to_ascii_lowercase(), port })
    }

    /// Sends one request; an answer of any status is an answer.
    pub(super) async fn send(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, TransportError> {
        let origin = self.origin(uri)?;
        let request = || {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = method.clone();
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() = path.parse().map_err(|_| TransportError::Address(uri.to_string()))?;
            *request.headers_mut() = headers.clone();
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let host =
                HeaderValue::from_str(authority).map_err(|_| TransportError::Address(uri.to_string()))?;
            request.headers_mut().insert(HOST, host);
            Ok::<_, TransportError>(request)
        };
        // A connection may have been closed while it was idle: then a new one decides.
        if let Some(sender) = self.take_idle(&origin)
            && let Ok(response) = self.send_on(&origin, sender, request()?).await
        {
            return Ok(response);
        }
        let sender = self.connect(&origin).await?;
        self.send_on(&origin, sender, request()?).await
    }

    async fn send_on(
        &self,
        origin: &Origin,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TransportError> {
        let response = self.within(origin, sender.send_request(request)).await?;
        let response =
            response.map_err(|source| TransportError::Broken { origin: origin.to_string(), source })?;
        let mut idle = self.idle.lock();
        let senders = idle.entry(origin.clone()).or_default();
        senders.retain(|sender| !sender.is_closed());
        if senders.len() < MAX_IDLE_PER_ORIGIN {
            // It is ready again once the answer has been read.
            senders.push(sender);
        }
        Ok(response)
    }

    /// The next piece of an answer; nothing at its end.
    pub(super) async fn next(
        &self,
        origin: &Origin,
        body: &mut Incoming,
    ) -> Result<Option<Bytes>, TransportError> {
        loop {
            match self.within(origin, body.frame()).await? {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(source)) => {
                    return Err(TransportError::Broken { origin: origin.to_string(), source });
                }
            }
        }
    }

    fn take_idle(&self, origin: &Origin) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        let senders = idle.get_mut(origin)?;
        senders.retain(|sender| !sender.is_closed());
        let ready = senders.iter().position(SendRequest::is_ready)?;
        Some(senders.swap_remove(ready))
    }

    async fn connect(&self, origin: &Origin) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        let host = origin.host.trim_start_matches('[').trim_end_matches(']');
        let stream = self
            .within(origin, TcpStream::connect((host, origin.port)))
            .await?
            .map_err(|source| TransportError::Connect { origin: origin.to_string(), source })?;
        // Only latency is lost without it.
        let _ = stream.set_nodelay(true);
        if !origin.is_tls {
            return self.handshake(origin, stream).await;
        }
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| TransportError::Address(origin.to_string()))?;
        let connector = TlsConnector::from(self.tls_config().await?);
        let stream = self
            .within(origin, connector.connect(name, stream))
            .await?
            .map_err(|source| TransportError::Tls { origin: origin.to_string(), source })?;
        self.handshake(origin, stream).await
    }

    async fn handshake(
        &self,
        origin: &Origin,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<SendRequest<Full<Bytes>>, TransportError> {
        let (sender, connection) = self
            .within(origin, http1::handshake(TokioIo::new(stream)))
            .await?
            .map_err(|source| TransportError::Broken { origin: origin.to_string(), source })?;
        // Ends by itself when the sender and the answer are dropped, or the server closes; errors
        // reach whoever waits for the answer.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    async fn within<T>(&self, origin: &Origin, work: impl Future<Output = T>) -> Result<T, TransportError> {
        let timeout = self.timeout;
        tokio::time::timeout(timeout, work)
            .await
            .map_err(|_| TransportError::Timeout { origin: origin.to_string(), timeout })
    }

    /// The system's roots are read on first use: a machine that pulls nothing keeps none in memory.
    async fn tls_config(&self) -> Result<Arc<ClientConfig>, TransportError> {
        let config = self.tls.get_or_try_init(|| async {
            let extra = self.extra_roots.clone();
            let built = tokio::task::spawn_blocking(move || build_tls_config(extra)).await;
            match built {
                Ok(config) => config.map(Arc::new).map_err(TransportError::TlsSetup),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(TransportError::TlsSetup(rustls::Error::General("stopped".to_owned()))),
            }
        });
        Ok(config.await?.clone())
    }
}

fn build_tls_config(extra: Vec<CertificateDer<'static>>) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "cannot read some of the system's certificate authorities");
    }
    // One unusable certificate must not disable the others.
    roots.add_parsable_certificates(native.certs);
    for root in extra {
        roots.add(root)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
