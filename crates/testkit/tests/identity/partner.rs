//! The server that Sampan asks: an issuer of tokens, and webhooks that remember what they were asked.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sampan_testkit::Cluster;
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

const PATIENCE: Duration = Duration::from_secs(30);

type Answer = Arc<dyn Fn(&Value) -> Value + Send + Sync>;

#[derive(Clone)]
pub struct Partner {
    port: u16,
    /// The authority of its certificate, in PEM.
    pub authority: String,
    tls: Arc<rustls::ServerConfig>,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    serving: bool,
    answers: HashMap<String, Answer>,
    /// Path, and the request with its body.
    requests: Vec<(String, Value)>,
}

impl Partner {
    pub fn new(port: u16) -> Partner {
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key"))
            .expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
        let chain = vec![CertificateDer::from_pem_slice(leaf.pem().as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate");
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Partner { port, authority: authority.pem(), tls: Arc::new(tls), state: Arc::default() }
    }

    /// Listens inside the cluster's network, once; ends with the test.
    pub fn serve(&self, cluster: &Cluster) {
        if std::mem::replace(&mut self.state.0.lock().expect("no panic").serving, true) {
            return;
        }
        let (partner, (listening, ready)) = (self.clone(), std::sync::mpsc::channel());
        cluster.sandbox().in_network(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener =
                    tokio::net::TcpListener::bind(("127.0.0.1", partner.port)).await.expect("a free port");
                listening.send(()).expect("somebody waits");
                let acceptor = TlsAcceptor::from(partner.tls.clone());
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    let (acceptor, partner) = (acceptor.clone(), partner.clone());
                    tokio::spawn(async move {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let service = service_fn(move |request| {
                            let partner = partner.clone();
                            async move { partner.handle(request).await }
                        });
                        let builder = auto::Builder::new(TokioExecutor::new());
                        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            });
        });
        ready.recv_timeout(PATIENCE).expect("it listens");
    }

    /// What is answered to a path from now on.
    pub fn answer(&self, path: &str, answer: impl Fn(&Value) -> Value + Send + Sync + 'static) {
        self.state.0.lock().expect("no panic").answers.insert(path.to_owned(), Arc::new(answer));
    }

    /// What came to a path so far.
    pub fn requests(&self, path: &str) -> Vec<Value> {
        let state = self.state.0.lock().expect("no panic");
        state.requests.iter().filter(|(asked, _)| asked == path).map(|(_, request)| request.clone()).collect()
    }

    /// Waits until what came to a path is enough.
    pub fn until(&self, path: &str, mut enough: impl FnMut(&[Value]) -> bool) {
        let (state, changed) = &*self.state;
        let guard = state.lock().expect("no panic");
        let waited = changed.wait_timeout_while(guard, PATIENCE, |state| {
            let found = state.requests.iter().filter(|(asked, _)| asked == path);
            !enough(&found.map(|(_, request)| request.clone()).collect::<Vec<_>>())
        });
        assert!(!waited.expect("no panic").1.timed_out(), "enough came to {path}");
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = head.uri.path().to_owned();
        let authorization =
            head.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let answer = {
            let mut state = self.state.0.lock().expect("no panic");
            state.requests.push((path.clone(), json!({"authorization": authorization, "body": body})));
            self.state.1.notify_all();
            state.answers.get(&path).cloned()
        };
        let response = match answer {
            Some(answer) => Response::new(Full::new(answer(&body).to_string().into())),
            None => {
                let mut response = Response::new(Full::new(Bytes::new()));
                *response.status_mut() = hyper::StatusCode::NOT_FOUND;
                response
            }
        };
        Ok(response)
    }
}

/// Signs tokens, and has its partner publish the key.
pub struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Issuer {
    pub fn new(partner: &Partner) -> Issuer {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key");
        let point = key.public_key().as_ref()[1..].to_vec();
        let (x, y) = point.split_at(32);
        let published = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}]});
        let url = format!("https://127.0.0.1:{}", partner.port);
        partner.answer("/keys", move |_| published.clone());
        partner.answer(
            "/.well-known/openid-configuration",
            move |_| json!({"issuer": url, "jwks_uri": format!("{url}/keys")}),
        );
        Issuer { key, random }
    }

    pub fn sign(&self, key_id: &str, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&json!({"alg": "ES256", "kid": key_id})), encode(claims));
        let signature = self.key.sign(&self.random, signed.as_bytes()).expect("signed");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}
