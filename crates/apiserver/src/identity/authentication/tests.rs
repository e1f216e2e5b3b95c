use std::collections::BTreeMap;

use http::HeaderValue;
use proptest::prelude::*;
use rcgen::KeyPair;

use super::*;
use crate::identity::pki::{ClientSubject, Lives, Pki, PkiConfig, TokenKeys};

/// Objects by `kind/namespace/name`.
#[derive(Default)]
struct Objects(BTreeMap<String, BoundObject>);

impl Objects {
    fn with(keys: &[&str]) -> Self {
        let object =
            |key: &&str| ((*key).to_owned(), BoundObject { uid: format!("uid-{key}"), deleted_at: None });
        Objects(keys.iter().map(object).collect())
    }

    fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<BoundObject> {
        self.0.get(&format!("{kind}/{namespace}/{name}")).cloned()
    }
}

impl BoundObjects for Objects {
    fn service_account(&self, namespace: &str, name: &str) -> Option<BoundObject> {
        self.get("sa", namespace, name)
    }
    fn pod(&self, namespace: &str, name: &str) -> Option<BoundObject> {
        self.get("pod", namespace, name)
    }
    fn secret(&self, namespace: &str, name: &str) -> Option<BoundObject> {
        self.get("secret", namespace, name)
    }
    fn secret_object(&self, _: &str, _: &str) -> Option<serde_json::Value> {
        None
    }
    fn node(&self, name: &str) -> Option<BoundObject> {
        self.get("node", "", name)
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
}

fn tokens(key: &KeyPair) -> ServiceAccountTokens {
    let signing = KeyPair::from_pem(&key.serialize_pem()).expect("the same key");
    tokens_of(&TokenKeys { signing, previous: None })
}

fn tokens_of(keys: &TokenKeys) -> ServiceAccountTokens {
    let config = TokenConfig {
        issuer: "https://kubernetes.default.svc".to_owned(),
        api_audiences: vec![],
        ..TokenConfig::default()
    };
    ServiceAccountTokens::new(config, keys).expect("a P-256 key")
}

fn pod_spec(expiration: Option<i64>) -> TokenSpec<'static> {
    TokenSpec {
        namespace: "n",
        service_account: "s",
        service_account_uid: "uid-sa/n/s",
        bound_to: Some(BoundTo::Pod {
            pod: NamedUid { name: "p".to_owned(), uid: "uid-pod/n/p".to_owned() },
            node: Some(NamedUid { name: "box".to_owned(), uid: "x".to_owned() }),
        }),
        audiences: vec![],
        expiration_seconds: expiration,
    }
}

const PRESENT: &[&str] = &["sa/n/s", "pod/n/p"];

#[test]
fn a_token_names_its_service_account() {
    let tokens = tokens(&KeyPair::generate().expect("a key"));
    let issued = tokens.issue(pod_spec(Some(600)), at(0)).expect("issued");
    assert_eq!(issued.expiration, at(600));
    let user = tokens.verify(&issued.token, &[], &Objects::with(PRESENT), at(1)).expect("valid").user;
    assert_eq!(user.name, "system:serviceaccount:n:s");
    assert_eq!(user.uid, "uid-sa/n/s");
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:n", "system:authenticated"]);
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["box"]);
    assert!(user.extra[super::x509::CREDENTIAL_ID][0].starts_with("JTI="));
}

#[test]
fn deletion_revokes() {
    let tokens = tokens(&KeyPair::generate().expect("a key"));
    let token = tokens.issue(pod_spec(None), at(0)).expect("issued").token;
    let verify = |objects: &Objects| tokens.verify(&token, &[], objects, at(100));
    assert!(verify(&Objects::with(PRESENT)).is_ok());
    for left in PRESENT {
        assert!(matches!(verify(&Objects::with(&[left])), Err(TokenError::Revoked { .. })), "{left}");
    }
    let mut objects = Objects::with(PRESENT);
    let pod = objects.0.get_mut("pod/n/p").expect("present");
    pod.deleted_at = Some(at(99));
    assert!(verify(&objects).is_ok(), "a deleted pod ends gracefully");
    objects.0.get_mut("pod/n/p").expect("present").deleted_at = Some(at(30));
    assert!(matches!(verify(&objects), Err(TokenError::Revoked { kind: "pod", .. })));
    let mut objects = Objects::with(PRESENT);
    objects.0.get_mut("sa/n/s").expect("present").uid = "another".to_owned();
    assert!(matches!(verify(&objects), Err(TokenError::Revoked { kind: "service account", .. })));
}

#[test]
fn times_and_audiences_are_checked() {
    let tokens = tokens(&KeyPair::generate().expect("a key"));
    let objects = Objects::with(PRESENT);
    let token = tokens.issue(pod_spec(Some(600)), at(0)).expect("issued").token;
    let verify = |at| tokens.verify(&token, &[], &objects, at);
    assert!(verify(at(-59)).is_ok());
    assert!(matches!(verify(at(-61)), Err(TokenError::NotYetValid)));
    assert!(verify(at(659)).is_ok());
    assert!(matches!(verify(at(661)), Err(TokenError::Expired)));
    let vault = vec!["vault".to_owned()];
    let spec = TokenSpec { audiences: vault.clone(), ..pod_spec(None) };
    let token = tokens.issue(spec, at(0)).expect("issued").token;
    assert!(matches!(tokens.verify(&token, &[], &objects, at(0)), Err(TokenError::Audience(_))));
    let verified = tokens.verify(&token, &["other".to_owned(), "vault".to_owned()], &objects, at(0));
    assert_eq!(verified.expect("valid").audiences, vault);
}

#[test]
fn lives_are_bounded_and_the_kubelets_is_extended() {
    let tokens = tokens(&KeyPair::generate().expect("a key"));
    assert!(matches!(tokens.issue(pod_spec(Some(599)), at(0)), Err(TokenError::TooShort)));
    assert!(matches!(tokens.issue(pod_spec(Some((1 << 32) + 1)), at(0)), Err(TokenError::TooLongLife)));
    let issued = tokens.issue(pod_spec(Some(3607)), at(0)).expect("issued");
    assert_eq!(issued.expiration, at(3607));
    assert!(tokens.verify(&issued.token, &[], &Objects::with(PRESENT), at(40_000)).is_ok());
}

#[test]
fn foreign_and_changed_tokens_are_refused() {
    let ours = tokens(&KeyPair::generate().expect("a key"));
    let foreign = tokens(&KeyPair::generate().expect("a key"));
    let objects = Objects::with(PRESENT);
    let token = foreign.issue(pod_spec(None), at(0)).expect("issued").token;
    assert!(matches!(ours.verify(&token, &[], &objects, at(0)), Err(TokenError::UnknownKey(_))));
    let token = ours.issue(pod_spec(None), at(0)).expect("issued").token;
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |json: &str| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, json);
    let none = encode(r#"{"alg":"none"}"#);
    let no_key = encode(r#"{"alg":"ES256"}"#);
    let cases = [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{no_key}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], encode("{}"), parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{token}.x"),
        "a".repeat(MAX_TOKEN_BYTES + 1),
        String::new(),
    ];
    for case in cases {
        assert!(ours.verify(&case, &[], &objects, at(0)).is_err(), "{case}");
    }
}

#[test]
fn published_keys_verify_tokens() {
    let tokens = tokens(&KeyPair::generate().expect("a key"));
    let token = tokens.issue(pod_spec(None), at(0)).expect("issued").token;
    let keys = tokens.json_web_keys();
    let decode = |part: &str| token::decode_segment(part).expect("base64url");
    let coordinate = |name: &str| decode(keys["keys"][0][name].as_str().expect("text"));
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let (signed, signature) = token.rsplit_once('.').expect("a token");
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &decode(signature))
        .expect("the published key fits");
    let document = tokens.openid_configuration("https://host:1/");
    assert_eq!(document["jwks_uri"], "https://host:1/openid/v1/jwks");
    assert_eq!(document["issuer"], "https://kubernetes.default.svc");
}

#[test]
fn a_token_outlives_its_key_until_the_rotation_ends() {
    let pair = |key: &KeyPair| KeyPair::from_pem(&key.serialize_pem()).expect("the same key");
    let (old, new) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let tokens = tokens(&old);
    let objects = Objects::with(PRESENT);
    let first = tokens.issue(pod_spec(None), at(0)).expect("issued").token;
    tokens.replace_keys(&TokenKeys { signing: pair(&new), previous: Some(pair(&old)) }).expect("keys");
    let second = tokens.issue(pod_spec(None), at(0)).expect("issued").token;
    for token in [&first, &second] {
        tokens.verify(token, &[], &objects, at(0)).expect("both keys are known");
    }
    assert_eq!(tokens.json_web_keys()["keys"].as_array().map(Vec::len), Some(2));
    tokens.replace_keys(&TokenKeys { signing: pair(&new), previous: None }).expect("keys");
    tokens.verify(&second, &[], &objects, at(0)).expect("its key is known");
    let gone = tokens.verify(&first, &[], &objects, at(0)).expect_err("its key is gone");
    assert!(matches!(gone, TokenError::UnknownKey(_)), "{gone:?}");
    assert_eq!(tokens.json_web_keys()["keys"].as_array().map(Vec::len), Some(1));
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).expect("a header"));
    }
    headers
}

#[test]
fn requests_are_authenticated_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = PkiConfig {
        directory: directory.path().join("pki"),
        admin_kubeconfig: directory.path().join("admin.kubeconfig"),
        server_url: "https://localhost".to_owned(),
        service_addresses: vec![],
        extra_names: vec![],
        lives: Lives::default(),
    };
    let pki = Pki::ensure(config, at(0)).expect("a start");
    let subject = ClientSubject { common_name: "system:node:a", organization: Some("system:nodes") };
    let issued = pki.issue_client(subject, at(0)).expect("issued");
    let certificate = ClientCertificate::read(&issued.der).expect("a certificate");
    let authenticator = Authenticator {
        front_proxy: Some(pki.front_proxy()),
        ..Authenticator::new(pki.with_token_keys(tokens_of).into())
    };
    let token = authenticator.tokens.issue(pod_spec(None), at(0)).expect("issued").token;
    let objects = Objects::with(PRESENT);
    let user_of = |pairs: &[(&'static str, &str)], certificate, now| {
        // Nobody elsewhere is asked, so that it is ready at once.
        let headers = headers(pairs);
        let asked = authenticator.authenticate("/livez", &headers, certificate, &objects, now);
        futures_util::FutureExt::now_or_never(asked).expect("at once")
    };
    let ask = |pairs: &[(&'static str, &str)], certificate, now| {
        user_of(pairs, certificate, now).map(|user| user.name).ok()
    };
    let name = |name: &str| Some(name.to_owned());
    let bearer = format!("bearer {token}");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &token);
    let subprotocols = format!("v4.channel.k8s.io, {WEBSOCKET_TOKEN_PREFIX}{encoded}");
    assert_eq!(ask(&[], None, at(0)), name("system:anonymous"));
    assert_eq!(ask(&[], Some(&certificate), at(0)), name("system:node:a"));
    assert_eq!(ask(&[("authorization", &bearer)], None, at(0)), name("system:serviceaccount:n:s"));
    assert_eq!(ask(&[("authorization", &bearer)], Some(&certificate), at(0)), name("system:node:a"));
    assert_eq!(
        ask(&[("sec-websocket-protocol", &subprotocols)], None, at(0)),
        name("system:serviceaccount:n:s")
    );
    assert_eq!(ask(&[("authorization", "Bearer nonsense")], None, at(0)), None);
    assert_eq!(ask(&[], Some(&certificate), at(31 * 24 * 3600)), None);
    let user = certificate.user(at(0)).expect("alive");
    assert_eq!(user.groups, ["system:nodes", "system:authenticated"]);

    // Only the front proxy's certificate says for whom it asks, and it is nobody's own.
    let der = pki.front_proxy_client().current().cert[0].clone();
    assert!(pki.front_proxy().issued(&der) && !pki.front_proxy().issued(&issued.der));
    let proxy = ClientCertificate::read(&der).expect("a certificate").of_front_proxy(true);
    let told = [("x-remote-user", "jane"), ("x-remote-group", "g"), ("x-remote-extra-a%2fb", "c")];
    assert_eq!(ask(&told, Some(&proxy), at(0)), name("jane"));
    assert_eq!(ask(&told, Some(&certificate), at(0)), name("system:node:a"));
    assert_eq!(ask(&told, None, at(0)), name("system:anonymous"));
    assert_eq!(ask(&[], Some(&proxy), at(0)), name("system:anonymous"));
    assert_eq!(ask(&told, Some(&proxy), at(31 * 24 * 3600)), name("system:anonymous"));
    let user = user_of(&told, Some(&proxy), at(0)).expect("told");
    assert_eq!(
        (user.groups, &user.extra["a/b"][..]),
        (vec!["g".into(), "system:authenticated".into()], &["c".to_owned()][..])
    );
}

#[test]
fn only_health_needs_no_credentials() {
    let check = |anonymous: &Anonymous, path: &str, expected| {
        assert_eq!(anonymous.allows(path), expected, "{anonymous:?} {path}");
    };
    for (path, expected) in
        [("/livez", true), ("/readyz", true), ("/healthz", true), ("/version", false), ("/api", false)]
    {
        check(&Anonymous::default(), path, expected);
        check(&Anonymous::Everywhere, path, true);
        check(&Anonymous::Off, path, false);
    }
}

#[test]
fn impersonation_names_every_right_it_needs() {
    let read = |pairs: &[(&'static str, &str)]| Impersonation::read(&headers(pairs));
    assert_eq!(read(&[("accept", "x")]).expect("fine"), None);
    assert!(matches!(read(&[("impersonate-group", "g")]), Err(ImpersonationError::NoUser)));
    let wanted = read(&[
        ("impersonate-user", "jane"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-acme.com%2Fproject", "shop"),
    ])
    .expect("valid")
    .expect("present");
    let targets: Vec<String> = wanted
        .targets()
        .into_iter()
        .map(|target| format!("{}/{}/{}/{}", target.group, target.resource, target.subresource, target.name))
        .collect();
    assert_eq!(
        targets,
        [
            "/users//jane",
            "/groups//a",
            "/groups//b",
            "authentication.k8s.io/userextras/acme.com/project/shop",
            "authentication.k8s.io/uids//7"
        ]
    );
    let user = wanted.user();
    assert_eq!(user.groups, ["a", "b", "system:authenticated"]);
    assert_eq!(user.extra["acme.com/project"], ["shop"]);
    let account =
        read(&[("impersonate-user", "system:serviceaccount:n:s")]).expect("valid").expect("present");
    assert_eq!(account.targets()[0].resource, "serviceaccounts");
    assert!(account.user().is_in("system:serviceaccounts:n"));
}

proptest! {
    #[test]
    fn no_text_is_a_token(text in ".{0,200}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,60}", 3)) {
        let tokens = tokens(&KeyPair::generate().expect("a key"));
        let objects = Objects::with(PRESENT);
        prop_assert!(tokens.verify(&text, &[], &objects, at(0)).is_err());
        prop_assert!(tokens.verify(&parts.join("."), &[], &objects, at(0)).is_err());
    }
}
