//! A whole API server for tests: a store of its own, and HTTP/1.1 over pipes in the process.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use sampan_api::table::Table;
use sampan_storage::{Options, RedbStore, Store, Write};

use crate::http::{Connection, handle};
use crate::identity::authentication::{Authenticator, ClientCertificate, ServiceAccountTokens, TokenConfig};
use crate::identity::pki::{self, Pki, PkiConfig};
use crate::registry::Registry;
use crate::strategy::service::Allocators;
use crate::{ApiServer, Surroundings};

/// A server that runs until it is dropped. Requests are an administrator's.
pub struct TestServer {
    pub server: Arc<ApiServer>,
    connection: Arc<Connection>,
    follower: tokio::task::JoinHandle<()>,
    store: Arc<dyn Store>,
    pki: Arc<Pki>,
    directory: Arc<tempfile::TempDir>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl TestServer {
    pub async fn start() -> Self {
        TestServer::with(Surroundings::default()).await
    }

    pub async fn with(surroundings: Surroundings) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = PkiConfig {
            directory: directory.path().join("pki"),
            admin_kubeconfig: directory.path().join("admin.kubeconfig"),
            server_url: "https://localhost".to_owned(),
            service_addresses: vec![],
            extra_names: vec![],
            lives: pki::Lives::default(),
        };
        let pki = Pki::ensure(config, Timestamp::now()).expect("keys");
        let store = RedbStore::open(directory.path().join("store"), Options::default()).expect("a store");
        TestServer::over(Arc::new(store), Arc::new(pki), Arc::new(directory), surroundings).await
    }

    /// Another server over the same store: what it did not see happen is history.
    pub async fn restart(&self) -> Self {
        let surroundings = Surroundings::default();
        TestServer::over(self.store.clone(), self.pki.clone(), self.directory.clone(), surroundings).await
    }

    async fn over(
        store: Arc<dyn Store>,
        pki: Arc<Pki>,
        directory: Arc<tempfile::TempDir>,
        surroundings: Surroundings,
    ) -> Self {
        let issued = pki.issue_client(pki::ADMIN, Timestamp::now()).expect("a certificate");
        let certificate = ClientCertificate::read(&issued.der).expect("an identity");
        let config = TokenConfig {
            issuer: "https://localhost".to_owned(),
            api_audiences: vec![],
            ..TokenConfig::default()
        };
        let tokens =
            Arc::new(pki.with_token_keys(|keys| ServiceAccountTokens::new(config, keys)).expect("a key"));
        let range = "10.43.0.0/16".parse().expect("a range");
        let allocators = Allocators::new(range, 30_000..=32_767);
        let registry = Registry::open(store.clone(), Table::builtin(), allocators, tokens.clone())
            .await
            .expect("a registry");
        let following = registry.clone();
        let follower = tokio::spawn(async move {
            following.follow(std::future::pending()).await.expect("the store can be followed");
        });
        let authenticator = Authenticator::new(tokens);
        let server = ApiServer::new(registry, authenticator, "localhost:6443".to_owned(), surroundings);
        let connection = Arc::new(Connection {
            certificate: Some(certificate),
            peer: None,
            since: std::time::Instant::now(),
        });
        TestServer { server, connection, follower, store, pki, directory }
    }

    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Sends a request on a connection of its own.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (server, client) = (self.server.clone(), self.connection.clone());
        let service = service_fn(move |request| {
            let (server, client) = (server.clone(), client.clone());
            async move { Ok::<_, std::convert::Infallible>(handle(server, request, &client).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(theirs), service)
            .with_upgrades();
        tokio::spawn(connection);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.expect("a connection");
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.expect("an answer")
    }

    /// A GET with some headers.
    pub async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
        self.send(request("GET", target, headers, "")).await
    }

    /// Stores an object past everything that would check it; the server after a restart knows it.
    pub async fn put(&self, key: &str, object: &serde_json::Value) {
        let write = Write::create(key, object.to_string());
        self.store.commit(write).await.expect("stored");
    }

    /// Creates an object out of JSON.
    pub async fn create(&self, target: &str, json: &serde_json::Value) {
        let body = json.to_string();
        let response =
            self.send(request("POST", target, &[("content-type", "application/json")], body)).await;
        let code = response.status();
        let body = bytes_of(response).await;
        assert_eq!(code, 201, "{}", String::from_utf8_lossy(&body));
    }
}

pub fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(body.into()))).expect("a request")
}

pub async fn bytes_of(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.expect("a whole body").to_bytes()
}
