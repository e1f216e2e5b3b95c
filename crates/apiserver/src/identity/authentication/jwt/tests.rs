use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use serde_json::json;

use super::*;

mod rsa;

fn signed(algorithm: &str, kid: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = encode(json!({"alg": algorithm, "kid": kid}));
    let signed = format!("{head}.{}", encode(json!({"iss": "https://issuer", "sub": "jane"})));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn rsa_signed(algorithm: &str) -> String {
    let (_, token) = rsa::TOKENS.iter().find(|(known, _)| *known == algorithm).expect("a token of each");
    (*token).to_owned()
}

fn rsa_key(extra: Value) -> Value {
    let mut key = json!({"kty": "RSA", "kid": "r", "n": rsa::MODULUS, "e": "AQAB"});
    for (name, value) in extra.as_object().into_iter().flatten() {
        key[name] = value.clone();
    }
    key
}

fn ec(algorithm: &'static ring::signature::EcdsaSigningAlgorithm, alg: &str, curve: &str) -> (String, Value) {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key");
    let point = key.public_key().as_ref()[1..].to_vec();
    let (x, y) = point.split_at(point.len() / 2);
    let published = json!({"kty": "EC", "crv": curve, "kid": "e", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)});
    let token = signed(alg, "e", |message| key.sign(&random, message).expect("signed").as_ref().to_vec());
    (token, published)
}

fn verifies(token: &str, keys: &Value) -> bool {
    let keys = read_key_set(json!({"keys": keys}).to_string().as_bytes()).expect("keys");
    Unverified::parse(token).expect("a token").is_signed_by(&keys)
}

#[test]
fn every_supported_algorithm_verifies_and_nothing_else_does() {
    let (es256, p256) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "ES256", "P-256");
    let (es384, p384) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384", "P-384");
    let rsa = rsa_key(json!({}));
    let tokens = [
        (rsa_signed("RS256"), &rsa),
        (rsa_signed("RS384"), &rsa),
        (rsa_signed("RS512"), &rsa),
        (rsa_signed("PS256"), &rsa),
        (rsa_signed("PS384"), &rsa),
        (rsa_signed("PS512"), &rsa),
        (es256, &p256),
        (es384, &p384),
    ];
    for (index, (token, own)) in tokens.iter().enumerate() {
        assert!(verifies(token, &json!([rsa, p256, p384])), "{index}");
        assert!(verifies(token, &json!([own])), "{index}");
        let others: Vec<_> = [&rsa, &p256, &p384].into_iter().filter(|key| key != own).collect();
        assert!(!verifies(token, &json!(others)), "{index}");
        // The signature is over the algorithm too.
        let (_, rest) = token.split_once('.').expect("parts");
        let head = URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "kid": ""}).to_string());
        assert!(!verifies(&format!("{head}.{rest}"), &json!([rsa, p256, p384])), "{index}");
    }
}

#[test]
fn a_key_is_for_what_it_says() {
    let token = rsa_signed("RS256");
    let check = |extra: Value, expected| {
        assert_eq!(verifies(&token, &json!([rsa_key(extra.clone())])), expected, "{extra}")
    };
    check(json!({"alg": "RS256", "use": "sig"}), true);
    check(json!({"alg": "RS512"}), false);
    check(json!({"alg": "HS256"}), false);
    check(json!({"use": "enc"}), false);
    check(json!({"kid": "other"}), false);
    check(json!({"kty": "oct"}), false);
    // What is no key at all does not spoil the others.
    assert!(verifies(&token, &json!([1, {"kty": 7}, {"kty": "EC", "crv": "P-521"}, rsa_key(json!({}))])));
}

#[test]
fn unsigned_and_symmetric_tokens_are_nobodys() {
    let keys = json!([rsa_key(json!({}))]);
    let secret = rsa_key(json!({}))["n"].as_str().map(str::to_owned).unwrap_or_default();
    for algorithm in ["none", "None", "HS256", "", "ES512"] {
        assert!(!verifies(&signed(algorithm, "r", |_| Vec::new()), &keys), "{algorithm}");
        let hmac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let token = signed(algorithm, "r", |message| ring::hmac::sign(&hmac, message).as_ref().to_vec());
        assert!(!verifies(&token, &keys), "{algorithm}");
    }
}

#[test]
fn what_is_no_token_is_refused() {
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#);
    let critical = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","crit":["exp"]}"#);
    let body = URL_SAFE_NO_PAD.encode("{}");
    for text in [
        "",
        "a",
        "a.b",
        "a.b.c",
        &format!("{head}.{head}"),
        &format!("{head}.W10.x"),
        &format!("{critical}.{body}.eA"),
    ] {
        assert!(Unverified::parse(text).is_err(), "{text}");
    }
    assert!(Unverified::parse(&format!("{head}.{body}.{}", "x".repeat(MAX_TOKEN_BYTES))).is_err());
    assert_eq!(Unverified::parse(&format!("{head}.{body}.eA")).expect("a token").issuer(), "");
}
