//! Connections that say nothing, little, or nonsense.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use sampan_testkit::{Cluster, cluster};

use super::bounded;

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Trusts any server: a test of connections, not of identity.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

fn client() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    Arc::new(config)
}

fn connect(config: &Arc<ClientConfig>) -> std::io::Result<Tls> {
    let stream = TcpStream::connect(cluster::API)?;
    stream.set_read_timeout(Some(Duration::from_secs(90)))?;
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(config.clone(), name).map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

/// What comes until the server closes.
fn rest(stream: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    // How a connection was closed does not matter here, only that it was.
    let _ = stream.take(1 << 20).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn slow(cluster: &mut Cluster) {
    bounded(cluster, 64, || {
        let started = cluster.sandbox().in_network(|| {
            let config = client();
            // 100 clients that begin a request and never end it.
            let mut streams: Vec<Tls> = (0..100).map(|_| connect(&config).expect("a connection")).collect();
            for stream in &mut streams {
                stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\nX-Slow: ").expect("sent");
            }
            streams
        });
        let mut streams = started.join().expect("the thread does not panic");
        // Others are served meanwhile.
        cluster.kubectl(&["get", "nodes"]).ok();
        // The server gives them up by itself: were it to wait for ever, so would this, up to the timeout.
        let closed = std::thread::spawn(move || {
            streams.iter_mut().map(|stream| stream.read(&mut [0; 1024])).collect::<Vec<_>>()
        });
        for result in closed.join().expect("the thread does not panic") {
            let waits = result.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
            assert!(!waits, "the server still waits for a request's head after 90 s");
        }
    });
}

pub fn idle(cluster: &mut Cluster) {
    const COUNT: usize = 10_000;
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).expect("a limit");
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit.1, limit.1)
        .expect("up to the hard limit");
    assert!(limit.1 > COUNT as u64 + 1000, "RLIMIT_NOFILE of {} is too low for {COUNT} connections", limit.1);
    bounded(cluster, 512, || {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                cluster.sandbox().in_network(|| {
                    let config = client();
                    (0..COUNT / 4).filter_map(|_| connect(&config).ok()).collect::<Vec<Tls>>()
                })
            })
            .collect();
        let streams: Vec<Tls> = workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("the thread does not panic"))
            .collect();
        assert_eq!(streams.len(), COUNT);
        cluster.kubectl(&["get", "nodes"]).ok();
        cluster.kubectl(&["create", "configmap", "while-idle", "--from-literal=a=b"]).ok();
        cluster.kubectl(&["delete", "configmap", "while-idle"]).ok();
        drop(streams);
    });
}

pub fn garbage(cluster: &mut Cluster) {
    bounded(cluster, 64, || {
        let answers = cluster.sandbox().in_network(|| {
            let mut plain = TcpStream::connect(cluster::API).expect("a connection");
            plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
            let plain = rest(&mut plain);
            let mut noise = TcpStream::connect(cluster::API).expect("a connection");
            // The server may close before all has been sent.
            let _ = noise.write_all(&[0x16, 0x03, 0x01, 0xff, 0xff].repeat(4096));
            rest(&mut noise);
            let config = client();
            let ask = |request: &[u8]| {
                let mut tls = connect(&config).expect("a connection");
                tls.write_all(request).expect("sent");
                rest(&mut tls)
            };
            let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
            let heads = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(1000));
            (plain, ask(b"nonsense\r\n\r\n"), long, heads)
        });
        let (plain, nonsense, long, heads) = answers.join().expect("the thread does not panic");
        assert!(!plain.contains("200 OK"), "{plain}");
        assert!(nonsense.starts_with("HTTP/1.1 400"), "{nonsense}");
        let answers = cluster.sandbox().in_network(move || {
            let config = client();
            [long, heads].map(|request| {
                let mut tls = connect(&config).expect("a connection");
                let _ = tls.write_all(request.as_bytes());
                rest(&mut tls)
            })
        });
        for answer in answers.join().expect("the thread does not panic") {
            assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
        }
    });
}
