use serde_json::json;

use super::*;
use crate::identity::authentication::configuration::Configured;

/// The rules of a configuration with these parts beside its issuer.
fn rules(parts: Value) -> ClaimRules {
    let mut jwt = json!({"issuer": {"url": "https://issuer", "audiences": ["a"]}});
    for (name, value) in parts.as_object().expect("parts") {
        jwt[name] = value.clone();
    }
    let text = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [jwt]});
    let configured =
        Configured::read(text.to_string().as_bytes(), &[]).unwrap_or_else(|error| panic!("{error}"));
    configured.issuers.into_iter().next().expect("an issuer").rules
}

fn user(rules: &ClaimRules, claims: Value) -> Result<User, String> {
    rules.user(claims.as_object().expect("claims")).map_err(|error| error.to_string())
}

#[test]
fn claims_are_taken_with_their_prefixes() {
    let rules = rules(json!({
        "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}, "groups": {"claim": "roles", "prefix": "r:"},
            "uid": {"claim": "oid"}},
        "claimValidationRules": [{"claim": "hd", "requiredValue": "example.com"}],
    }));
    let claims = json!({"sub": "jane", "roles": ["a", "b"], "oid": "7", "hd": "example.com"});
    let jane = user(&rules, claims.clone()).expect("a user");
    assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("oidc:jane", "7"));
    assert_eq!(jane.groups, ["r:a", "r:b", "system:authenticated"]);
    let check = |changes: Value, expected: &str| {
        let mut claims = claims.clone();
        for (name, value) in changes.as_object().expect("changes") {
            claims[name] = value.clone();
        }
        match user(&rules, claims) {
            Ok(user) => assert_eq!(user.groups.join(","), expected),
            Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{error}"),
        }
    };
    check(json!({"roles": "one"}), "r:one,system:authenticated");
    check(json!({"roles": [1]}), "groups claim");
    check(json!({"roles": vec!["g"; 1001]}), "more than");
    check(json!({"sub": 7}), "username claim");
    check(json!({"sub": ""}), "username is empty");
    check(json!({"oid": null}), "uid claim");
    check(json!({"hd": "other"}), "does not match");
    check(json!({"hd": null}), "required claim");
}

#[test]
fn addresses_must_be_verified() {
    let rules = rules(json!({"claimMappings": {"username": {"claim": "email", "prefix": ""}}}));
    let name = |claims: Value| user(&rules, claims).map(|user| user.name);
    assert_eq!(name(json!({"email": "j@x"})), Ok("j@x".to_owned()));
    assert_eq!(name(json!({"email": "j@x", "email_verified": true})), Ok("j@x".to_owned()));
    for unverified in [json!(false), json!("true"), json!(null)] {
        assert_eq!(
            name(json!({"email": "j@x", "email_verified": unverified})),
            Err("oidc: email not verified".to_owned())
        );
    }
}

#[test]
fn expressions_make_and_judge_users() {
    let rules = rules(json!({
        "claimMappings": {
            "username": {"expression": "claims.sub + '@' + claims.tenant"},
            "groups": {"expression": "claims.roles.filter(r, r != 'none')"},
            "uid": {"expression": "claims.sub"},
            "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"},
                {"key": "example.com/none", "valueExpression": "claims.?missing.orValue('')"}],
        },
        "claimValidationRules": [{"expression": "claims.level > 2", "message": "level too low"},
            {"expression": "claims.?x.orValue('') != 'y'"}],
        "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"},
            {"expression": "user.groups.all(group, !group.startsWith('system:'))"}],
    }));
    let claims = |sub: &str, roles: &[&str], level: i64, x: &str| json!({"sub": sub, "tenant": "t", "roles": roles, "level": level, "x": x});
    let jane = user(&rules, claims("jane", &["a", "none"], 3, "")).expect("a user");
    assert_eq!((jane.name.as_str(), jane.uid.as_str()), ("jane@t", "jane"));
    assert_eq!(jane.groups, ["a", "system:authenticated"]);
    assert_eq!(jane.extra, [("example.com/tenant".to_owned(), vec!["t".to_owned()])].into());
    let check = |claims: Value, expected: &str| {
        let error = user(&rules, claims).expect_err("refused");
        assert!(error.contains(expected), "{error}");
    };
    check(claims("jane", &[], 2, ""), "level too low");
    check(claims("jane", &[], 3, "y"), "resulted in false");
    check(claims("system:x", &[], 3, ""), "reserved");
    check(claims("jane", &["system:masters"], 3, ""), "user.groups.all");
    check(json!({"sub": "jane"}), "tenant");
}
