//! Clients against real servers on loopback.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

struct Server {
    port: u16,
    /// Its certificate and its authority's.
    certificate_pem: String,
    authority_pem: String,
    connections: Arc<AtomicUsize>,
}

/// A server for the name `localhost` that answers with what the path asks for.
async fn serve(protocols: &[&[u8]]) -> Server {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, authority_key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("a configuration");
    tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let service = service_fn(answer);
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Server { port, certificate_pem: leaf.pem(), authority_pem: authority.pem(), connections }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    match request.uri().path() {
        "/slow" => std::future::pending().await,
        "/large" => Ok(Response::new(vec![b'x'; 4096].into())),
        _ => Ok(Response::new(format!("{:?}", request.version()).into())),
    }
}

fn client(trust: Trust, protocols: Protocols) -> Client {
    let config = ClientConfig { service: None, trust, identity: None, server_name: None, protocols };
    Client::new(config).expect("a client")
}

async fn get(client: &Client, url: &str, timeout: Duration) -> Result<String, String> {
    let request = Request::get(url).body(full("")).expect("a request");
    match client.exchange(request, timeout, 1024).await {
        Ok(answer) => Ok(String::from_utf8_lossy(answer.body()).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn servers_are_trusted_by_authority_by_certificate_or_not_at_all() {
    let server = serve(&[b"http/1.1"]).await;
    let (authority, certificate) = (server.authority_pem.clone(), server.certificate_pem.clone());
    let check = async |trust: Trust, host: &str, expected: Result<&str, &str>| {
        let url = format!("https://{host}:{}/", server.port);
        let answer = get(&client(trust, Protocols::Http1), &url, TIMEOUT).await;
        assert_eq!(answer, expected.map(str::to_owned).map_err(str::to_owned), "{host}");
    };
    let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let other_name =
        "tls: failed to verify certificate: x509: certificate is valid for localhost, not 127.0.0.1";
    let bundle = |pem: &str| Trust::Bundle(pem.as_bytes().to_vec());
    check(bundle(&authority), "localhost", Ok("HTTP/1.1")).await;
    check(bundle(&certificate), "localhost", Ok("HTTP/1.1")).await;
    check(bundle(&authority), "127.0.0.1", Err(other_name)).await;
    check(Trust::Anyone, "127.0.0.1", Ok("HTTP/1.1")).await;
    check(bundle(&serve(&[]).await.authority_pem), "localhost", Err(unknown)).await;
    assert!(
        Client::new(ClientConfig {
            service: None,
            trust: Trust::Bundle(b"no PEM".to_vec()),
            identity: None,
            server_name: None,
            protocols: Protocols::Any,
        })
        .is_err()
    );
}

#[tokio::test]
async fn connections_are_kept_and_protocols_negotiated() {
    let server = serve(&[b"h2", b"http/1.1"]).await;
    let url = format!("https://localhost:{}/", server.port);
    for (protocols, version) in [(Protocols::Http1, "HTTP/1.1"), (Protocols::Any, "HTTP/2.0")] {
        let client = client(Trust::Anyone, protocols);
        let before = server.connections.load(Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(get(&client, &url, TIMEOUT).await, Ok(version.to_owned()));
        }
        assert_eq!(server.connections.load(Ordering::SeqCst) - before, 1, "{version}");
    }
}

#[tokio::test]
async fn failures_are_told_in_gos_words() {
    let server = serve(&[]).await;
    let client = client(Trust::Anyone, Protocols::Any);
    let check = async |url: String, timeout: Duration, expected: String| {
        assert_eq!(get(&client, &url, timeout).await, Err(expected), "{url}");
    };
    let base = format!("https://localhost:{}", server.port);
    let brief = Duration::from_millis(200);
    check(format!("{base}/slow"), brief, "context deadline exceeded".into()).await;
    let large = "http: response body too large, the limit is 1024 bytes";
    check(format!("{base}/large"), TIMEOUT, large.into()).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("binds").local_addr().expect("an address");
    let refused = format!("dial tcp {closed}: connect: connection refused");
    check(format!("https://{closed}/"), TIMEOUT, refused).await;
    check("ftp://localhost/".into(), TIMEOUT, "unsupported protocol scheme \"ftp\"".into()).await;
}
