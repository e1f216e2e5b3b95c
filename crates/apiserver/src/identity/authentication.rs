//! From a request's credentials to a [`User`].
//!
//! Order, as in Kubernetes: the word of a front proxy, a verified client certificate, else a bearer token (also one in the
//! WebSocket subprotocol, for browsers), else anonymous. A token that is present and not valid is
//! an error, never anonymous.
//!
//! A token is a service account's ([`ServiceAccountTokens`]), a [`bootstrap_token`], one of another issuer
//! ([`oidc`]), or known to a [`webhook`], in this order.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jiff::Timestamp;
use parking_lot::RwLock;

use super::User;

mod anonymous;
pub mod bootstrap_token;
pub mod configuration;
mod front_proxy;
mod impersonation;
pub mod jwt;
pub mod oidc;
mod token;
pub mod webhook;
mod x509;

pub use anonymous::Anonymous;
use bootstrap_token::BootstrapTokenError;
use configuration::Configured;
pub use front_proxy::FrontProxy;
pub use impersonation::{Impersonation, ImpersonationError, ImpersonationTarget};
use jwt::Unverified;
use oidc::OidcError;
pub use token::{
    BoundObject, BoundObjects, BoundTo, IssuedToken, MAX_TOKEN_BYTES, NamedUid, ServiceAccountTokens,
    TokenConfig, TokenError, TokenSpec, VerifiedToken,
};
use webhook::{TokenWebhook, WebhookTokenError};
pub use x509::{ClientCertificate, ClientCertificateError};

/// Why a request's credentials were refused. Clients are only told `Unauthorized`; this is for the log.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    #[error("the client certificate was refused")]
    Certificate(#[from] ClientCertificateError),
    #[error("the bearer token was refused")]
    Token(#[from] TokenError),
    #[error("the bearer token was refused")]
    Bootstrap(#[from] BootstrapTokenError),
    #[error("the bearer token was refused")]
    Oidc(#[from] OidcError),
    #[error("the bearer token was refused")]
    Webhook(#[from] WebhookTokenError),
    #[error("token audiences {0:?} is invalid for the target audiences")]
    Audience(Vec<String>),
    #[error("the authorization header is not text")]
    Header,
    #[error("no credentials, and this request needs some")]
    Missing,
}

impl AuthenticationError {
    /// Whether an object that is not known, or not yet, is the reason.
    pub fn misses_an_object(&self) -> bool {
        matches!(self, Self::Token(TokenError::Revoked { .. }) | Self::Bootstrap(_))
    }
}

/// Authenticates requests of one server.
pub struct Authenticator {
    pub tokens: Arc<ServiceAccountTokens>,
    /// Which requests without credentials are `system:anonymous` instead of refused, unless an
    /// authentication configuration says so.
    pub anonymous: Anonymous,
    /// Who may say for whom it asks.
    pub front_proxy: Option<FrontProxy>,
    /// Whether secrets of their type are tokens.
    pub bootstrap_tokens: bool,
    pub webhook: Option<TokenWebhook>,
    /// Replaced when its file changes.
    pub configured: RwLock<Option<Arc<Configured>>>,
}

impl Authenticator {
    /// One that knows tokens of service accounts, and nothing else that is configured.
    pub fn new(tokens: Arc<ServiceAccountTokens>) -> Self {
        Authenticator {
            tokens,
            anonymous: Anonymous::default(),
            front_proxy: None,
            bootstrap_tokens: true,
            webhook: None,
            configured: RwLock::default(),
        }
    }

    /// Takes a configuration, in the place of the one before.
    pub fn configure(&self, mut configured: Configured) {
        let mut current = self.configured.write();
        if let Some(before) = current.as_deref() {
            configured.keep_keys_of(before);
        }
        *current = Some(Arc::new(configured));
    }

    /// The user of a request for a path. `certificate` is the connection's, `objects` the cluster's current
    /// state.
    pub async fn authenticate(
        &self,
        path: &str,
        headers: &HeaderMap,
        certificate: Option<&ClientCertificate>,
        objects: &dyn BoundObjects,
        now: Timestamp,
    ) -> Result<User, AuthenticationError> {
        let (certificate, told) = match certificate.filter(|one| one.is_front_proxy()) {
            // Such a certificate is nobody's own.
            Some(proxy) => (None, front_proxy::user(proxy, headers, now)),
            None => (certificate, None),
        };
        if let Some(user) = told {
            return Ok(user);
        }
        // A certificate that expired during the connection does not hide a token that is valid.
        let refused = match certificate.map(|certificate| certificate.user(now)) {
            Some(Ok(user)) => return Ok(user),
            Some(Err(error)) => Some(error),
            None => None,
        };
        if let Some(token) = bearer_token(headers)? {
            return Ok(self.verify(&token, &[], objects, now).await?.user);
        }
        match refused {
            Some(error) => Err(error.into()),
            None if self.is_anonymous(path) => Ok(User::anonymous()),
            None => Err(AuthenticationError::Missing),
        }
    }

    fn is_anonymous(&self, path: &str) -> bool {
        let configured = self.configured.read().clone();
        let configured = configured.as_ref().and_then(|configured| configured.anonymous.as_ref());
        configured.unwrap_or(&self.anonymous).allows(path)
    }

    /// Checks a token for any of `audiences`, or for this server where that is empty.
    pub async fn verify(
        &self,
        token: &str,
        audiences: &[String],
        objects: &dyn BoundObjects,
        now: Timestamp,
    ) -> Result<VerifiedToken, AuthenticationError> {
        let own = self.tokens.api_audiences();
        let audiences = if audiences.is_empty() { own } else { audiences };
        let mut refused = match self.tokens.verify(token, audiences, objects, now) {
            Ok(verified) => return Ok(verified),
            Err(error) => AuthenticationError::from(error),
        };
        if self.bootstrap_tokens
            && let Some((id, secret)) = bootstrap_token::split(token)
        {
            let name = format!("{}{id}", bootstrap_token::NAME_PREFIX);
            let object = objects.secret_object(bootstrap_token::NAMESPACE, &name);
            match bootstrap_token::user(id, secret, object.as_ref(), now) {
                Ok(user) => return for_any(user, audiences, own),
                Err(error) => refused = error.into(),
            }
        }
        let configured = self.configured.read().clone();
        if let Some(configured) = configured.filter(|configured| !configured.issuers.is_empty())
            && let Ok(parsed) = Unverified::parse(token)
            && let Some(issuer) = configured.issuers.iter().find(|issuer| issuer.url == parsed.issuer())
        {
            match issuer.user(&parsed, now).await {
                Ok(user) => return for_any(user, audiences, own),
                Err(error) => refused = error.into(),
            }
        }
        if let Some(webhook) = &self.webhook
            && token.len() <= MAX_TOKEN_BYTES
        {
            match webhook.verify(token, audiences, own).await {
                Ok(Some(verified)) => return Ok(verified),
                Ok(None) => {}
                Err(error) => refused = error.into(),
            }
        }
        Err(refused)
    }
}

/// A token that says nothing of this server's audiences is for all of them, and for no other.
fn for_any(user: User, wanted: &[String], own: &[String]) -> Result<VerifiedToken, AuthenticationError> {
    let audiences: Vec<String> = wanted.iter().filter(|audience| own.contains(audience)).cloned().collect();
    if audiences.is_empty() {
        return Err(AuthenticationError::Audience(own.to_vec()));
    }
    Ok(VerifiedToken { user, audiences })
}

/// What a WebSocket subprotocol that carries a token starts with; unpadded base64url follows.
const WEBSOCKET_TOKEN_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The bearer token of a request.
fn bearer_token(headers: &HeaderMap) -> Result<Option<String>, AuthenticationError> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let value = value.to_str().map_err(|_| AuthenticationError::Header)?.trim();
        if let Some((scheme, token)) = value.split_once(' ')
            && scheme.eq_ignore_ascii_case("bearer")
            && !token.trim().is_empty()
        {
            return Ok(Some(token.trim().to_owned()));
        }
    }
    for value in headers.get_all(SEC_WEBSOCKET_PROTOCOL) {
        let value = value.to_str().map_err(|_| AuthenticationError::Header)?;
        for protocol in value.split(',').map(str::trim) {
            if let Some(encoded) = protocol.strip_prefix(WEBSOCKET_TOKEN_PREFIX) {
                let token = token::decode_segment(encoded)?;
                return Ok(Some(String::from_utf8(token).map_err(|_| AuthenticationError::Header)?));
            }
        }
    }
    Ok(None)
}

/// Whether a WebSocket subprotocol is a credential, which must never be echoed as the chosen one.
pub fn is_token_protocol(protocol: &str) -> bool {
    protocol.starts_with(WEBSOCKET_TOKEN_PREFIX)
}

#[cfg(test)]
mod tests;
