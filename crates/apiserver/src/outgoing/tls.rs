//! Whom a client trusts, and who it says it is.

use std::io;
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Protocols;

/// Whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The authorities that this machine trusts.
    System,
    /// The authorities, or servers, of a PEM bundle.
    Bundle(Vec<u8>),
    /// Everybody's: who is reached is known otherwise, or nobody cares.
    Anyone,
}

/// The certificate that a client presents when it is asked for one.
pub type ClientIdentity = Arc<dyn ResolvesClientCert>;

/// A client that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("unable to load root certificates: unable to parse bytes as PEM block")]
    Pem,
    #[error("unable to load root certificates: no valid certificate authority data seen")]
    NoAuthority,
    #[error("TLS cannot be set up")]
    Setup(#[from] rustls::Error),
}

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));

/// Read once: it is hundreds of files or one large one.
static SYSTEM_ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(roots)
});

pub(super) fn client_config(
    trust: &Trust,
    identity: Option<ClientIdentity>,
    protocols: Protocols,
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let builder = rustls::ClientConfig::builder_with_provider(PROVIDER.clone())
        .with_safe_default_protocol_versions()?;
    let verifier = Arc::new(Verifier::new(trust)?);
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = match protocols {
        Protocols::Http1 => vec![b"http/1.1".to_vec()],
        Protocols::Any => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(Arc::new(config))
}

/// The certificates of a PEM bundle, at least one.
fn read_bundle(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read.map_err(|_| TlsError::Pem)?;
    if certificates.is_empty() {
        return Err(TlsError::Pem);
    }
    Ok(certificates)
}

/// Verifies servers by authorities, and takes a server whose very certificate is in the bundle: a
/// self-signed certificate in `caBundle` is common, and Go's clients accept it.
#[derive(Debug)]
struct Verifier {
    /// Absent where everybody is trusted, and where the machine has no authorities.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    pinned: Vec<CertificateDer<'static>>,
    anyone: bool,
}

impl Verifier {
    fn new(trust: &Trust) -> Result<Self, TlsError> {
        let (roots, pinned) = match trust {
            Trust::Anyone => {
                return Ok(Verifier { authorities: None, pinned: Vec::new(), anyone: true });
            }
            Trust::System => (SYSTEM_ROOTS.clone(), Vec::new()),
            Trust::Bundle(pem) => {
                let pinned = read_bundle(pem)?;
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(pinned.iter().cloned());
                if roots.is_empty() {
                    return Err(TlsError::NoAuthority);
                }
                (Arc::new(roots), pinned)
            }
        };
        // A machine without authorities trusts nobody, which is for the connection to say.
        let builder = WebPkiServerVerifier::builder_with_provider(roots, PROVIDER.clone());
        Ok(Verifier { authorities: builder.build().ok(), pinned, anyone: false })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.anyone {
            return Ok(ServerCertVerified::assertion());
        }
        if self.pinned.iter().any(|pinned| pinned.as_ref() == end_entity.as_ref()) {
            return verify_pinned(end_entity, name, now);
        }
        match &self.authorities {
            Some(authorities) => authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

/// Name and life time of a certificate that is trusted for itself.
fn verify_pinned(
    end_entity: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
    let (_, certificate) =
        X509Certificate::from_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
    let validity = certificate.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    Ok(ServerCertVerified::assertion())
}

/// A failed handshake in Go's words.
pub(super) fn describe(error: &io::Error) -> String {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return if error.kind() == io::ErrorKind::UnexpectedEof {
            "EOF".to_owned()
        } else {
            error.to_string()
        };
    };
    let verify = |what: &str| format!("tls: failed to verify certificate: x509: {what}");
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => verify("certificate signed by unknown authority"),
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                verify("certificate has expired or is not yet valid")
            }
            CertificateError::NotValidForName => verify("certificate is not valid for the server's name"),
            CertificateError::NotValidForNameContext { expected, presented } => {
                // What is presented is printed as rustls has it: `DnsName("a.b")`.
                let names: Vec<&str> =
                    presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name.as_str())).collect();
                verify(&format!("certificate is valid for {}, not {}", names.join(", "), expected.to_str()))
            }
            CertificateError::BadSignature => verify("certificate signed by unknown authority"),
            other => verify(&other.to_string()),
        },
        rustls::Error::InvalidMessage(_) => "http: server gave HTTP response to HTTPS client".to_owned(),
        other => format!("tls: {other}"),
    }
}
