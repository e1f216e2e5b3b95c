//! Certificates for requests that somebody approved (`certificates.k8s.io`): upstream's signing policy.
//!
//! The subject and the names are the request's, the usages and the life are what its object says. No
//! other extension of a request gets into a certificate. rcgen writes certificates of its own keys only
//! and one organization at most, so that this one is written here.

use std::net::IpAddr;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, SigningKey};
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use sampan_api::certificates::CertificateRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::der;

/// Certificates are valid from a little before they are made.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);
/// What lives shorter ends as late as asked; what lives longer, as long after its beginning.
const SHORT: Duration = Duration::from_secs(8 * 3600);
/// The shortest life that is granted.
const SHORTEST: Duration = Duration::from_secs(600);

const ECDSA_SHA256: &[u32] = &[1, 2, 840, 10045, 4, 3, 2];
const KEY_USAGE: &[u32] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u32] = &[2, 5, 29, 37];
const BASIC_CONSTRAINTS: &[u32] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u32] = &[2, 5, 29, 35];
const ALTERNATIVE_NAMES: &[u32] = &[2, 5, 29, 17];

/// The bit of a usage in KeyUsage (RFC 5280, 4.2.1.3).
fn key_usage(usage: &str) -> Option<u8> {
    Some(match usage {
        "signing" | "digital signature" => 0,
        "content commitment" => 1,
        "key encipherment" => 2,
        "data encipherment" => 3,
        "key agreement" => 4,
        "cert sign" => 5,
        "crl sign" => 6,
        "encipher only" => 7,
        "decipher only" => 8,
        _ => return None,
    })
}

/// The identifier of a usage in ExtendedKeyUsage.
fn extended_key_usage(usage: &str) -> Option<&'static [u32]> {
    Some(match usage {
        "any" => &[2, 5, 29, 37, 0],
        "server auth" => &[1, 3, 6, 1, 5, 5, 7, 3, 1],
        "client auth" => &[1, 3, 6, 1, 5, 5, 7, 3, 2],
        "code signing" => &[1, 3, 6, 1, 5, 5, 7, 3, 3],
        "email protection" | "s/mime" => &[1, 3, 6, 1, 5, 5, 7, 3, 4],
        "ipsec end system" => &[1, 3, 6, 1, 5, 5, 7, 3, 5],
        "ipsec tunnel" => &[1, 3, 6, 1, 5, 5, 7, 3, 6],
        "ipsec user" => &[1, 3, 6, 1, 5, 5, 7, 3, 7],
        "timestamping" => &[1, 3, 6, 1, 5, 5, 7, 3, 8],
        "ocsp signing" => &[1, 3, 6, 1, 5, 5, 7, 3, 9],
        "microsoft sgc" => &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3],
        "netscape sgc" => &[2, 16, 840, 1, 113_730, 4, 1],
        _ => return None,
    })
}

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    #[error("unrecognized usage values: {0:?}")]
    Usages(Vec<String>),
    #[error("the signer has expired: NotAfter={0}")]
    Expired(Timestamp),
    #[error("the certificate authority is not X.509")]
    Authority,
    #[error("no random numbers")]
    Random,
    #[error("the certificate could not be signed")]
    Sign(#[from] rcgen::Error),
}

/// What an approved request is granted.
#[derive(Clone, Debug)]
pub struct Grant<'a> {
    pub request: &'a CertificateRequest,
    /// `spec.usages`.
    pub usages: &'a [String],
    /// `spec.expirationSeconds`.
    pub expiration_seconds: Option<i64>,
    /// The longest life that is granted, and what is granted where nothing is asked.
    pub longest: Duration,
}

impl Grant<'_> {
    fn life(&self) -> Duration {
        match self.expiration_seconds {
            None => self.longest,
            Some(seconds) => {
                let asked = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                // As upstream: what is asked has a least, what is granted without asking has none.
                if asked > self.longest { self.longest } else { asked.max(SHORTEST) }
            }
        }
    }

    /// When the certificate begins and ends.
    fn validity(
        &self,
        authority_end: Timestamp,
        now: Timestamp,
    ) -> Result<(Timestamp, Timestamp), SigningError> {
        if authority_end <= now {
            return Err(SigningError::Expired(authority_end));
        }
        let life = SignedDuration::try_from(self.life()).unwrap_or(SignedDuration::MAX);
        let begin = now.checked_sub(BACKDATED).unwrap_or(now);
        let from = if self.life() < SHORT { now } else { begin };
        let end = from.saturating_add(life).unwrap_or(authority_end);
        Ok((begin, end.min(authority_end)))
    }
}

/// Signs with an authority, whose certificate is in DER. Answers the certificate in DER.
pub fn sign(
    grant: &Grant<'_>,
    authority: &[u8],
    key: &KeyPair,
    now: Timestamp,
) -> Result<Vec<u8>, SigningError> {
    let (_, authority) = X509Certificate::from_der(authority).map_err(|_| SigningError::Authority)?;
    let authority_end = Timestamp::from_second(authority.validity().not_after.timestamp())
        .map_err(|_| SigningError::Authority)?;
    let (begin, end) = grant.validity(authority_end, now)?;
    let mut serial = [0u8; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| SigningError::Random)?;
    let algorithm = der::sequence(&[der::identifier(ECDSA_SHA256)]);
    let body = der::sequence(&[
        der::explicit(0, &der::unsigned(&[2])),
        der::unsigned(&serial),
        algorithm.clone(),
        authority.subject().as_raw().to_vec(),
        der::sequence(&[time(begin), time(end)]),
        subject(grant.request),
        grant.request.public_key.clone(),
        der::explicit(3, &der::sequence(&extensions(grant, &authority)?)),
    ]);
    let signature = key.sign(&body)?;
    Ok(der::sequence(&[body, algorithm, der::bits(&signature)]))
}

/// Years up to 2049 have two digits (RFC 5280, 4.1.2.5).
fn time(at: Timestamp) -> Vec<u8> {
    let at = at.to_zoned(TimeZone::UTC);
    if at.year() < 2050 {
        der::value(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
    } else {
        der::value(0x18, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
    }
}

fn subject(request: &CertificateRequest) -> Vec<u8> {
    let names = request.subject.iter().map(|attribute| {
        let kind = der::identifier(&[2, 5, 4, attribute.kind.into()]);
        der::set(
            attribute.values.iter().map(|value| der::sequence(&[kind.clone(), der::text(value)])).collect(),
        )
    });
    der::sequence(&names.collect::<Vec<_>>())
}

fn extension(identifier: &[u32], critical: bool, content: &[u8]) -> Vec<u8> {
    let mut parts = vec![der::identifier(identifier)];
    if critical {
        parts.push(der::boolean(true));
    }
    parts.push(der::octets(content));
    der::sequence(&parts)
}

fn extensions(grant: &Grant<'_>, authority: &X509Certificate<'_>) -> Result<Vec<Vec<u8>>, SigningError> {
    let (mut plain, mut extended, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for usage in grant.usages {
        match (key_usage(usage), extended_key_usage(usage)) {
            (Some(bit), _) => plain.push(bit),
            (None, Some(identifier)) if !extended.contains(&identifier) => extended.push(identifier),
            (None, Some(_)) => {}
            (None, None) => unknown.push(usage.clone()),
        }
    }
    if !unknown.is_empty() {
        return Err(SigningError::Usages(unknown));
    }
    let mut all = Vec::new();
    if !plain.is_empty() {
        all.push(extension(KEY_USAGE, true, &der::flags(&plain)));
    }
    if !extended.is_empty() {
        extended.sort_unstable();
        let list: Vec<_> = extended.into_iter().map(der::identifier).collect();
        all.push(extension(EXTENDED_KEY_USAGE, false, &der::sequence(&list)));
    }
    all.push(extension(BASIC_CONSTRAINTS, true, &der::sequence(&[])));
    all.push(extension(
        AUTHORITY_KEY,
        false,
        &der::sequence(&[der::value(0x80, &key_identifier(authority))]),
    ));
    let names = alternative_names(grant.request);
    if !names.is_empty() {
        let nameless = grant.request.subject.is_empty();
        all.push(extension(ALTERNATIVE_NAMES, nameless, &der::sequence(&names)));
    }
    Ok(all)
}

/// The authority's own identifier of its key, or else the usual one.
fn key_identifier(authority: &X509Certificate<'_>) -> Vec<u8> {
    use x509_parser::extensions::ParsedExtension;
    let own = authority.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
        _ => None,
    });
    own.unwrap_or_else(|| {
        let key = &authority.public_key().subject_public_key.data;
        digest::digest(&digest::SHA256, key).as_ref()[..20].to_vec()
    })
}

fn alternative_names(request: &CertificateRequest) -> Vec<Vec<u8>> {
    let texts = |tag: u8, names: &[String]| -> Vec<Vec<u8>> {
        names.iter().map(|name| der::value(0x80 | tag, name.as_bytes())).collect()
    };
    let mut names = texts(2, &request.dns_names);
    names.extend(texts(1, &request.emails));
    names.extend(request.addresses.iter().map(|address| match address {
        IpAddr::V4(address) => der::value(0x87, &address.octets()),
        IpAddr::V6(address) => der::value(0x87, &address.octets()),
    }));
    names.extend(texts(6, &request.uris));
    names
}

#[cfg(test)]
mod tests;
