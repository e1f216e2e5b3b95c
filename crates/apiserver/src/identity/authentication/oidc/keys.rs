//! The keys of an issuer: found by its discovery document, fetched when somebody needs them, and kept.
//!
//! Nothing is fetched before the first token comes. A token with a key that is not known makes them be
//! fetched again, but not more often than [`PAUSE`], since anybody can make up such a token. An issuer that
//! cannot be reached loses nothing: the keys that are known stay.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, USER_AGENT};
use http::{Request, Uri};
use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::identity::authentication::jwt::{KeySetError, PublicKey, read_key_set};
use crate::outgoing::{self, Client, SendError};

/// The least time between two attempts.
const PAUSE: Duration = Duration::from_secs(5);
/// Keys that are older are fetched again when they are used, so that one that was withdrawn goes.
const AGE: Duration = Duration::from_secs(3600);
const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_DOCUMENT: usize = 1 << 20;
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("Get {url:?}: {source}")]
    Send { url: String, source: SendError },
    #[error("{url:?} answered {code}")]
    Code { url: String, code: u16 },
    #[error("{url:?} is no discovery document")]
    Discovery {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "oidc: issuer did not match the issuer returned by provider, expected {expected:?} got {found:?}"
    )]
    Issuer { expected: String, found: String },
    #[error("the keys' address {0:?} is not https")]
    Insecure(String),
    #[error("the keys at {url:?} cannot be used")]
    Keys {
        url: String,
        #[source]
        source: KeySetError,
    },
    #[error("the last attempt has just failed")]
    TooSoon,
}

/// Where keys come from, and those that are known.
pub struct KeySource {
    issuer: String,
    discovery_url: String,
    /// In PEM; empty is the machine's.
    authority: String,
    client: Client,
    keys: RwLock<Arc<Vec<PublicKey>>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tried: Option<Instant>,
    fetched: Option<Instant>,
    /// Found by discovery.
    keys_url: Option<String>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl KeySource {
    /// `discovery_url` is used where the document is not below the issuer's own URL.
    pub fn new(issuer: &str, discovery_url: Option<&str>, authority: String, client: Client) -> Self {
        let own = || format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
        KeySource {
            issuer: issuer.to_owned(),
            discovery_url: discovery_url.map_or_else(own, str::to_owned),
            authority,
            client,
            keys: RwLock::default(),
            state: Mutex::default(),
        }
    }

    /// Whether the keys come from the same place, over the same kind of connection.
    pub fn is_same(&self, other: &KeySource) -> bool {
        (&self.issuer, &self.discovery_url, &self.authority)
            == (&other.issuer, &other.discovery_url, &other.authority)
    }

    pub fn current(&self) -> Arc<Vec<PublicKey>> {
        self.keys.read().clone()
    }

    /// Fetches keys where there are none, or only old ones.
    pub async fn ensure(&self, now: Instant) -> Result<(), FetchError> {
        let mut state = self.state.lock().await;
        match state.fetched {
            Some(fetched) if now.saturating_duration_since(fetched) < AGE => Ok(()),
            _ => self.fetch(&mut state, now).await,
        }
    }

    /// Fetches keys because `known` were not enough, unless somebody else did meanwhile.
    pub async fn refresh(&self, known: &Arc<Vec<PublicKey>>, now: Instant) -> Result<(), FetchError> {
        let mut state = self.state.lock().await;
        if !Arc::ptr_eq(known, &self.current()) {
            return Ok(());
        }
        match self.fetch(&mut state, now).await {
            // The keys are as new as they may be.
            Err(FetchError::TooSoon) => Ok(()),
            other => other,
        }
    }

    async fn fetch(&self, state: &mut State, now: Instant) -> Result<(), FetchError> {
        if state.tried.is_some_and(|tried| now.saturating_duration_since(tried) < PAUSE) {
            return Err(FetchError::TooSoon);
        }
        state.tried = Some(now);
        let url = match &state.keys_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        // An address that fails is looked up anew the next time.
        state.keys_url = None;
        let document = self.get(&url).await?;
        let keys = read_key_set(&document).map_err(|source| FetchError::Keys { url: url.clone(), source })?;
        (state.keys_url, state.fetched) = (Some(url), Some(now));
        *self.keys.write() = Arc::new(keys);
        Ok(())
    }

    async fn discover(&self) -> Result<String, FetchError> {
        let url = &self.discovery_url;
        let document = self.get(url).await?;
        let found: Discovery = serde_json::from_slice(&document)
            .map_err(|source| FetchError::Discovery { url: url.clone(), source })?;
        if found.issuer != self.issuer {
            return Err(FetchError::Issuer { expected: self.issuer.clone(), found: found.issuer });
        }
        let is_https = found.jwks_uri.parse::<Uri>().is_ok_and(|url| url.scheme_str() == Some("https"));
        if is_https { Ok(found.jwks_uri) } else { Err(FetchError::Insecure(found.jwks_uri)) }
    }

    async fn get(&self, url: &str) -> Result<bytes::Bytes, FetchError> {
        let failed = |source| FetchError::Send { url: url.to_owned(), source };
        let request = Request::get(url)
            .header(ACCEPT, "application/json, application/jwk-set+json")
            .header(USER_AGENT, "kube-apiserver")
            .body(outgoing::full(""))
            .map_err(|error| failed(SendError::Http(error.to_string())))?;
        let answer = self.client.exchange(request, TIMEOUT, MAX_DOCUMENT).await.map_err(failed)?;
        match answer.status().as_u16() {
            200 => Ok(answer.into_body()),
            code => Err(FetchError::Code { url: url.to_owned(), code }),
        }
    }
}
