use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::image::ImageConfig;
use crate::manifest::{Manifest, OCI_MANIFEST};
use crate::pack::PackSource;
use crate::store::StoreError;

fn quick() -> RegistryOptions {
    RegistryOptions { retry_delay: Duration::from_millis(1), retries: 3, ..RegistryOptions::default() }
}

struct Fixture {
    dir: tempfile::TempDir,
    source: ImageStore,
    target: ImageStore,
    client: RegistryClient,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = ImageStore::open(&dir.path().join("source")).unwrap();
        let target = ImageStore::open(&dir.path().join("target")).unwrap();
        Fixture { dir, source, target, client: RegistryClient::new(quick()) }
    }

    /// An image of one layer that does not compress to nothing.
    async fn image(&self) -> Image {
        let content = self.dir.path().join("content");
        std::fs::create_dir_all(&content).unwrap();
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .take(300_000)
        .collect();
        std::fs::write(content.join("noise"), noise).unwrap();
        let name = Reference::parse("packed").unwrap();
        let config = ImageConfig { cmd: vec!["/noise".to_owned()], ..ImageConfig::default() };
        self.source.pack(PackSource::Directory(content), &name, config).await.unwrap()
    }

    fn blob(&self, digest: &Digest) -> Bytes {
        std::fs::read(self.source.blob_path(digest)).unwrap().into()
    }

    async fn pull(&self, name: &str, auth: &Auth) -> Result<Image, Arc<PullError>> {
        let reference = Reference::parse(name).unwrap();
        self.client.pull(&self.target, &reference, auth, None).await
    }
}

fn check_kind(result: Result<Image, Arc<PullError>>, expected: PullErrorKind) -> String {
    let error = result.expect_err("the pull must fail");
    assert_eq!(error.kind(), expected, "{}", error.chain());
    error.chain()
}

/// Debian's docker-registry on a port of its own choice; ends with the test.
struct DockerRegistry {
    process: Child,
    address: String,
}

/// bcrypt of `harbour`.
const HTPASSWD: &str = "captain:$2a$04$abcdefghijklmnopqrstuuDquYVKNGbM6sPqJTwNHdkN7dQ6zg7dG\n";

impl DockerRegistry {
    fn start(dir: &std::path::Path) -> Self {
        let root = dir.join("registry");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("htpasswd"), HTPASSWD).unwrap();
        let config = serde_json::json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": root.join("data")}},
            "http": {"addr": "127.0.0.1:0"},
            "auth": {"htpasswd": {"realm": "harbour", "path": root.join("htpasswd")}},
        });
        // JSON is YAML.
        std::fs::write(root.join("config.yml"), config.to_string()).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(root.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this test needs Debian's package docker-registry");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            Some(rest.chars().take_while(char::is_ascii_digit).collect::<String>())
        });
        // Its log must go on being read, or it would block.
        std::thread::spawn(move || lines.for_each(drop));
        let address = format!("127.0.0.1:{}", port.expect("docker-registry says where it listens"));
        DockerRegistry { process, address }
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// As much of a push as a test needs: blobs in one piece, then the manifest.
async fn push(fixture: &Fixture, image: &Image, address: &str, name: &str, login: &Credentials) {
    let transport = Transport::new(&quick());
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, login.basic().parse().unwrap());
    let (repository, tag) = name.split_once(':').unwrap();
    let base = format!("http://{address}/v2/{repository}");
    let send = async |method, uri: String, headers: &HeaderMap, body| {
        let uri: Uri = uri.parse().unwrap();
        let response = transport.send(method, &uri, headers, body).await.unwrap();
        assert!(response.status().is_success(), "{uri}: {}", response.status());
        let headers = response.headers().clone();
        response.into_body().collect().await.unwrap();
        headers
    };
    for digest in [&image.id, &image.layers[0].blob] {
        let started = send(Method::POST, format!("{base}/blobs/uploads/"), &headers, Bytes::new()).await;
        let location = started[LOCATION].to_str().unwrap();
        let mut headers = headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        send(Method::PUT, format!("{location}&digest={digest}"), &headers, fixture.blob(digest)).await;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCI_MANIFEST));
    send(Method::PUT, format!("{base}/manifests/{tag}"), &headers, fixture.blob(&image.manifest)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_from_docker_registry_with_basic_login() {
    let fixture = Fixture::new();
    let registry = DockerRegistry::start(fixture.dir.path());
    let image = fixture.image().await;
    let address = &registry.address;
    let login =
        Credentials { username: "captain".to_owned(), password: "harbour".to_owned(), identity_token: None };
    push(&fixture, &image, address, "shop/noise:1", &login).await;

    let name = format!("{address}/shop/noise:1");
    check_kind(fixture.pull(&name, &Auth::anonymous()).await, PullErrorKind::Unauthorized);
    let wrong = Auth::for_registry(address, "captain", "wrong");
    check_kind(fixture.pull(&name, &wrong).await, PullErrorKind::Unauthorized);
    let config = base64::engine::general_purpose::STANDARD.encode("captain:harbour");
    let config = format!(r#"{{"auths":{{"http://{address}/v2/":{{"auth":"{config}"}}}}}}"#);
    let mut auth = wrong;
    auth.merge(Auth::from_docker_config(config.as_bytes()).unwrap());
    let missing = fixture.pull(&format!("{address}/shop/noise:2"), &auth).await;
    let message = check_kind(missing, PullErrorKind::NotFound);
    assert!(message.contains("manifest unknown"), "{message}");

    let pulled = fixture.pull(&name, &auth).await.unwrap();
    assert_eq!((&pulled.id, &pulled.layers, &pulled.config), (&image.id, &image.layers, &image.config));
    assert_eq!(pulled.names, std::slice::from_ref(&name));
    let by_digest = format!("{address}/shop/noise@{}", image.manifest);
    assert_eq!(pulled.digests, std::slice::from_ref(&by_digest));
    assert_eq!(fixture.pull(&by_digest, &auth).await.unwrap().id, image.id);
}

/// A registry that does what a test tells it to.
struct Scripted {
    address: String,
    requests: Arc<Mutex<Vec<Seen>>>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Seen {
    path: String,
    authorization: Option<String>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server.abort();
    }
}

type Answerer = Arc<dyn Fn(&Seen, &str) -> Response<Full<Bytes>> + Send + Sync>;

impl Scripted {
    async fn start(answer: impl Fn(&Seen, &str) -> Response<Full<Bytes>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer): (_, Answerer) = (requests.clone(), Arc::new(answer));
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let text =
                        |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                    let one = Seen { path: request.uri().to_string(), authorization: text(AUTHORIZATION) };
                    seen.lock().push(one.clone());
                    let response = answer(&one, &text(HOST).unwrap());
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Scripted { address, requests, server }
    }

    fn count(&self, part: &str) -> usize {
        self.requests.lock().iter().filter(|seen| seen.path.contains(part)).count()
    }
}

fn status(code: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder().status(code).body(Full::new(body.into())).unwrap()
}

/// Everything of an image, by the end of its path.
fn content(fixture: &Fixture, image: &Image) -> impl Fn(&str) -> Option<Bytes> + Send + Sync + 'static {
    let manifest = fixture.blob(&image.manifest);
    let blobs: Vec<_> =
        [&image.id, &image.layers[0].blob].map(|digest| (digest.clone(), fixture.blob(digest))).into();
    move |path: &str| {
        if path.contains("/manifests/") {
            return Some(manifest.clone());
        }
        let (_, name) = path.split_once("/blobs/")?;
        blobs.iter().find(|(digest, _)| digest.to_string() == name).map(|(_, bytes)| bytes.clone())
    }
}

#[tokio::test]
async fn token_login_is_used_at_home_and_not_where_a_redirect_leads() {
    let fixture = Fixture::new();
    let image = fixture.image().await;
    let content = Arc::new(content(&fixture, &image));
    let elsewhere_content = content.clone();
    let elsewhere = Scripted::start(move |seen, _| status(200, elsewhere_content(&seen.path).unwrap())).await;
    let elsewhere_address = elsewhere.address.clone();
    let registry = Scripted::start(move |seen, host| {
        if seen.path.starts_with("/token") {
            let expected = "/token?scope=repository%3Ashop%2Fa%3Apull&service=reg";
            // captain:harbour
            let is_good =
                seen.path == expected && seen.authorization.as_deref() == Some("Basic Y2FwdGFpbjpoYXJib3Vy");
            return match is_good {
                true => status(200, r#"{"token":"sesame"}"#),
                false => status(401, r#"{"details":"incorrect username or password"}"#),
            };
        }
        if seen.authorization.as_deref() != Some("Bearer sesame") {
            let mut response = status(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#);
            let challenge =
                format!(r#"Bearer realm="http://{host}/token",service="reg",scope="repository:shop/a:pull""#);
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
            return response;
        }
        if seen.path.contains("/blobs/") {
            let mut response = status(307, "");
            let target = format!("http://{elsewhere_address}{}", seen.path);
            response.headers_mut().insert(LOCATION, target.parse().unwrap());
            return response;
        }
        status(200, content(&seen.path).unwrap())
    })
    .await;
    let name = format!("{}/shop/a", registry.address);
    let wrong = Auth::for_registry(&registry.address, "captain", "no");
    let message = check_kind(fixture.pull(&name, &wrong).await, PullErrorKind::Unauthorized);
    assert!(message.contains("incorrect username or password"), "{message}");
    let auth = Auth::for_registry(&registry.address, "captain", "harbour");
    assert_eq!(fixture.pull(&name, &auth).await.unwrap().id, image.id);
    let seen = elsewhere.requests.lock().clone();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.authorization.is_none()), "{seen:?}");
    assert_eq!(registry.count("/token"), 2);
}

#[tokio::test]
async fn what_does_not_match_its_digest_is_refused_and_leaves_nothing() {
    let fixture = Fixture::new();
    let image = fixture.image().await;
    let good = content(&fixture, &image);
    let layer = image.layers[0].blob.to_string();
    let registry = Scripted::start(move |seen, _| {
        let mut bytes = good(&seen.path).unwrap().to_vec();
        if seen.path.ends_with(&layer) {
            bytes[100] ^= 1;
        }
        status(200, bytes)
    })
    .await;
    let name = format!("{}/a", registry.address);
    check_kind(fixture.pull(&name, &Auth::default()).await, PullErrorKind::Verification);
    let other = format!("{name}@{}", Digest::of(b"other"));
    check_kind(fixture.pull(&other, &Auth::default()).await, PullErrorKind::Verification);
    assert_eq!(fixture.target.list(), vec![]);
    let Fixture { dir, target, client, .. } = fixture;
    drop((target, client));
    // The clean-up runs beside the pull: the store opens when it is done.
    let path = dir.path().join("target");
    let store = tokio::task::spawn_blocking(move || {
        loop {
            match ImageStore::open(&path) {
                Err(StoreError::Locked(_)) => std::thread::yield_now(),
                opened => return opened.unwrap(),
            }
        }
    });
    assert_eq!(store.await.unwrap().list(), vec![]);
    assert_eq!(std::fs::read_dir(dir.path().join("target/blobs/sha256")).unwrap().count(), 0);
}

#[tokio::test]
async fn failures_of_the_registry_are_told_apart() {
    let fixture = Fixture::new();
    let answers: Mutex<VecDeque<_>> = Mutex::new(VecDeque::from([
        (404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#),
        (403, r#"{"errors":[{"code":"DENIED","message":"requested access is denied"}]}"#),
        (429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#),
        (200, "{}"),
        (200, r#"{"schemaVersion":1}"#),
        (200, r#"{"schemaVersion":2,"manifests":[]}"#),
        (503, "x"),
        (500, "x"),
        (502, "x"),
        (504, "down"),
    ]));
    let registry = Scripted::start(move |_, _| {
        let (code, body) = answers.lock().pop_front().unwrap();
        status(code, body)
    })
    .await;
    let name = format!("{}/a", registry.address);
    for (kind, part) in [
        (PullErrorKind::NotFound, "repository name not known to registry"),
        (PullErrorKind::Unauthorized, "requested access is denied"),
        (PullErrorKind::RateLimited, "pull rate limit"),
        (PullErrorKind::Unusable, "malformed"),
        (PullErrorKind::Unusable, "schema version 1"),
        (PullErrorKind::Unusable, "no matching manifest for linux/"),
        (PullErrorKind::Network, "504"),
    ] {
        let message = check_kind(fixture.pull(&name, &Auth::default()).await, kind);
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(registry.count("/manifests/"), 10);
    let address = registry.address.clone();
    drop(registry);
    let message =
        check_kind(fixture.pull(&format!("{address}/b"), &Auth::default()).await, PullErrorKind::Network);
    assert!(message.contains(&address), "{message}");
}

#[tokio::test]
async fn oversized_answers_are_cut_off() {
    let fixture = Fixture::new();
    let registry = Scripted::start(|_, _| status(200, vec![b' '; (4 << 20) + 1])).await;
    let name = format!("{}/a", registry.address);
    let message = check_kind(fixture.pull(&name, &Auth::default()).await, PullErrorKind::Verification);
    assert!(message.contains("more than 4194304 bytes"), "{message}");
}

/// Answers each connection once: part of the content, then it hangs up.
async fn hang_up_server(listener: TcpListener, content: impl Fn(&str) -> Option<Bytes>) -> Vec<String> {
    let mut ranges = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap();
        let path = request.split(' ').nth(1).unwrap();
        let bytes = content(path).unwrap();
        let range = request.lines().find_map(|line| line.strip_prefix("range: bytes="));
        let start: usize = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
        if let Some(range) = range {
            ranges.push(range.to_owned());
        }
        let rest = &bytes[start..];
        let (head, piece) = match start {
            0 => ("200 OK".to_owned(), rest),
            _ => (
                format!(
                    "206 Partial Content\r\ncontent-range: bytes {start}-{}/{}",
                    bytes.len() - 1,
                    bytes.len()
                ),
                rest,
            ),
        };
        let is_last = rest.len() <= 100_000;
        let piece = if is_last { piece } else { &piece[..100_000] };
        let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", rest.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(piece).await.unwrap();
        stream.shutdown().await.unwrap();
        if is_last && !ranges.is_empty() {
            return ranges;
        }
    }
}

#[tokio::test]
async fn broken_downloads_go_on_where_they_broke() {
    let fixture = Fixture::new();
    let image = fixture.image().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("{}/a", listener.local_addr().unwrap());
    // One at a time, so that the server's order is known.
    let client = RegistryClient::new(RegistryOptions { parallel: 1, ..quick() });
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink_reports = reports.clone();
    let sink: ProgressSink = Arc::new(move |progress| sink_reports.lock().push(progress));
    let reference = Reference::parse(&name).unwrap();
    let auth = Auth::default();
    let server = hang_up_server(listener, content(&fixture, &image));
    let pull = client.pull(&fixture.target, &reference, &auth, Some(sink));
    let (ranges, pulled) = tokio::join!(server, pull);
    assert_eq!(pulled.unwrap().id, image.id);
    assert!(ranges.len() >= 2, "{ranges:?}");
    let manifest: Manifest = serde_json::from_slice(&fixture.blob(&image.manifest)).unwrap();
    let total = manifest.layers[0].size;
    let last = Progress { layer: image.layers[0].blob.clone(), done: total, total };
    assert_eq!(reports.lock().last(), Some(&last));
}

#[tokio::test]
async fn concurrent_pulls_share_one_download_unless_credentials_differ() {
    let fixture = Fixture::new();
    let image = fixture.image().await;
    let content = content(&fixture, &image);
    let registry = Scripted::start(move |seen, _| status(200, content(&seen.path).unwrap())).await;
    let name = format!("{}/a", registry.address);
    let none = Auth::default();
    let pulls = futures_util::future::join_all((0..10).map(|_| fixture.pull(&name, &none))).await;
    for pulled in pulls {
        assert_eq!(pulled.unwrap().id, image.id);
    }
    assert_eq!((registry.count("/manifests/"), registry.count("/blobs/")), (1, 2));
    let other = Auth::for_registry(&registry.address, "a", "b");
    let (first, second) = tokio::join!(fixture.pull(&name, &none), fixture.pull(&name, &other));
    assert_eq!(first.unwrap().id, second.unwrap().id);
    assert_eq!((registry.count("/manifests/"), registry.count("/blobs/")), (3, 2));
}

#[tokio::test]
async fn plain_http_needs_loopback_or_permission() {
    let transport = Transport::new(&RegistryOptions {
        insecure_hosts: vec!["reg.lan:5000".to_owned()],
        ..RegistryOptions::default()
    });
    for (host, expected) in [
        ("docker.io", "https://registry-1.docker.io"),
        ("quay.io", "https://quay.io"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.9.9.9:1", "http://127.9.9.9:1"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("reg.lan:5000", "http://reg.lan:5000"),
        ("reg.lan", "https://reg.lan"),
        ("localhost.evil.io", "https://localhost.evil.io"),
    ] {
        assert_eq!(transport.registry_uri(host), expected);
    }
    assert!(transport.origin(&"http://quay.io/x".parse().unwrap()).is_err());
    assert!(transport.origin(&"https://u@quay.io/x".parse().unwrap()).is_err());
}

/// Answers one request over TLS with a certificate for `localhost`.
async fn tls_server(listener: TcpListener, key: rcgen::CertifiedKey<rcgen::KeyPair>) {
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
    }
}

#[tokio::test]
async fn tls_servers_must_be_certified() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let root = key.cert.der().clone();
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(tls_server(listener, key));
    let uri: Uri = format!("https://localhost:{port}/v2/").parse().unwrap();
    let get =
        async |transport: Transport| transport.send(Method::GET, &uri, &HeaderMap::new(), Bytes::new()).await;
    let trusting = RegistryOptions { extra_roots: vec![root], ..quick() };
    assert_eq!(get(Transport::new(&trusting)).await.unwrap().status(), 204);
    let refused = get(Transport::new(&quick())).await;
    assert!(matches!(refused, Err(TransportError::Tls { .. })), "{refused:?}");
    server.abort();
}
