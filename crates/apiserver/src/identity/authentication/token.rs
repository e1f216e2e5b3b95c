//! Service-account tokens: JSON Web Tokens (RFC 7519) signed with ES256, bound to objects.
//!
//! A token is valid while its signature, times and audience are, and while the service account, and
//! the pod, secret or node that it is bound to, exist with the same uid. So deletion revokes.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use parking_lot::RwLock;
use ring::digest;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::x509::CREDENTIAL_ID;
use crate::identity::pki::TokenKeys;
use crate::identity::{User, service_account_user_name};

/// Longer tokens are refused unread.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far clocks may differ, in seconds; also how long a deleted object still counts.
const LEEWAY: i64 = 60;
/// The life that the kubelet asks for in projected volumes by default, in seconds. Clients that never
/// reload their token are given until [`EXTENDED_LIFE`].
const WARN_ONLY_LIFE: i64 = 3607;
const EXTENDED_LIFE: i64 = 365 * 24 * 3600;
/// The shortest and longest life that can be asked for, in seconds.
const SHORTEST_LIFE: i64 = 600;
const LONGEST_LIFE: i64 = 1 << 32;

/// Why a token was refused or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("it is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    #[error("it is not three parts of base64url")]
    Malformed,
    #[error("its {part} is not the JSON that it should be")]
    Json {
        part: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("it is signed with {0:?}, not ES256")]
    Algorithm(String),
    #[error("it is signed with an unknown key {0:?}")]
    UnknownKey(String),
    #[error("its signature is wrong")]
    Signature,
    #[error("it was issued by {0:?}")]
    Issuer(String),
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("its audiences {0:?} are not among those asked for")]
    Audience(Vec<String>),
    #[error("its subject {subject:?} is not the service account {account:?}")]
    Subject { subject: String, account: String },
    #[error("the {kind} {namespace}/{name} that it is bound to is gone or another one")]
    Revoked { kind: &'static str, namespace: String, name: String },
    #[error("may not specify a duration less than 10 minutes")]
    TooShort,
    #[error("may not specify a duration larger than 2^32 seconds")]
    TooLongLife,
    #[error("the signing key is not usable")]
    Key,
}

/// An object that tokens are bound to, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundObject {
    pub uid: String,
    /// `metadata.deletionTimestamp`.
    pub deleted_at: Option<Timestamp>,
}

/// The current objects that tokens are bound to. `None` where there is no such object.
pub trait BoundObjects: Send + Sync {
    fn service_account(&self, namespace: &str, name: &str) -> Option<BoundObject>;
    fn pod(&self, namespace: &str, name: &str) -> Option<BoundObject>;
    fn secret(&self, namespace: &str, name: &str) -> Option<BoundObject>;
    /// A whole secret: bootstrap tokens are ones.
    fn secret_object(&self, namespace: &str, name: &str) -> Option<Value>;
    fn node(&self, name: &str) -> Option<BoundObject>;
}

/// A name and a uid, as in the `kubernetes.io` claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedUid {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub uid: String,
}

/// What a token is bound to beyond its service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundTo {
    /// A pod, and the node that it is bound to.
    Pod {
        pod: NamedUid,
        node: Option<NamedUid>,
    },
    Secret(NamedUid),
    Node(NamedUid),
}

/// A `TokenRequest` for one service account, with its objects resolved.
#[derive(Clone, Debug)]
pub struct TokenSpec<'a> {
    pub namespace: &'a str,
    pub service_account: &'a str,
    pub service_account_uid: &'a str,
    pub bound_to: Option<BoundTo>,
    /// Empty means the API server's own.
    pub audiences: Vec<String>,
    /// Seconds; an hour where the request says nothing.
    pub expiration_seconds: Option<i64>,
}

/// What `status` of a `TokenRequest` says.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    pub token: String,
    /// When the client should have got a new one.
    pub expiration: Timestamp,
    pub audiences: Vec<String>,
    /// `spec.expirationSeconds` as granted.
    pub expiration_seconds: i64,
    /// What users of the token are recognised by in audit logs: `JTI=…`.
    pub credential_id: String,
}

/// A token that is valid now.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    pub user: User,
    /// The token's audiences that were asked for.
    pub audiences: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    kid: String,
}

/// RFC 7519 lets one audience stand alone.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    Many(Vec<String>),
    One(String),
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: Audience,
    exp: i64,
    iat: i64,
    iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: KubernetesClaim,
    nbf: i64,
    sub: String,
}

#[derive(Serialize, Deserialize)]
struct KubernetesClaim {
    namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<NamedUid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<NamedUid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<NamedUid>,
    serviceaccount: NamedUid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warnafter: Option<i64>,
}

/// The fixed facts of a server's tokens.
#[derive(Clone, Debug, Default)]
pub struct TokenConfig {
    /// The `iss` claim: an https URL that serves the discovery documents.
    pub issuer: String,
    /// Audiences that this API server accepts; the issuer where empty.
    pub api_audiences: Vec<String>,
    /// Where the keys are said to be; at whichever server is asked where it is absent.
    pub keys_url: Option<String>,
    /// The longest life that is granted, in seconds; a longer one is cut to it.
    pub max_life_s: Option<i64>,
}

/// Issues tokens with one key and verifies them with that and, during a rotation, the one before it.
pub struct ServiceAccountTokens {
    config: TokenConfig,
    keys: RwLock<Arc<Keys>>,
    random: SystemRandom,
}

/// The keys at a moment.
struct Keys {
    signing: EcdsaKeyPair,
    /// The first one is the signing key's.
    known: Vec<PublicKey>,
}

struct PublicKey {
    /// The uncompressed point: 4, x, y.
    point: Vec<u8>,
    id: String,
}

impl Keys {
    fn new(keys: &TokenKeys, random: &SystemRandom) -> Result<Self, TokenError> {
        let der = keys.signing.serialized_der();
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, random)
            .map_err(|_| TokenError::Key)?;
        let all = [Some(&keys.signing), keys.previous.as_ref()];
        let known = all.into_iter().flatten().map(PublicKey::of).collect::<Result<_, _>>()?;
        Ok(Keys { signing, known })
    }
}

impl PublicKey {
    fn of(key: &rcgen::KeyPair) -> Result<Self, TokenError> {
        use rcgen::PublicKeyData;
        let point = key.public_key_raw().to_vec();
        if point.len() != 65 || point[0] != 4 {
            return Err(TokenError::Key);
        }
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &key.subject_public_key_info()));
        Ok(PublicKey { point, id })
    }

    /// RFC 7517.
    fn to_json(&self) -> Value {
        json!({
            "use": "sig",
            "kty": "EC",
            "kid": self.id,
            "crv": "P-256",
            "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&self.point[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&self.point[33..]),
        })
    }
}

impl ServiceAccountTokens {
    /// Signs with a P-256 key ([`crate::identity::pki::Pki::with_token_keys`]).
    pub fn new(mut config: TokenConfig, keys: &TokenKeys) -> Result<Self, TokenError> {
        if config.api_audiences.is_empty() {
            config.api_audiences.push(config.issuer.clone());
        }
        let random = SystemRandom::new();
        let keys = RwLock::new(Arc::new(Keys::new(keys, &random)?));
        Ok(ServiceAccountTokens { config, keys, random })
    }

    /// Signs and verifies with other keys from now on.
    pub fn replace_keys(&self, keys: &TokenKeys) -> Result<(), TokenError> {
        *self.keys.write() = Arc::new(Keys::new(keys, &self.random)?);
        Ok(())
    }

    fn keys(&self) -> Arc<Keys> {
        self.keys.read().clone()
    }

    /// The audiences that this API server accepts.
    pub fn api_audiences(&self) -> &[String] {
        &self.config.api_audiences
    }

    /// The `iss` claim.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// Answers a `TokenRequest`.
    pub fn issue(&self, spec: TokenSpec<'_>, now: Timestamp) -> Result<IssuedToken, TokenError> {
        let requested = spec.expiration_seconds.unwrap_or(3600);
        if requested < SHORTEST_LIFE {
            return Err(TokenError::TooShort);
        }
        if requested > LONGEST_LIFE {
            return Err(TokenError::TooLongLife);
        }
        let requested = self.config.max_life_s.map_or(requested, |longest| requested.min(longest));
        let own_audience = spec.audiences.is_empty();
        let audiences = if own_audience { self.config.api_audiences.clone() } else { spec.audiences };
        let for_pod = matches!(spec.bound_to, Some(BoundTo::Pod { .. }));
        let for_this_server = audiences.iter().all(|audience| self.config.api_audiences.contains(audience));
        let extended = for_pod && requested == WARN_ONLY_LIFE && for_this_server;
        let now = now.as_second();
        let life = if extended { EXTENDED_LIFE } else { requested };
        let life = self.config.max_life_s.map_or(life, |longest| life.min(longest));
        let mut kubernetes = KubernetesClaim {
            namespace: spec.namespace.to_owned(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount: NamedUid {
                name: spec.service_account.to_owned(),
                uid: spec.service_account_uid.to_owned(),
            },
            warnafter: extended.then_some(now + requested),
        };
        match spec.bound_to {
            Some(BoundTo::Pod { pod, node }) => {
                kubernetes.pod = Some(pod);
                kubernetes.node = node;
            }
            Some(BoundTo::Secret(secret)) => kubernetes.secret = Some(secret),
            Some(BoundTo::Node(node)) => kubernetes.node = Some(node),
            None => {}
        }
        let claims = Claims {
            aud: Audience::Many(audiences.clone()),
            exp: now + life,
            iat: now,
            iss: self.config.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            kubernetes,
            nbf: now,
            sub: service_account_user_name(spec.namespace, spec.service_account),
        };
        let expiration = Timestamp::from_second(now + requested).map_err(|_| TokenError::TooLongLife)?;
        Ok(IssuedToken {
            token: self.sign(&claims)?,
            expiration,
            audiences,
            expiration_seconds: requested,
            credential_id: credential_id(&claims.jti),
        })
    }

    fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        let keys = self.keys();
        let header = Header { alg: "ES256".to_owned(), kid: keys.known[0].id.clone() };
        let part = |part, json: serde_json::Result<Vec<u8>>| match json {
            Ok(json) => Ok(URL_SAFE_NO_PAD.encode(json)),
            Err(source) => Err(TokenError::Json { part, source }),
        };
        let mut token = part("header", serde_json::to_vec(&header))?;
        token.push('.');
        token.push_str(&part("payload", serde_json::to_vec(claims))?);
        let signature = keys.signing.sign(&self.random, token.as_bytes()).map_err(|_| TokenError::Key)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Checks a token for any of `audiences`, or for this server where that is empty.
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        objects: &dyn BoundObjects,
        now: Timestamp,
    ) -> Result<VerifiedToken, TokenError> {
        let claims = self.verified_claims(token)?;
        let audiences = self.check_claims(&claims, audiences, now)?;
        check_bindings(&claims.kubernetes, objects, now)?;
        Ok(VerifiedToken { user: user_of(claims), audiences })
    }

    /// The payload, once its signature is known to be ours. Nothing is parsed before, but the header.
    fn verified_claims(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = parse_segment("header", header)?;
        if header.alg != "ES256" {
            return Err(TokenError::Algorithm(header.alg));
        }
        let keys = self.keys();
        // One that names no key may be any's.
        let mut candidates =
            keys.known.iter().filter(|key| header.kid.is_empty() || key.id == header.kid).peekable();
        if candidates.peek().is_none() {
            return Err(TokenError::UnknownKey(header.kid));
        }
        let signature = decode_segment(signature)?;
        let signs = |key: &PublicKey| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.point)
                .verify(signed.as_bytes(), &signature)
                .is_ok()
        };
        if !candidates.any(signs) {
            return Err(TokenError::Signature);
        }
        parse_segment("payload", payload)
    }

    fn check_claims(
        &self,
        claims: &Claims,
        wanted: &[String],
        now: Timestamp,
    ) -> Result<Vec<String>, TokenError> {
        if claims.iss != self.config.issuer {
            return Err(TokenError::Issuer(claims.iss.clone()));
        }
        let now = now.as_second();
        if now.saturating_sub(LEEWAY) > claims.exp {
            return Err(TokenError::Expired);
        }
        if now.saturating_add(LEEWAY) < claims.nbf || now.saturating_add(LEEWAY) < claims.iat {
            return Err(TokenError::NotYetValid);
        }
        let account = &claims.kubernetes.serviceaccount.name;
        let expected = service_account_user_name(&claims.kubernetes.namespace, account);
        if claims.sub != expected {
            return Err(TokenError::Subject { subject: claims.sub.clone(), account: expected });
        }
        let wanted = if wanted.is_empty() { &self.config.api_audiences } else { wanted };
        let granted: &[String] = match &claims.aud {
            Audience::Many(many) => many,
            Audience::One(one) => std::slice::from_ref(one),
        };
        let common: Vec<String> =
            granted.iter().filter(|audience| wanted.contains(audience)).cloned().collect();
        if common.is_empty() { Err(TokenError::Audience(granted.to_vec())) } else { Ok(common) }
    }

    /// `/.well-known/openid-configuration`. `base_url` is where clients reach this server.
    pub fn openid_configuration(&self, base_url: &str) -> Value {
        let own = || format!("{}/openid/v1/jwks", base_url.trim_end_matches('/'));
        json!({
            "issuer": self.config.issuer,
            "jwks_uri": self.config.keys_url.clone().unwrap_or_else(own),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// `/openid/v1/jwks` (RFC 7517); its media type is `application/jwk-set+json`.
    pub fn json_web_keys(&self) -> Value {
        let keys: Vec<Value> = self.keys().known.iter().map(PublicKey::to_json).collect();
        json!({ "keys": keys })
    }
}

fn credential_id(jti: &str) -> String {
    format!("JTI={jti}")
}

fn user_of(claims: Claims) -> User {
    let account = &claims.kubernetes.serviceaccount;
    let mut user = User::service_account(&claims.kubernetes.namespace, &account.name, &account.uid);
    let mut extra = |key: &str, value: String| user.extra.insert(key.to_owned(), vec![value]);
    if !claims.jti.is_empty() {
        extra(CREDENTIAL_ID, credential_id(&claims.jti));
    }
    if let Some(pod) = claims.kubernetes.pod {
        extra("authentication.kubernetes.io/pod-name", pod.name);
        extra("authentication.kubernetes.io/pod-uid", pod.uid);
    }
    if let Some(node) = claims.kubernetes.node {
        extra("authentication.kubernetes.io/node-name", node.name);
        if !node.uid.is_empty() {
            extra("authentication.kubernetes.io/node-uid", node.uid);
        }
    }
    user
}

/// Checks that what the token is bound to still exists.
fn check_bindings(
    claim: &KubernetesClaim,
    objects: &dyn BoundObjects,
    now: Timestamp,
) -> Result<(), TokenError> {
    let namespace = claim.namespace.as_str();
    let check = |kind, reference: &NamedUid, found: Option<BoundObject>| {
        let alive = |object: &BoundObject| {
            object.deleted_at.is_none_or(|deleted| deleted.as_second() >= now.as_second() - LEEWAY)
        };
        match found.filter(|object| object.uid == reference.uid && alive(object)) {
            Some(_) => Ok(()),
            None => Err(TokenError::Revoked {
                kind,
                namespace: namespace.to_owned(),
                name: reference.name.clone(),
            }),
        }
    };
    let account = &claim.serviceaccount;
    check("service account", account, objects.service_account(namespace, &account.name))?;
    if let Some(secret) = &claim.secret {
        check("secret", secret, objects.secret(namespace, &secret.name))?;
    }
    if let Some(pod) = &claim.pod {
        // The pod stands for its node: the claim's node is information.
        check("pod", pod, objects.pod(namespace, &pod.name))?;
    } else if let Some(node) = &claim.node {
        check("node", node, objects.node(&node.name))?;
    }
    Ok(())
}

/// Decodes one part of a token.
pub(super) fn decode_segment(segment: &str) -> Result<Vec<u8>, TokenError> {
    if segment.len() > MAX_TOKEN_BYTES * 4 / 3 + 4 {
        return Err(TokenError::TooLong);
    }
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::Malformed)
}

fn parse_segment<T: for<'de> Deserialize<'de>>(part: &'static str, segment: &str) -> Result<T, TokenError> {
    serde_json::from_slice(&decode_segment(segment)?).map_err(|source| TokenError::Json { part, source })
}
