//! The store in an etcd cluster, which several servers may share.
//!
//! Keys and values are as Kubernetes lays them out. One watch follows all that happens, whoever does it,
//! and fills the window that watches here read from: so one stream serves them all, and a commit that
//! returned is in them, as [`Store`] promises. Every revision has an event, so that the window is
//! complete up to its last one without asking.
//!
//! A commit is one transaction of etcd, and happens once, also where its answer is lost: see [`slots`].
//! What is written beside the objects lies below `sampan/`, which no reader of the store sees.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::grpc::Endpoint;
use crate::history::History;
use crate::{
    CommitError, Entry, HistoryBound, Limits, MAX_KEY_BYTES, Revision, Scan, Snapshot, Stats, Store,
    StoreError, Watch, WatchBound, WatchError, Write,
};

mod address;
mod cluster;
mod commit;
mod compaction;
mod feed;
mod fresh;
mod lease;
pub mod messages;
mod read;
mod shift;
mod slots;

pub use address::{AddressError, endpoints};

use cluster::{Cluster, unavailable};
use fresh::Fresh;
use lease::Lease;
use shift::Shift;
use slots::Slots;

/// The key before all others; as an end, what is after all others.
const FIRST_KEY: &[u8] = b"\0";
/// Keys of our own, and the one by which servers agree who compacts: upstream's.
const OWN_PREFIX: &str = "sampan/";
const COMPACTION_KEY: &str = "compact_rev_key";
/// How long a commit waits for its events to arrive here, and a reader for those of others.
const ARRIVAL: Duration = Duration::from_secs(10);
/// What a transaction has beside keys and values, in bytes: names of keys again, and framing.
const ROOM: usize = 16 << 10;

/// How an [`EtcdStore`] works.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    pub history: HistoryBound,
    pub watch: WatchBound,
    /// etcd's `--max-txn-ops` and `--max-request-bytes`; these are its defaults.
    pub max_operations: usize,
    pub max_request_bytes: usize,
    /// How often history is compacted, as kube-apiserver does it; `None` leaves it to others.
    pub compact_every: Option<Duration>,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        EtcdOptions {
            history: HistoryBound::default(),
            watch: WatchBound::default(),
            max_operations: 128,
            max_request_bytes: 1536 << 10,
            compact_every: Some(Duration::from_secs(300)),
        }
    }
}

/// A [`Store`] in an etcd cluster. Dropping it ends what it does in the background.
pub struct EtcdStore {
    shared: Arc<Shared>,
    fresh: Fresh,
    /// The tasks of this store, until it is closed.
    tasks: parking_lot::Mutex<JoinSet<()>>,
}

/// What the tasks of a store share.
struct Shared {
    cluster: Cluster,
    shift: Shift,
    history: History,
    /// The revision up to which the window is complete.
    arrived: watch::Sender<Revision>,
    closed: watch::Sender<bool>,
    lease: Lease,
    slots: Slots,
    limits: Limits,
}

impl EtcdStore {
    /// Connects to a cluster; an error says why no member can be used.
    pub async fn open(endpoints: Vec<Endpoint>, options: EtcdOptions) -> Result<Self, StoreError> {
        let cluster = Cluster::new(endpoints);
        let shift = Shift::read(&cluster).await?;
        let revision = shift.seen(read::current_revision(&cluster).await?);
        let largest = options.max_request_bytes.saturating_sub(ROOM);
        let shared = Arc::new(Shared {
            cluster,
            shift,
            history: History::new(revision, options.history, options.watch),
            arrived: watch::Sender::new(revision),
            closed: watch::Sender::new(false),
            lease: Lease::default(),
            slots: Slots::new(),
            limits: Limits {
                // One is the slot's.
                writes: options.max_operations.saturating_sub(1),
                value_bytes: largest.saturating_sub(MAX_KEY_BYTES),
                commit_bytes: largest,
            },
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(feed::follow(shared.clone()));
        tasks.spawn(lease::keep_alive(shared.clone()));
        if let Some(every) = options.compact_every {
            tasks.spawn(compaction::keep_compacting(shared.clone(), every));
        }
        let (fresh, answering) = Fresh::new(shared.clone());
        tasks.spawn(answering);
        Ok(EtcdStore { shared, fresh, tasks: parking_lot::Mutex::new(tasks) })
    }

    /// Has whatever is written next be later than `revision`, for all who open the store from now on: for a
    /// cluster's state that comes from elsewhere, before it is written. Stores that are open end.
    pub async fn go_on_after(endpoints: Vec<Endpoint>, revision: Revision) -> Result<(), StoreError> {
        shift::go_on_after(&Cluster::new(endpoints), revision).await
    }
}

impl Shared {
    /// The revision of the last commit of anybody.
    async fn current_revision(&self) -> Result<Revision, StoreError> {
        Ok(self.shift.seen(read::current_revision(&self.cluster).await?))
    }

    /// Lets nobody go on.
    fn close(&self) -> bool {
        let was_closed = self.closed.send_replace(true);
        self.history.close();
        was_closed
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if *self.closed.borrow() { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Runs something that ends with the store.
    async fn open<T, E: From<StoreError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            // The sender is a field of `self`.
            _ = closed.wait_for(|closed| *closed) => Err(StoreError::Closed.into()),
            result = work => result,
        }
    }

    /// Waits until the window is complete up to a revision.
    async fn arrived(&self, revision: Revision) -> Result<(), StoreError> {
        let mut arrived = self.arrived.subscribe();
        let reached = arrived.wait_for(|arrived| *arrived >= revision);
        match tokio::time::timeout(ARRIVAL, reached).await {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::Unavailable {
                action: "be followed",
                reason: format!("what happened up to revision {revision} does not arrive"),
            }),
        }
    }
}

/// Whether a key is one of those that no reader sees.
fn is_own(key: &[u8]) -> bool {
    key.starts_with(OWN_PREFIX.as_bytes()) || key == COMPACTION_KEY.as_bytes()
}

#[async_trait]
impl Store for EtcdStore {
    fn limits(&self) -> Limits {
        self.shared.limits
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.shared.open(read::get(&self.shared, key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        self.shared.open(read::list(&self.shared, prefix)).await
    }

    async fn scan(&self, prefix: &str) -> Result<Scan, StoreError> {
        self.shared.open(read::scan(self.shared.clone(), prefix)).await
    }

    async fn commit_all(&self, writes: Vec<Write>) -> Result<Revision, CommitError> {
        self.shared.check_open()?;
        self.shared.limits.check(&writes)?;
        // In a task of its own: who goes away must not leave a slot in between.
        let committing = tokio::spawn(commit::commit(self.shared.clone(), writes));
        let revision = self.shared.open(async {
            // The task only fails when the runtime is ending.
            committing.await.unwrap_or(Err(StoreError::Closed.into()))
        });
        let revision = self.shared.shift.seen(revision.await?);
        // It is stored: however long the events of it take, there is no other answer.
        let arrival = async {
            while self.shared.arrived(revision).await.is_err() {
                tracing::warn!(revision, "a commit waits for its events");
            }
            Ok::<_, StoreError>(())
        };
        self.shared.open(arrival).await?;
        Ok(revision)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, WatchError> {
        self.shared.history.watch(prefix, after)
    }

    /// Agreed on by a majority of etcd's members: what any server acknowledged before is not later.
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.shared
            .open(async {
                let revision = self.fresh.ask().await?;
                self.shared.arrived(revision).await?;
                Ok(revision)
            })
            .await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        // What was before the shift is not in etcd.
        if let Some(revision) = self.shared.shift.etcds(revision) {
            self.shared.open(compaction::compact(&self.shared.cluster, revision)).await?;
        }
        self.shared.history.compact(revision);
        Ok(())
    }

    /// One member after the other, each of which does not answer meanwhile. Ends etcd's alarm for want of
    /// space, which holds writes up until somebody does.
    async fn defragment(&self) -> Result<(), StoreError> {
        self.shared.open(compaction::defragment(&self.shared.cluster)).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let history = self.shared.history.stats();
        self.shared
            .open(async {
                let entries = read::count(&self.shared.cluster).await?;
                let status = self.shared.cluster.ask(messages::STATUS, &[]).await;
                let status = messages::Status::decode(&status.map_err(unavailable("say how it is"))?);
                let status = status.map_err(|error| read::unreadable(&error))?;
                Ok(Stats {
                    revision: history.revision,
                    oldest: history.oldest,
                    entries,
                    live_bytes: status.used_bytes,
                    file_bytes: status.file_bytes,
                    history_events: history.events,
                    history_bytes: history.bytes,
                    watches: history.watches,
                })
            })
            .await
    }

    async fn close(&self) {
        if self.shared.close() {
            return;
        }
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        self.shared.lease.revoke(&self.shared.cluster).await;
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        self.shared.close();
    }
}
