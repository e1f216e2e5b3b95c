//! Where an etcd cluster is: `etcd://host:2379,host:2379`, or with TLS `etcds://…` or `https://…`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::grpc::{Endpoint, TlsFiles};

const DEFAULT_PORT: &str = "2379";

/// Why this is no place of an etcd cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("{0:?} has no scheme; write etcd://HOST:PORT or, with TLS, etcds://HOST:PORT")]
    Scheme(String),
    #[error("{0:?} is not HOST:PORT")]
    Host(String),
    #[error("{0} needs the authority of etcd's certificates (--etcd-cafile)")]
    NoAuthority(String),
    #[error("a client certificate needs its key, and a key its certificate")]
    HalfIdentity,
}

/// Reads a list of members. `files` are for those with TLS.
pub fn endpoints(
    text: &str,
    authority: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Vec<Endpoint>, AddressError> {
    let (mut tls, mut rest) = scheme(text)?;
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(AddressError::HalfIdentity),
    };
    let files = authority.map(|authority| Arc::new(TlsFiles { authority, identity }));
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (member, after) = rest.split_once(',').unwrap_or((rest, ""));
        rest = after;
        let member = if member.contains("://") {
            let (its_tls, member) = scheme(member)?;
            tls = its_tls;
            member
        } else {
            member
        };
        let (host, address) = split(member.trim_end_matches('/'))?;
        found.push(match (tls, &files) {
            (false, _) => Endpoint::Plain(address),
            (true, Some(files)) => Endpoint::Tls { address, host, files: files.clone() },
            (true, None) => return Err(AddressError::NoAuthority(address)),
        });
    }
    if found.is_empty() {
        return Err(AddressError::Host(text.to_owned()));
    }
    Ok(found)
}

fn scheme(text: &str) -> Result<(bool, &str), AddressError> {
    for (scheme, tls) in [("etcd://", false), ("http://", false), ("etcds://", true), ("https://", true)] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return Ok((tls, rest));
        }
    }
    Err(AddressError::Scheme(text.to_owned()))
}

/// The host alone, and with its port.
fn split(member: &str) -> Result<(String, String), AddressError> {
    let wrong = || AddressError::Host(member.to_owned());
    let (host, port) = match member.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            (host, after.strip_prefix(':').or(after.is_empty().then_some(DEFAULT_PORT)))
        }
        None => match member.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (member, Some(DEFAULT_PORT)),
        },
    };
    let port = port.filter(|port| port.parse::<u16>().is_ok_and(|port| port > 0)).ok_or_else(wrong)?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | ':');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(wrong());
    }
    let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Ok((host.to_owned(), shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_listed_after_a_scheme() {
        let shown = |text: &str| {
            let found = endpoints(text, Some("ca.crt".into()), None, None).expect("valid");
            found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown("etcd://a:1,b:2"), "http://a:1 http://b:2");
        assert_eq!(shown("http://a,http://b"), "http://a:2379 http://b:2379");
        assert_eq!(shown("etcds://a,[fd00::1]:9"), "https://a:2379 https://[fd00::1]:9");
        assert_eq!(shown("https://10.0.0.1:2379/"), "https://10.0.0.1:2379");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let error = |text: &str| endpoints(text, None, None, None).expect_err("refused");
        assert_eq!(error("a:1"), AddressError::Scheme("a:1".into()));
        assert_eq!(error("etcd://"), AddressError::Host("etcd://".into()));
        for host in ["etcd://a:x", "etcd://:1", "etcd://a b", "etcd://[::1", "etcd://a:0", "etcd://a,,b"] {
            assert!(matches!(error(host), AddressError::Host(_)), "{host}");
        }
        assert_eq!(error("etcds://a"), AddressError::NoAuthority("a:2379".into()));
        let half = endpoints("etcds://a", Some("ca".into()), Some("crt".into()), None);
        assert_eq!(half, Err(AddressError::HalfIdentity));
    }
}
