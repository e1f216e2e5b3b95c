//! Making and reading single certificates. All keys are ECDSA P-256.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long the certificate authority lives.
pub const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates are valid from a little before they are made, for clients whose clocks are behind: at most
/// this, and never more than a tenth of their life.
const BACKDATED: Duration = Duration::from_secs(300);

/// A certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("the certificate could not be made")]
    Make(#[from] rcgen::Error),
    #[error("{0:?} is neither a DNS name nor an address")]
    Name(String),
    #[error("it holds no PEM certificate")]
    NoCertificate,
    #[error("it holds no PEM private key (PKCS #8)")]
    NoKey,
    #[error("its certificate is not X.509")]
    NotX509,
    #[error("its private key is not ECDSA P-256")]
    NotP256(#[source] rcgen::Error),
    #[error("its certificate belongs to another private key")]
    KeyMismatch,
    #[error("its certificate is not of a certificate authority")]
    NotAuthority,
}

/// Who a client certificate is for: the user's name and group.
#[derive(Clone, Copy, Debug)]
pub struct ClientSubject<'a> {
    pub common_name: &'a str,
    /// The one group (`O`) of the subject.
    pub organization: Option<&'a str>,
}

/// What a certificate certifies.
#[derive(Debug)]
pub enum Purpose<'a> {
    Server { names: &'a BTreeSet<String> },
    Client(ClientSubject<'a>),
}

/// A certificate with its private key.
#[derive(Debug)]
pub struct KeyedCertificate {
    pub der: CertificateDer<'static>,
    pub key_der: PrivatePkcs8KeyDer<'static>,
    pub certificate_pem: String,
    pub key_pem: String,
    pub facts: Facts,
}

/// What decisions need of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// DNS names and addresses.
    pub names: BTreeSet<String>,
    /// The uncompressed point, as in the key's SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
}

impl Facts {
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::NotX509)?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| CertificateError::NotX509);
        let names = certificate.subject_alternative_name().map_err(|_| CertificateError::NotX509)?;
        let names = names.map(|extension| names_of(&extension.value.general_names)).unwrap_or_default();
        Ok(Facts {
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            names,
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// When about two thirds of the life are over. Which part exactly differs by key, so that what was made
    /// at once is not renewed at once.
    pub fn renew_at(&self) -> Timestamp {
        let life = self.not_after.as_second() - self.not_before.as_second();
        let share = 620 + i64::from(self.public_key.last().copied().unwrap_or(0)) * 80 / 255;
        Timestamp::from_second(self.not_before.as_second() + life * share / 1000).unwrap_or(self.not_after)
    }

    /// Whether the life is no longer than one that was just given.
    pub fn lives_at_most(&self, life: Duration) -> bool {
        let longest = life + backdated(life);
        self.not_after.as_second() - self.not_before.as_second()
            <= i64::try_from(longest.as_secs()).unwrap_or(i64::MAX)
    }
}

fn names_of(names: &[GeneralName<'_>]) -> BTreeSet<String> {
    let address = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    };
    names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        })
        .collect()
}

/// Whether `authority_key` (an uncompressed point) signed the certificate.
pub fn is_signed_by(der: &[u8], authority_key: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, authority_key)
        .verify(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data)
        .is_ok()
}

fn backdated(life: Duration) -> Duration {
    Duration::from_secs((life / 10).min(BACKDATED).as_secs())
}

fn parameters(now: Timestamp, life: Duration) -> CertificateParams {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let mut parameters = CertificateParams::default();
    parameters.not_before = now - backdated(life);
    parameters.not_after = now + life;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
}

/// Makes the self-signed certificate of an authority.
pub fn authority(key: &KeyPair, name: &str, now: Timestamp) -> Result<String, CertificateError> {
    let mut parameters = parameters(now, CA_LIFE);
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(parameters.self_signed(key)?.pem())
}

/// Makes a key and a certificate for it.
pub fn issue(
    issuer: &Issuer<'_, KeyPair>,
    purpose: &Purpose<'_>,
    life: Duration,
    now: Timestamp,
) -> Result<KeyedCertificate, CertificateError> {
    let key = KeyPair::generate()?;
    let mut parameters = parameters(now, life);
    parameters.use_authority_key_identifier_extension = true;
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    match purpose {
        Purpose::Server { names } => {
            parameters.distinguished_name.push(DnType::CommonName, "kube-apiserver");
            parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            parameters.subject_alt_names = names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
        }
        Purpose::Client(subject) => {
            if let Some(organization) = subject.organization {
                parameters.distinguished_name.push(DnType::OrganizationName, organization);
            }
            parameters.distinguished_name.push(DnType::CommonName, subject.common_name);
            parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
    }
    let certificate = parameters.signed_by(&key, issuer)?;
    KeyedCertificate::new(certificate.pem(), key.serialize_pem())
}

fn san(name: &str) -> Result<SanType, CertificateError> {
    if let Ok(address) = name.parse() {
        return Ok(SanType::IpAddress(address));
    }
    // A wildcard label is fine in a certificate, though not in a host name.
    let host = name.strip_prefix("*.").unwrap_or(name);
    rustls::pki_types::DnsName::try_from(host).map_err(|_| CertificateError::Name(name.to_owned()))?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| CertificateError::Name(name.to_owned()))?))
}

impl KeyedCertificate {
    /// Reads a certificate and its key, which must belong together.
    pub fn new(certificate_pem: String, key_pem: String) -> Result<Self, CertificateError> {
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| CertificateError::NoCertificate)?;
        let key_der =
            PrivatePkcs8KeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| CertificateError::NoKey)?;
        let key = read_key(&key_der)?;
        let facts = Facts::read(&der)?;
        if facts.public_key != key.public_key_raw() {
            return Err(CertificateError::KeyMismatch);
        }
        Ok(KeyedCertificate { der, key_der, certificate_pem, key_pem, facts })
    }

    /// Reads one file that holds both.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let certificate = section(text, "CERTIFICATE").ok_or(CertificateError::NoCertificate)?;
        let key = section(text, "PRIVATE KEY").ok_or(CertificateError::NoKey)?;
        KeyedCertificate::new(certificate.to_owned(), key.to_owned())
    }

    pub fn to_pem(&self) -> String {
        format!("{}{}", self.certificate_pem, self.key_pem)
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key_der.clone_key())
    }
}

/// RFC 7468, with lines of 64 characters.
pub fn to_pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// The first PEM section with this label, with its boundaries.
fn section<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let end_mark = format!("-----END {label}-----");
    let start = text.find(&format!("-----BEGIN {label}-----"))?;
    let end = start + text[start..].find(&end_mark)? + end_mark.len();
    let newline = usize::from(text[end..].starts_with('\n'));
    Some(&text[start..end + newline])
}

/// Reads a P-256 private key from PKCS #8.
pub fn read_key(der: &PrivatePkcs8KeyDer<'_>) -> Result<KeyPair, CertificateError> {
    KeyPair::from_pkcs8_der_and_sign_algo(der, &rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(CertificateError::NotP256)
}

/// Reads a P-256 private key from PEM.
pub fn read_key_pem(text: &str) -> Result<KeyPair, CertificateError> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| CertificateError::NoKey)?;
    read_key(&der)
}

/// Checks that this is the certificate of an authority with this key.
pub fn check_authority(der: &[u8], key: &KeyPair) -> Result<Facts, CertificateError> {
    let facts = Facts::read(der)?;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::NotX509)?;
    if !certificate.is_ca() {
        return Err(CertificateError::NotAuthority);
    }
    if facts.public_key != key.public_key_raw() {
        return Err(CertificateError::KeyMismatch);
    }
    Ok(facts)
}
