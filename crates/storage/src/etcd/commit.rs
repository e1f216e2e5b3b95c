//! Commits: one transaction each, done once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Shared;
use super::cluster::{Failure, Pause, WITHIN, failure, is_full};
use super::messages::{Condition, KeyValue, TXN, Txn, TxnAnswer};
use super::shift::Shift;
use super::slots::Taken;
use crate::grpc::{CallError, Code};
use crate::{Change, CommitError, Expect, Revision, StoreError, Write};

/// How long what became of a commit is asked for. Who waits for it was told before that nobody knows.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// What an answer says of a transaction.
enum Outcome {
    Done(Revision),
    Refused(CommitError),
    /// The slot is not as it was left: its lease ended, and it with it.
    SlotLost,
}

/// What became of a transaction without an answer.
enum Settled {
    Done(Revision),
    /// It did not happen and cannot any more; the slot was written at this revision.
    NotDone(Revision),
    Unknown(CallError),
}

/// Does the writes in one transaction, again while it surely did not happen and there is time. Answers the
/// revision as etcd counts.
pub async fn commit(shared: Arc<Shared>, writes: Vec<Write>) -> Result<Revision, CommitError> {
    let until = Instant::now() + WITHIN;
    let mut taken = shared.slots.take().await?;
    let mut pause = Pause::default();
    loop {
        let number = shared.slots.number();
        let lease = shared.lease.id(&shared.cluster).await?;
        let request = encode(&writes, &taken, &number, lease, shared.shift);
        let error = match shared.cluster.once(TXN, &request).await {
            Ok(answer) => match read(&answer, &writes, &taken, shared.shift) {
                Ok(Outcome::Done(revision)) => {
                    taken.give_back(revision);
                    return Ok(revision);
                }
                Ok(Outcome::Refused(error)) => {
                    let revision = taken.slot.revision;
                    taken.give_back(revision);
                    return Err(error);
                }
                Ok(Outcome::SlotLost) => {
                    taken.slot.revision = 0;
                    continue;
                }
                Err(error) => error,
            },
            Err(error) => error,
        };
        match failure(&error) {
            Failure::Refused if is_lease_lost(&error) => shared.lease.lost(lease).await,
            Failure::Refused => {
                let revision = taken.slot.revision;
                taken.give_back(revision);
                return Err(refused(&error, request.len(), &writes));
            }
            Failure::NotDone => {}
            Failure::Unclear => match settle(&shared, &taken, &number, lease).await {
                Settled::Done(revision) => {
                    taken.give_back(revision);
                    return Ok(revision);
                }
                Settled::NotDone(revision) => taken.slot.revision = revision,
                Settled::Unknown(why) => {
                    return Err(StoreError::Unknown { reason: format!("{error}; {why}") }.into());
                }
            },
        }
        if Instant::now() >= until {
            let revision = taken.slot.revision;
            taken.give_back(revision);
            return Err(StoreError::Unavailable { action: "be written", reason: error.to_string() }.into());
        }
        pause.wait().await;
    }
}

/// Finds out what became of the transaction that was to write `number`, and keeps it from happening later.
///
/// Only under the lease that the transaction had: while that lives, so does what was written under it.
async fn settle(shared: &Shared, taken: &Taken<'_>, number: &str, lease: u64) -> Settled {
    let until = Instant::now() + SETTLE_WITHIN;
    let mark = shared.slots.number();
    let mut pause = Pause::default();
    loop {
        let mut txn = Txn::default();
        let key = taken.slot.key.as_bytes();
        txn.compare(key, Condition::ModRevision(taken.slot.revision));
        txn.put(key, mark.as_bytes(), lease);
        txn.otherwise_get(key);
        let answer = shared.cluster.once(TXN, &txn.encode()).await.and_then(|answer| decode(&answer));
        let error = match answer {
            Ok(answer) if answer.succeeded => return Settled::NotDone(answer.revision),
            Ok(answer) => {
                return match answer.read.into_iter().next().flatten() {
                    Some(found) if found.value == number.as_bytes() => Settled::Done(found.mod_revision),
                    // The answer to an earlier round was lost.
                    Some(found) if found.value == mark.as_bytes() => Settled::NotDone(found.mod_revision),
                    Some(_) | None => Settled::Unknown(CallError::Protocol("what it left has ended")),
                };
            }
            Err(error) => error,
        };
        if Instant::now() >= until || is_lease_lost(&error) {
            return Settled::Unknown(error);
        }
        pause.wait().await;
    }
}

fn decode(answer: &Bytes) -> Result<TxnAnswer, CallError> {
    TxnAnswer::decode(answer).map_err(|_| CallError::Protocol("it is no answer to a transaction"))
}

fn encode(writes: &[Write], taken: &Taken<'_>, number: &str, lease: u64, shift: Shift) -> Vec<u8> {
    let mut txn = Txn::default();
    let slot = taken.slot.key.as_bytes();
    txn.compare(slot, Condition::ModRevision(taken.slot.revision));
    txn.otherwise_get(slot);
    for write in writes {
        let key = write.key.as_bytes();
        if let Some(condition) = condition(write, shift) {
            txn.compare(key, condition);
        }
        match &write.change {
            Change::Put(value) => txn.put(key, value, 0),
            Change::Delete => txn.delete(key),
            Change::Keep => {}
        }
        txn.otherwise_get(key);
    }
    txn.put(slot, number.as_bytes(), lease);
    txn.encode()
}

/// What must hold for a write; `None` where anything will do.
fn condition(write: &Write, shift: Shift) -> Option<Condition> {
    let deletes = write.change == Change::Delete;
    match write.expect {
        Expect::Any if deletes => Some(Condition::VersionAbove(0)),
        Expect::Any => None,
        Expect::Absent if deletes => Some(Condition::Never),
        Expect::Absent => Some(Condition::Version(0)),
        // What does not exist has revision zero to etcd.
        Expect::Revision(revision) => {
            Some(shift.etcds(revision).map_or(Condition::Never, Condition::ModRevision))
        }
    }
}

fn holds(condition: Option<Condition>, found: Option<&KeyValue>) -> bool {
    match condition {
        None => true,
        Some(Condition::Never) => false,
        Some(Condition::Version(version)) => found.map_or(0, |found| found.version) == version,
        Some(Condition::VersionAbove(version)) => found.map_or(0, |found| found.version) > version,
        Some(Condition::ModRevision(revision)) => found.map_or(0, |found| found.mod_revision) == revision,
    }
}

fn read(answer: &Bytes, writes: &[Write], taken: &Taken<'_>, shift: Shift) -> Result<Outcome, CallError> {
    let answer = decode(answer)?;
    if answer.succeeded {
        return Ok(Outcome::Done(answer.revision));
    }
    let mut read = answer.read.into_iter();
    let slot = read.next().flatten().map_or(0, |slot| slot.mod_revision);
    if slot != taken.slot.revision {
        return if slot == 0 {
            Ok(Outcome::SlotLost)
        } else {
            Err(CallError::Protocol("somebody else wrote a key of this process"))
        };
    }
    for (index, (write, found)) in writes.iter().zip(read).enumerate() {
        if !holds(condition(write, shift), found.as_ref()) {
            let current = found.and_then(|found| shift.entry(found)).map(Box::new);
            return Ok(Outcome::Refused(match write.change {
                Change::Keep => CommitError::Check { index, current },
                Change::Put(_) | Change::Delete => CommitError::Mismatch { index, current },
            }));
        }
    }
    Err(CallError::Protocol("it refuses a transaction whose conditions hold"))
}

fn is_lease_lost(error: &CallError) -> bool {
    matches!(error, CallError::Status { code: Code::NotFound, message } if message.contains("lease not found"))
}

/// The error of a transaction that etcd does not take.
fn refused(error: &CallError, bytes: usize, writes: &[Write]) -> CommitError {
    let reason = error.to_string();
    if is_full(error) {
        return StoreError::Full { reason }.into();
    }
    if reason.contains("request is too large") {
        // It was started with less than this store was told.
        return CommitError::Size { bytes, limit: bytes.saturating_sub(1) };
    }
    if reason.contains("too many operations") {
        let count = writes.len();
        return CommitError::Count { count, limit: count.saturating_sub(1) };
    }
    StoreError::Unavailable { action: "be written", reason }.into()
}
