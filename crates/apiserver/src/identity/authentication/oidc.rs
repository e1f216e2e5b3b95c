//! Tokens of other issuers (OpenID Connect), as an `AuthenticationConfiguration` describes them.
//!
//! A token is an issuer's if it says so and one of the issuer's published keys has signed it. What its claims
//! mean is decided by [`claims`], which is pure; [`keys`] fetches and keeps the keys.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::time::Instant;

pub mod claims;
pub mod keys;

use claims::{ClaimError, ClaimRules};
use keys::{FetchError, KeySource};

use super::jwt::Unverified;
use crate::identity::User;

/// How far the clocks of issuers may be ahead, in seconds: for the start of a token's life.
const LEEWAY: i64 = 300;

/// Why a token of a known issuer was refused.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("oidc: the keys of {issuer:?} cannot be fetched")]
    Keys {
        issuer: String,
        #[source]
        source: FetchError,
    },
    #[error("oidc: failed to verify signature: no key of the issuer has signed it")]
    Signature,
    #[error("oidc: token is expired")]
    Expired,
    #[error("oidc: the token has no expiry")]
    NoExpiry,
    #[error("oidc: the token is not valid yet")]
    NotYetValid,
    #[error("oidc: expected audience in {expected:?} got {found:?}")]
    Audience { expected: Vec<String>, found: Vec<String> },
    #[error(transparent)]
    Claims(#[from] ClaimError),
}

/// One issuer whose tokens are accepted.
pub struct Issuer {
    /// The `iss` claim.
    pub url: String,
    pub audiences: Vec<String>,
    pub rules: ClaimRules,
    pub keys: Arc<KeySource>,
}

impl Issuer {
    /// The user of a token that says it is this issuer's.
    pub async fn user(&self, token: &Unverified<'_>, now: Timestamp) -> Result<User, OidcError> {
        // What is cheap to know comes first: a token that is over needs no keys.
        check_times(&token.claims, now.as_second())?;
        check_audience(&token.claims, &self.audiences)?;
        self.verify(token).await?;
        Ok(self.rules.user(&token.claims)?)
    }

    /// Keys that are not known yet may be new ones.
    async fn verify(&self, token: &Unverified<'_>) -> Result<(), OidcError> {
        let fetched = self.keys.ensure(Instant::now()).await;
        let keys = self.keys.current();
        if token.is_signed_by(&keys) {
            return Ok(());
        }
        let failed = |source| OidcError::Keys { issuer: self.url.clone(), source };
        fetched.map_err(failed)?;
        self.keys.refresh(&keys, Instant::now()).await.map_err(failed)?;
        if token.is_signed_by(&self.keys.current()) { Ok(()) } else { Err(OidcError::Signature) }
    }
}

fn check_times(claims: &Map<String, Value>, now: i64) -> Result<(), OidcError> {
    // RFC 7519 has numbers with fractions.
    let seconds = |name: &str| claims.get(name).and_then(Value::as_f64).map(|seconds| seconds as i64);
    if seconds("exp").ok_or(OidcError::NoExpiry)? < now {
        return Err(OidcError::Expired);
    }
    if seconds("nbf").is_some_and(|start| start > now.saturating_add(LEEWAY)) {
        return Err(OidcError::NotYetValid);
    }
    Ok(())
}

fn check_audience(claims: &Map<String, Value>, expected: &[String]) -> Result<(), OidcError> {
    let found: Vec<String> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    if found.iter().any(|audience| expected.contains(audience)) {
        return Ok(());
    }
    Err(OidcError::Audience { expected: expected.to_vec(), found })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_and_audiences() {
        let check = |claims: Value, expected: &str| {
            let claims = claims.as_object().expect("claims");
            let audiences = ["a".to_owned(), "b".to_owned()];
            let checked = check_times(claims, 1000).and_then(|()| check_audience(claims, &audiences));
            let found = checked.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(if expected.is_empty() { found.is_empty() } else { found.contains(expected) }, "{found}");
        };
        check(json!({"exp": 1000, "aud": "b"}), "");
        check(json!({"exp": 1e9, "nbf": 1300.5, "aud": ["x", "a"]}), "");
        check(json!({"exp": 999, "aud": "a"}), "expired");
        check(json!({"exp": 2000, "nbf": 1301, "aud": "a"}), "not valid yet");
        check(json!({"aud": "a"}), "no expiry");
        check(json!({"exp": 2000, "aud": ["x"]}), "audience");
        check(json!({"exp": 2000}), "audience");
    }
}
