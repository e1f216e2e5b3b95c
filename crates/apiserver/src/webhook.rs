//! The calls of one webhook, whatever it is asked: admission reviews, conversions, and what the owner of
//! the server configures in files ([`configured`]).
//!
//! `clientConfig` of webhook configurations and custom resource definitions names either a URL or a
//! service, and whom to trust. HTTP/1.1 only: connections then spread over a service's endpoints.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{Request, Uri};
use sampan_client::kubeconfig::Token;
use serde_json::Value;

use crate::outgoing::{
    self, Client, ClientConfig, Protocols, SendError, ServiceTarget, Services, TlsError, Trust,
};
use crate::registry::Registry;

mod configured;

pub use configured::ConfiguredError;

/// What this server is called.
const AGENT: &str = "kube-apiserver-admission";
/// The most bytes of an answer: a patch may carry a whole object, in base64.
pub const MAX_ANSWER: usize = 16 << 20;
/// The most bytes of a failure's text that are repeated.
const MAX_REPEATED: usize = 1024;

/// A webhook that can be called. Its connections live as long as it does.
pub struct Webhook {
    client: Client,
    /// The URL without a query.
    url: String,
    /// What it knows this server by, besides a certificate.
    token: Option<Token>,
}

/// A `clientConfig` that leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("webhook configuration must have either service or URL")]
    NoTarget,
    #[error("Unparsable URL: {0}")]
    Url(String),
    #[error("caBundle is not base64")]
    Bundle,
    #[error("the service's port must be between 1 and 65535")]
    Port,
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Why a call has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("Post {url:?}: {source}")]
    Send { url: String, source: SendError },
    /// An answer with a code that is no success, in the words of Kubernetes' clients.
    #[error("{}", refused(*code, body))]
    Refused { code: u16, body: String },
    #[error("couldn't get version/kind; json parse error: {0}")]
    Json(#[source] serde_json::Error),
    #[error("the token for {url:?} cannot be read: {source}")]
    Token { url: String, source: std::io::Error },
}

impl CallError {
    /// Whether the same call may succeed in a moment, as upstream's clients judge it.
    pub fn may_pass_soon(&self) -> bool {
        match self {
            CallError::Send { source, .. } => matches!(source, SendError::Closed),
            CallError::Refused { code, .. } => matches!(code, 429 | 500 | 504),
            CallError::Json(_) | CallError::Token { .. } => false,
        }
    }

    /// Whether the same call may succeed later.
    pub fn may_pass(&self) -> bool {
        match self {
            CallError::Send { .. } => true,
            CallError::Refused { code, .. } => *code == 429 || *code >= 500,
            CallError::Json(_) | CallError::Token { .. } => false,
        }
    }
}

impl Webhook {
    /// Reads a `WebhookClientConfig` (admissionregistration.k8s.io/v1, apiextensions.k8s.io/v1).
    pub fn new(registry: &Registry, config: &Value) -> Result<Self, ConfigError> {
        let trust = match config["caBundle"].as_str().unwrap_or_default() {
            "" => Trust::System,
            text => Trust::Bundle(STANDARD.decode(text).map_err(|_| ConfigError::Bundle)?),
        };
        let (url, service) = match (&config["service"], config["url"].as_str()) {
            (Value::Object(_), _) => {
                let target = service_target(registry, &config["service"])?;
                let path = config["service"]["path"].as_str().unwrap_or_default();
                (format!("https://{}:{}{}", target.host(), target.port, clean(path)), Some(target))
            }
            (_, Some(url)) => (url.to_owned(), None),
            _ => return Err(ConfigError::NoTarget),
        };
        let parsed: Uri =
            url.parse().map_err(|error: http::uri::InvalidUri| ConfigError::Url(error.to_string()))?;
        let Some(authority) = parsed.authority() else {
            return Err(ConfigError::Url(format!("{url:?} has no host")));
        };
        let url = format!("https://{authority}{}", clean(parsed.path()));
        let client = Client::new(ClientConfig {
            server_name: service.as_ref().map(ServiceTarget::host),
            service,
            trust,
            identity: None,
            protocols: Protocols::Http1,
        })?;
        Ok(Webhook { client, url, token: None })
    }

    /// Posts a JSON document and reads the one that answers it, all within `timeout`.
    pub async fn call(&self, document: &Value, timeout: Duration) -> Result<Value, CallError> {
        // The peer is told how long it may take, in whole seconds.
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let url = format!("{}?timeout={seconds}s", self.url);
        let answer = self.send(&url, document.to_string().into(), timeout).await?;
        serde_json::from_slice(&answer).map_err(CallError::Json)
    }

    /// Posts a JSON document to the URL as it is, and answers the bytes of what comes back.
    pub async fn post(&self, document: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        self.send(&self.url, document, timeout).await
    }

    async fn send(&self, url: &str, document: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        let failed = |source| CallError::Send { url: url.to_owned(), source };
        let mut request = Request::post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, AGENT);
        if let Some(token) = &self.token {
            let token = configured::current(token)
                .map_err(|source| CallError::Token { url: url.to_owned(), source })?;
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(outgoing::full(document))
            .map_err(|error| failed(SendError::Http(error.to_string())))?;
        let answer = self.client.exchange(request, timeout, MAX_ANSWER).await.map_err(failed)?;
        let code = answer.status().as_u16();
        if !(200..=206).contains(&code) {
            let body = String::from_utf8_lossy(answer.body()).trim().chars().take(MAX_REPEATED).collect();
            return Err(CallError::Refused { code, body });
        }
        Ok(answer.into_body())
    }
}

/// A path without empty and relative parts, as upstream's client joins it. Servers answer others by a redirection,
/// which nobody follows here: a webhook must not choose whom this server asks.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn service_target(registry: &Registry, service: &Value) -> Result<ServiceTarget, ConfigError> {
    let text = |field: &str| service[field].as_str().unwrap_or_default().to_owned();
    let port = service["port"].as_u64().unwrap_or(443);
    let port = u16::try_from(port).ok().filter(|port| *port > 0).ok_or(ConfigError::Port)?;
    Ok(ServiceTarget {
        services: Services::of(registry),
        namespace: text("namespace"),
        name: text("name"),
        port,
    })
}

/// What Kubernetes' REST client makes of a code.
fn refused(code: u16, body: &str) -> String {
    match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 => body.to_owned(),
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        406 | 415 => body.to_owned(),
        409 => "the server reported a conflict".to_owned(),
        410 => "the server has expired the request".to_owned(),
        422 => "the server rejected our request due to an error in our request".to_owned(),
        429 => {
            "the server has received too many requests and has asked us to try again later".to_owned()
        }
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request".to_owned(),
        500.. => format!("an error on the server ({body:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_as_upstreams_client_does() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("a", "/a"),
            ("/a/b", "/a/b"),
            ("//failing", "/failing"),
            ("/a//b/", "/a/b"),
            ("/a/./../b/..", "/"),
            ("/../../a", "/a"),
        ] {
            assert_eq!(clean(path), expected, "{path:?}");
        }
    }
}
