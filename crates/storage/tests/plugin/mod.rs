//! A KMS v2 plugin: gRPC on a unix socket, with keys that are their names.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use sampan_storage::grpc::wire::{Fields, put_bytes, put_entry};
use tokio::net::UnixListener;

#[derive(Clone)]
pub struct Plugin(Arc<State>);

struct State {
    key: Mutex<String>,
    failure: Mutex<Option<String>>,
    encrypts: AtomicU64,
    decrypts: AtomicU64,
}

impl Plugin {
    pub fn start(socket: &Path, key: &str) -> Self {
        let listener = UnixListener::bind(socket).expect("binds");
        let plugin = Plugin(Arc::new(State {
            key: Mutex::new(key.to_owned()),
            failure: Mutex::new(None),
            encrypts: AtomicU64::new(0),
            decrypts: AtomicU64::new(0),
        }));
        let served = plugin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let plugin = served.clone();
                let service = service_fn(move |request| {
                    let plugin = plugin.clone();
                    async move { Ok::<_, Infallible>(plugin.answer(request).await) }
                });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(async move {
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        plugin
    }

    pub fn set_key(&self, key: &str) {
        *self.0.key.lock() = key.to_owned();
    }

    pub fn fail(&self, message: Option<&str>) {
        *self.0.failure.lock() = message.map(str::to_owned);
    }

    pub fn encrypts(&self) -> u64 {
        self.0.encrypts.load(Ordering::SeqCst)
    }

    pub fn decrypts(&self) -> u64 {
        self.0.decrypts.load(Ordering::SeqCst)
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Response<StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + use<>>>
    {
        assert_eq!(request.headers()["content-type"], "application/grpc");
        assert_eq!(request.headers()["te"], "trailers");
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let failure = self.0.failure.lock().clone();
        let mut frames = Vec::new();
        let mut trailers = HeaderMap::new();
        match failure {
            None => {
                let message = self.message(&path, &body[5..]);
                let mut framed = vec![0];
                framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
                framed.extend_from_slice(&message);
                frames.push(Ok(Frame::data(framed.into())));
                trailers.insert("grpc-status", "0".parse().expect("a value"));
            }
            Some(message) => {
                trailers.insert("grpc-status", "14".parse().expect("a value"));
                trailers.insert("grpc-message", message.parse().expect("a value"));
            }
        }
        frames.push(Ok(Frame::trailers(trailers)));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        Response::builder().header("content-type", "application/grpc").body(body).expect("valid")
    }

    /// "Encrypts" by turning bits round, which is not what matters here.
    fn message(&self, path: &str, request: &[u8]) -> Vec<u8> {
        let key = self.0.key.lock().clone();
        let field = |wanted: u32| {
            let found =
                Fields::new(request).map(|field| field.expect("valid")).find(|(field, _)| *field == wanted);
            found.map(|(field, value)| value.bytes(field).expect("bytes").to_vec()).unwrap_or_default()
        };
        let turned = |bytes: Vec<u8>| bytes.into_iter().map(|byte| !byte).collect::<Vec<u8>>();
        let mut out = Vec::new();
        match path {
            "/v2.KeyManagementService/Status" => {
                put_bytes(&mut out, 1, b"v2");
                put_bytes(&mut out, 2, b"ok");
                put_bytes(&mut out, 3, key.as_bytes());
            }
            "/v2.KeyManagementService/Encrypt" => {
                self.0.encrypts.fetch_add(1, Ordering::SeqCst);
                assert!(!field(2).is_empty(), "a call has a uid");
                put_bytes(&mut out, 1, &turned(field(1)));
                put_bytes(&mut out, 2, key.as_bytes());
                put_entry(&mut out, 3, "note.example.com", b"kept");
            }
            "/v2.KeyManagementService/Decrypt" => {
                self.0.decrypts.fetch_add(1, Ordering::SeqCst);
                assert!(field(3).starts_with(b"key-"), "the key's id is given back");
                assert!(field(4).ends_with(b"kept"), "annotations are given back");
                put_bytes(&mut out, 1, &turned(field(1)));
            }
            other => panic!("{other}"),
        }
        out
    }
}
