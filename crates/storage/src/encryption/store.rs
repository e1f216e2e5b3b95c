//! A store that encrypts what another one keeps.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use super::Encryption;
use crate::watch::OpenBatch;
use crate::{
    Batch, Change, CommitError, Entry, Event, Limits, Revision, Scan, Snapshot, Stats, Store, StoreError,
    Watch, WatchError, Write,
};

/// Delays between attempts of a watch to decrypt what it cannot.
const RETRY_FROM: Duration = Duration::from_millis(500);
const RETRY_TO: Duration = Duration::from_secs(10);

/// A [`Store`] whose values are encrypted in another one.
pub struct EncryptedStore {
    inner: Arc<dyn Store>,
    encryption: Arc<Encryption>,
}

/// What a rewrite did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Values that were looked at.
    pub seen: u64,
    /// Values that were stored anew.
    pub written: u64,
}

impl EncryptedStore {
    pub fn new(inner: Arc<dyn Store>, encryption: Arc<Encryption>) -> Self {
        EncryptedStore { inner, encryption }
    }

    /// Writes anew every value that is stored in another way than the rules say, while others write.
    ///
    /// When this returns after [`Encryption::set`], every value is stored as the rules said then.
    pub async fn rewrite(&self) -> Result<Rewritten, StoreError> {
        let mut done = Rewritten::default();
        let mut scan = self.inner.scan("").await?;
        while let Some(entries) = scan.next().await {
            for entry in entries? {
                done.seen += 1;
                if self.encryption.open(&entry.key, &entry.value).await?.stale
                    && self.rewrite_one(entry).await?
                {
                    done.written += 1;
                }
            }
        }
        Ok(done)
    }

    /// Answers whether a write was needed.
    async fn rewrite_one(&self, mut entry: Entry) -> Result<bool, StoreError> {
        loop {
            let opened = self.encryption.open(&entry.key, &entry.value).await?;
            if !opened.stale {
                return Ok(false);
            }
            let write = Write::update(entry.key.clone(), entry.revision, opened.value);
            match self.commit(write).await {
                Ok(_) => return Ok(true),
                // Somebody else wrote it meanwhile, and thereby as the rules say, or nearly so.
                Err(CommitError::Mismatch { .. }) => match self.inner.get(&entry.key).await? {
                    Some(current) => entry = current,
                    None => return Ok(false),
                },
                Err(CommitError::Store(error)) => return Err(error),
                Err(
                    error @ (CommitError::Invalid { .. }
                    | CommitError::Count { .. }
                    | CommitError::Check { .. }
                    | CommitError::Size { .. }),
                ) => {
                    return Err(StoreError::Transform { key: entry.key, reason: error.to_string() });
                }
            }
        }
    }

    async fn open_entry(&self, entry: Entry) -> Result<Entry, StoreError> {
        let value = self.encryption.open(&entry.key, &entry.value).await?.value;
        Ok(Entry { value, ..entry })
    }
}

#[async_trait]
impl Store for EncryptedStore {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        match self.inner.get(key).await? {
            Some(entry) => self.open_entry(entry).await.map(Some),
            None => Ok(None),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.inner.list(prefix).await?;
        for entry in &mut snapshot.entries {
            entry.value = self.encryption.open(&entry.key, &entry.value).await?.value;
        }
        Ok(snapshot)
    }

    async fn scan(&self, prefix: &str) -> Result<Scan, StoreError> {
        let mut sealed = self.inner.scan(prefix).await?;
        let (sender, scan) = Scan::channel(sealed.revision);
        let encryption = self.encryption.clone();
        // Ends with the scan below it, or when the reader is gone.
        tokio::spawn(async move {
            while let Some(entries) = sealed.next().await {
                let opened = match entries {
                    Ok(entries) => open_all(&encryption, entries).await,
                    Err(error) => Err(error),
                };
                if !sender.send(opened).await {
                    return;
                }
            }
            sender.end().await;
        });
        Ok(scan)
    }

    async fn commit_all(&self, mut writes: Vec<Write>) -> Result<Revision, CommitError> {
        // Held until the writes are in the store, so that who changes the rules can wait for them.
        let _on_the_way = self.encryption.on_the_way.read().await;
        for write in &mut writes {
            if let Change::Put(value) = &mut write.change {
                *value = self.encryption.seal(&write.key, value)?;
            }
        }
        match self.inner.commit_all(writes).await {
            Err(CommitError::Mismatch { index, current: Some(current) }) => {
                let current = self.open_entry(*current).await?;
                Err(CommitError::Mismatch { index, current: Some(Box::new(current)) })
            }
            Err(CommitError::Check { index, current: Some(current) }) => {
                let current = self.open_entry(*current).await?;
                Err(CommitError::Check { index, current: Some(Box::new(current)) })
            }
            result => result,
        }
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, WatchError> {
        let watch = self.inner.watch(prefix, after).await?;
        Ok(watch.opened_by(Arc::new(Opener(self.encryption.clone()))))
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.inner.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn defragment(&self) -> Result<(), StoreError> {
        self.inner.defragment().await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.inner.stats().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

async fn open_all(encryption: &Encryption, mut entries: Vec<Entry>) -> Result<Vec<Entry>, StoreError> {
    for entry in &mut entries {
        entry.value = encryption.open(&entry.key, &entry.value).await?.value;
    }
    Ok(entries)
}

/// Decrypts the events of a watch.
struct Opener(Arc<Encryption>);

impl Opener {
    async fn event(&self, event: &Arc<Event>) -> Result<Arc<Event>, StoreError> {
        let value = match event.kind {
            crate::EventKind::Put { .. } => self.0.open(&event.key, &event.value).await?.value,
            crate::EventKind::Delete => event.value.clone(),
        };
        let previous = match &event.previous {
            Some(previous) => Some(self.0.open(&event.key, previous).await?.value),
            None => None,
        };
        // What nobody encrypted is the very same bytes.
        if value.as_ptr() == event.value.as_ptr()
            && previous.as_ref().map(|bytes| bytes.as_ptr())
                == event.previous.as_ref().map(|bytes| bytes.as_ptr())
        {
            return Ok(event.clone());
        }
        Ok(Arc::new(Event { value, previous, key: event.key.clone(), ..**event }))
    }
}

#[async_trait]
impl OpenBatch for Opener {
    /// An event that cannot be decrypted holds the watch up until it can, since what follows must not
    /// overtake it: a plugin comes back, or somebody adds a key to the rules.
    async fn open(&self, batch: &Batch) -> Batch {
        let mut delay = RETRY_FROM;
        let mut changes = self.0.changes();
        let mut opened = Vec::with_capacity(batch.len());
        while let Some(event) = batch.get(opened.len()) {
            match self.event(event).await {
                Ok(event) => {
                    opened.push(event);
                    delay = RETRY_FROM;
                }
                Err(error) => {
                    tracing::error!(%error, "the store cannot be followed until this is readable");
                    *self.0.stuck.write() = Some(error.to_string());
                    let _ = tokio::time::timeout(delay, changes.changed()).await;
                    delay = (delay * 2).min(RETRY_TO);
                }
            }
        }
        if self.0.stuck.read().is_some() {
            *self.0.stuck.write() = None;
        }
        opened
    }

    fn open_now(&self, batch: &Batch) -> Option<Batch> {
        match pin!(self.open(batch)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(batch) => Some(batch),
            Poll::Pending => None,
        }
    }
}
