//! Names of images: `[host[:port]/]repository[:tag][@digest]`, in Docker's normalised form.
//!
//! The grammar is the distribution project's; the short forms (`nginx`, `library/nginx`) stand for
//! `docker.io/library/nginx:latest`.

use std::fmt;

use crate::digest::Digest;

const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// The longest repository name, host included, that registries take.
const MAX_NAME_LENGTH: usize = 255;
const MAX_TAG_LENGTH: usize = 128;

/// A normalised image reference. Displays in full: `docker.io/library/nginx:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference. Kubernetes shows it under the reason `InvalidImageName`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("invalid reference format: the name is empty")]
    Empty,
    #[error("invalid reference format: repository name {0:?} must be lowercase")]
    Uppercase(String),
    #[error("invalid reference format: repository name {0:?}")]
    Repository(String),
    #[error("invalid reference format: registry host {0:?}")]
    Host(String),
    #[error("invalid reference format: tag {0:?}")]
    Tag(String),
    #[error("invalid reference format: digest {0:?}")]
    Digest(String),
    #[error("repository name must not be more than {MAX_NAME_LENGTH} characters")]
    TooLong,
}

impl Reference {
    /// Parses and normalises. Without tag and digest, the tag is `latest`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > MAX_NAME_LENGTH + MAX_TAG_LENGTH + 80 {
            return Err(ReferenceError::TooLong);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let parsed = Digest::parse(digest).map_err(|_| ReferenceError::Digest(digest.to_owned()))?;
                (rest, Some(parsed))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to the host's port.
        let name_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_start..].find(':') {
            Some(colon) => (&rest[..name_start + colon], Some(&rest[name_start + colon + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let (host, repository) = split_host(name)?;
        if host.len() + 1 + repository.len() > MAX_NAME_LENGTH {
            return Err(ReferenceError::TooLong);
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Reference { host, repository, tag, digest })
    }

    /// The registry: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Host and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// The same repository, by digest only.
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Reference { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    /// `true` when the tag is `latest`: Kubernetes then pulls always unless told otherwise.
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref() == Some(DEFAULT_TAG)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Reference::parse(text)
    }
}

/// The first part of a name is a host when it has a dot, a port, capitals, or is `localhost`.
fn split_host(name: &str) -> Result<(String, String), ReferenceError> {
    let (host, repository) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_HOST, name),
    };
    check_host(host)?;
    let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase(repository.to_owned()));
    }
    if !repository.split('/').all(is_path_component) {
        return Err(ReferenceError::Repository(repository.to_owned()));
    }
    if host == DEFAULT_HOST && !repository.contains('/') {
        return Ok((host.to_owned(), format!("library/{repository}")));
    }
    Ok((host.to_owned(), repository.to_owned()))
}

/// Runs of lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let mut separator = String::new();
    let mut has_run = false;
    for char in component.chars() {
        match char {
            'a'..='z' | '0'..='9' => {
                let joined = match separator.as_str() {
                    "" | "." | "_" | "__" => true,
                    other => other.bytes().all(|byte| byte == b'-'),
                };
                if !joined || (!separator.is_empty() && !has_run) {
                    return false;
                }
                separator.clear();
                has_run = true;
            }
            '.' | '_' | '-' => separator.push(char),
            _ => return false,
        }
    }
    has_run && separator.is_empty()
}

fn check_host(host: &str) -> Result<(), ReferenceError> {
    let fail = || ReferenceError::Host(host.to_owned());
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or_else(fail)?;
        address.parse::<std::net::Ipv6Addr>().map_err(|_| fail())?;
        ("", if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(fail)?) })
    } else {
        let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
        let label_ok = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !name.split('.').all(label_ok) {
            return Err(fail());
        }
        (name, port)
    };
    if name.len() > 253 || port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with('+')) {
        return Err(fail());
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), ReferenceError> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let ok = tag.len() <= MAX_TAG_LENGTH
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    if ok { Ok(()) } else { Err(ReferenceError::Tag(tag.to_owned())) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let got = Reference::parse(text).ok().map(|reference| reference.to_string());
        assert_eq!(got.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn names_normalise_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        check("nginx", Some("docker.io/library/nginx:latest"));
        check("nginx:1.27", Some("docker.io/library/nginx:1.27"));
        check("bitnami/redis", Some("docker.io/bitnami/redis:latest"));
        check("index.docker.io/library/nginx", Some("docker.io/library/nginx:latest"));
        check("localhost/x", Some("localhost/x:latest"));
        check("localhost:5000/a/b:c", Some("localhost:5000/a/b:c"));
        check("[::1]:5000/a", Some("[::1]:5000/a:latest"));
        check("registry.k8s.io/pause:3.9", Some("registry.k8s.io/pause:3.9"));
        check(&format!("nginx@{digest}"), Some(&format!("docker.io/library/nginx@{digest}")));
        check(&format!("nginx:1@{digest}"), Some(&format!("docker.io/library/nginx:1@{digest}")));
        check("a__b", Some("docker.io/library/a__b:latest"));
        check("a--b", Some("docker.io/library/a--b:latest"));
        for bad in [
            "",
            "Nginx",
            "a/B",
            "a___b",
            "a..b",
            "-a",
            "a-",
            "a/",
            "/a",
            "a//b",
            "a:",
            "a:-x",
            "a@sha256:1",
            "a b",
            "ho_st.x/a",
            "x.y:99999/a",
            "x.y:+1/a",
            "a/../b",
            "a:b:c",
            "[::g]:1/a",
            "nginx\n",
        ] {
            check(bad, None);
        }
        check(&format!("a:{}", "x".repeat(129)), None);
        check(&"a".repeat(300), None);
    }

    proptest! {
        #[test]
        fn what_parses_displays_as_itself(text in "[a-zA-Z0-9./:@_\\-\\[\\]]{0,60}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
            }
        }

        #[test]
        fn any_text_is_answered(text in ".{0,80}") {
            let _ = Reference::parse(&text);
        }
    }
}
