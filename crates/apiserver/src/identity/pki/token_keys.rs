//! The keys of service-account tokens: the one that signs and, during a rotation, the one before it.
//!
//! `sa.key` signs. `sa-previous.key` is there for as long as a rotation lasts: what it signed is valid
//! until then.

use rcgen::KeyPair;

use super::certificate::{self, CertificateError};
use super::files::PrivateDirectory;
use super::{PkiError, ensure_key};

const KEY: &str = "sa.key";
const PREVIOUS: &str = "sa-previous.key";

/// The keys as they are now.
pub struct TokenKeys {
    pub signing: KeyPair,
    pub previous: Option<KeyPair>,
}

impl TokenKeys {
    pub(super) fn ensure(directory: &PrivateDirectory) -> Result<Self, PkiError> {
        let signing = ensure_key(directory, KEY)?;
        let previous = match directory.read(PREVIOUS)? {
            None => None,
            Some(text) => {
                let path = directory.path(PREVIOUS);
                let key =
                    certificate::read_key_pem(&text).map_err(|source| PkiError::Corrupt { path, source })?;
                // The same one is what a crash before the new one was written leaves.
                Some(key).filter(|key| key.public_key_raw() != signing.public_key_raw())
            }
        };
        Ok(TokenKeys { signing, previous })
    }

    /// Signs with a new key from now on. Where a rotation is under way, nothing is done.
    pub(super) fn begin(&mut self, directory: &PrivateDirectory) -> Result<(), PkiError> {
        if self.previous.is_none() {
            let key = KeyPair::generate().map_err(CertificateError::Make)?;
            directory.write(PREVIOUS, &self.signing.serialize_pem())?;
            directory.write(KEY, &key.serialize_pem())?;
            self.previous = Some(std::mem::replace(&mut self.signing, key));
        }
        Ok(())
    }

    /// What the previous key signed is worth nothing any more.
    pub(super) fn finish(&mut self, directory: &PrivateDirectory) -> Result<(), PkiError> {
        directory.remove(PREVIOUS)?;
        self.previous = None;
        Ok(())
    }
}
