//! The one thread that writes.
//!
//! It takes every commit that is queued, checks each against what those before it leave behind,
//! puts them in one transaction, syncs once, publishes the events and then answers. So a commit
//! costs a share of a sync, and answers, including refusals, rest on what is on disk.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use bytes::Bytes;
use redb::{Database, ReadableTable, Table};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::disk::{Disk, ENTRIES, LIVE_BYTES, META, Meta, REVISION, Stamp};
use crate::history::History;
use crate::{Change, CommitError, Entry, Event, EventKind, Expect, Revision, StoreError, Write};

/// The most commits, and bytes, of one transaction.
const GROUP_COMMITS: usize = 1024;
const GROUP_BYTES: usize = 16 << 20;
/// Delays between attempts to learn what became of a transaction whose commit failed.
const SETTLE_FROM: Duration = Duration::from_millis(100);
const SETTLE_TO: Duration = Duration::from_secs(5);
/// When the file is looked at, whether it should be made smaller: once after writes have ended for so
/// long, and after so many bytes while they go on.
const SHRINK_IDLE: Duration = Duration::from_secs(30);
const SHRINK_BYTES: usize = 64 << 20;

/// A commit that waits for its transaction.
pub(crate) struct Request {
    pub writes: Vec<Write>,
    pub reply: oneshot::Sender<Result<Revision, CommitError>>,
    /// Its share of the queue, given back when it is answered.
    pub permit: OwnedSemaphorePermit,
}

impl Request {
    fn bytes(&self) -> usize {
        self.writes.iter().map(write_bytes).sum()
    }
}

/// Bytes of a write's key and value.
pub(crate) fn write_bytes(write: &Write) -> usize {
    let value = match &write.change {
        Change::Put(value) => value.len(),
        Change::Delete | Change::Keep => 0,
    };
    write.key.len() + value
}

pub(crate) struct Writer {
    pub disk: Arc<Disk>,
    pub history: Arc<History>,
    pub meta: Meta,
    /// Bytes that were written since the file's size was looked at.
    pub written: usize,
    /// Of a transaction whose commit failed after it had been handed to the disk: whether it is
    /// stored will be known when the file can be opened again.
    pub unsettled: Option<Staged>,
}

/// What a transaction does, to be made known once it is stored.
pub(crate) struct Staged {
    meta: Meta,
    events: Vec<Arc<Event>>,
}

type Reply = (oneshot::Sender<Result<Revision, CommitError>>, Result<Revision, CommitError>);

impl Writer {
    /// Serves until every sender is gone.
    pub fn run(mut self, requests: &Receiver<Request>) {
        let mut delay = SETTLE_FROM;
        loop {
            let first = match (&self.unsettled, self.written) {
                (None, 0) => {
                    delay = SETTLE_FROM;
                    requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
                }
                (None, _) => requests.recv_timeout(SHRINK_IDLE),
                (Some(_), _) => requests.recv_timeout(delay),
            };
            match first {
                Ok(first) => {
                    self.commit_group(take_group(first, requests));
                    if self.written >= SHRINK_BYTES {
                        self.shrink();
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.unsettled.is_none() => self.shrink(),
                Err(RecvTimeoutError::Timeout) => {
                    if self.settle().is_err() {
                        delay = (delay * 2).min(SETTLE_TO);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Gives back what deleted objects left, where that is most of the file.
    fn shrink(&mut self) {
        self.written = 0;
        if let Err(error) = self.disk.shrink(self.meta.live_bytes) {
            tracing::warn!(%error, "the store cannot be made smaller");
        }
    }

    fn commit_group(&mut self, group: Vec<Request>) {
        self.written += group.iter().map(Request::bytes).sum::<usize>() + 1;
        if let Err(error) = self.settle() {
            for request in group {
                let _ = request.reply.send(Err(error.clone().into()));
            }
            return;
        }
        let (mut pending, permits): (Vec<_>, Vec<_>) =
            group.into_iter().map(|request| ((request.writes, request.reply), request.permit)).unzip();
        let mut staged = Staged { meta: self.meta, events: Vec::new() };
        let mut results = Vec::with_capacity(pending.len());
        let written = self.disk.with("write", |database| {
            write_group(
                database,
                pending.iter().map(|(writes, _)| writes.as_slice()),
                &mut staged,
                &mut results,
            )
        });
        let replies: Vec<Reply> = match written {
            Ok(()) => {
                self.publish(staged);
                pending.drain(..).map(|(_, reply)| reply).zip(results).collect()
            }
            Err(error) => {
                tracing::error!(%error, commits = pending.len(), "commits failed");
                self.unsettled = Some(staged);
                // Most often the file opens at once, and what is stored is known again.
                if let Err(error) = self.settle() {
                    tracing::error!(%error, "the store cannot be opened again yet");
                }
                pending.drain(..).map(|(_, reply)| (reply, Err(error.clone().into()))).collect()
            }
        };
        for (reply, result) in replies {
            // A caller that is gone does not want to know.
            let _ = reply.send(result);
        }
        drop(permits);
    }

    fn publish(&mut self, staged: Staged) {
        self.meta = staged.meta;
        self.disk.acknowledge(self.meta.revision);
        self.history.publish(staged.events);
    }

    /// Finds out whether a failed transaction is stored after all, and makes it known if so.
    fn settle(&mut self) -> Result<(), StoreError> {
        if self.unsettled.is_none() {
            return Ok(());
        }
        let stored = self.disk.meta()?;
        if stored.revision < self.meta.revision {
            return Err(self.disk.lost(stored.revision, self.meta.revision));
        }
        if let Some(staged) = self.unsettled.take()
            && stored.revision > self.meta.revision
        {
            self.publish(staged);
        }
        Ok(())
    }
}

fn take_group(first: Request, requests: &Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.bytes();
    let mut group = vec![first];
    while group.len() < GROUP_COMMITS && bytes < GROUP_BYTES {
        match requests.try_recv() {
            Ok(request) => {
                bytes += request.bytes();
                group.push(request);
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    group
}

/// Does the commits in one transaction; one result for each.
fn write_group<'a>(
    database: &Database,
    group: impl Iterator<Item = &'a [Write]>,
    staged: &mut Staged,
    results: &mut Vec<Result<Revision, CommitError>>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        for writes in group {
            results.push(match check(&entries, writes)? {
                Ok(current) => Ok(apply(&mut entries, writes, current, staged)?),
                Err(refusal) => Err(refusal),
            });
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert(REVISION, staged.meta.revision)?;
        meta.insert(LIVE_BYTES, staged.meta.live_bytes)?;
    }
    if staged.events.is_empty() {
        transaction.abort()?;
    } else {
        transaction.commit()?;
    }
    Ok(())
}

/// Whether every expectation holds, and what the keys hold now.
fn check(
    entries: &Table<'_, &[u8], &[u8]>,
    writes: &[Write],
) -> Result<Result<Vec<Option<Entry>>, CommitError>, redb::Error> {
    let mut currents = Vec::with_capacity(writes.len());
    for (index, write) in writes.iter().enumerate() {
        let current = match entries.get(write.key.as_bytes())? {
            Some(stored) => Some(Stamp::decode(&write.key, stored.value())?),
            None => None,
        };
        let expected = match write.expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Revision(revision) => current.as_ref().is_some_and(|entry| entry.revision == revision),
        };
        let possible = match write.change {
            Change::Put(_) | Change::Keep => true,
            Change::Delete => current.is_some(),
        };
        if !expected && write.change == Change::Keep {
            return Ok(Err(CommitError::Check { index, current: current.map(Box::new) }));
        }
        if !(expected && possible) {
            return Ok(Err(CommitError::Mismatch { index, current: current.map(Box::new) }));
        }
        currents.push(current);
    }
    Ok(Ok(currents))
}

/// Does the writes of one commit, all at the next revision.
fn apply(
    entries: &mut Table<'_, &[u8], &[u8]>,
    writes: &[Write],
    currents: Vec<Option<Entry>>,
    staged: &mut Staged,
) -> Result<Revision, redb::Error> {
    let revision = staged.meta.revision + 1;
    for (write, current) in writes.iter().zip(currents) {
        let freed = current.as_ref().map_or(0, |entry| (entry.key.len() + entry.value.len()) as u64);
        let (kind, value) = match &write.change {
            Change::Put(value) => {
                let stamp = Stamp {
                    revision,
                    create_revision: current.as_ref().map_or(revision, |entry| entry.create_revision),
                    version: current.as_ref().map_or(1, |entry| entry.version + 1),
                };
                entries.insert(write.key.as_bytes(), stamp.encode(&write.key, value).as_slice())?;
                (EventKind::Put { created: current.is_none() }, value.clone())
            }
            Change::Delete => {
                entries.remove(write.key.as_bytes())?;
                (EventKind::Delete, Bytes::new())
            }
            Change::Keep => continue,
        };
        let taken = match write.change {
            Change::Put(_) => write_bytes(write) as u64,
            Change::Delete | Change::Keep => 0,
        };
        staged.meta.live_bytes = (staged.meta.live_bytes + taken).saturating_sub(freed);
        let previous = current.map(|entry| entry.value);
        staged.events.push(Arc::new(Event { revision, key: write.key.clone(), kind, value, previous }));
    }
    staged.meta.revision = revision;
    Ok(revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Access;
    use crate::{HistoryBound, WatchBound};

    /// A writer whose last transaction failed, after `lands` says whether the disk has it.
    fn unsettled(dir: &tempfile::TempDir, lands: bool) -> Writer {
        let (disk, meta) =
            Disk::open(&dir.path().join("store"), Access { cache_bytes: 1 << 20, faults: None })
                .expect("opens");
        let history = History::new(meta.revision, HistoryBound::default(), WatchBound::default());
        let mut staged = Staged { meta, events: Vec::new() };
        let writes = [Write::create("/a", "1"), Write::create("/b", "1")];
        let mut results = Vec::new();
        let result = disk.with("write", |database| {
            write_group(database, [&writes[..]].into_iter(), &mut staged, &mut results)?;
            if !lands {
                let transaction = database.begin_write()?;
                transaction.open_table(META)?.insert(REVISION, meta.revision)?;
                transaction.commit()?;
            }
            Ok(())
        });
        result.expect("works");
        Writer { disk: disk.into(), history: history.into(), meta, written: 0, unsettled: Some(staged) }
    }

    #[test]
    fn a_failed_commit_that_is_stored_is_made_known() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let mut writer = unsettled(&dir, true);
        let mut watch = writer.history.watch("/", 0).expect("current");
        writer.settle().expect("the disk works");
        assert_eq!(watch.try_next().map(|batch| batch.expect("open").len()), Some(2));
        assert_eq!((writer.meta.revision, writer.history.revision()), (1, 1));
        writer.settle().expect("nothing is left to do");
        assert!(watch.try_next().is_none());
    }

    #[test]
    fn a_failed_commit_that_is_not_stored_never_was() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let mut writer = unsettled(&dir, false);
        let mut watch = writer.history.watch("/", 0).expect("current");
        writer.settle().expect("the disk works");
        assert!(watch.try_next().is_none());
        assert_eq!((writer.meta.revision, writer.history.revision()), (0, 0));
    }

    #[test]
    fn a_disk_that_lost_what_it_had_stored_is_not_written_on() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let mut writer = unsettled(&dir, true);
        writer.meta.revision = 5;
        assert!(matches!(writer.settle(), Err(StoreError::Corrupt { .. })));
        assert!(writer.unsettled.is_some(), "the next write asks again");
    }
}
