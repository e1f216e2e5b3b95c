//! The embedded store: one `redb` file.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redb::{ReadableDatabase, ReadableTableMetadata};
use tokio::sync::{Semaphore, oneshot};

use crate::disk::{Access, Disk, ENTRIES, FaultyFile, META, REVISION, Stamp, text};
use crate::history::{History, HistoryBound};
use crate::writer::{Request, Writer};
use crate::{
    CommitError, Entry, Parts, Revision, Scan, Snapshot, Stats, Store, StoreError, Watch, WatchBound,
    WatchError, Write,
};

/// The queue before the writer, in KiB; each commit takes at least one.
const QUEUE_KIB: usize = 64 << 10;
/// How long a scan waits for its reader: what it reads takes room in the file for as long, whatever is
/// written meanwhile.
const SCAN_STALL: Duration = Duration::from_secs(60);

/// How a [`RedbStore`] works. The defaults serve a cluster of some nodes in little memory.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for pages of the file. Small, since readers have a cache of objects above.
    pub cache_bytes: usize,
    pub history: HistoryBound,
    pub watch: WatchBound,
    /// Of tests that break the file.
    pub faults: Option<FaultyFile>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cache_bytes: 8 << 20,
            history: HistoryBound::default(),
            watch: WatchBound::default(),
            faults: None,
        }
    }
}

/// A [`Store`] in one file, of one process.
///
/// Dropping it ends it as [`Store::close`] does, and waits for the writing thread.
pub struct RedbStore {
    disk: Arc<Disk>,
    history: Arc<History>,
    queue: Arc<Semaphore>,
    /// `None` once closed: the writer ends when it has done what was sent.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl RedbStore {
    /// Opens the store at `path`, or creates one there. Its directory must exist.
    ///
    /// Blocks: after a crash for as long as it takes to read the file once.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let access = Access { cache_bytes: options.cache_bytes, faults: options.faults };
        let (disk, meta) = Disk::open(path, access)?;
        let disk = Arc::new(disk);
        let history = Arc::new(History::new(meta.revision, options.history, options.watch));
        let (sender, receiver) = mpsc::channel();
        let writer =
            Writer { disk: disk.clone(), history: history.clone(), meta, written: 0, unsettled: None };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| StoreError::Io {
                path: path.to_owned(),
                action: "start its writer",
                reason: error.to_string(),
                full: false,
            })?;
        Ok(RedbStore {
            disk,
            history,
            queue: Arc::new(Semaphore::new(QUEUE_KIB)),
            requests: Mutex::new(Some(sender)),
            writer: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// Runs a read where it may block.
    async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Disk) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let disk = self.disk.clone();
        // The task only fails when the runtime is ending.
        tokio::task::spawn_blocking(move || operation(&disk)).await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Ends the writer after what is queued, then the watches and the file.
fn finish(disk: &Disk, history: &History, writer: &Mutex<Option<JoinHandle<()>>>) {
    // The lock is held while joining: whoever else closes returns when the store is closed.
    let mut writer = writer.lock();
    if let Some(thread) = writer.take()
        && thread.join().is_err()
    {
        tracing::error!("the store's writer panicked");
    }
    history.close();
    disk.close();
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.requests.lock().take();
        finish(&self.disk, &self.history, &self.writer);
    }
}

#[async_trait]
impl Store for RedbStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let key = key.to_owned();
        self.read(move |disk| {
            disk.with("read", |database| {
                let entries = database.begin_read()?.open_table(ENTRIES)?;
                let stored = entries.get(key.as_bytes())?;
                stored.map(|stored| Stamp::decode(&key, stored.value())).transpose()
            })
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let prefix = prefix.to_owned();
        self.read(move |disk| {
            disk.with("read", |database| {
                let transaction = database.begin_read()?;
                let mut entries = Vec::new();
                for item in transaction.open_table(ENTRIES)?.range(prefix.as_bytes()..)? {
                    let (key, stored) = item?;
                    if !key.value().starts_with(prefix.as_bytes()) {
                        break;
                    }
                    entries.push(Stamp::decode(text(key.value())?, stored.value())?);
                }
                let revision = transaction.open_table(META)?.get(REVISION)?;
                Ok(Snapshot { entries, revision: revision.map_or(0, |revision| revision.value()) })
            })
        })
        .await
    }

    async fn scan(&self, prefix: &str) -> Result<Scan, StoreError> {
        let (prefix, disk) = (prefix.to_owned(), self.disk.clone());
        let (opened, scan) = oneshot::channel();
        tokio::task::spawn_blocking(move || scan_parts(&disk, &prefix, opened));
        scan.await.unwrap_or(Err(StoreError::Closed))
    }

    async fn commit_all(&self, writes: Vec<Write>) -> Result<Revision, CommitError> {
        let bytes = self.limits().check(&writes)?;
        // At most MAX_COMMIT_BYTES, which is less than the queue.
        let share = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let permit = self.queue.clone().acquire_many_owned(share).await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let sent = match &*self.requests.lock() {
            Some(requests) => requests.send(Request { writes, reply, permit }).is_ok(),
            None => false,
        };
        if !sent {
            return Err(StoreError::Closed.into());
        }
        answer.await.unwrap_or(Err(StoreError::Closed.into()))
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, WatchError> {
        self.history.watch(prefix, after)
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.history.revision())
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.history.compact(revision);
        Ok(())
    }

    async fn defragment(&self) -> Result<(), StoreError> {
        self.read(|disk| disk.compact().map(|_| ())).await
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        let history = self.history.stats();
        self.read(move |disk| {
            let entries =
                disk.with("read", |database| Ok(database.begin_read()?.open_table(ENTRIES)?.len()?))?;
            Ok(Stats {
                revision: history.revision,
                oldest: history.oldest,
                entries,
                live_bytes: disk.meta()?.live_bytes,
                file_bytes: disk.file_bytes()?,
                history_events: history.events,
                history_bytes: history.bytes,
                watches: history.watches,
            })
        })
        .await
    }

    async fn close(&self) {
        self.requests.lock().take();
        let (disk, history, writer) = (self.disk.clone(), self.history.clone(), self.writer.clone());
        // Fails only when the runtime is ending, and then dropping the store does the same.
        let _ = tokio::task::spawn_blocking(move || finish(&disk, &history, &writer)).await;
    }
}

/// Reads everything below a prefix in one transaction, as fast as the reader takes it.
///
/// Outside the disk's lock: a slow reader must not hold up who closes the file, or opens it again after
/// an error. It is told of the error that this is to it.
fn scan_parts(disk: &Disk, prefix: &str, opened: oneshot::Sender<Result<Scan, StoreError>>) {
    let begun = disk.with("read", |database| {
        let transaction = database.begin_read()?;
        let revision = transaction.open_table(META)?.get(REVISION)?.map_or(0, |revision| revision.value());
        Ok((transaction, revision))
    });
    let (transaction, revision) = match begun {
        Ok(begun) => begun,
        Err(error) => return drop(opened.send(Err(error))),
    };
    let (parts, scan) = Scan::channel(revision);
    if opened.send(Ok(scan)).is_err() {
        return;
    }
    let runtime = tokio::runtime::Handle::current();
    let give = |part| runtime.block_on(tokio::time::timeout(SCAN_STALL, parts.send(part))).unwrap_or(false);
    let read = disk.guarded_read(|| {
        let mut collected = Parts::default();
        for item in transaction.open_table(ENTRIES)?.range(prefix.as_bytes()..)? {
            let (key, stored) = item?;
            if !key.value().starts_with(prefix.as_bytes()) {
                break;
            }
            if let Some(part) = collected.push(Stamp::decode(text(key.value())?, stored.value())?)
                && !give(Ok(part))
            {
                return Ok(false);
            }
        }
        Ok(give(Ok(collected.finish())))
    });
    match read {
        Ok(true) => drop(runtime.block_on(tokio::time::timeout(SCAN_STALL, parts.end()))),
        Ok(false) => {}
        Err(error) => drop(give(Err(error))),
    }
}
