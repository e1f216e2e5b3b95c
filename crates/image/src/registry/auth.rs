//! Credentials: which apply to an image, and what a registry's challenge asks for.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::reference::Reference;

/// The keys under which Docker's own tools save logins to Docker Hub.
const HUB_KEYS: [&str; 4] =
    ["index.docker.io", "docker.io", "registry-1.docker.io", "registry.hub.docker.com"];
const MAX_CONFIG_BYTES: usize = 1 << 20;

/// The credentials that a pull may use, by registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Auth {
    entries: Vec<(Pattern, Credentials)>,
}

/// One login.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    pub username: String,
    pub password: String,
    /// An OAuth2 refresh token, in place of a password.
    pub identity_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Why a docker configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("the docker configuration is malformed")]
    Json(#[from] serde_json::Error),
    #[error("the docker configuration has more than {MAX_CONFIG_BYTES} bytes")]
    TooLarge,
    #[error("the credentials for {0:?} are no base64 of user:password")]
    Encoding(String),
}

/// A registry and a prefix of repositories. `*` in the host stands for any part of one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pattern {
    host: String,
    port: Option<String>,
    path: String,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default, alias = "identityToken")]
    identitytoken: Option<String>,
}

impl Auth {
    /// No credentials.
    pub fn anonymous() -> Self {
        Auth::default()
    }

    /// These credentials for the registry `host[:port][/prefix]`.
    pub fn for_registry(registry: &str, username: &str, password: &str) -> Self {
        let (username, password) = (username.to_owned(), password.to_owned());
        let credentials = Credentials { username, password, identity_token: None };
        Auth { entries: vec![(Pattern::parse(registry), credentials)] }
    }

    /// Reads `config.json` (a secret of type `kubernetes.io/dockerconfigjson`) or the older
    /// `.dockercfg` (`kubernetes.io/dockercfg`), which is the inner map alone.
    pub fn from_docker_config(bytes: &[u8]) -> Result<Self, AuthError> {
        #[derive(Deserialize)]
        struct Config {
            auths: BTreeMap<String, Entry>,
        }
        if bytes.len() > MAX_CONFIG_BYTES {
            return Err(AuthError::TooLarge);
        }
        let value: serde_json::Value = serde_json::from_slice(bytes)?;
        let auths = match value.get("auths") {
            Some(_) => serde_json::from_value::<Config>(value)?.auths,
            None => serde_json::from_value(value)?,
        };
        let mut entries = Vec::new();
        for (registry, entry) in auths {
            if let Some(credentials) = entry.credentials(&registry)? {
                entries.push((Pattern::parse(&registry), credentials));
            }
        }
        Ok(Auth { entries })
    }

    /// Adds the credentials of another secret, to be tried after these.
    pub fn merge(&mut self, other: Auth) {
        self.entries.extend(other.entries);
    }

    /// What to try for an image, the most specific first.
    pub(super) fn for_image(&self, reference: &Reference) -> Vec<&Credentials> {
        let mut matching: Vec<_> =
            self.entries.iter().filter(|(pattern, _)| pattern.matches(reference)).collect();
        matching.sort_by_key(|(pattern, _)| {
            let is_exact = !pattern.host.contains('*');
            (std::cmp::Reverse(is_exact), std::cmp::Reverse(pattern.path.len()))
        });
        matching.into_iter().map(|(_, credentials)| credentials).collect()
    }
}

impl Entry {
    fn credentials(self, registry: &str) -> Result<Option<Credentials>, AuthError> {
        let fail = || AuthError::Encoding(registry.to_owned());
        let (mut username, mut password) =
            (self.username.unwrap_or_default(), self.password.unwrap_or_default());
        if let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) {
            let decoded = STANDARD.decode(auth.trim()).map_err(|_| fail())?;
            let text = String::from_utf8(decoded).map_err(|_| fail())?;
            let (user, secret) = text.split_once(':').ok_or_else(fail)?;
            username = user.to_owned();
            // Some tools pad with zero bytes.
            password = secret.trim_end_matches('\0').to_owned();
        }
        let identity_token = self.identitytoken.filter(|token| !token.is_empty());
        let is_empty = username.is_empty() && password.is_empty() && identity_token.is_none();
        Ok((!is_empty).then_some(Credentials { username, password, identity_token }))
    }
}

impl Credentials {
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.username, self.password)))
    }
}

impl Pattern {
    fn parse(key: &str) -> Self {
        let key = key.split_once("://").map_or(key, |(_, rest)| rest);
        let (authority, path) = key.split_once('/').unwrap_or((key, ""));
        let (host, port) = split_port(authority);
        // Docker saves the API's version with the address.
        let path = match path.trim_matches('/') {
            "v1" | "v2" => "",
            path => path.strip_prefix("v1/").or_else(|| path.strip_prefix("v2/")).unwrap_or(path),
        };
        Pattern { host: host.to_ascii_lowercase(), port: port.map(str::to_owned), path: path.to_owned() }
    }

    fn matches(&self, reference: &Reference) -> bool {
        let (host, port) = split_port(reference.host());
        let host = host.to_ascii_lowercase();
        let is_hub = host == "docker.io" && HUB_KEYS.contains(&self.host.as_str());
        if !(is_hub || (self.port.as_deref() == port && host_matches(&self.host, &host))) {
            return false;
        }
        let rest = reference.repository().strip_prefix(self.path.as_str());
        rest.is_some_and(|rest| self.path.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn host_matches(pattern: &str, host: &str) -> bool {
    let (patterns, labels): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    patterns.len() == labels.len()
        && patterns.iter().zip(&labels).all(|(pattern, label)| label_matches(pattern, label))
}

/// `*` stands for any run of characters, also none.
fn label_matches(pattern: &str, label: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == label };
    let Some(mut left) = label.strip_prefix(head) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// One challenge of a `WWW-Authenticate` header (RFC 9110, section 11.6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = parameters(rest)?;
        let realm = parameters.remove("realm").filter(|realm| !realm.is_empty())?;
        Some(Challenge::Bearer {
            realm,
            service: parameters.remove("service"),
            scope: parameters.remove("scope"),
        })
    }
}

/// `name="value", name=value`; nothing if it is malformed.
fn parameters(text: &str) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        found.insert(name.trim().to_ascii_lowercase(), value);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => "",
            None => return None,
        };
    }
    Some(found)
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(key: &str, image: &str, expected: bool) {
        let auth = Auth::for_registry(key, "u", "p");
        let found = !auth.for_image(&Reference::parse(image).unwrap()).is_empty();
        assert_eq!(found, expected, "{key} for {image}");
    }

    #[test]
    fn credentials_apply_to_their_registry_only() {
        check("https://index.docker.io/v1/", "nginx", true);
        check("docker.io", "nginx", true);
        check("registry.example.com", "registry.example.com/a", true);
        check("https://registry.example.com/v2/", "registry.example.com/a", true);
        check("registry.example.com", "registry.example.com:5000/a", false);
        check("registry.example.com:5000", "registry.example.com:5000/a", true);
        check("example.com", "registry.example.com/a", false);
        check("registry.example.com", "evil-registry.example.com/a", false);
        check("*.example.com", "registry.example.com/a", true);
        check("*.example.com", "a.registry.example.com/a", false);
        check("reg*ry.example.com", "registry.example.com/a", true);
        check("example.com/team", "example.com/team/a", true);
        check("example.com/team", "example.com/teammate/a", false);
        check("[::1]:5000", "[::1]:5000/a", true);
        check("docker.io", "quay.io/nginx", false);
    }

    #[test]
    fn configuration_is_read_in_both_forms() {
        let auth = STANDARD.encode("me:se:cret");
        let inner = format!(
            r#"{{"quay.io":{{"auth":"{auth}"}},"b.io":{{"username":"u","password":"p"}},"c.io":{{}}}}"#
        );
        for text in [inner.clone(), format!(r#"{{"auths":{inner},"credsStore":"x"}}"#)] {
            let auth = Auth::from_docker_config(text.as_bytes()).unwrap();
            assert_eq!(auth.entries.len(), 2);
            let image = Reference::parse("quay.io/a").unwrap();
            let [found] = auth.for_image(&image)[..] else { panic!("one login") };
            assert_eq!((found.username.as_str(), found.password.as_str()), ("me", "se:cret"));
            assert!(!format!("{auth:?}").contains("cret"));
        }
        for bad in ["", "[]", r#"{"auths":{"a":{"auth":"!"}}}"#, r#"{"a":{"auth":"YQ=="}}"#] {
            assert!(Auth::from_docker_config(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn challenges_are_read() {
        let header = r#"Bearer realm="https://auth.io/token",service="reg, one",scope="repository:a/b:pull""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.io/token".to_owned(),
            service: Some("reg, one".to_owned()),
            scope: Some("repository:a/b:pull".to_owned()),
        };
        assert_eq!(Challenge::parse(header), Some(expected));
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), Some(Challenge::Basic));
        for bad in ["", "Digest x", "Bearer", r#"Bearer realm="x"#, r#"Bearer service="x""#] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_answered(header in ".{0,100}", tail in r#"[a-z=",\\ ]{0,40}"#) {
            let _ = Challenge::parse(&header);
            let _ = Challenge::parse(&format!("Bearer {tail}"));
        }
    }
}
