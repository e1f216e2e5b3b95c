//! Bootstrap tokens: short ones for machines that join, each a secret of `kube-system`.
//!
//! See "Authenticating with Bootstrap Tokens" of Kubernetes. A token is its secret: deleting it revokes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::identity::{AUTHENTICATED_GROUP, User};

/// Where the secrets of bootstrap tokens are, and what their names begin with.
pub const NAMESPACE: &str = "kube-system";
pub const NAME_PREFIX: &str = "bootstrap-token-";
/// The type of those secrets.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group of everybody who comes with one; further ones begin with it and a colon.
const GROUP: &str = "system:bootstrappers";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// Why a token that looks like a bootstrap token is none that is valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapTokenError {
    #[error("there is no bootstrap token {0:?}")]
    Unknown(String),
    #[error("the bootstrap token {id:?} is not usable: {why}")]
    Unusable { id: String, why: &'static str },
}

/// The id and the secret of a token that looks like a bootstrap token.
pub fn split(token: &str) -> Option<(&str, &str)> {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let (id, secret) = token.split_once('.')?;
    let fits = id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && plain(id) && plain(secret);
    fits.then_some((id, secret))
}

/// The user of a token, given the secret object that has its name.
pub fn user(
    id: &str,
    secret: &str,
    object: Option<&Value>,
    now: Timestamp,
) -> Result<User, BootstrapTokenError> {
    let object = object.ok_or_else(|| BootstrapTokenError::Unknown(id.to_owned()))?;
    let unusable = |why| BootstrapTokenError::Unusable { id: id.to_owned(), why };
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Err(unusable("it is being deleted"));
    }
    if object["type"] != SECRET_TYPE {
        return Err(unusable("its secret is of another type"));
    }
    let field = |name: &str| -> Option<String> {
        let bytes = STANDARD.decode(object["data"][name].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let stored = field("token-secret").unwrap_or_default();
    // In constant time, so that an answer's delay tells nothing of the secret.
    let is_same = stored.len() == SECRET_LENGTH
        && stored.bytes().zip(secret.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0;
    if !is_same {
        return Err(unusable("its secret is another one"));
    }
    if field("token-id").as_deref() != Some(id) {
        return Err(unusable("its secret names another id"));
    }
    if is_expired(field("expiration").as_deref(), now) {
        return Err(unusable("it has expired"));
    }
    if field("usage-bootstrap-authentication").as_deref() != Some("true") {
        return Err(unusable("it is not for authentication"));
    }
    let mut user = User { name: format!("system:bootstrap:{id}"), ..User::default() };
    user.add_group(GROUP);
    for group in field("auth-extra-groups").unwrap_or_default().split(',').filter(|group| !group.is_empty()) {
        if !is_group(group) {
            return Err(unusable("it has a group that it may not have"));
        }
        user.add_group(group);
    }
    user.add_group(AUTHENTICATED_GROUP);
    Ok(user)
}

/// A token without an expiration stays; one whose expiration cannot be read is over.
fn is_expired(expiration: Option<&str>, now: Timestamp) -> bool {
    match expiration {
        None | Some("") => false,
        Some(text) => text.parse::<Timestamp>().map_or(true, |end| end <= now),
    }
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`.
fn is_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=256).contains(&rest.len())
        && rest.bytes().all(|byte| plain(byte) || matches!(byte, b':' | b'-'))
        && rest.bytes().last().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "abc123";
    const SECRET: &str = "0123456789abcdef";

    fn object(changes: &[(&str, &str)]) -> Value {
        let mut data = serde_json::Map::new();
        let usual = [("token-id", ID), ("token-secret", SECRET), ("usage-bootstrap-authentication", "true")];
        for (name, value) in usual.iter().chain(changes) {
            data.insert((*name).to_owned(), STANDARD.encode(value).into());
        }
        json!({"metadata": {"name": "bootstrap-token-abc123"}, "type": SECRET_TYPE, "data": data})
    }

    #[test]
    fn tokens_have_one_shape() {
        assert_eq!(split("abc123.0123456789abcdef"), Some((ID, SECRET)));
        for other in
            ["abc12.0123456789abcdef", "abc123.0123456789abcde", "ABC123.0123456789abcdef", "abc123", "a.b.c"]
        {
            assert_eq!(split(other), None, "{other}");
        }
    }

    #[test]
    fn a_token_is_what_its_secret_says() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let check = |object: Value, expected: Result<&[&str], &str>| {
            let user = user(ID, SECRET, Some(&object), now);
            let groups = user.as_ref().map(|user| user.groups.iter().map(String::as_str).collect::<Vec<_>>());
            match (groups, expected) {
                (Ok(groups), Ok(expected)) => assert_eq!(groups, expected),
                (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        };
        check(object(&[]), Ok(&["system:bootstrappers", "system:authenticated"]));
        let extra = "system:bootstrappers:a:b,system:bootstrappers:c-d";
        check(
            object(&[("auth-extra-groups", extra), ("expiration", "2026-01-01T00:00:01Z")]),
            Ok(&[
                "system:bootstrappers",
                "system:bootstrappers:a:b",
                "system:bootstrappers:c-d",
                "system:authenticated",
            ]),
        );
        check(object(&[("auth-extra-groups", "system:masters")]), Err("a group"));
        check(object(&[("auth-extra-groups", "system:bootstrappers:")]), Err("a group"));
        check(object(&[("expiration", "2026-01-01T00:00:00Z")]), Err("expired"));
        check(object(&[("expiration", "tomorrow")]), Err("expired"));
        check(object(&[("token-secret", "0123456789abcdeg")]), Err("another one"));
        check(object(&[("token-secret", "")]), Err("another one"));
        check(object(&[("token-id", "abc124")]), Err("another id"));
        check(object(&[("usage-bootstrap-authentication", "false")]), Err("not for authentication"));
        let mut opaque = object(&[]);
        opaque["type"] = "Opaque".into();
        check(opaque, Err("another type"));
        let mut ending = object(&[]);
        ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        check(ending, Err("being deleted"));
        assert!(matches!(user(ID, SECRET, None, now), Err(BootstrapTokenError::Unknown(_))));
    }
}
