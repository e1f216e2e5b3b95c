//! HTTP requests of probes and hooks. Certificates are not verified, as upstream has it: the request
//! goes to the pod's own address.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{Outcome, plain};

/// What is read of an answer, bytes.
const BODY_LIMIT: usize = 10 << 10;
/// What a client is called.
const AGENT: &str = "kube-probe/1.35";

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("dial tcp {host}:{port}: connect: {}", plain(source))]
    Connect { host: String, port: u16, source: std::io::Error },
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("invalid request: {0}")]
    Request(#[from] http::Error),
    #[error("invalid host name {0:?}")]
    Name(String),
    #[error("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")]
    TimedOut,
}

/// A GET whose success is a status from 200 to 399.
pub async fn get(action: &HTTPGetAction, ip: IpAddr, port: u16, timeout: Duration) -> Outcome {
    match request(action, ip, port, timeout).await {
        Ok(code) if (200..400).contains(&code) => Outcome::Success,
        Ok(code) => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
        Err(error) => {
            let scheme = if is_https(action) { "https" } else { "http" };
            let host = host(action, ip);
            let path = path(action);
            Outcome::Failure(format!("Get \"{scheme}://{}:{port}{path}\": {error}", bracketed(&host)))
        }
    }
}

/// Sends the request and returns the status code.
pub async fn request(
    action: &HTTPGetAction,
    ip: IpAddr,
    port: u16,
    timeout: Duration,
) -> Result<u16, HttpError> {
    let exchange = async {
        let host = host(action, ip);
        let connect = |source| HttpError::Connect { host: host.clone(), port, source };
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(connect)?;
        if is_https(action) {
            let name = ServerName::try_from(host.clone()).map_err(|_| HttpError::Name(host.clone()))?;
            let connector = tokio_rustls::TlsConnector::from(TLS.clone());
            let stream = connector.connect(name, stream).await.map_err(connect)?;
            send(action, &host, port, stream).await
        } else {
            send(action, &host, port, stream).await
        }
    };
    tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(HttpError::TimedOut))
}

async fn send(
    action: &HTTPGetAction,
    host: &str,
    port: u16,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<u16, HttpError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let mut request = http::Request::get(path(action));
        let headers = action.http_headers.as_deref().unwrap_or_default();
        let named = |name: &str| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
        for header in headers {
            request = request.header(&header.name, &header.value);
        }
        let defaults = [
            ("Host", format!("{}:{port}", bracketed(host))),
            ("User-Agent", AGENT.into()),
            ("Accept", "*/*".into()),
        ];
        for (name, value) in defaults {
            if !named(name) {
                request = request.header(name, value);
            }
        }
        let answer = sender.send_request(request.body(Empty::<bytes::Bytes>::new())?).await?;
        let code = answer.status().as_u16();
        // The server is let finish a short answer; the rest of a long one is of no interest.
        let _ = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
        Ok(code)
    };
    tokio::pin!(connection, exchange);
    let mut closed = false;
    loop {
        tokio::select! {
            code = &mut exchange => return code,
            ended = &mut connection, if !closed => {
                closed = true;
                ended?;
            }
        }
    }
}

fn is_https(action: &HTTPGetAction) -> bool {
    action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
}

fn host(action: &HTTPGetAction, ip: IpAddr) -> String {
    match action.host.as_deref() {
        Some(host) if !host.is_empty() => host.to_owned(),
        Some(_) | None => ip.to_string(),
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn path(action: &HTTPGetAction) -> String {
    let path = action.path.as_deref().unwrap_or("/");
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

static TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions");
    let verifier = Arc::new(AcceptAny(provider));
    Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
});

/// Accepts every certificate; signatures of the handshake are still checked.
#[derive(Debug)]
struct AcceptAny(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn check(answer: &'static str, expected: Outcome) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accepts");
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.expect("reads");
            stream.write_all(answer.as_bytes()).await.expect("writes");
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        let action = HTTPGetAction {
            path: Some("/ready?x=1".into()),
            http_headers: Some(vec![k8s_openapi::api::core::v1::HTTPHeader {
                name: "X-A".into(),
                value: "b".into(),
            }]),
            ..HTTPGetAction::default()
        };
        let got = get(&action, address.ip(), address.port(), Duration::from_secs(5)).await;
        assert_eq!(got, expected, "{answer:?}");
        let request = server.await.expect("no panic").to_ascii_lowercase();
        assert!(
            request.starts_with("get /ready?x=1 http/1.1\r\n") && request.contains("x-a: b"),
            "{request}"
        );
    }

    #[tokio::test]
    async fn the_status_decides() {
        check("HTTP/1.1 204 No Content\r\n\r\n", Outcome::Success).await;
        check("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", Outcome::Success).await;
        let failure = Outcome::Failure("HTTP probe failed with statuscode: 500".into());
        check("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno", failure).await;
    }
}
