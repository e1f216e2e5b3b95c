//! Requests to one repository with one login: challenges, redirects, retries.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde::Deserialize;

use super::auth::{Challenge, Credentials};
use super::error::{PullError, TransportError};
use super::transport::{Origin, Transport};
use crate::reference::Reference;

const MAX_REDIRECTS: usize = 5;
const MAX_ERROR_BYTES: u64 = 64 << 10;
const MAX_TOKEN_BYTES: u64 = 1 << 20;
const MAX_DELAY: Duration = Duration::from_secs(8);
const AGENT: &str = concat!("sampan/", env!("CARGO_PKG_VERSION"));

/// A repository as one login sees it.
pub(super) struct Repository<'a> {
    pub transport: &'a Transport,
    pub reference: &'a Reference,
    pub credentials: Option<&'a Credentials>,
    pub retries: u32,
    pub retry_delay: Duration,
    /// The `Authorization` that the registry last accepted or asked for.
    pub authorization: Mutex<Option<HeaderValue>>,
}

/// An answer of status 2xx, and who gave it.
pub(super) struct Answer {
    pub origin: Origin,
    pub response: Response<Incoming>,
}

impl Repository<'_> {
    /// GETs `/v2/<repository>/<path>`, logging in and following redirects as needed.
    pub(super) async fn get(&self, path: &str, accept: &str, range_start: u64) -> Result<Answer, PullError> {
        let base = self.transport.registry_uri(self.reference.host());
        let text = format!("{base}/v2/{}/{path}", self.reference.repository());
        let uri: Uri = text.parse().map_err(|_| TransportError::Address(text.clone()))?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if !accept.is_empty() {
            let accept = HeaderValue::from_str(accept).map_err(|_| TransportError::Address(text))?;
            headers.insert(ACCEPT, accept);
        }
        if range_start > 0 {
            headers.insert(RANGE, HeaderValue::try_from(format!("bytes={range_start}-")).expect("digits"));
        }
        let mut has_logged_in = false;
        loop {
            let answer = self.follow(&uri, &headers).await?;
            if answer.response.status() != StatusCode::UNAUTHORIZED || has_logged_in {
                return self.check(answer, path).await;
            }
            has_logged_in = true;
            if !self.log_in(&answer).await? {
                return self.check(answer, path).await;
            }
        }
    }

    /// Follows redirects; only the registry itself gets the login.
    async fn follow(&self, uri: &Uri, headers: &HeaderMap) -> Result<Answer, PullError> {
        let home = self.transport.origin(uri)?;
        let mut uri = uri.clone();
        for _ in 0..=MAX_REDIRECTS {
            let origin = self.transport.origin(&uri)?;
            let mut headers = headers.clone();
            let authorization = self.authorization.lock().clone();
            if let Some(authorization) = authorization.filter(|_| origin == home) {
                headers.insert(AUTHORIZATION, authorization);
            }
            let response = self.transport.send(Method::GET, &uri, &headers, Bytes::new()).await?;
            let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let location = response.headers().get(LOCATION).filter(|_| is_redirect);
            let Some(location) = location else { return Ok(Answer { origin, response }) };
            let target = location.to_str().map_err(|_| TransportError::Address(uri.to_string()))?;
            uri = resolve_location(&uri, target)?;
        }
        Err(TransportError::Redirects(home.to_string()).into())
    }

    /// Answers the challenge; `false` when it asks for what is not there.
    async fn log_in(&self, answer: &Answer) -> Result<bool, PullError> {
        let challenges = answer.response.headers().get_all(WWW_AUTHENTICATE);
        let challenge =
            challenges.iter().filter_map(|header| header.to_str().ok()).find_map(Challenge::parse);
        let authorization = match (challenge, self.credentials) {
            (Some(Challenge::Basic), Some(credentials)) => credentials.basic(),
            (Some(Challenge::Basic) | None, _) => return Ok(false),
            (Some(Challenge::Bearer { realm, service, scope }), _) => {
                format!("Bearer {}", self.token(&realm, service.as_deref(), scope.as_deref()).await?)
            }
        };
        let fail = |_| PullError::Token { what: self.reference.host().to_owned() };
        let mut value = HeaderValue::try_from(authorization).map_err(fail)?;
        value.set_sensitive(true);
        *self.authorization.lock() = Some(value);
        Ok(true)
    }

    /// Distribution's token authentication; with an identity token, its OAuth2 form.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<String, PullError> {
        let default_scope = format!("repository:{}:pull", self.reference.repository());
        let mut query = format!("scope={}", encode(scope.unwrap_or(&default_scope)));
        if let Some(service) = service {
            query += &format!("&service={}", encode(service));
        }
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let refresh = self.credentials.and_then(|credentials| credentials.identity_token.as_deref());
        let (method, text, body) = if let Some(refresh) = refresh {
            let form = "application/x-www-form-urlencoded";
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(form));
            query += &format!("&grant_type=refresh_token&client_id=sampan&refresh_token={}", encode(refresh));
            (Method::POST, realm.to_owned(), Bytes::from(query))
        } else {
            if let Some(credentials) = self.credentials {
                let mut basic = HeaderValue::try_from(credentials.basic()).expect("base64");
                basic.set_sensitive(true);
                headers.insert(AUTHORIZATION, basic);
            }
            let joint = if realm.contains('?') { '&' } else { '?' };
            (Method::GET, format!("{realm}{joint}{query}"), Bytes::new())
        };
        let uri: Uri = text.parse().map_err(|_| TransportError::Address(realm.to_owned()))?;
        let origin = self.transport.origin(&uri)?;
        let response = self.transport.send(method, &uri, &headers, body).await?;
        let answer = self.check(Answer { origin, response }, "login").await?;
        let bytes = self.body(answer, MAX_TOKEN_BYTES, "login").await?;
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let what = || PullError::Token { what: realm.to_owned() };
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| what())?;
        token.token.or(token.access_token).filter(|token| !token.is_empty()).ok_or_else(what)
    }

    /// Turns a status that is no success into its error, with the registry's own message.
    async fn check(&self, answer: Answer, path: &str) -> Result<Answer, PullError> {
        let status = answer.response.status();
        if status.is_success() {
            return Ok(answer);
        }
        let retry_after = answer.response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after_seconds = retry_after.and_then(|text| text.parse().ok());
        let what = format!("{}: {path}", self.reference);
        let body = self.body(answer, MAX_ERROR_BYTES, path).await.unwrap_or_default();
        let message = error_message(&body)
            .unwrap_or_else(|| status.canonical_reason().unwrap_or("no message").to_owned());
        Err(match status.as_u16() {
            404 => PullError::NotFound { what, message },
            401 | 403 => PullError::Unauthorized { what, message },
            429 => PullError::RateLimited { what, message, retry_after_seconds },
            status => PullError::Status { what, status, message },
        })
    }

    /// The whole body of an answer, of at most `max` bytes.
    pub(super) async fn body(&self, answer: Answer, max: u64, path: &str) -> Result<Bytes, PullError> {
        let mut body = answer.response.into_body();
        let mut bytes = BytesMut::new();
        while let Some(piece) = self.transport.next(&answer.origin, &mut body).await? {
            if (bytes.len() + piece.len()) as u64 > max {
                return Err(PullError::TooLarge { what: format!("{}: {path}", self.reference), max });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// GETs a whole document, again after failures that may pass.
    pub(super) async fn document(
        &self,
        path: &str,
        accept: &str,
        max: u64,
    ) -> Result<(Bytes, HeaderMap), PullError> {
        let mut failures = 0;
        loop {
            let result = async {
                let answer = self.get(path, accept, 0).await?;
                let headers = answer.response.headers().clone();
                Ok((self.body(answer, max, path).await?, headers))
            };
            match result.await {
                Err(error) => self.wait_after(error, &mut failures).await?,
                done => return done,
            }
        }
    }

    /// Waits, longer each time, or gives the error back when there is no use in trying again.
    pub(super) async fn wait_after(&self, error: PullError, failures: &mut u32) -> Result<(), PullError> {
        if !error.is_transient() || *failures >= self.retries {
            return Err(error);
        }
        let delay = self.retry_delay.saturating_mul(1 << (*failures).min(10)).min(MAX_DELAY);
        *failures += 1;
        tracing::debug!(image = %self.reference, error = %error.chain(), ?delay, "pull: trying again");
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

/// `Location` may be relative (RFC 9110, section 10.2.2).
fn resolve_location(base: &Uri, target: &str) -> Result<Uri, TransportError> {
    let fail = || TransportError::Address(target.chars().take(200).collect());
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let text = if target.contains("://") {
        target.to_owned()
    } else if target.starts_with("//") {
        format!("{scheme}:{target}")
    } else if target.starts_with('/') {
        format!("{scheme}://{authority}{target}")
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{target}")
    };
    text.parse().map_err(|_| fail())
}

/// The messages of distribution's error body, or what login servers send in its place.
fn error_message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Message>,
        #[serde(default)]
        details: Option<String>,
        #[serde(default)]
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let errors: Vec<_> = body
        .errors
        .iter()
        .map(|error| if error.message.is_empty() { error.code.clone() } else { error.message.clone() })
        .collect();
    let text = if errors.is_empty() { body.details.or(body.message)? } else { errors.join("; ") };
    (!text.is_empty()).then(|| text.chars().filter(|char| !char.is_control()).take(500).collect())
}

/// Percent-encodes a query value.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}
