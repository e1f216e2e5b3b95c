//! A revisioned key-value store with compare-and-swap on revision and a watch.
//!
//! Keys are Kubernetes' own (`/registry/<group>/<resource>/<namespace>/<name>`), values are opaque.
//! The semantics are those of etcd's v3 API as far as an API server uses them, so that either can
//! stand behind [`Store`]:
//!
//! - Each commit gets one revision, from one counter, strictly increasing, never reused. The writes
//!   of one [`Store::commit_all`] share theirs.
//! - A write is durable when its commit returns `Ok`, and every watch that it concerns already
//!   holds its events by then.
//! - A watch delivers every event of its prefix after its start exactly once and in the order of
//!   revisions, or ends with an explicit error. It never slows a writer down.
//! - History is a bounded window. What lies before it answers [`WatchError::Compacted`].
//!
//! It does not know objects, encodings or quotas.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub mod backup;
mod disk;
pub mod encryption;
mod error;
pub mod etcd;
pub mod grpc;
mod history;
mod limits;
mod redb_store;
mod scan;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod watch;
mod writer;

pub use disk::{Fault, FaultyFile, Operation};
pub use error::{CommitError, StoreError, WatchError, WriteFault};
pub use etcd::EtcdStore;
pub use history::HistoryBound;
pub use limits::Limits;
pub use redb_store::{Options, RedbStore};
pub use scan::{Part, Parts, Scan, ScanSender};
pub use watch::{Watch, WatchBound, WatchSender};

/// The store's clock: one tick per commit. 0 is the empty store that never took a write.
pub type Revision = u64;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 4096;
/// The largest value, in bytes. Twice what a request may carry, since stored objects gain fields.
pub const MAX_VALUE_BYTES: usize = 8 << 20;
/// The most writes of one [`Store::commit_all`].
pub const MAX_WRITES: usize = 1024;
/// The most bytes of keys and values of one [`Store::commit_all`].
pub const MAX_COMMIT_BYTES: usize = 32 << 20;

/// One key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Arc<str>,
    pub value: Bytes,
    /// The revision of the last write to this key.
    pub revision: Revision,
    /// The revision at which this key was created; a deleted and recreated key has a new one.
    pub create_revision: Revision,
    /// Writes to this key since its creation; 1 after it.
    pub version: u64,
}

/// Every entry below a prefix at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// In the byte order of their keys.
    pub entries: Vec<Entry>,
    /// Watch from here to miss nothing.
    pub revision: Revision,
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is stored.
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists and was last written at this revision.
    Revision(Revision),
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Put(Bytes),
    /// A key that does not exist is a mismatch, under every expectation.
    Delete,
    /// Nothing: the expectation alone is what the others of the commit depend on.
    Keep,
}

/// One write to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub key: Arc<str>,
    pub expect: Expect,
    pub change: Change,
}

impl Write {
    /// Stores a value under a key that must not exist.
    pub fn create(key: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Write { key: key.into(), expect: Expect::Absent, change: Change::Put(value.into()) }
    }

    /// Replaces the value that was written at `revision`.
    pub fn update(key: impl Into<Arc<str>>, revision: Revision, value: impl Into<Bytes>) -> Self {
        Write { key: key.into(), expect: Expect::Revision(revision), change: Change::Put(value.into()) }
    }

    /// Stores a value whatever is there.
    pub fn put(key: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Write { key: key.into(), expect: Expect::Any, change: Change::Put(value.into()) }
    }

    /// Deletes a key that must exist; `expect` may name its revision.
    pub fn delete(key: impl Into<Arc<str>>, expect: Expect) -> Self {
        Write { key: key.into(), expect, change: Change::Delete }
    }

    /// Changes nothing, but must hold for the other writes of its commit to happen.
    pub fn check(key: impl Into<Arc<str>>, expect: Expect) -> Self {
        Write { key: key.into(), expect, change: Change::Keep }
    }
}

/// What an event did to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put {
        /// The key did not exist before.
        created: bool,
    },
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub revision: Revision,
    pub key: Arc<str>,
    pub kind: EventKind,
    /// The value now; empty after a deletion.
    pub value: Bytes,
    /// The value before; `None` when the key was created.
    pub previous: Option<Bytes>,
}

impl Event {
    /// Bytes of the key and the values.
    pub fn weight(&self) -> usize {
        self.key.len() + self.value.len() + self.previous.as_ref().map_or(0, Bytes::len)
    }
}

/// Events in the order of revisions. All events of one revision that concern a watch are in the
/// same batch. Never empty.
pub type Batch = Vec<Arc<Event>>;

/// Figures of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub revision: Revision,
    /// The oldest revision that a watch may start after.
    pub oldest: Revision,
    /// Keys that exist.
    pub entries: u64,
    /// Bytes of existing keys and values.
    pub live_bytes: u64,
    /// The size of the store on disk, in bytes.
    pub file_bytes: u64,
    /// Events in the history window.
    pub history_events: u64,
    /// Bytes of keys and values in the history window.
    pub history_bytes: u64,
    pub watches: u64,
}

/// A revisioned key-value store. Shared as `Arc<dyn Store>`.
///
/// Reads see every commit that returned before they began.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// What one commit may hold.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Whether other processes may write to it: what this one has seen is then not all there is.
    fn is_shared(&self) -> bool {
        false
    }

    /// The entry under a key, `None` where there is none.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Every entry whose key starts with `prefix`, at one revision.
    async fn list(&self, prefix: &str) -> Result<Snapshot, StoreError>;

    /// What [`Store::list`] answers, part by part: for readers that must not hold it all in memory.
    async fn scan(&self, prefix: &str) -> Result<Scan, StoreError> {
        Ok(Scan::of(self.list(prefix).await?))
    }

    /// Does one write, durably, and answers its revision.
    ///
    /// A caller that drops this future does not know whether the write happens.
    async fn commit(&self, write: Write) -> Result<Revision, CommitError> {
        self.commit_all(vec![write]).await
    }

    /// Does all of the writes at one revision, or none of them. No key may occur twice, and one at least
    /// must change something.
    async fn commit_all(&self, writes: Vec<Write>) -> Result<Revision, CommitError>;

    /// Every event below `prefix` with a revision greater than `after`.
    ///
    /// `after` may lie in the future: the watch then begins there.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, WatchError>;

    /// The revision of the last commit. Watches already hold all events up to it, so that one that
    /// was asked after this and found empty has missed nothing up to it.
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// Forgets the history up to and including `revision`. Watches that run are not concerned.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// Gives room that is not used any more back to the file system, where the store is a file of ours.
    /// Holds up writes meanwhile.
    async fn defragment(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn stats(&self) -> Result<Stats, StoreError>;

    /// Ends the store: commits that are queued are done, later calls answer
    /// [`StoreError::Closed`], watches end.
    async fn close(&self);
}
