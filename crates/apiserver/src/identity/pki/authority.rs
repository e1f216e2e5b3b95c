//! One certificate authority, and its rotation.
//!
//! A rotation has two steps, so that nobody is left behind. [`Rotation::begin`] makes the next authority:
//! from then on both are trusted, client certificates come from the next one, and the server still shows a
//! certificate of the first, so that clients which know only that one go on. [`Rotation::finish`] drops the
//! first. In files, `<name>.crt` and `<name>.key` are the first's; `<name>-next.pem` holds the next one's
//! certificate and key, and is there for as long as the rotation lasts.

use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::certificate::{self, CertificateError, Facts, KeyedCertificate};
use super::files::PrivateDirectory;
use super::{PkiError, ensure_key};

/// The names of an authority's files, and the one in its certificate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub certificate: &'static str,
    pub key: &'static str,
    pub next: &'static str,
    pub common_name: &'static str,
}

/// A certificate and the key that signs with it.
pub(super) struct Authority {
    pub pem: String,
    pub der: CertificateDer<'static>,
    pub issuer: Issuer<'static, KeyPair>,
    pub facts: Facts,
}

/// An authority, and the one that is to follow it.
pub(super) struct Rotation {
    names: Names,
    pub first: Arc<Authority>,
    pub next: Option<Arc<Authority>>,
}

impl Authority {
    fn new(pem: String, key: KeyPair) -> Result<Self, CertificateError> {
        let der =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| CertificateError::NoCertificate)?;
        let facts = certificate::check_authority(&der, &key)?;
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Authority { pem, der, issuer, facts })
    }

    /// The public key, as an uncompressed point.
    pub fn public_key(&self) -> &[u8] {
        &self.facts.public_key
    }
}

impl Rotation {
    /// Reads what is there, or makes a first authority. A finish that a crash interrupted is completed.
    pub fn ensure(directory: &PrivateDirectory, names: Names, now: Timestamp) -> Result<Self, PkiError> {
        let path = directory.path(names.certificate);
        let next = match directory.read(names.next)? {
            None => None,
            Some(text) => {
                let path = directory.path(names.next);
                let corrupt = |source| PkiError::Corrupt { path: path.clone(), source };
                let both = KeyedCertificate::from_pem(&text).map_err(corrupt)?;
                let key = certificate::read_key_pem(&both.key_pem).map_err(corrupt)?;
                Some(Authority::new(both.certificate_pem, key).map_err(corrupt)?)
            }
        };
        let stored = directory.read(names.certificate)?;
        let stored_key = directory.read(names.key)?;
        if stored.is_some() && stored_key.is_none() {
            return Err(PkiError::KeyMissing { certificate: path, key: directory.path(names.key) });
        }
        // A key without a certificate is what a crash of the very first start leaves.
        let key = ensure_key(directory, names.key)?;
        if let Some(next) = &next
            && key.public_key_raw() == next.public_key()
        {
            directory.write(names.certificate, &next.pem)?;
            directory.remove(names.next)?;
            return Rotation::ensure(directory, names, now);
        }
        let pem = match stored {
            Some(pem) => pem,
            None => {
                let pem = certificate::authority(&key, names.common_name, now)?;
                directory.write(names.certificate, &pem)?;
                pem
            }
        };
        let first =
            Authority::new(pem, key).map_err(|source| PkiError::Corrupt { path: path.clone(), source })?;
        let usable = next.as_ref().unwrap_or(&first);
        if usable.facts.not_after <= now {
            return Err(PkiError::AuthorityExpired { path, not_after: usable.facts.not_after });
        }
        Ok(Rotation { names, first: Arc::new(first), next: next.map(Arc::new) })
    }

    /// Makes the next authority. Where there is one already, nothing is done.
    pub fn begin(&mut self, directory: &PrivateDirectory, now: Timestamp) -> Result<(), PkiError> {
        if self.next.is_none() {
            let key = KeyPair::generate().map_err(CertificateError::Make)?;
            let pem = certificate::authority(&key, self.names.common_name, now)?;
            directory.write(self.names.next, &format!("{pem}{}", key.serialize_pem()))?;
            self.next = Some(Arc::new(Authority::new(pem, key)?));
        }
        Ok(())
    }

    /// Drops the first authority for the next one; without one, nothing is done.
    pub fn finish(&mut self, directory: &PrivateDirectory) -> Result<(), PkiError> {
        if let Some(next) = self.next.clone() {
            // In this order: a start in between finds the next one's key, and completes it.
            directory.write(self.names.key, &next.issuer.key().serialize_pem())?;
            directory.write(self.names.certificate, &next.pem)?;
            directory.remove(self.names.next)?;
            self.first = next;
            self.next = None;
        }
        Ok(())
    }

    /// What signs the certificates of clients.
    pub fn newest(&self) -> &Arc<Authority> {
        self.next.as_ref().unwrap_or(&self.first)
    }

    /// All that are trusted.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Authority>> {
        [Some(&self.first), self.next.as_ref()].into_iter().flatten()
    }

    /// All that are trusted, in PEM.
    pub fn bundle(&self) -> String {
        self.all().map(|authority| authority.pem.as_str()).collect()
    }
}
