//! The server's side of TLS: a certificate that can be exchanged while connections are open.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::KeyedCertificate;

/// Gives each new connection the current serving certificate.
#[derive(Debug)]
pub struct ServingCertificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ServingCertificate {
    pub(super) fn new(certificate: &KeyedCertificate) -> Result<Self, rustls::Error> {
        Ok(ServingCertificate { current: RwLock::new(certified(certificate)?) })
    }

    /// Connections from now on see this certificate; open ones keep theirs.
    pub(super) fn replace(&self, certificate: &KeyedCertificate) -> Result<(), rustls::Error> {
        *self.current.write() = certified(certificate)?;
        Ok(())
    }

    /// The certificate that the next connection will see.
    pub fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().clone()
    }
}

fn certified(certificate: &KeyedCertificate) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&certificate.private_key())?;
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der.clone()], key)))
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}
