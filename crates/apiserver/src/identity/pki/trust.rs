//! Whom the server trusts at a moment: connections are accepted with it, and judged by it when it changes.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;

use super::authority::{Authority, Rotation};
use super::certificate::is_signed_by;
use super::{PkiError, ServingCertificate};

/// The authorities of clients, and TLS that verifies by them.
pub struct Trust {
    /// Client certificates of these authorities are verified, and not demanded. ALPN offers HTTP/2 and
    /// HTTP/1.1.
    pub tls: Arc<rustls::ServerConfig>,
    /// Public keys, as uncompressed points.
    authorities: Vec<Vec<u8>>,
}

impl Trust {
    pub(super) fn new(
        clients: &Rotation,
        front_proxies: &Rotation,
        serving: Arc<ServingCertificate>,
    ) -> Result<Self, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let all: Vec<&Arc<Authority>> = clients.all().chain(front_proxies.all()).collect();
        for authority in &all {
            roots.add(authority.der.clone())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(serving);
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let authorities = all.iter().map(|authority| authority.public_key().to_vec()).collect();
        Ok(Trust { tls: Arc::new(tls), authorities })
    }

    /// Whether a certificate is still of an authority that is trusted.
    pub fn issued(&self, certificate: &CertificateDer<'_>) -> bool {
        self.authorities.iter().any(|key| is_signed_by(certificate, key))
    }
}
