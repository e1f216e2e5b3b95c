//! Keeps the caches current: one watch on the whole store.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sampan_storage::{EventKind, Snapshot, StoreError, WatchError};

use super::{Registry, StartError, definitions};

/// How long to wait for a store that cannot be reached.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// The prefix of every key.
const ROOT: &str = "/registry/";

impl Registry {
    /// Reads a snapshot of the store into the caches.
    pub(super) async fn load(&self) -> Result<(), StartError> {
        loop {
            match self.read_store().await {
                Ok(true) => break,
                Ok(false) => tracing::info!("definitions changed while the store was read; reading it again"),
                Err(StartError::Store(error @ StoreError::Unavailable { .. })) => await_store(&error).await,
                Err(error) => return Err(error),
            }
        }
        self.allocators.adopt(self);
        Ok(())
    }

    /// Reads the store part by part, since all of it at once takes as much memory again. The definitions come
    /// before what they define; answers whether they stayed the same until then.
    async fn read_store(&self) -> Result<bool, StartError> {
        let definitions = self.store.list(definitions::PREFIX).await?.entries;
        let adopted = definitions.iter().filter_map(|entry| {
            let name = definitions::name_of(&entry.key)?;
            Some((name, &entry.value))
        });
        let normalise = self.adopt_definitions(adopted);
        let (mut fillings, mut seen) = (self.caches.fillings(), Vec::with_capacity(definitions.len()));
        let mut scan = self.store.scan(ROOT).await?;
        while let Some(part) = scan.next().await {
            for entry in part? {
                fillings.read(&entry.key, &normalise.value(&entry.key, &entry.value), entry.revision)?;
                if definitions::name_of(&entry.key).is_some() {
                    seen.push(entry);
                }
            }
        }
        if seen != definitions {
            return Ok(false);
        }
        fillings.finish(scan.revision);
        Ok(true)
    }

    /// Applies the store's events until `shutdown`. Nothing else writes to the caches.
    pub async fn follow(self: Arc<Self>, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
        let mut watch = self.store.watch(ROOT, self.caches.revision()).await?;
        tokio::pin!(shutdown);
        loop {
            let batch = tokio::select! {
                batch = watch.next() => batch,
                () = &mut shutdown => return Ok(()),
            };
            match batch {
                None => return Ok(()),
                Some(Ok(batch)) => self.apply(&batch).await?,
                Some(Err(WatchError::Lagged { after })) => {
                    tracing::warn!(after, "the caches lag behind the store; resuming");
                    watch = match self.store.watch(ROOT, after).await {
                        Ok(watch) => watch,
                        Err(WatchError::Compacted { .. }) => {
                            // What was missed cannot be replayed: start from what is stored now.
                            // Watchers are told to list again, since the windows begin anew.
                            self.load().await?;
                            self.store.watch(ROOT, self.caches.revision()).await?
                        }
                        Err(error) => return Err(error.into()),
                    };
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// What is stored below a prefix, waited for while the store cannot be reached.
    pub(super) async fn stored(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        loop {
            match self.store.list(prefix).await {
                Err(error @ StoreError::Unavailable { .. }) => await_store(&error).await,
                ended => return ended,
            }
        }
    }

    async fn apply(&self, batch: &[Arc<sampan_storage::Event>]) -> Result<(), StartError> {
        for event in batch {
            let value = match event.kind {
                EventKind::Put { .. } => Some(&event.value),
                EventKind::Delete => None,
            };
            // Before its cache shows it: who sees a definition established may use it.
            if let Some(name) = definitions::name_of(&event.key) {
                self.follow_definition(name, value).await?;
            }
            if let Err(error) = self.caches.apply(&event.key, value, event.revision) {
                tracing::error!(error = %error, "an event of the store was left out");
            }
            match value {
                None => self.allocators.deleted(&event.key),
                // Where this server is the only one, it knows what it stored.
                Some(value) if self.is_shared() => self.allocators.stored(&event.key, value),
                Some(_) => {}
            }
        }
        if let Some(last) = batch.last() {
            self.caches.finish(last.revision);
        }
        Ok(())
    }
}

/// Lets some time pass for a store that cannot be reached.
async fn await_store(error: &StoreError) {
    tracing::warn!(%error, "the caches wait for the store");
    tokio::time::sleep(RELOAD_PAUSE).await;
}
