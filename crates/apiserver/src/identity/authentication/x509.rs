//! Users of client certificates: the common name is the user, the organizations are the groups.
//!
//! The TLS layer has verified the chain, the life time and the `clientAuth` usage when the
//! connection was made. A connection may outlive its certificate, so the end of its life is checked
//! again at each request.

use jiff::Timestamp;
use ring::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{AUTHENTICATED_GROUP, User};

/// The extra key that says which credential was used.
pub(super) const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The identity of one TLS connection, read once when it is accepted.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    user: User,
    not_after: Timestamp,
    front_proxy: bool,
}

/// A verified certificate that names nobody.
#[derive(Debug, thiserror::Error)]
pub enum ClientCertificateError {
    #[error("it is not X.509")]
    NotX509,
    #[error("its subject has no common name")]
    NoCommonName,
    #[error("it expired on {0}")]
    Expired(Timestamp),
}

impl ClientCertificate {
    /// Reads the identity from the end-entity certificate of a connection whose chain is verified.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, ClientCertificateError> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| ClientCertificateError::NotX509)?;
        let subject = certificate.subject();
        let name = subject
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .filter(|name| !name.is_empty())
            .ok_or(ClientCertificateError::NoCommonName)?;
        let mut user = User { name: name.to_owned(), ..User::default() };
        for group in subject.iter_organization().filter_map(|group| group.as_str().ok()) {
            user.add_group(group);
        }
        user.add_group(AUTHENTICATED_GROUP);
        user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={}", fingerprint(der))]);
        let not_after = Timestamp::from_second(certificate.validity().not_after.timestamp())
            .map_err(|_| ClientCertificateError::NotX509)?;
        Ok(ClientCertificate { user, not_after, front_proxy: false })
    }

    /// Says that the certificate is of the authority of front proxies.
    pub fn of_front_proxy(mut self, yes: bool) -> Self {
        self.front_proxy = yes;
        self
    }

    pub fn is_front_proxy(&self) -> bool {
        self.front_proxy
    }

    /// The user, while the certificate lives.
    pub fn user(&self, now: Timestamp) -> Result<User, ClientCertificateError> {
        if self.not_after < now {
            return Err(ClientCertificateError::Expired(self.not_after));
        }
        Ok(self.user.clone())
    }
}

/// SHA-256 in lower-case hexadecimal.
fn fingerprint(der: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
