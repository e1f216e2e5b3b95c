//! Certificate signing requests (PKCS #10, RFC 2986): what one asks for, and what each of Kubernetes'
//! signers takes.
//!
//! Whoever may create a request chooses its bytes. They are read once, here, into what decisions need;
//! a request whose signature is not of its own key is no request.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

mod signers;
#[cfg(test)]
mod tests;

pub use signers::{
    API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN, SIGNERS, fault, is_kubelet_client,
};

/// The label of a request in PEM, and of a certificate.
const REQUEST: &str = "CERTIFICATE REQUEST";
const CERTIFICATE: &str = "CERTIFICATE";
/// SHA-1 with RSA, under both of its names: nobody may trust it.
const BROKEN: [&str; 2] = ["1.2.840.113549.1.1.5", "1.3.14.3.2.29"];

/// Why some bytes are no certificate signing request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    #[error("x509: malformed certificate request: {0}")]
    Malformed(String),
    #[error("x509: cannot verify signature: algorithm unimplemented")]
    Algorithm,
    #[error("x509: cannot verify signature: insecure algorithm SHA1-RSA")]
    Insecure,
    #[error("x509: signature of the request is not of its key")]
    Signature,
}

/// One kind of attribute of a subject, with all of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// The last number of the identifier `2.5.4.x`.
    pub kind: u8,
    pub values: Vec<String>,
}

/// The kinds of attributes that a certificate takes over, in the order in which it has them: country,
/// organization, unit, locality, province, street, postal code, common name, serial number.
const KINDS: [u8; 9] = [6, 10, 11, 7, 8, 9, 17, 3, 5];
const ORGANIZATION: u8 = 10;
const COMMON_NAME: u8 = 3;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRequest {
    pub subject: Vec<Attribute>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
    /// SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
}

impl CertificateRequest {
    /// Reads `spec.request`: PEM in base64.
    pub fn read(base64: &str) -> Result<Self, RequestError> {
        CertificateRequest::from_pem(&STANDARD.decode(base64).map_err(|_| RequestError::Pem)?)
    }

    pub fn from_pem(pem: &[u8]) -> Result<Self, RequestError> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).map_err(|_| RequestError::Pem)?;
        if block.label != REQUEST {
            return Err(RequestError::Pem);
        }
        CertificateRequest::from_der(&block.contents)
    }

    pub fn from_der(der: &[u8]) -> Result<Self, RequestError> {
        let malformed = |why: &str| RequestError::Malformed(why.to_owned());
        let (rest, parsed) = X509CertificationRequest::from_der(der)
            .map_err(|error| RequestError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(malformed("trailing data"));
        }
        check_signature(&parsed)?;
        let info = &parsed.certification_request_info;
        let mut request = CertificateRequest {
            subject: attributes(&info.subject),
            public_key: info.subject_pki.raw.to_vec(),
            ..CertificateRequest::default()
        };
        for extension in parsed.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                request.add(name).ok_or_else(|| malformed("cannot parse a subject alternative name"))?;
            }
        }
        Ok(request)
    }

    /// Kinds of names that certificates do not take over are left out.
    fn add(&mut self, name: &GeneralName<'_>) -> Option<()> {
        match name {
            GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
            GeneralName::RFC822Name(email) => self.emails.push((*email).to_owned()),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let address = match bytes.len() {
                    4 => IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?),
                    16 => IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?),
                    _ => return None,
                };
                self.addresses.push(address);
            }
            _ => {}
        }
        Some(())
    }

    fn values(&self, kind: u8) -> &[String] {
        let attribute = self.subject.iter().find(|attribute| attribute.kind == kind);
        attribute.map(|attribute| attribute.values.as_slice()).unwrap_or_default()
    }

    /// Empty where there is none.
    pub fn common_name(&self) -> &str {
        self.values(COMMON_NAME).last().map(String::as_str).unwrap_or_default()
    }

    pub fn organizations(&self) -> &[String] {
        self.values(ORGANIZATION)
    }
}

fn check_signature(request: &X509CertificationRequest<'_>) -> Result<(), RequestError> {
    use x509_parser::error::X509Error;
    if BROKEN.contains(&request.signature_algorithm.algorithm.to_id_string().as_str()) {
        return Err(RequestError::Insecure);
    }
    request.verify_signature().map_err(|error| match error {
        X509Error::SignatureUnsupportedAlgorithm => RequestError::Algorithm,
        _ => RequestError::Signature,
    })
}

/// The attributes that certificates take over. Text in encodings that nobody uses any more is left out.
fn attributes(subject: &X509Name<'_>) -> Vec<Attribute> {
    let of_kind = |kind: u8| {
        let id = format!("2.5.4.{kind}");
        let all = subject.iter_attributes();
        let values = all
            .filter(|attribute| attribute.attr_type().to_id_string() == id)
            .filter_map(|attribute| attribute.as_str().ok().map(str::to_owned));
        Attribute { kind, values: values.collect() }
    };
    KINDS.into_iter().map(of_kind).filter(|attribute| !attribute.values.is_empty()).collect()
}

/// What is wrong with the PEM of `status.certificate`; it may hold a chain.
pub fn certificate_fault(pem: &[u8]) -> Option<String> {
    let mut blocks = 0;
    for block in x509_parser::pem::Pem::iter_from_buffer(pem) {
        let Ok(block) = block else { break };
        if block.label != CERTIFICATE {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if let Err(error) = block.parse_x509() {
            return Some(format!("x509: malformed certificate: {error}"));
        }
        blocks += 1;
    }
    (blocks == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

/// When the first certificate of some PEM ends, in seconds since 1970.
pub fn not_after(pem: &[u8]) -> Option<i64> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    Some(block.parse_x509().ok()?.validity().not_after.timestamp())
}

/// The usages of a request as a set.
pub fn usages<'a>(usages: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
    usages.into_iter().collect()
}
