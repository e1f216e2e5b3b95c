//! From a request's credentials to a [`User`].
//!
//! Order, as in Kubernetes: the word of a front proxy, a verified client certificate, else a bearer token (also one in the
//! WebSocket subprotocol, for browsers), else anonymous. A token that is present and not valid is
//! an error, never anonymous.

use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jiff::Timestamp;

use super::User;

mod front_proxy;
mod impersonation;
mod token;
mod x509;

pub use front_proxy::FrontProxy;
pub use impersonation::{Impersonation, ImpersonationError, ImpersonationTarget};
pub use token::{
    BoundObject, BoundObjects, BoundTo, IssuedToken, MAX_TOKEN_BYTES, NamedUid, ServiceAccountTokens,
    TokenConfig, TokenError, TokenSpec, VerifiedToken,
};
pub use x509::{ClientCertificate, ClientCertificateError};

/// Why a request's credentials were refused. Clients are only told `Unauthorized`; this is for the log.
#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    #[error("the client certificate was refused")]
    Certificate(#[from] ClientCertificateError),
    #[error("the bearer token was refused")]
    Token(#[from] TokenError),
    #[error("the authorization header is not text")]
    Header,
    #[error("no credentials, and anonymous requests are off")]
    Missing,
}

/// Authenticates requests of one server.
pub struct Authenticator {
    pub tokens: std::sync::Arc<ServiceAccountTokens>,
    /// Whether requests without credentials are `system:anonymous` instead of refused.
    pub anonymous: bool,
    /// Who may say for whom it asks.
    pub front_proxy: Option<FrontProxy>,
}

impl Authenticator {
    /// The user of a request. `certificate` is the connection's, `objects` the cluster's current state.
    pub fn authenticate(
        &self,
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
            return Ok(self.tokens.verify(&token, &[], objects, now)?.user);
        }
        match refused {
            Some(error) => Err(error.into()),
            None if self.anonymous => Ok(User::anonymous()),
            None => Err(AuthenticationError::Missing),
        }
    }
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
