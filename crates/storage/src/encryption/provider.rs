//! What encrypts and decrypts one value, and how its stored form is told from others'.

use std::sync::Arc;

use bytes::Bytes;

use super::aes_gcm::{GcmError, GcmKey, Seed};
use super::kms::{self, KmsError, KmsProvider};

/// What every encrypted value begins with.
pub const ENCRYPTED_PREFIX: &[u8] = b"k8s:enc:";
pub(super) const AES_GCM_PREFIX: &str = "k8s:enc:aesgcm:v1:";
/// Values under the keys of this machine's key file: as upstream's `kms`, with the seed's name in the
/// place of the encrypted seed.
pub(super) const LOCAL_PREFIX: &str = "k8s:enc:sampan:v1:";

/// Why a value cannot be read or written. In upstream's words where it has them.
#[derive(Debug, thiserror::Error)]
pub enum TransformError {
    #[error("no matching prefix found")]
    NoPrefix,
    #[error("identity transformer tried to read encrypted data")]
    Identity,
    #[error("no matching key was found for the provided AES transformer")]
    NoAesKey,
    #[error("it was encrypted with the key {name:?}, which is not in the key file")]
    NoLocalKey { name: String },
    #[error(transparent)]
    Value(#[from] GcmError),
    #[error(transparent)]
    Kms(#[from] KmsError),
}

/// A value that was decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub value: Bytes,
    /// It would be stored in another way now.
    pub stale: bool,
}

/// A key with the name under which values refer to it.
pub struct Named<K> {
    pub name: String,
    pub key: K,
}

/// One entry of a resource's `providers`.
pub enum Provider {
    /// As it is.
    Identity,
    /// The first key writes.
    AesGcm(Vec<Named<GcmKey>>),
    /// The keys of the key file; the first one writes.
    Local(Vec<Named<Seed>>),
    Kms(Arc<KmsProvider>),
}

impl Provider {
    /// What its values begin with; metrics name it by that.
    pub fn prefix(&self) -> &'static str {
        match self {
            Provider::Identity => "",
            Provider::AesGcm(_) => AES_GCM_PREFIX,
            Provider::Local(_) => LOCAL_PREFIX,
            Provider::Kms(_) => kms::PREFIX,
        }
    }

    /// The rest of a value that it is meant for.
    fn own<'a>(&self, stored: &'a [u8]) -> Option<&'a [u8]> {
        let rest = stored.strip_prefix(self.prefix().as_bytes())?;
        match self {
            Provider::Kms(kms) => named(rest, kms.name()),
            Provider::Identity | Provider::AesGcm(_) | Provider::Local(_) => Some(rest),
        }
    }

    fn seal(&self, plain: &Bytes, authenticated: &[u8]) -> Result<Bytes, TransformError> {
        let mut out = self.prefix().as_bytes().to_vec();
        let mut name = |name: &str| {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
        };
        match self {
            Provider::Identity => return Ok(plain.clone()),
            Provider::AesGcm(keys) => {
                let first = keys.first().ok_or(TransformError::NoAesKey)?;
                name(&first.name);
                first.key.seal(plain, authenticated, &mut out)?;
            }
            Provider::Local(keys) => {
                let first = keys.first().ok_or_else(|| TransformError::NoLocalKey { name: String::new() })?;
                name(&first.name);
                first.key.seal(plain, authenticated, &mut out)?;
            }
            Provider::Kms(kms) => {
                name(kms.name());
                kms.seal(plain, authenticated, &mut out)?;
            }
        }
        Ok(out.into())
    }

    /// The value of what is stored, `rest` without the prefix.
    async fn open(
        &self,
        stored: &Bytes,
        rest: &[u8],
        authenticated: &[u8],
    ) -> Result<Opened, TransformError> {
        match self {
            Provider::Identity if stored.starts_with(ENCRYPTED_PREFIX) => Err(TransformError::Identity),
            Provider::Identity => Ok(Opened { value: stored.clone(), stale: false }),
            Provider::AesGcm(keys) => {
                let opened = with_key(keys, rest, |key, data| key.open(data, authenticated));
                opened.unwrap_or(Err(TransformError::NoAesKey))
            }
            Provider::Local(keys) => {
                let opened = with_key(keys, rest, |key, data| key.open(data, authenticated));
                opened.unwrap_or_else(|| {
                    let name = rest.split(|byte| *byte == b':').next().unwrap_or_default();
                    Err(TransformError::NoLocalKey { name: String::from_utf8_lossy(name).into_owned() })
                })
            }
            Provider::Kms(kms) => {
                let (value, stale) = kms.open(rest, authenticated).await?;
                Ok(Opened { value: value.into(), stale })
            }
        }
    }
}

/// The key of a key file with which a stored value is encrypted.
pub fn local_key(stored: &[u8]) -> Option<&str> {
    let rest = stored.strip_prefix(LOCAL_PREFIX.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b':')?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// What follows `name:`.
fn named<'a>(rest: &'a [u8], name: &str) -> Option<&'a [u8]> {
    rest.strip_prefix(name.as_bytes())?.strip_prefix(b":")
}

/// Opens a value with the key that it names; `None` where there is none of that name. Several keys
/// may have one name: then whichever opens it.
fn with_key<K>(
    keys: &[Named<K>],
    rest: &[u8],
    open: impl Fn(&K, &[u8]) -> Result<Vec<u8>, GcmError>,
) -> Option<Result<Opened, TransformError>> {
    let mut failure = None;
    for (index, key) in keys.iter().enumerate() {
        let Some(data) = named(rest, &key.name) else { continue };
        match open(&key.key, data) {
            Ok(value) => return Some(Ok(Opened { value: value.into(), stale: index != 0 })),
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    failure.map(|error| Err(error.into()))
}

/// The providers of one resource: the first one writes, all of them read.
pub struct Providers(pub Vec<Arc<Provider>>);

impl Providers {
    /// What writes.
    pub fn writer(&self) -> Option<&Provider> {
        self.0.first().map(|provider| &**provider)
    }

    /// The stored form of a value. `key` is where it will be.
    pub fn seal(&self, key: &str, plain: &Bytes) -> Result<Bytes, TransformError> {
        self.writer().unwrap_or(&Provider::Identity).seal(plain, key.as_bytes())
    }

    /// The value of what is stored under `key`.
    pub async fn open(&self, key: &str, stored: &Bytes) -> Result<Opened, TransformError> {
        let mut failure = None;
        for (index, provider) in self.0.iter().enumerate() {
            let Some(rest) = provider.own(stored) else { continue };
            match provider.open(stored, rest, key.as_bytes()).await {
                Ok(opened) => {
                    return Ok(Opened { value: opened.value, stale: opened.stale || index != 0 });
                }
                // It may stand before what can read the value.
                Err(TransformError::Identity) => {}
                // Another one may have the same prefix and the right key.
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        Err(failure.unwrap_or(TransformError::NoPrefix))
    }
}
