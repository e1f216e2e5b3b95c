use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sampan_base::drain::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::testing::TestServer;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A server that listens, and its administrator.
struct Listening {
    server: TestServer,
    address: std::net::SocketAddr,
    tasks: Tasks,
}

impl Listening {
    async fn start() -> Self {
        let server = TestServer::start().await;
        server.create("/api/v1/namespaces", &serde_json::json!({"metadata": {"name": "default"}})).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut tasks = Tasks::default();
        let trust = server.pki().trust();
        tasks.spawn("listener", serve(server.server.clone(), listener, trust, tasks.shutdown()));
        Listening { server, address, tasks }
    }

    async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        let pki = self.server.pki();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pki.bundle().as_bytes()) {
            roots.add(certificate.expect("PEM")).expect("an authority");
        }
        let issued = pki.issue_client(crate::identity::pki::ADMIN, jiff::Timestamp::now()).expect("issued");
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![issued.der], key)
            .expect("an identity");
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.expect("listens");
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("trusted")
    }

    async fn stop(self) {
        let (_, left) =
            tokio::join!(self.server.server.sessions.shut_down(), self.tasks.stop(Duration::from_secs(60)));
        assert_eq!(left, 0);
    }
}

/// Reads until a text has come.
async fn until(stream: &mut TlsStream<TcpStream>, text: &str) -> String {
    let mut seen = Vec::new();
    loop {
        let seen_text = String::from_utf8_lossy(&seen).into_owned();
        if seen_text.contains(text) {
            return seen_text;
        }
        assert!(stream.read_buf(&mut seen).await.expect("reads") > 0, "{text:?} is not in {seen_text:?}");
    }
}

#[tokio::test]
async fn requests_that_run_at_shutdown_are_answered_and_watches_end() {
    let listening = Listening::start().await;
    let mut watch = listening.connect(b"http/1.1").await;
    let head = format!("GET {MAPS}?watch=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    watch.write_all(head.as_bytes()).await.expect("sent");
    until(&mut watch, "\r\n\r\n").await;
    let mut creation = listening.connect(b"http/1.1").await;
    let body = r#"{"metadata": {"name": "late"}}"#;
    let head = format!(
        "POST {MAPS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    creation.write_all(head.as_bytes()).await.expect("sent");
    until(&mut creation, "100 Continue").await;
    let stopping = tokio::spawn(listening.stop());
    // Of the connection that watches, the last piece and the end.
    let mut rest = Vec::new();
    watch.read_to_end(&mut rest).await.expect("ends in order");
    assert!(rest.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
    creation.write_all(body.as_bytes()).await.expect("sent");
    let answer = until(&mut creation, "late").await;
    assert!(answer.contains("201 Created"), "{answer}");
    stopping.await.expect("nothing was cut off");
}

#[tokio::test]
async fn who_agreed_on_another_version_is_told() {
    let listening = Listening::start().await;
    let mut stream = listening.connect(b"h2").await;
    let head = format!(
        "GET {MAPS}?watch=1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    until(&mut stream, "HTTP/1.1 505 ").await;
    drop(stream);
    listening.stop().await;
}
