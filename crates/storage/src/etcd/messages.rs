//! etcd's messages, as far as they are used: `etcdserverpb` and `mvccpb` of its v3 API.

use bytes::Bytes;

use crate::grpc::wire::{self, Fields, WireError};
use crate::{Entry, Revision};

pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const TXN: &str = "/etcdserverpb.KV/Txn";
pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
pub const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
pub const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
pub const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";

/// `mvccpb.KeyValue`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Vec<u8>,
    pub value: Bytes,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: u64,
}

impl KeyValue {
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut found = KeyValue::default();
        for field in Fields::new(message) {
            match field? {
                (1, value) => found.key = value.bytes(1)?.to_vec(),
                (2, value) => found.create_revision = value.varint(2)?,
                (3, value) => found.mod_revision = value.varint(3)?,
                (4, value) => found.version = value.varint(4)?,
                // Copied, so that a small value does not keep a large answer in memory.
                (5, value) => found.value = Bytes::copy_from_slice(value.bytes(5)?),
                _ => {}
            }
        }
        Ok(found)
    }

    /// The entry that it is; `None` where somebody else put a key that is no text.
    pub fn into_entry(self) -> Option<Entry> {
        Some(Entry {
            key: String::from_utf8(self.key).ok()?.into(),
            value: self.value,
            revision: self.mod_revision,
            create_revision: self.create_revision,
            version: self.version,
        })
    }
}

/// `RangeRequest`. Without a revision it reads what is current, agreed on by a majority.
#[derive(Clone, Debug, Default)]
pub struct Range<'a> {
    pub key: &'a [u8],
    /// Empty for one key.
    pub end: &'a [u8],
    pub limit: u64,
    pub revision: Revision,
    pub count_only: bool,
}

impl Range<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.key.len() + self.end.len() + 32);
        wire::put_bytes(&mut out, 1, self.key);
        wire::put_bytes(&mut out, 2, self.end);
        wire::put_number(&mut out, 3, self.limit);
        wire::put_number(&mut out, 4, self.revision);
        wire::put_number(&mut out, 9, u64::from(self.count_only));
        out
    }
}

/// `RangeResponse`.
#[derive(Debug, Default)]
pub struct RangeAnswer {
    pub revision: Revision,
    pub found: Vec<KeyValue>,
    pub more: bool,
    pub count: u64,
}

impl RangeAnswer {
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut answer = RangeAnswer::default();
        for field in Fields::new(message) {
            match field? {
                (1, value) => answer.revision = header_revision(value.bytes(1)?)?,
                (2, value) => answer.found.push(KeyValue::decode(value.bytes(2)?)?),
                (3, value) => answer.more = value.varint(3)? != 0,
                (4, value) => answer.count = value.varint(4)?,
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// The revision of a `ResponseHeader`.
fn header_revision(message: &[u8]) -> Result<Revision, WireError> {
    number(message, 3)
}

/// The revision in the header of any answer.
pub fn revision_of(message: &[u8]) -> Result<Revision, WireError> {
    for field in Fields::new(message) {
        if let (1, value) = field? {
            return header_revision(value.bytes(1)?);
        }
    }
    Ok(0)
}

/// One number of a message; zero where it has none, as proto3 leaves it out.
pub fn number(message: &[u8], wanted: u32) -> Result<u64, WireError> {
    let mut found = 0;
    for field in Fields::new(message) {
        let (field, value) = field?;
        if field == wanted {
            found = value.varint(field)?;
        }
    }
    Ok(found)
}

/// What a comparison of a transaction looks at, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Version(u64),
    VersionAbove(u64),
    ModRevision(Revision),
    /// Holds for nothing.
    Never,
}

/// A `TxnRequest` as it grows.
#[derive(Default)]
pub struct Txn(Vec<u8>);

impl Txn {
    pub fn compare(&mut self, key: &[u8], condition: Condition) {
        const EQUAL: u64 = 0;
        const GREATER: u64 = 1;
        const LESS: u64 = 2;
        const VERSION: (u64, u32) = (0, 4);
        const MOD: (u64, u32) = (2, 6);
        let (result, (target, field), value) = match condition {
            Condition::Version(version) => (EQUAL, VERSION, version),
            Condition::VersionAbove(version) => (GREATER, VERSION, version),
            Condition::ModRevision(revision) => (EQUAL, MOD, revision),
            Condition::Never => (LESS, VERSION, 0),
        };
        let mut out = Vec::with_capacity(key.len() + 24);
        wire::put_number(&mut out, 1, result);
        wire::put_number(&mut out, 2, target);
        wire::put_bytes(&mut out, 3, key);
        // Left out when zero: what etcd then compares with is zero too.
        wire::put_number(&mut out, field, value);
        wire::put_present(&mut self.0, 1, &out);
    }

    /// Puts a key if the comparisons hold. `lease` 0 is none.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: u64) {
        let mut put = Vec::with_capacity(key.len() + value.len() + 24);
        wire::put_bytes(&mut put, 1, key);
        wire::put_bytes(&mut put, 2, value);
        wire::put_number(&mut put, 3, lease);
        self.operation(2, 2, &put);
    }

    pub fn delete(&mut self, key: &[u8]) {
        let mut delete = Vec::with_capacity(key.len() + 8);
        wire::put_bytes(&mut delete, 1, key);
        self.operation(2, 3, &delete);
    }

    /// Reads a key if they do not.
    pub fn otherwise_get(&mut self, key: &[u8]) {
        let get = Range { key, ..Range::default() }.encode();
        self.operation(3, 1, &get);
    }

    fn operation(&mut self, branch: u32, kind: u32, request: &[u8]) {
        let mut operation = Vec::with_capacity(request.len() + 12);
        wire::put_present(&mut operation, kind, request);
        wire::put_present(&mut self.0, branch, &operation);
    }

    pub fn encode(self) -> Vec<u8> {
        self.0
    }
}

/// `TxnResponse`.
#[derive(Debug, Default)]
pub struct TxnAnswer {
    pub revision: Revision,
    pub succeeded: bool,
    /// What each operation read; of those that do not read, nothing.
    pub read: Vec<Option<KeyValue>>,
}

impl TxnAnswer {
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut answer = TxnAnswer::default();
        for field in Fields::new(message) {
            match field? {
                (1, value) => answer.revision = header_revision(value.bytes(1)?)?,
                (2, value) => answer.succeeded = value.varint(2)? != 0,
                (3, value) => answer.read.push(read(value.bytes(3)?)?),
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// The key that a `ResponseOp` read.
fn read(message: &[u8]) -> Result<Option<KeyValue>, WireError> {
    for field in Fields::new(message) {
        if let (1, value) = field? {
            return Ok(RangeAnswer::decode(value.bytes(1)?)?.found.pop());
        }
    }
    Ok(None)
}

/// `WatchRequest` for everything that happens from a revision on, with what was there before it.
pub fn watch_all(from: Revision) -> Vec<u8> {
    let mut create = Vec::new();
    wire::put_bytes(&mut create, 1, super::FIRST_KEY);
    wire::put_bytes(&mut create, 2, super::FIRST_KEY);
    wire::put_number(&mut create, 3, from);
    wire::put_number(&mut create, 6, 1);
    wire::put_number(&mut create, 8, 1);
    let mut out = Vec::new();
    wire::put_present(&mut out, 1, &create);
    out
}

/// `mvccpb.Event`.
#[derive(Debug, Default)]
pub struct WatchEvent {
    pub deleted: bool,
    pub now: KeyValue,
    pub before: Option<KeyValue>,
}

/// `WatchResponse`.
#[derive(Debug, Default)]
pub struct WatchAnswer {
    pub canceled: bool,
    /// Above zero where the watch ended since its start was compacted.
    pub compact_revision: Revision,
    pub reason: String,
    /// More of the same revisions follows.
    pub fragment: bool,
    pub events: Vec<WatchEvent>,
}

impl WatchAnswer {
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut answer = WatchAnswer::default();
        for field in Fields::new(message) {
            match field? {
                (4, value) => answer.canceled = value.varint(4)? != 0,
                (5, value) => answer.compact_revision = value.varint(5)?,
                (6, value) => answer.reason = value.text(6)?.to_owned(),
                (7, value) => answer.fragment = value.varint(7)? != 0,
                (11, value) => answer.events.push(event(value.bytes(11)?)?),
                _ => {}
            }
        }
        Ok(answer)
    }
}

fn event(message: &[u8]) -> Result<WatchEvent, WireError> {
    let mut event = WatchEvent::default();
    for field in Fields::new(message) {
        match field? {
            (1, value) => event.deleted = value.varint(1)? == 1,
            (2, value) => event.now = KeyValue::decode(value.bytes(2)?)?,
            (3, value) => event.before = Some(KeyValue::decode(value.bytes(3)?)?),
            _ => {}
        }
    }
    Ok(event)
}

/// A message of one number in its first field, as those of leases are.
pub fn first_number(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_number(&mut out, 1, value);
    out
}

/// `LeaseGrantResponse`'s id.
pub fn granted(message: &[u8]) -> Result<u64, WireError> {
    number(message, 2)
}

/// The time to live in a `LeaseKeepAliveResponse`; zero when the lease is gone.
pub fn kept_alive_s(message: &[u8]) -> Result<u64, WireError> {
    number(message, 3)
}

/// `StatusResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub version: String,
    pub file_bytes: u64,
    pub used_bytes: u64,
    pub errors: Vec<String>,
}

impl Status {
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut status = Status::default();
        for field in Fields::new(message) {
            match field? {
                (2, value) => status.version = value.text(2)?.to_owned(),
                (3, value) => status.file_bytes = value.varint(3)?,
                (8, value) => status.errors.push(value.text(8)?.to_owned()),
                (9, value) => status.used_bytes = value.varint(9)?,
                _ => {}
            }
        }
        Ok(status)
    }
}

const NO_SPACE: u64 = 1;

/// `AlarmRequest` that ends a member's alarm for want of space.
pub fn disarm_no_space(member: u64) -> Vec<u8> {
    const DEACTIVATE: u64 = 2;
    let mut out = Vec::new();
    wire::put_number(&mut out, 1, DEACTIVATE);
    wire::put_number(&mut out, 2, member);
    wire::put_number(&mut out, 3, NO_SPACE);
    out
}

/// The members in an `AlarmResponse` that want space.
pub fn without_space(message: &[u8]) -> Result<Vec<u64>, WireError> {
    let mut members = Vec::new();
    for field in Fields::new(message) {
        if let (2, value) = field? {
            let alarm = value.bytes(2)?;
            if number(alarm, 2)? == NO_SPACE {
                members.push(number(alarm, 1)?);
            }
        }
    }
    Ok(members)
}

/// `CompactionRequest` that is answered when it is done.
pub fn compaction(revision: Revision) -> Vec<u8> {
    let mut out = first_number(revision);
    wire::put_number(&mut out, 2, 1);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_etcds_protobuf() {
        let mut txn = Txn::default();
        txn.compare(b"/a", Condition::ModRevision(7));
        txn.compare(b"/b", Condition::Version(0));
        txn.compare(b"/c", Condition::VersionAbove(0));
        txn.put(b"/a", b"1", 5);
        txn.delete(b"/c");
        txn.otherwise_get(b"/a");
        let expected = [
            &b"\x0a\x08\x10\x02\x1a\x02/a\x30\x07"[..],
            b"\x0a\x04\x1a\x02/b",
            b"\x0a\x06\x08\x01\x1a\x02/c",
            b"\x12\x0b\x12\x09\x0a\x02/a\x12\x011\x18\x05",
            b"\x12\x06\x1a\x04\x0a\x02/c",
            b"\x1a\x06\x0a\x04\x0a\x02/a",
        ]
        .concat();
        assert_eq!(txn.encode(), expected);
    }

    #[test]
    fn answers_are_read() {
        let kv = b"\x0a\x02/a\x10\x03\x18\x04\x20\x02\x2a\x01v";
        let range = [&b"\x0a\x02\x18\x09\x12"[..], &[kv.len() as u8], kv, b"\x18\x01\x20\x05"].concat();
        let answer = RangeAnswer::decode(&range).expect("valid");
        assert_eq!((answer.revision, answer.more, answer.count), (9, true, 5));
        let entry = answer.found[0].clone().into_entry().expect("text");
        assert_eq!((entry.create_revision, entry.revision, entry.version), (3, 4, 2));
        let operation = [&b"\x0a"[..], &[range.len() as u8], &range].concat();
        let txn = [&b"\x0a\x02\x18\x09\x1a"[..], &[operation.len() as u8], &operation].concat();
        let answer = TxnAnswer::decode(&txn).expect("valid");
        assert!(!answer.succeeded);
        assert_eq!(answer.read[0].as_ref().map(|kv| kv.mod_revision), Some(4));
        let event = [&b"\x08\x01\x12"[..], &[kv.len() as u8], kv].concat();
        let watch = [&b"\x38\x01\x5a"[..], &[event.len() as u8], &event].concat();
        let answer = WatchAnswer::decode(&watch).expect("valid");
        assert!(answer.fragment && answer.events[0].deleted && answer.events[0].before.is_none());
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for message in [&b"\x12\x05\x0a"[..], b"\x0a\x01\x18", b"\x12\x02\x08\x01"] {
            assert!(RangeAnswer::decode(message).is_err(), "{message:?}");
        }
    }
}
