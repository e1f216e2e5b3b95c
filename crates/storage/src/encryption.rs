//! Encryption at rest: values are encrypted on their way into a store and decrypted on their way out.
//!
//! [`EncryptedStore`] stands between the API server and any other [`Store`]. What is encrypted, and
//! with what, is decided per resource: by default secrets, with the keys of a [`KeyFile`]; else as
//! Kubernetes' `EncryptionConfiguration` says ([`config`]). Stored values have upstream's form and
//! prefixes, so that a Kubernetes API server with the same configuration reads them and writes what is
//! read here. The key that a value is stored under is authenticated with it.
//!
//! Rules are replaced while the store runs ([`Encryption::set`]); [`EncryptedStore::rewrite`] then writes
//! anew whatever is not stored as the rules say. Everything above the store, also its caches and history,
//! holds plain values; the store below, its file, its history and its backups, encrypted ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::{Store, StoreError};

pub mod aes_gcm;
pub mod config;
pub mod key_file;
pub mod kms;
pub mod provider;
mod store;

pub use config::{ConfigError, GroupResource, Rules};
pub use key_file::{KeyFile, KeyFileError};
pub use provider::{Opened, Provider, Providers, TransformError};
pub use store::{EncryptedStore, Rewritten};

/// The resource of which a key is.
pub type ResourceOf = Box<dyn Fn(&str) -> GroupResource + Send + Sync>;

/// How values are stored now. Shared by the store and those who change the rules.
pub struct Encryption {
    resource_of: ResourceOf,
    rules: RwLock<Arc<Rules>>,
    /// What reads and writes resources of which no rule speaks.
    plain: RwLock<Arc<Providers>>,
    /// Held while a value that was encrypted is on its way to the store; see [`Encryption::set`].
    on_the_way: tokio::sync::RwLock<()>,
    changed: watch::Sender<()>,
    /// What a watch cannot decrypt at the moment.
    stuck: RwLock<Option<String>>,
    counts: Mutex<BTreeMap<Count, u64>>,
}

/// What a counter counts: upstream's labels of `apiserver_storage_transformation_operations_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// `OK`, or the error's name.
    pub status: &'static str,
    /// `from_storage` or `to_storage`.
    pub direction: &'static str,
    pub prefix: &'static str,
}

impl Encryption {
    /// `local` are the keys of this server's key file, which read wherever nothing else can.
    pub fn new(resource_of: ResourceOf, rules: Rules, local: Option<&Arc<Provider>>) -> Arc<Self> {
        Arc::new(Encryption {
            resource_of,
            rules: RwLock::new(Arc::new(rules)),
            plain: RwLock::new(plain(local)),
            on_the_way: tokio::sync::RwLock::new(()),
            changed: watch::Sender::new(()),
            stuck: RwLock::new(None),
            counts: Mutex::default(),
        })
    }

    /// Replaces the rules. When this returns, nothing that was encrypted by the old ones is on its way to
    /// the store any more.
    pub async fn set(&self, rules: Rules, local: Option<&Arc<Provider>>) {
        *self.rules.write() = Arc::new(rules);
        *self.plain.write() = plain(local);
        self.changed.send_replace(());
        drop(self.on_the_way.write().await);
    }

    /// The rules at this moment.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.read().clone()
    }

    /// Why values cannot be read or written at the moment.
    pub fn failure(&self) -> Option<String> {
        let plugins: Vec<String> = self
            .rules()
            .kms
            .iter()
            .enumerate()
            .filter_map(|(index, kms)| Some(format!("kms-provider-{index}: {}", kms.failure()?)))
            .collect();
        let stuck = self.stuck.read().clone();
        let all: Vec<String> = plugins.into_iter().chain(stuck).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// What was encrypted and decrypted so far.
    pub fn counts(&self) -> Vec<(Count, u64)> {
        self.counts.lock().iter().map(|(count, number)| (*count, *number)).collect()
    }

    /// A place at which the rules change.
    fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn with_providers<T>(&self, key: &str, work: impl FnOnce(&Providers) -> T) -> T {
        let rules = self.rules();
        match rules.of(&(self.resource_of)(key)) {
            Some(providers) => work(providers),
            None => work(&self.plain.read().clone()),
        }
    }

    /// The stored form of a value.
    fn seal(&self, key: &str, plain: &Bytes) -> Result<Bytes, StoreError> {
        self.with_providers(key, |providers| {
            let sealed = providers.seal(key, plain);
            let prefix = providers.writer().map_or("", Provider::prefix);
            self.count("to_storage", prefix, sealed.is_ok());
            sealed.map_err(|error| unreadable(key, &error))
        })
    }

    /// The value of what is stored under a key, for those who read a store themselves.
    pub async fn read(&self, key: &str, stored: &Bytes) -> Result<Opened, StoreError> {
        self.open(key, stored).await
    }

    /// The value of what is stored.
    async fn open(&self, key: &str, stored: &Bytes) -> Result<Opened, StoreError> {
        let (rules, plain) = (self.rules(), self.plain.read().clone());
        let providers = rules.of(&(self.resource_of)(key)).unwrap_or(&plain);
        let opened = providers.open(key, stored).await;
        self.count("from_storage", prefix_of(stored), opened.is_ok());
        opened.map_err(|error| unreadable(key, &error))
    }

    fn count(&self, direction: &'static str, prefix: &'static str, good: bool) {
        let status = if good { "OK" } else { "Unknown" };
        let prefix = if prefix.is_empty() { "identity" } else { prefix };
        *self.counts.lock().entry(Count { status, direction, prefix }).or_default() += 1;
    }
}

fn plain(local: Option<&Arc<Provider>>) -> Arc<Providers> {
    let identity = Arc::new(Provider::Identity);
    Arc::new(Providers(std::iter::once(identity).chain(local.cloned()).collect()))
}

/// The known prefix that a stored value has.
fn prefix_of(stored: &[u8]) -> &'static str {
    let known = [provider::LOCAL_PREFIX, provider::AES_GCM_PREFIX, kms::PREFIX];
    known.into_iter().find(|prefix| stored.starts_with(prefix.as_bytes())).unwrap_or_default()
}

fn unreadable(key: &str, error: &TransformError) -> StoreError {
    StoreError::Transform { key: key.into(), reason: error.to_string() }
}

/// The digest by which files are compared without showing them.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}

/// Whether a store holds values under keys of a key file: then a missing file must not be replaced by a
/// new one.
pub async fn holds_local_values(store: &dyn Store) -> Result<bool, StoreError> {
    let mut scan = store.scan("").await?;
    while let Some(entries) = scan.next().await {
        if entries?.iter().any(|entry| entry.value.starts_with(provider::LOCAL_PREFIX.as_bytes())) {
            return Ok(true);
        }
    }
    Ok(false)
}
