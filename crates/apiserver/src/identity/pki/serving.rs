//! Certificates that can be exchanged while connections are open: the server's, and the one with which
//! it asks others.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
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

impl ResolvesClientCert for ServingCertificate {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let current = self.current();
        current.key.choose_scheme(schemes).is_some().then_some(current)
    }

    fn has_certs(&self) -> bool {
        true
    }
}
