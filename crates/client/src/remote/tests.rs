use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use sampan_api::{Gvr, Status};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::{Call, Query, RemoteBackend, decode, path};
use crate::kubeconfig::{Access, Credentials, Token};
use crate::{Backend as _, DeleteOptions, ListOptions, PatchKind, Target, WatchEvent};

static PODS: Gvr = Gvr::new("", "v1", "pods");

/// A server of the test: answers by method and path, and remembers what it was asked.
struct Server {
    access: Access,
    asked: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(protocol: &'static [u8]) -> Self {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key.expect("a key"))
            .expect("a certificate");
        tls.alpn_protocols = vec![protocol.to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let log = asked.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (acceptor, log) = (acceptor.clone(), log.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| answer(request, log.clone()));
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // A client that is gone is the end of its test.
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        let access = Access {
            server: format!("https://127.0.0.1:{port}"),
            certificate_authority: Some(certified.cert.pem().into_bytes()),
            tls_server_name: Some("localhost".into()),
            credentials: Credentials { certificate: None, token: Some(Token::Fixed("secret".into())) },
            namespace: "default".into(),
        };
        Server { access, asked, _tasks: tasks }
    }

    fn backend(&self) -> RemoteBackend {
        RemoteBackend::new(&self.access, "test").expect("a backend")
    }
}

async fn answer(
    request: Request<Incoming>,
    asked: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    assert_eq!(token, Some("Bearer secret"));
    let line = format!("{} {}", request.method(), request.uri().path_and_query().expect("a path"));
    let kind = request.headers().get("content-type").map(|kind| kind.to_str().expect("text").to_owned());
    let path = request.uri().path().to_owned();
    let more = request.uri().query().is_some_and(|query| query.contains("continue"));
    let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let method = request.method().clone();
    let body = request.into_body().collect().await?.to_bytes();
    let kind = kind.map(|kind| format!(" {kind} {}", String::from_utf8_lossy(&body))).unwrap_or_default();
    asked.lock().push(line + &kind);
    let page = |name: &str, token: &str| {
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "9", "continue": token},
            "items": [{"metadata": {"name": name, "resourceVersion": "3"}}]})
    };
    let (code, text) = match (path.as_str(), &method) {
        ("/api/v1/pods", &Method::GET) if watch => {
            let event = |kind: &str, revision: &str| json!({"type": kind, "object": {"metadata": {"name": "a", "resourceVersion": revision}}});
            let gone = json!({"type": "ERROR", "object": Status::expired("too old")});
            let lines = [event("ADDED", "4"), event("BOOKMARK", "5"), event("DELETED", "6"), gone];
            (200, lines.map(|line| format!("{line}\n")).concat())
        }
        ("/api/v1/pods", &Method::GET) if more => (200, page("b", "").to_string()),
        ("/api/v1/pods", &Method::GET) => (200, page("a", "next/+").to_string()),
        ("/api/v1/namespaces/n/pods/none", _) => (404, json!(Status::not_found(&PODS, "none")).to_string()),
        ("/broken", _) => (503, "<html>".to_owned()),
        _ => (200, json!({"kind": "Pod", "metadata": {"name": "a", "resourceVersion": "7"}}).to_string()),
    };
    let response = Response::builder().status(code).body(Full::new(Bytes::from(text)));
    Ok(response.expect("a response"))
}

fn target(name: &str) -> Target<'_> {
    Target { gvr: &PODS, namespace: Some("n"), name, subresource: None }
}

#[tokio::test]
async fn requests_are_those_of_kubernetes() {
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let server = Server::start(protocol).await;
        let backend = server.backend();
        assert_eq!(backend.get(target("a")).await.expect("a pod").header.revision, 7);
        let status = backend.get(target("none")).await.expect_err("none");
        assert_eq!((status.is_not_found(), status.to_string().as_str()), (true, "pods \"none\" not found"));
        backend.create(target(""), Bytes::from_static(b"{}")).await.expect("created");
        let part = Target { subresource: Some("status"), ..target("a") };
        backend.patch(part, PatchKind::Merge, Bytes::from_static(b"{}")).await.expect("patched");
        let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
        backend.delete(target("a/b?"), &options).await.expect("deleted");
        let status = backend.raw("/broken").await.expect_err("broken");
        assert_eq!((status.code, status.message.as_str()), (503, "<html>"));
        let base = "/api/v1/namespaces/n/pods";
        let delete = r#"{"apiVersion":"v1","gracePeriodSeconds":0,"kind":"DeleteOptions"}"#;
        let expected = [
            format!("GET {base}/a"),
            format!("GET {base}/none"),
            format!("POST {base}?fieldManager=test application/json {{}}"),
            format!("PATCH {base}/a/status?fieldManager=test application/merge-patch+json {{}}"),
            format!("DELETE {base}/a%2Fb%3F application/json {delete}"),
            "GET /broken".to_owned(),
        ];
        assert_eq!(*server.asked.lock(), expected);
    }
}

#[tokio::test]
async fn lists_are_whole_and_watches_end_with_their_error() {
    let server = Server::start(b"h2").await;
    let backend = server.backend();
    let list = backend.list(&PODS, None, &ListOptions::default()).await.expect("a list");
    let names: Vec<&str> = list.items.iter().map(|object| &*object.header.name).collect();
    assert_eq!((names, list.revision, list.continue_token), (vec!["a", "b"], 9, None));
    let value: Value = list.items[0].decode().expect("JSON");
    assert_eq!((&value["kind"], &value["apiVersion"]), (&json!("Pod"), &json!("v1")));
    assert_eq!(server.asked.lock()[1], "GET /api/v1/pods?continue=next%2F%2B&limit=500");
    let options = ListOptions { limit: 1, ..ListOptions::default() };
    let page = backend.list(&PODS, None, &options).await.expect("a page");
    assert_eq!((page.items.len(), page.continue_token.as_deref()), (1, Some("next/+")));
    let options = ListOptions { revision: Some(3), label_selector: Some("a=b".into()), ..options };
    let events: Vec<_> = backend.watch(&PODS, None, &options).await.expect("a watch").collect().await;
    let seen: Vec<String> = events
        .iter()
        .map(|event| match event {
            Ok(WatchEvent::Added(object)) => format!("added {}", object.header.revision),
            Ok(WatchEvent::Modified(object)) => format!("modified {}", object.header.revision),
            Ok(WatchEvent::Deleted(object)) => format!("deleted {}", object.header.revision),
            Ok(WatchEvent::Bookmark(revision)) => format!("bookmark {revision}"),
            Err(status) => format!("{}", status.code),
        })
        .collect();
    assert_eq!(seen, ["added 4", "bookmark 5", "deleted 6", "410"]);
    let asked = server.asked.lock().last().cloned();
    let expected =
        "GET /api/v1/pods?watch=true&allowWatchBookmarks=true&labelSelector=a%3Db&resourceVersion=3";
    assert_eq!(asked.as_deref(), Some(expected));
}

#[tokio::test]
async fn a_server_that_is_not_there_or_not_trusted_is_unavailable() {
    let server = Server::start(b"h2").await;
    let mut access = server.access.clone();
    access.tls_server_name = Some("other".into());
    let check = async |access: &Access| {
        let backend = RemoteBackend::new(access, "test").expect("a backend");
        let status = backend.send(Call::get("/")).await.expect_err("unreachable");
        assert_eq!((status.code, status.reason.as_str()), (503, "ServiceUnavailable"), "{status}");
    };
    check(&access).await;
    let free = TcpListener::bind("127.0.0.1:0").await.and_then(|socket| socket.local_addr()).expect("a port");
    access.server = format!("https://{free}");
    check(&access).await;
}

#[test]
fn access_that_cannot_work_is_refused() {
    let check = |server: &str, authority: &[u8], expected: &str| {
        let access = Access {
            server: server.into(),
            certificate_authority: Some(authority.to_vec()),
            tls_server_name: None,
            credentials: Credentials::default(),
            namespace: String::new(),
        };
        let error = RemoteBackend::new(&access, "test").err().map(|error| error.to_string());
        assert!(error.as_deref().is_some_and(|error| error.contains(expected)), "{server}: {error:?}");
    };
    check("http://h", b"", "not an https URL");
    check("", b"", "not an https URL");
    check("https://a_b c", b"", "not an https URL");
    check("https://h", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "not PEM");
}

#[test]
fn answers_that_are_no_status_become_one() {
    let check = |code: u16, body: &str, expected: &str| {
        let status = decode::status(StatusCode::from_u16(code).expect("a code"), body.as_bytes());
        assert_eq!(format!("{} {} {status}", status.code, status.reason), expected);
    };
    check(404, "", "404 NotFound the server could not find the requested resource");
    check(403, "no", "403 Forbidden no");
    check(502, "", "503 ServiceUnavailable the server answered 502 Bad Gateway");
    check(418, "tea", "418 Unknown tea");
    check(409, r#"{"status":"Failure","reason":"Conflict","message":"m"}"#, "409 Conflict m");
}

#[test]
fn paths_are_encoded() {
    assert_eq!(path(&PODS, Some("n"), Some("a:b.c-d")), "/api/v1/namespaces/n/pods/a:b.c-d");
    assert_eq!(path(&PODS, Some("../x"), None), "/api/v1/namespaces/..%2Fx/pods");
    let mut query = Query::new();
    query.add("a", "x&y=z").add("b", "");
    assert_eq!(query.at("/p".into()), "/p?a=x%26y%3Dz&b=");
}
