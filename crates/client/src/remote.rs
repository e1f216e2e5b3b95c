//! The API over HTTPS: a [`Backend`] for servers elsewhere, and for what no backend has (tables,
//! logs, upgraded connections).
//!
//! Requests share connections, over HTTP/2 where the server speaks it. Every answer is read within
//! a limit. A server that cannot be reached answers 503, as [`Backend`] promises.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::{Mutex, RwLock};
use sampan_api::object::{Object, ObjectRef};
use sampan_api::{Gvr, Status};
use serde_json::json;

use crate::kubeconfig::{Access, KubeconfigError};
use crate::{Backend, DeleteOptions, ListOptions, ObjectList, PatchKind, Target, WatchStream};

mod connect;
mod decode;
pub mod fuzzing;
#[cfg(test)]
mod tests;
mod token;

pub use connect::{ConnectError, Stream};
pub use decode::Lines;

use connect::{Connector, Dialer};
use token::TokenSource;

/// The longest object, and the longest error.
const OBJECT_BYTES: usize = 16 << 20;
/// The longest page of a list.
const PAGE_BYTES: usize = 256 << 20;
/// Objects per page, where the caller did not say.
const PAGE: u32 = 500;
/// How long a server has to answer. A watch may then go on for ever.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// How often a silent HTTP/2 connection is asked whether it lives, and how long it has to say so.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
const ALIVE_WITHIN: Duration = Duration::from_secs(15);

/// Why a kubeconfig cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// One request that is none of [`Backend`]'s.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Media types that are taken, JSON where empty.
    pub accept: &'static str,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Call {
    /// A GET that takes JSON.
    pub fn get(path: impl Into<String>) -> Self {
        Call { method: Method::GET, path: path.into(), accept: JSON, content_type: JSON, body: Bytes::new() }
    }
}

const JSON: &str = "application/json";

/// A server elsewhere. Cheap to clone.
#[derive(Clone)]
pub struct RemoteBackend {
    shared: Arc<Shared>,
    user_agent: HeaderValue,
    /// `fieldManager` of writes.
    manager: Arc<str>,
}

/// What all clones use.
struct Shared {
    current: RwLock<Arc<Way>>,
    /// The file that tells how to reach the server, where it is followed.
    source: Option<Source>,
}

/// The connections under one set of credentials. Requests that began on some go on when others follow.
struct Way {
    http: HttpClient<Connector, Full<Bytes>>,
    dialer: Arc<Dialer>,
    token: Option<TokenSource>,
}

/// A kubeconfig, whose credentials somebody renews in place.
struct Source {
    path: PathBuf,
    context: Option<String>,
    /// When the file that was read was written.
    written: Mutex<Option<SystemTime>>,
}

impl Way {
    fn new(access: &Access) -> Result<Self, ConnectError> {
        let dialer = Arc::new(Dialer::new(access)?);
        let http = HttpClient::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_keep_alive_interval(ALIVE_EVERY)
            .http2_keep_alive_timeout(ALIVE_WITHIN)
            .build(Connector::new(dialer.clone()));
        Ok(Way { http, dialer, token: access.credentials.token.clone().map(TokenSource::new) })
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Status {
        Status::unavailable(format!("cannot reach https://{}: {why}", self.dialer.authority()))
    }

    /// The `Authorization` header of requests; none with a certificate alone.
    fn authorization(&self) -> Result<Option<HeaderValue>, Status> {
        let Some(token) = &self.token else { return Ok(None) };
        token.header().map(Some).map_err(|error| Status::internal(format!("cannot read the token: {error}")))
    }
}

impl Source {
    /// What the file says, where it was written since it was read last.
    fn changed(&self) -> Option<Access> {
        let written = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok()?;
        let mut known = self.written.lock();
        if *known == Some(written) {
            return None;
        }
        // One that is being replaced is looked at again with the next request.
        let access = Access::read(&self.path, self.context.as_deref()).ok()?;
        *known = Some(written);
        Some(access)
    }
}

impl RemoteBackend {
    /// Prepares requests; connects with the first one. `manager` names the writer in
    /// `metadata.managedFields`.
    pub fn new(access: &Access, manager: &str) -> Result<Self, ConnectError> {
        RemoteBackend::over(Way::new(access)?, None, manager)
    }

    /// The same with a context of a kubeconfig, whose credentials somebody renews in place: requests after
    /// that use the new ones.
    pub fn following(path: &Path, context: Option<&str>, manager: &str) -> Result<Self, FollowError> {
        let source = Source {
            path: path.to_owned(),
            context: context.map(str::to_owned),
            written: Mutex::new(std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()),
        };
        let access = Access::read(path, context)?;
        Ok(RemoteBackend::over(Way::new(&access)?, Some(source), manager)?)
    }

    fn over(way: Way, source: Option<Source>, manager: &str) -> Result<Self, ConnectError> {
        let user_agent = format!("{manager}/{}", env!("CARGO_PKG_VERSION"));
        Ok(RemoteBackend {
            shared: Arc::new(Shared { current: RwLock::new(Arc::new(way)), source }),
            user_agent: HeaderValue::try_from(user_agent).unwrap_or(HeaderValue::from_static("sampan")),
            manager: manager.into(),
        })
    }

    /// Uses other credentials from the next request on.
    pub fn replace(&self, access: &Access) -> Result<(), ConnectError> {
        *self.shared.current.write() = Arc::new(Way::new(access)?);
        Ok(())
    }

    /// The way of the next request.
    fn way(&self) -> Arc<Way> {
        if let Some(access) = self.shared.source.as_ref().and_then(Source::changed)
            && let Err(error) = self.replace(&access)
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the new credentials cannot be used");
        }
        self.shared.current.read().clone()
    }

    /// Sends a request. Answers that are not a success become their `Status`.
    pub async fn send(&self, call: Call) -> Result<Response<Incoming>, Status> {
        let way = self.way();
        let mut request = Request::builder()
            .method(call.method)
            .uri(way.dialer.url(&call.path))
            .header(ACCEPT, call.accept)
            .header(USER_AGENT, self.user_agent.clone());
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, call.content_type);
        }
        if let Some(header) = way.authorization()? {
            request = request.header(AUTHORIZATION, header);
        }
        let request = request
            .body(Full::new(call.body))
            .map_err(|error| Status::bad_request(format!("{:?} is no path: {error}", call.path)))?;
        let response = tokio::time::timeout(ANSWER_TIME, way.http.request(request))
            .await
            .map_err(|_| way.unreachable(&"no answer within a minute"))?
            .map_err(|error| way.unreachable(&deepest(&error)))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = self.read(response, OBJECT_BYTES).await?;
        Err(decode::status(code, &body))
    }

    /// Sends a request and reads the answer's body.
    pub async fn bytes(&self, call: Call, limit: usize) -> Result<Bytes, Status> {
        let response = self.send(call).await?;
        self.read(response, limit).await
    }

    /// A connection of its own for an upgrade (exec, attach, port-forward), over HTTP/1.1, and
    /// the headers that prove who asks.
    pub async fn connect(&self) -> Result<Stream, Status> {
        let way = self.way();
        way.dialer.dial_http1().await.map_err(|error| way.unreachable(&deepest(&error)))
    }

    /// `host:port` of the server.
    pub fn authority(&self) -> String {
        self.shared.current.read().dialer.authority().to_owned()
    }

    /// The `Authorization` header of requests; none with a certificate alone.
    pub fn authorization(&self) -> Result<Option<HeaderValue>, Status> {
        self.way().authorization()
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> Status {
        self.shared.current.read().unreachable(why)
    }

    async fn read(&self, response: Response<Incoming>, limit: usize) -> Result<Bytes, Status> {
        let collected = Limited::new(response.into_body(), limit).collect();
        match tokio::time::timeout(ANSWER_TIME, collected).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(self.unreachable(&format!("the answer broke off: {error}"))),
            Err(_) => Err(self.unreachable(&"the answer did not end within a minute")),
        }
    }

    async fn object(&self, call: Call) -> Result<ObjectRef, Status> {
        let bytes = self.bytes(call, OBJECT_BYTES).await?;
        Object::parse(bytes).map(Arc::new).map_err(|error| Status::internal(decode::chain(&error)))
    }

    fn write(&self, method: Method, target: &Target<'_>, content_type: &'static str, body: Bytes) -> Call {
        let mut query = Query::new();
        query.add("fieldManager", &self.manager);
        Call { method, content_type, body, ..Call::get(query.at(target_path(target))) }
    }
}

/// The cause at the end of a chain: the others only say that a request failed.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Parameters of a URL.
#[derive(Default)]
pub struct Query {
    text: String,
}

impl Query {
    pub fn new() -> Self {
        Query::default()
    }

    pub fn add(&mut self, key: &str, value: &str) -> &mut Self {
        let separator = if self.text.is_empty() { '?' } else { '&' };
        let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        let _ = write!(self.text, "{separator}{key}={value}");
        self
    }

    fn options(&mut self, options: &ListOptions) {
        if let Some(selector) = &options.label_selector {
            self.add("labelSelector", selector);
        }
        if let Some(selector) = &options.field_selector {
            self.add("fieldSelector", selector);
        }
        if let Some(token) = &options.continue_token {
            self.add("continue", token);
        } else if let Some(revision) = options.revision {
            self.add("resourceVersion", &revision.to_string());
        }
    }

    /// A path with these parameters.
    pub fn at(&self, path: String) -> String {
        path + &self.text
    }
}

/// The path of a collection or of an object, names encoded.
pub fn path(gvr: &Gvr, namespace: Option<&str>, name: Option<&str>) -> String {
    let encode = |text: &str| {
        // What names of objects may have, of which some (of roles) have more than others.
        const KEPT: percent_encoding::AsciiSet = percent_encoding::NON_ALPHANUMERIC
            .remove(b'-')
            .remove(b'.')
            .remove(b'_')
            .remove(b':')
            .remove(b'~');
        percent_encoding::utf8_percent_encode(text, &KEPT).to_string()
    };
    gvr.path(namespace.map(encode).as_deref(), name.map(encode).as_deref())
}

fn target_path(target: &Target<'_>) -> String {
    let name = Some(target.name).filter(|name| !name.is_empty());
    let mut path = path(target.gvr, target.namespace, name);
    if let Some(subresource) = target.subresource {
        path.push('/');
        path.push_str(subresource);
    }
    path
}

fn delete_body(options: &DeleteOptions) -> Bytes {
    let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
    if let Some(seconds) = options.grace_period_seconds {
        body["gracePeriodSeconds"] = json!(seconds);
    }
    if let Some(policy) = options.propagation_policy {
        body["propagationPolicy"] = json!(policy);
    }
    if let Some(uid) = &options.uid {
        body["preconditions"]["uid"] = json!(uid);
    }
    if let Some(revision) = options.revision {
        body["preconditions"]["resourceVersion"] = json!(revision.to_string());
    }
    Bytes::from(body.to_string())
}

#[async_trait]
impl Backend for RemoteBackend {
    async fn get(&self, target: Target<'_>) -> Result<ObjectRef, Status> {
        self.object(Call::get(target_path(&target))).await
    }

    /// Where no page size is asked for, pages are fetched until the list is whole; all are of one
    /// revision.
    async fn list(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList, Status> {
        let whole = options.limit == 0;
        let mut options = ListOptions { limit: if whole { PAGE } else { options.limit }, ..options.clone() };
        let mut all: Option<ObjectList> = None;
        loop {
            let mut query = Query::new();
            query.options(&options);
            query.add("limit", &options.limit.to_string());
            let bytes = self.bytes(Call::get(query.at(path(gvr, namespace, None))), PAGE_BYTES).await?;
            let page = decode::list(&bytes)?;
            let list = match all.take() {
                None => page,
                Some(mut list) => {
                    list.items.extend(page.items);
                    list.continue_token = page.continue_token;
                    list
                }
            };
            if !whole || list.continue_token.is_none() {
                return Ok(list);
            }
            options.continue_token = list.continue_token.clone();
            all = Some(list);
        }
    }

    async fn watch(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<WatchStream, Status> {
        let mut query = Query::new();
        query.add("watch", "true").add("allowWatchBookmarks", "true").options(options);
        let response = self.send(Call::get(query.at(path(gvr, namespace, None)))).await?;
        Ok(decode::watch(response.into_body(), OBJECT_BYTES))
    }

    async fn create(&self, target: Target<'_>, body: Bytes) -> Result<ObjectRef, Status> {
        self.object(self.write(Method::POST, &target, JSON, body)).await
    }

    async fn update(&self, target: Target<'_>, body: Bytes) -> Result<ObjectRef, Status> {
        self.object(self.write(Method::PUT, &target, JSON, body)).await
    }

    async fn patch(&self, target: Target<'_>, kind: PatchKind, body: Bytes) -> Result<ObjectRef, Status> {
        self.object(self.write(Method::PATCH, &target, kind.content_type(), body)).await
    }

    async fn delete(&self, target: Target<'_>, options: &DeleteOptions) -> Result<(), Status> {
        let call =
            Call { method: Method::DELETE, body: delete_body(options), ..Call::get(target_path(&target)) };
        self.bytes(call, OBJECT_BYTES).await.map(drop)
    }

    async fn delete_collection(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        selection: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        let mut query = Query::new();
        query.options(selection);
        let path = query.at(path(gvr, namespace, None));
        let call = Call { method: Method::DELETE, body: delete_body(options), ..Call::get(path) };
        self.bytes(call, PAGE_BYTES).await.map(drop)
    }

    async fn raw(&self, path: &str) -> Result<Bytes, Status> {
        self.bytes(Call::get(path), PAGE_BYTES).await
    }
}

/// Whether a code is one that a proxy or a server that is starting answers.
fn is_gateway(code: StatusCode) -> bool {
    matches!(code, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}
