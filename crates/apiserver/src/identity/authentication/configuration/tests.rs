use serde_json::{Value, json};

use super::*;

fn read(parts: Value) -> Result<Configured, String> {
    let mut text = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"});
    for (name, value) in parts.as_object().expect("parts") {
        text[name] = value.clone();
    }
    Configured::read(text.to_string().as_bytes(), &["https://own"]).map_err(|error| {
        match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    })
}

/// A valid issuer with some values replaced, by their pointers.
fn issuer(changes: &[(&str, Value)]) -> Value {
    let mut jwt = json!({"issuer": {"url": "https://issuer", "audiences": ["a"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}}});
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        jwt.pointer_mut(parent).expect("a parent")[name] = value.clone();
    }
    jwt
}

#[test]
fn faults_name_their_field() {
    let check = |changes: &[(&str, Value)], expected: &str| match read(json!({"jwt": [issuer(changes)]})) {
        Ok(_) => assert_eq!(expected, "", "{changes:?}"),
        Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{error}"),
    };
    check(&[], "");
    check(
        &[("/issuer/url", json!("http://issuer"))],
        "jwt[0].issuer.url: \"http://issuer\": URL scheme must be https",
    );
    check(&[("/issuer/url", json!("https://u:p@issuer"))], "username or password");
    check(&[("/issuer/url", json!("https://issuer?a=b"))], "query");
    check(&[("/issuer/url", json!("https://own"))], "disallowed issuers");
    check(&[("/issuer/discoveryURL", json!("https://issuer/"))], "must be different from url");
    check(&[("/issuer/discoveryURL", json!("https://other/x"))], "");
    check(&[("/issuer/certificateAuthority", json!("nonsense"))], "issuer.certificateAuthority");
    check(&[("/issuer/audiences", json!([]))], "at least one");
    check(&[("/issuer/audiences", json!(["a", "b"]))], "must be MatchAny");
    check(
        &[("/issuer/audiences", json!(["a", "b"])), ("/issuer/audienceMatchPolicy", json!("MatchAny"))],
        "",
    );
    check(
        &[("/issuer/audiences", json!(["a", "a"])), ("/issuer/audienceMatchPolicy", json!("MatchAny"))],
        "duplicate",
    );
    check(&[("/claimMappings/username", json!({"claim": "sub"}))], "prefix is required");
    check(&[("/claimMappings/username", json!({}))], "claim or expression is required");
    check(
        &[("/claimMappings/username", json!({"claim": "sub", "expression": "claims.sub"}))],
        "can't both be set",
    );
    check(
        &[("/claimMappings/username", json!({"expression": "claims.sub", "prefix": "x"}))],
        "prefix can't be set",
    );
    check(&[("/claimMappings/username", json!({"expression": "1"}))], "must evaluate to");
    check(&[("/claimMappings/username", json!({"expression": "user.name"}))], "compilation failed");
    check(&[("/claimMappings/username", json!({"expression": "claims.email"}))], "email_verified");
    check(&[("/claimMappings/username", json!({"expression": "claims['email']"}))], "email_verified");
    let verified = json!({"expression": "claims.?email_verified.orValue(true) ? claims.email : claims.sub"});
    check(&[("/claimMappings/username", verified)], "");
    check(&[("/claimMappings/groups", json!({"expression": "['a', claims.b]"}))], "");
    check(
        &[("/claimMappings/extra", json!([{"key": "tenant", "valueExpression": "'a'"}]))],
        "domain-prefixed",
    );
    check(
        &[("/claimMappings/extra", json!([{"key": "a.kubernetes.io/x", "valueExpression": "'a'"}]))],
        "reserved",
    );
    check(
        &[("/claimMappings/extra", json!([{"key": "Example.com/x", "valueExpression": "'a'"}]))],
        "lowercase",
    );
    check(&[("/claimValidationRules", json!([{"expression": "claims.a"}]))], "must evaluate to bool");
    check(&[("/claimValidationRules", json!([{"claim": "a", "message": "m"}]))], "message can't be set");
    check(&[("/userValidationRules", json!([{"expression": "user.nope == ''"}]))], "userValidationRules[0]");
    check(&[("/issuer/name", json!("x"))], "name");
}

#[test]
fn issuers_are_each_there_once() {
    let error = read(json!({"jwt": [issuer(&[]), issuer(&[])]})).err().unwrap_or_default();
    assert!(error.contains("jwt[1].issuer.url: duplicate value"), "{error}");
    let error = read(json!({"kind": "AuthorizationConfiguration"})).err().unwrap_or_default();
    assert!(error.contains("not AuthenticationConfiguration"), "{error}");
}

#[test]
fn anonymous_requests_are_as_told() {
    let anonymous = |value: Value| read(json!({"anonymous": value})).map(|configured| configured.anonymous);
    assert_eq!(read(json!({})).expect("valid").anonymous, None);
    assert_eq!(anonymous(json!({"enabled": false})), Ok(Some(Anonymous::Off)));
    assert_eq!(anonymous(json!({"enabled": true})), Ok(Some(Anonymous::Everywhere)));
    let paths = Anonymous::Paths(vec!["/livez".to_owned()]);
    assert_eq!(anonymous(json!({"enabled": true, "conditions": [{"path": "/livez"}]})), Ok(Some(paths)));
    assert!(anonymous(json!({"enabled": false, "conditions": [{"path": "/livez"}]})).is_err());
}
