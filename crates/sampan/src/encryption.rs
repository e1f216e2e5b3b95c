//! Encryption at rest of a running server: which keys it has, when they change, and rotation.
//!
//! Without a configuration, secrets are encrypted with the keys of `<data-dir>/encryption-keys.json`,
//! which is made at the first start. With `--encryption-provider-config`, as that file says, and again
//! whenever it changes; the key file still reads what it encrypted before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::future::join_all;
use parking_lot::RwLock;
use sampan_api::table::Table;
use sampan_apiserver::reload::Followed;
use sampan_storage::Store;
use sampan_storage::encryption::config::FILE_BYTES;
use sampan_storage::encryption::{
    EncryptedStore, Encryption, GroupResource, KeyFile, Provider, Rewritten, Rules, holds_local_values,
};

use crate::admin::ROOT;
use crate::cluster_identity::SharedKeys;
use crate::config::Config;

/// The resource that is encrypted when nobody said anything.
const DEFAULT_RESOURCE: &str = "secrets";
/// How often a plugin is asked that does not answer at the start: upstream's interval.
const PLUGIN_RETRY: Duration = Duration::from_secs(10);

/// The key file of a data directory.
pub fn key_file_path(data_dir: &Path) -> PathBuf {
    data_dir.join("encryption-keys.json")
}

/// Encryption at rest, and who looks after it.
pub struct AtRest {
    pub store: Arc<EncryptedStore>,
    pub encryption: Arc<Encryption>,
    /// The configuration file, where there is one.
    file: Option<PathBuf>,
    keys: RwLock<Option<KeyFile>>,
    /// One change of the keys at a time.
    turn: tokio::sync::Mutex<()>,
}

impl AtRest {
    /// Reads the configuration and the keys, and waits until plugins answer.
    pub async fn open(config: &Config, inner: Arc<dyn Store>) -> Result<Arc<Self>> {
        let path = key_file_path(&config.data_dir);
        let mut keys = KeyFile::read(&path)?;
        let file = config.encryption_provider_config.clone();
        if keys.is_none() && file.is_none() {
            if holds_local_values(&*inner).await? {
                bail!(
                    "the key file {} is missing, and the store holds values that only its keys decrypt; put it back",
                    path.display()
                );
            }
            keys = Some(KeyFile::create(&path)?);
        }
        let local = keys.as_ref().map(|keys| Arc::new(keys.provider()));
        let rules = read_rules(file.as_deref(), local.as_ref())?;
        let resource_of = resource_of(&Table::builtin());
        let encryption = Encryption::new(Box::new(resource_of), rules, local.as_ref());
        for kms in &encryption.rules().kms {
            while let Err(error) = kms.probe().await {
                tracing::error!(provider = kms.name(), error, "waiting for the KMS plugin");
                tokio::time::sleep(PLUGIN_RETRY).await;
            }
        }
        Ok(Arc::new(AtRest {
            store: Arc::new(EncryptedStore::new(inner, encryption.clone())),
            encryption,
            file,
            keys: RwLock::new(keys),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// Asks plugins for their health, and reads the configuration whenever it changes, for as long as it
    /// is polled.
    pub async fn follow(self: Arc<Self>) {
        let pending = self.keys.read().as_ref().is_some_and(KeyFile::is_pending);
        // Of an installation that did not encrypt before, or of a rotation that was cut off.
        if self.file.is_none()
            && pending
            && let Err(error) = self.finish().await
        {
            tracing::error!(error = format!("{error:#}"), "secrets are not all stored under the current key");
        }
        let Some(file) = self.file.clone() else { return std::future::pending().await };
        // Read once more, in case it changed since the start.
        let mut followed = Followed::new(file.clone(), Vec::new());
        loop {
            let rules = self.encryption.rules();
            tokio::select! {
                _ = followed.changed() => self.reload(&file).await,
                _ = join_all(rules.kms.iter().map(|kms| kms.keep_probing())), if !rules.kms.is_empty() => {}
            }
        }
    }

    async fn reload(&self, file: &Path) {
        let _turn = self.turn.lock().await;
        let reloaded = async {
            let local = self.keys.read().as_ref().map(|keys| Arc::new(keys.provider()));
            let rules = read_rules(Some(file), local.as_ref())?;
            for kms in &rules.kms {
                kms.probe().await.map_err(anyhow::Error::msg)?;
            }
            self.encryption.set(rules, local.as_ref()).await;
            Ok::<_, anyhow::Error>(())
        };
        match reloaded.await {
            Ok(()) => tracing::info!(path = %file.display(), "the encryption configuration was read again"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "the encryption configuration is not used; the one before stays");
            }
        }
    }

    /// Makes a new key, stores everything with it, and forgets the old one. With a configuration of one's
    /// own, the keys are not ours: then whatever is not stored as it says is.
    pub async fn rotate(&self, shared: Option<&SharedKeys>) -> Result<Rewritten> {
        if self.file.is_some() {
            return self.finish().await;
        }
        if let Some(shared) = shared {
            shared.check_alone().await?;
        }
        self.begin().await?;
        // Step by step: a start after a crash in between finds that this server is one ahead.
        if let Some(shared) = shared {
            shared.publish().await?;
        }
        let rewritten = self.finish().await?;
        if let Some(shared) = shared {
            shared.publish().await?;
        }
        Ok(rewritten)
    }

    async fn begin(&self) -> Result<()> {
        let _turn = self.turn.lock().await;
        let keys = self.keys.read().clone().context("this server has no key file")?;
        self.use_keys(keys.with_new_key()?).await;
        Ok(())
    }

    /// Stores everything as the rules say, then forgets keys that nothing needs any more.
    async fn finish(&self) -> Result<Rewritten> {
        let _turn = self.turn.lock().await;
        // What was encrypted by rules of before is in the store by now: see `Encryption::set`.
        let rewritten = self.store.rewrite().await?;
        let keys = self.keys.read().clone();
        if let (None, Some(keys)) = (&self.file, keys) {
            self.use_keys(keys.without_old_keys()?).await;
        }
        tracing::info!(
            seen = rewritten.seen,
            written = rewritten.written,
            "everything is stored as configured"
        );
        Ok(rewritten)
    }

    async fn use_keys(&self, keys: KeyFile) {
        let local = Arc::new(keys.provider());
        *self.keys.write() = Some(keys);
        self.encryption.set(Rules::one(DEFAULT_RESOURCE, &local), Some(&local)).await;
    }
}

fn read_rules(file: Option<&Path>, local: Option<&Arc<Provider>>) -> Result<Rules> {
    let Some(path) = file else {
        let local = local.context("there are no keys to encrypt with")?;
        return Ok(Rules::one(DEFAULT_RESOURCE, local));
    };
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path)
        .with_context(|| format!("error opening encryption provider configuration file {path:?}"))?;
    file.take(FILE_BYTES + 1).read_to_string(&mut text).context("could not read contents")?;
    if text.is_empty() {
        bail!("encryption provider configuration file {path:?} is empty");
    }
    if text.len() as u64 > FILE_BYTES {
        bail!("encryption provider configuration file {path:?} has more than {FILE_BYTES} bytes");
    }
    Rules::parse(&text, local)
        .with_context(|| format!("error decoding encryption provider configuration file {path:?}"))
}

/// The resource of which a key is: of a built-in one by its prefix, of a custom one by the form of it. What
/// servers agree on among themselves is of none, which is empty.
pub fn resource_of(table: &Table) -> impl Fn(&str) -> GroupResource + Send + Sync + use<> {
    let mut prefixes = BTreeMap::new();
    for def in table.entries() {
        if let Some(storage) = &def.storage {
            let stored = &storage.stored_as;
            // Where upstream's configuration knows a resource under another group than it is stored as.
            let group = if stored.group == "events.k8s.io" { "" } else { &*stored.group };
            let name = GroupResource { group: group.to_owned(), resource: stored.resource.to_string() };
            prefixes.insert(storage.prefix.to_string(), name);
        }
    }
    move |key| {
        if !key.starts_with(ROOT) {
            return GroupResource { group: String::new(), resource: String::new() };
        }
        let ends = key.match_indices('/').map(|(at, _)| at).skip(2).take(2);
        if let Some(found) = ends.filter_map(|at| prefixes.get(&key[..at])).next() {
            return found.clone();
        }
        let mut parts = key.split('/').skip(2);
        let (group, resource) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        GroupResource { group: group.to_owned(), resource: resource.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_belong_to_resources() {
        let resource_of = resource_of(&Table::builtin());
        let check = |key: &str, expected: &str| assert_eq!(resource_of(key).to_string(), expected, "{key}");
        check("/registry/secrets/default/a", "secrets");
        check("/registry/services/specs/default/a", "services");
        check("/registry/services/endpoints/default/a", "endpoints");
        check("/registry/deployments/default/a", "deployments.apps");
        check("/registry/ingress/default/a", "ingresses.networking.k8s.io");
        check("/registry/events/default/a", "events");
        check("/registry/minions/a", "nodes");
        check(
            "/registry/apiextensions.k8s.io/customresourcedefinitions/a",
            "customresourcedefinitions.apiextensions.k8s.io",
        );
        check("/registry/example.com/boats/default/a", "boats.example.com");
        check(crate::cluster_identity::KEY, "");
    }
}
