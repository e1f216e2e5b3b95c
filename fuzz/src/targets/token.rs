//! Service account tokens: any text, and any claims that are signed with our key.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use sampan_apiserver::identity::authentication::jwt::{Unverified, read_key_set};
use sampan_apiserver::identity::authentication::{
    BoundObject, BoundObjects, ServiceAccountTokens, TokenConfig,
};
use sampan_apiserver::identity::pki::TokenKeys;
use serde_json::Value;

use crate::input;

const ISSUER: &str = "https://kubernetes.default.svc";
/// 2026-01-01.
const NOW: i64 = 1_767_225_600;

struct Signer {
    tokens: ServiceAccountTokens,
    key: EcdsaKeyPair,
    random: SystemRandom,
}

fn signer() -> &'static Signer {
    static SIGNER: OnceLock<Signer> = OnceLock::new();
    SIGNER.get_or_init(|| {
        let pair = rcgen::KeyPair::generate().expect("a key");
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pair.serialized_der(), &random).expect("a key");
        let config =
            TokenConfig { issuer: ISSUER.to_owned(), api_audiences: Vec::new(), ..TokenConfig::default() };
        let keys = TokenKeys { signing: pair, previous: None };
        let tokens = ServiceAccountTokens::new(config, &keys).expect("a P-256 key");
        Signer { tokens, key, random }
    })
}

/// Every object exists, with the uid `u`.
struct Everything;

fn alive() -> Option<BoundObject> {
    Some(BoundObject { uid: "u".to_owned(), deleted_at: None })
}

impl BoundObjects for Everything {
    fn service_account(&self, _namespace: &str, _name: &str) -> Option<BoundObject> {
        alive()
    }

    fn pod(&self, _namespace: &str, _name: &str) -> Option<BoundObject> {
        alive()
    }

    fn secret(&self, _namespace: &str, _name: &str) -> Option<BoundObject> {
        alive()
    }

    fn secret_object(&self, _namespace: &str, _name: &str) -> Option<Value> {
        None
    }

    fn node(&self, _name: &str) -> Option<BoundObject> {
        alive()
    }
}

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    let now = Timestamp::from_second(NOW).expect("a time");
    let signer = signer();
    if choice % 2 == 0 {
        let Some(text) = input::text(rest) else { return };
        let verified = signer.tokens.verify(text, &[], &Everything, now);
        assert!(verified.is_err(), "nobody else signs with our key");
        // Other issuers' tokens and keys, and nobody else signs with theirs either.
        let keys = signer.tokens.json_web_keys().to_string();
        let keys = read_key_set(keys.as_bytes()).expect("our own keys");
        if let Ok(parsed) = Unverified::parse(text) {
            assert!(!parsed.is_signed_by(&keys));
            assert!(!parsed.is_signed_by(&read_key_set(rest).unwrap_or_default()));
        }
        let _ = read_key_set(rest);
        return;
    }
    let token = signed(signer, rest);
    let Ok(verified) = signer.tokens.verify(&token, &[], &Everything, now) else { return };
    // What is accepted is what the claims say.
    // Claims that nobody reads may hold what is no text.
    let Ok(claims) = serde_json::from_slice::<Value>(rest) else { return };
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["sub"], verified.user.name.as_str());
    assert_eq!(claims["kubernetes.io"]["serviceaccount"]["uid"], "u");
    assert!(claims["exp"].as_i64().is_some_and(|end| end >= NOW - 60), "{claims}");
    assert!(claims["nbf"].as_i64().is_some_and(|start| start <= NOW + 60), "{claims}");
    assert_eq!(verified.audiences.first().map(String::as_str), Some(ISSUER));
    assert!(verified.user.name.starts_with("system:serviceaccount:"));
    // One bit of the signature makes it another token.
    let mut forged = token.into_bytes();
    let at = forged.len() - 5;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).expect("ASCII");
    assert!(signer.tokens.verify(&forged, &[], &Everything, now).is_err());
}

fn signed(signer: &Signer, claims: &[u8]) -> String {
    let mut token = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature = signer.key.sign(&signer.random, token.as_bytes()).expect("signed");
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}
