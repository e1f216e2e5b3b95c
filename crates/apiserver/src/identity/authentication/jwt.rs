//! JSON Web Tokens (RFC 7519) of others, and the keys that they publish (RFC 7517), verified with ring.
//!
//! Supported are RS256, RS384, RS512, PS256, PS384, PS512, ES256 and ES384. A token says itself how it is
//! signed; a key of another kind never fits that, so that nothing is verified as what it is not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::token::decode_segment;
use super::{MAX_TOKEN_BYTES, TokenError};

/// The most keys that one issuer may have.
const MAX_KEYS: usize = 256;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
}

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Algorithm::Rs256,
            "RS384" => Algorithm::Rs384,
            "RS512" => Algorithm::Rs512,
            "PS256" => Algorithm::Ps256,
            "PS384" => Algorithm::Ps384,
            "PS512" => Algorithm::Ps512,
            "ES256" => Algorithm::Es256,
            "ES384" => Algorithm::Es384,
            _ => return None,
        })
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that must be understood; none is.
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

/// A token that was taken apart. Its claims are anybody's word until a key has verified them.
pub struct Unverified<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    /// None where it is not supported.
    algorithm: Option<Algorithm>,
    pub key_id: String,
    pub claims: Map<String, Value>,
}

impl<'a> Unverified<'a> {
    pub fn parse(token: &'a str) -> Result<Unverified<'a>, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let json = |part| move |source| TokenError::Json { part, source };
        let header: Header = serde_json::from_slice(&decode_segment(header)?).map_err(json("header"))?;
        let claims = serde_json::from_slice(&decode_segment(payload)?).map_err(json("payload"))?;
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        Ok(Unverified {
            signed,
            signature: decode_segment(signature)?,
            algorithm: Algorithm::of(&header.alg),
            key_id: header.kid,
            claims,
        })
    }

    /// The issuer that it says it is of.
    pub fn issuer(&self) -> &str {
        self.claims.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether one of these keys has signed it.
    pub fn is_signed_by(&self, keys: &[PublicKey]) -> bool {
        let Some(algorithm) = self.algorithm else { return false };
        let named = |key: &&PublicKey| self.key_id.is_empty() || key.id == self.key_id;
        keys.iter().filter(named).any(|key| key.verifies(algorithm, self.signed.as_bytes(), &self.signature))
    }
}

/// A key that an issuer signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    id: String,
    /// The only algorithm that it is for, where it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// Uncompressed points: 4, x, y.
    P256(Vec<u8>),
    P384(Vec<u8>),
}

impl PublicKey {
    fn verifies(&self, algorithm: Algorithm, message: &[u8], sent: &[u8]) -> bool {
        if self.algorithm.is_some_and(|only| only != algorithm) {
            return false;
        }
        let rsa: &signature::RsaParameters = match (algorithm, &self.material) {
            (Algorithm::Rs256, Material::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Algorithm::Rs384, Material::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Algorithm::Rs512, Material::Rsa { .. }) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Algorithm::Ps256, Material::Rsa { .. }) => &signature::RSA_PSS_2048_8192_SHA256,
            (Algorithm::Ps384, Material::Rsa { .. }) => &signature::RSA_PSS_2048_8192_SHA384,
            (Algorithm::Ps512, Material::Rsa { .. }) => &signature::RSA_PSS_2048_8192_SHA512,
            (Algorithm::Es256, Material::P256(point)) => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
                return key.verify(message, sent).is_ok();
            }
            (Algorithm::Es384, Material::P384(point)) => {
                let key = UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point);
                return key.verify(message, sent).is_ok();
            }
            _ => return false,
        };
        let Material::Rsa { modulus, exponent } = &self.material else { return false };
        RsaPublicKeyComponents { n: modulus, e: exponent }.verify(rsa, message, sent).is_ok()
    }
}

/// A published key set that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    #[error("it is no JSON Web Key Set")]
    Json(#[from] serde_json::Error),
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
}

#[derive(Deserialize)]
struct RawKeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    alg: String,
    #[serde(default, rename = "use")]
    used_for: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

/// Reads a JSON Web Key Set. Keys that are of no use here are passed over, as RFC 7517 wants it.
pub fn read_key_set(json: &[u8]) -> Result<Vec<PublicKey>, KeySetError> {
    let set: RawKeySet = serde_json::from_slice(json)?;
    if set.keys.len() > MAX_KEYS {
        return Err(KeySetError::TooMany);
    }
    let known = |key: Value| serde_json::from_value::<RawKey>(key).ok().and_then(read_key);
    Ok(set.keys.into_iter().filter_map(known).collect())
}

fn read_key(raw: RawKey) -> Option<PublicKey> {
    if !matches!(raw.used_for.as_str(), "" | "sig") {
        return None;
    }
    let algorithm = match raw.alg.as_str() {
        "" => None,
        // For an algorithm that is not supported it is of no use.
        name => Some(Algorithm::of(name)?),
    };
    let number = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| !bytes.is_empty());
    let point = |length: usize| {
        let (x, y) = (number(&raw.x)?, number(&raw.y)?);
        (x.len() == length && y.len() == length).then(|| [&[4], &x[..], &y[..]].concat())
    };
    let material = match (raw.kty.as_str(), raw.crv.as_str()) {
        ("RSA", _) => {
            // ring wants them without leading zeros, which some issuers write.
            let trimmed = |text: &str| {
                let bytes = number(text)?;
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                Some(bytes[zeros..].to_vec())
            };
            Material::Rsa { modulus: trimmed(&raw.n)?, exponent: trimmed(&raw.e)? }
        }
        ("EC", "P-256") => Material::P256(point(32)?),
        ("EC", "P-384") => Material::P384(point(48)?),
        _ => return None,
    };
    Some(PublicKey { id: raw.kid, algorithm, material })
}

#[cfg(test)]
mod tests;
