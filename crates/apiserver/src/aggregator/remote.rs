//! One remote server: the way to it, and what it says of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use http::{HeaderValue, Request, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;

use super::availability::available_condition;
use super::merge::Described;
use crate::identity::{MASTERS_GROUP, User};
use crate::outgoing::{
    self, Client, ClientConfig, ClientIdentity, Protocols, SendError, ServiceTarget, Services, TlsError,
    Trust,
};
use crate::proxy;
use crate::registry::Registry;

/// Discovery is quick; the whole of OpenAPI may be megabytes.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(5);
const OPENAPI_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_DISCOVERY: usize = 4 << 20;
const MAX_OPENAPI: usize = 32 << 20;

/// A remote server for one group and version.
pub struct Remote {
    /// Of the APIService.
    pub name: String,
    pub spec: Value,
    pub target: ServiceTarget,
    /// For requests of users; verifies the server.
    pub clients: Result<(Client, Client), TlsError>,
    /// For looks, which trust whoever answers: they send nothing and believe little.
    looks: Option<Client>,
    available: AtomicBool,
    documents: Mutex<Documents>,
}

/// What a server said of itself.
#[derive(Clone, Default)]
struct Documents {
    /// `APIResourceList`.
    resources: Option<Arc<Value>>,
    /// Where the document of OpenAPI v3 was, and the document.
    v3: Option<(String, Bytes)>,
    /// Entity tag and document of OpenAPI v2.
    v2: Option<(Option<HeaderValue>, Arc<Value>)>,
}

impl Remote {
    /// Reads an APIService with a service.
    pub fn new(registry: &Registry, object: &Value, identity: Option<ClientIdentity>) -> Self {
        let spec = object["spec"].clone();
        let service = &spec["service"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
        let target = ServiceTarget {
            services: Services::of(registry),
            namespace: text(&service["namespace"]),
            name: text(&service["name"]),
            port,
        };
        let bundle = spec["caBundle"].as_str().filter(|text| !text.is_empty());
        let trust = match (spec["insecureSkipTLSVerify"].as_bool(), bundle) {
            (Some(true), _) => Trust::Anyone,
            // What is no base64 is no PEM either, which the client then says.
            (_, Some(bundle)) => Trust::Bundle(STANDARD.decode(bundle).unwrap_or_default()),
            (_, None) => Trust::System,
        };
        let client = |trust: Trust, protocols| {
            Client::new(ClientConfig {
                server_name: Some(target.host()),
                service: Some(target.clone()),
                trust,
                identity: identity.clone(),
                protocols,
            })
        };
        let clients = client(trust.clone(), Protocols::Any)
            .and_then(|plain| Ok((plain, client(trust, Protocols::Http1)?)));
        let available = available_condition(object).is_some_and(|condition| condition["status"] == "True");
        Remote {
            name: text(&object["metadata"]["name"]),
            clients,
            looks: client(Trust::Anyone, Protocols::Any).ok(),
            target,
            spec,
            available: AtomicBool::new(available),
            documents: Mutex::default(),
        }
    }

    pub fn group(&self) -> &str {
        self.spec["group"].as_str().unwrap_or_default()
    }

    pub fn version(&self) -> &str {
        self.spec["version"].as_str().unwrap_or_default()
    }

    pub fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    /// Whether that is new.
    pub(super) fn set_available(&self, available: bool) -> bool {
        self.available.swap(available, Ordering::Relaxed) != available
    }

    /// What is known of the server, for our documents.
    pub(super) fn described(&self) -> Described {
        let documents = self.documents.lock().clone();
        Described {
            group: self.group().to_owned(),
            version: self.version().to_owned(),
            group_priority: self.spec["groupPriorityMinimum"].as_i64().unwrap_or(0),
            version_priority: self.spec["versionPriority"].as_i64().unwrap_or(0),
            available: self.is_available(),
            resources: documents.resources,
            v3: documents.v3.map(|(_, document)| document),
            v2: documents.v2.map(|(_, document)| document),
        }
    }

    /// Asks the server for its documents. An error says why it does not answer; otherwise, whether
    /// anything changed.
    pub(super) async fn read_documents(&self) -> Result<bool, String> {
        let path = format!("/apis/{}/{}", self.group(), self.version());
        let (host, port) = self.target.resolve().map_err(|error| error.to_string())?;
        let shown = if host.contains(':') { format!("[{host}]") } else { host };
        let url = format!("https://{shown}:{port}{path}");
        let answered = self.get(&path, None, DISCOVERY_TIMEOUT, MAX_DISCOVERY).await;
        let answer = answered
            .map_err(|error| format!("failing or missing response from {url}: Get {url:?}: {error}"))?;
        if !(200..300).contains(&answer.status().as_u16()) {
            let code = answer.status().as_u16();
            return Err(format!("failing or missing response from {url}: bad status from {url}: {code}"));
        }
        let resources: Option<Value> = serde_json::from_slice(answer.body()).ok();
        let mut changed = false;
        {
            let mut documents = self.documents.lock();
            let resources = resources.filter(|list| list["resources"].is_array()).map(Arc::new);
            if documents.resources != resources {
                documents.resources = resources;
                changed = true;
            }
        }
        // A server without OpenAPI serves its resources all the same.
        let (v3, v2) = tokio::join!(self.read_v3(), self.read_v2());
        Ok(changed || v3 || v2)
    }

    async fn read_v3(&self) -> bool {
        let key = format!("apis/{}/{}", self.group(), self.version());
        let Some(root) = self.document("/openapi/v3", MAX_DISCOVERY).await else { return false };
        let Some(address) = root["paths"][&key]["serverRelativeURL"].as_str().map(str::to_owned) else {
            return false;
        };
        let known = self.documents.lock().v3.as_ref().is_some_and(|(known, _)| *known == address);
        if known || !address.starts_with('/') {
            return false;
        }
        let Some(document) = self.document(&address, MAX_OPENAPI).await else { return false };
        self.documents.lock().v3 = Some((address, document.to_string().into()));
        true
    }

    async fn read_v2(&self) -> bool {
        let known = self.documents.lock().v2.as_ref().and_then(|(etag, _)| etag.clone());
        let answered = self.get("/openapi/v2", known, OPENAPI_TIMEOUT, MAX_OPENAPI).await;
        let Some(answer) = answered.ok().filter(|answer| answer.status() == StatusCode::OK) else {
            return false;
        };
        let etag = answer.headers().get(ETAG).cloned();
        let Ok(document) = serde_json::from_slice::<Value>(answer.body()) else { return false };
        let mut documents = self.documents.lock();
        let changed = documents.v2.as_ref().is_none_or(|(_, known)| **known != document);
        documents.v2 = Some((etag, Arc::new(document)));
        changed
    }

    async fn document(&self, path: &str, limit: usize) -> Option<Value> {
        let answer = self.get(path, None, OPENAPI_TIMEOUT, limit).await.ok()?;
        (answer.status() == StatusCode::OK).then(|| serde_json::from_slice(answer.body()).ok())?
    }

    async fn get(
        &self,
        path: &str,
        known: Option<HeaderValue>,
        timeout: Duration,
        limit: usize,
    ) -> Result<Response<Bytes>, SendError> {
        let looks = self.looks.as_ref().ok_or_else(|| SendError::Http("TLS cannot be set up".to_owned()))?;
        let url = format!("https://{}:{}{path}", self.target.host(), self.target.port);
        let request = Request::get(url).header(ACCEPT, "application/json").body(outgoing::full(""));
        let mut request = request.map_err(|error| SendError::Http(error.to_string()))?;
        if let Some(known) = known {
            request.headers_mut().insert(IF_NONE_MATCH, known);
        }
        let asker = User {
            name: "system:kube-aggregator".to_owned(),
            groups: vec![MASTERS_GROUP.to_owned()],
            ..User::default()
        };
        proxy::identify(request.headers_mut(), &asker);
        looks.exchange(request, timeout, limit).await
    }
}
