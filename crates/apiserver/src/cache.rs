//! What the store holds, in memory, shared by every reader in the process.
//!
//! One [`Cache`] per stored resource: an ordered persistent map (a snapshot is a pointer) and a
//! bounded window of the latest events. Readers never wait for writers beyond a pointer copy.
//! Watchers hold no queue: each has a cursor into the window, so a slow one costs nothing and one
//! that falls out of the window is told to list again (410). One that wants a few objects only is woken by
//! their events alone ([`Pinned`]).
//!
//! Invariants: events enter in the order of revisions; an object's bytes carry the revision of its
//! header; a write is acknowledged to its client only after the cache shows it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use imbl::OrdMap;
use parking_lot::{Mutex, RwLock};
use sampan_api::Object;
use sampan_api::object::{Header, ObjectError, ObjectRef};
use tokio::sync::watch;

use crate::fields::FieldReader;
use crate::frames::{FrameBudget, Frames};

mod age;
mod filling;
mod idle;
mod pins;

pub(crate) use filling::Filling;
pub use pins::{Pin, Pinned};

use age::Ages;
use idle::Idle;
use pins::Pins;

/// Objects by `namespace/name`, or by `name` for resources of the cluster.
pub type Snapshot = OrdMap<Arc<str>, ObjectRef>;

/// The most events that a window keeps.
const WINDOW_EVENTS: usize = 16_384;
/// The most bytes of replaced objects that a window keeps alive.
const WINDOW_BYTES: usize = 8 << 20;
/// Events older than this leave the window, except for the last [`WINDOW_FLOOR`].
const WINDOW_AGE: Duration = Duration::from_secs(300);
const WINDOW_FLOOR: usize = 64;

/// One change of one object.
#[derive(Debug)]
pub struct Event {
    pub revision: u64,
    pub key: Arc<str>,
    pub change: Change,
    pub frames: Frames,
    at: Instant,
}

/// What happened to an object.
#[derive(Debug)]
pub enum Change {
    Created(ObjectRef),
    Updated {
        old: ObjectRef,
        new: ObjectRef,
    },
    /// `last` is the final state, with the revision of its deletion.
    Deleted {
        old: ObjectRef,
        last: ObjectRef,
    },
}

impl Change {
    /// The bytes that only this event keeps alive.
    fn retained(&self) -> usize {
        match self {
            Change::Created(_) => 0,
            Change::Updated { old, .. } => old.len(),
            Change::Deleted { old, last } => old.len() + last.len(),
        }
    }
}

/// The asked revision is older than the window; `oldest` is the first one to resume from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    pub oldest: u64,
}

/// The cached objects of one stored resource.
pub struct Cache {
    reader: FieldReader,
    state: RwLock<State>,
    /// What entered lately, until it is packed.
    idle: Mutex<Idle>,
    /// The revision of this resource's latest event: what its watchers wait on.
    latest: watch::Sender<u64>,
    pub frames: FrameBudget,
}

struct State {
    objects: Snapshot,
    /// The JSON of all objects, unpacked.
    bytes: usize,
    /// Everything up to this revision of the store has been applied.
    revision: u64,
    window: VecDeque<Arc<Event>>,
    window_bytes: usize,
    /// Events after this revision are all in the window.
    oldest: u64,
    /// The revision of the snapshot that it was filled from: what happened until then is in it.
    loaded: u64,
    pins: Pins,
}

impl Cache {
    fn new(reader: FieldReader) -> Self {
        let state = State {
            objects: OrdMap::new(),
            bytes: 0,
            revision: 0,
            window: VecDeque::new(),
            window_bytes: 0,
            oldest: 0,
            loaded: 0,
            pins: Pins::default(),
        };
        Cache {
            reader,
            state: RwLock::new(state),
            idle: Mutex::default(),
            latest: watch::Sender::new(0),
            frames: FrameBudget::default(),
        }
    }

    pub fn get(&self, key: &str) -> Option<ObjectRef> {
        self.state.read().objects.get(key).cloned()
    }

    /// Everything, and the revision at which it is true.
    pub fn snapshot(&self) -> (Snapshot, u64) {
        let state = self.state.read();
        (state.objects.clone(), state.revision)
    }

    /// Everything as it was at a revision within the window.
    pub fn snapshot_at(&self, revision: u64) -> Result<Snapshot, Expired> {
        let state = self.state.read();
        if revision < state.oldest {
            return Err(Expired { oldest: state.oldest });
        }
        let mut objects = state.objects.clone();
        for event in state.window.iter().rev().take_while(|event| event.revision > revision) {
            match &event.change {
                Change::Created(_) => {
                    objects.remove(&event.key);
                }
                Change::Updated { old, .. } | Change::Deleted { old, .. } => {
                    objects.insert(event.key.clone(), old.clone());
                }
            }
        }
        Ok(objects)
    }

    /// Events after a revision, at most `limit`, and the revision up to which nothing is missing.
    pub fn events_after(&self, revision: u64, limit: usize) -> Result<(Vec<Arc<Event>>, u64), Expired> {
        let state = self.state.read();
        if revision < state.oldest {
            return Err(Expired { oldest: state.oldest });
        }
        let from = state.window.partition_point(|event| event.revision <= revision);
        let events: Vec<_> = state.window.range(from..).take(limit).cloned().collect();
        let complete = if from + events.len() < state.window.len() {
            events.last().map_or(revision, |event| event.revision)
        } else {
            state.revision.max(revision)
        };
        Ok((events, complete))
    }

    /// Signals each event of this resource.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// How many wait for any event.
    pub fn watchers(&self) -> usize {
        self.latest.receiver_count()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The object that a stored value is, as a reader gets it.
    pub(crate) fn read_object(&self, value: &Bytes, revision: u64) -> Result<ObjectRef, ObjectError> {
        let bytes = with_revision(value, revision);
        let mut header = Header::parse(&bytes)?;
        header.fields = self.reader.read(&bytes);
        Ok(Arc::new(Object::new(header, bytes)))
    }

    fn apply(&self, key: &str, value: Option<&Bytes>, revision: u64) -> Result<(), LoadError> {
        let fresh = match value {
            Some(value) => Some(
                self.read_object(value, revision)
                    .map_err(|source| LoadError { key: key.to_owned(), source })?,
            ),
            None => None,
        };
        {
            let mut state = self.state.write();
            if revision <= state.loaded {
                return Ok(());
            }
            state.revision = revision;
            let known = state.objects.get_key_value(key).map(|(key, object)| (key.clone(), object.clone()));
            let (key, change) = match (known, fresh) {
                (None, Some(new)) => (Arc::from(key), Change::Created(new)),
                (Some((key, old)), Some(new)) => (key, Change::Updated { old, new }),
                (Some((key, old)), None) => {
                    let mut header = old.header.clone();
                    header.revision = revision;
                    let bytes = with_revision(&old.bytes(), revision);
                    (key, Change::Deleted { old, last: Arc::new(Object::new(header, bytes)) })
                }
                (None, None) => return Ok(()),
            };
            match &change {
                Change::Created(new) => {
                    state.bytes += new.len();
                    state.objects.insert(key.clone(), new.clone());
                    self.idle.lock().entered(new);
                }
                Change::Updated { old, new } => {
                    state.bytes = state.bytes + new.len() - old.len();
                    state.objects.insert(key.clone(), new.clone());
                    self.idle.lock().entered(new);
                }
                Change::Deleted { old, .. } => {
                    state.bytes -= old.len();
                    state.objects.remove(&key);
                }
            }
            let frames = Frames::default();
            state.remember(Event { revision, key, change, frames, at: Instant::now() });
        }
        self.latest.send_replace(revision);
        Ok(())
    }

    fn advance(&self, revision: u64) {
        let mut state = self.state.write();
        state.revision = state.revision.max(revision);
    }
}

impl State {
    fn remember(&mut self, event: Event) {
        let now = event.at;
        self.window_bytes += event.change.retained();
        self.pins.entered(&event);
        self.window.push_back(Arc::new(event));
        while let Some(first) = self.window.front() {
            let full = self.window.len() > WINDOW_EVENTS || self.window_bytes > WINDOW_BYTES;
            let stale = self.window.len() > WINDOW_FLOOR && now.duration_since(first.at) > WINDOW_AGE;
            if self.window.len() == 1 || !(full || stale) {
                break;
            }
            self.window_bytes -= first.change.retained();
            self.oldest = first.revision;
            self.pins.left(first);
            self.window.pop_front();
        }
    }
}

/// A stored value that is no API object.
#[derive(Debug, thiserror::Error)]
#[error("the store holds something at {key} that is no API object")]
pub struct LoadError {
    pub key: String,
    #[source]
    pub source: ObjectError,
}

/// Every cache of the process, fed by one watch on the store.
pub struct Caches {
    /// By storage prefix with its closing slash. No prefix begins another one.
    by_prefix: RwLock<BTreeMap<String, Arc<Cache>>>,
    applied: watch::Sender<u64>,
    ages: Mutex<Ages>,
}

impl Default for Caches {
    fn default() -> Self {
        Caches {
            by_prefix: RwLock::new(BTreeMap::new()),
            applied: watch::Sender::new(0),
            ages: Mutex::default(),
        }
    }
}

impl Caches {
    /// The cache of a storage prefix, made empty when it is new.
    pub fn register(&self, prefix: &str, reader: FieldReader) -> Arc<Cache> {
        let mut caches = self.by_prefix.write();
        caches.entry(format!("{prefix}/")).or_insert_with(|| Arc::new(Cache::new(reader))).clone()
    }

    /// A new, empty cache for a storage prefix. Readers of an earlier one keep what they have.
    pub fn replace(&self, prefix: &str, reader: FieldReader) -> Arc<Cache> {
        let cache = Arc::new(Cache::new(reader));
        self.by_prefix.write().insert(format!("{prefix}/"), cache.clone());
        cache
    }

    /// Forgets the objects of a storage prefix.
    pub fn forget(&self, prefix: &str) {
        self.by_prefix.write().remove(&format!("{prefix}/"));
    }

    /// Applies one event of the store. The last of a batch is followed by [`Caches::finish`].
    pub fn apply(&self, key: &str, value: Option<&Bytes>, revision: u64) -> Result<(), LoadError> {
        match self.find(key) {
            Some((prefix, cache)) => cache.apply(&key[prefix.len()..], value, revision),
            None => Ok(()),
        }
    }

    /// Ends a batch: every cache is true at this revision.
    pub fn finish(&self, revision: u64) {
        for cache in self.by_prefix.read().values() {
            cache.advance(revision);
        }
        self.ages.lock().note(revision, Instant::now(), WINDOW_AGE);
        self.applied.send_replace(revision);
    }

    /// Waits until the caches show everything up to a revision.
    pub async fn applied(&self, revision: u64) {
        // The sender is a field of `self`, so that the channel cannot close here.
        let _ = self.applied.subscribe().wait_for(|applied| *applied >= revision).await;
    }

    pub fn revision(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Whether a revision has not been the latest one for longer than any window is promised to reach back.
    pub fn is_old(&self, revision: u64) -> bool {
        self.ages.lock().is_superseded_for(revision, Instant::now(), WINDOW_AGE)
    }

    fn find(&self, key: &str) -> Option<(String, Arc<Cache>)> {
        let caches = self.by_prefix.read();
        let (prefix, cache) = caches.range::<str, _>((Bound::Unbounded, Bound::Included(key))).next_back()?;
        key.starts_with(prefix.as_str()).then(|| (prefix.clone(), cache.clone()))
    }
}

const REVISION_FIELD: &[u8] = b"\"resourceVersion\":\"";

/// The object's JSON with its revision in the metadata, whether or not it carried one there before.
///
/// Stored bytes carry none, since a revision is known only after the commit; the field is put
/// first in the metadata, and only from there is it replaced.
pub fn with_revision(json: &Bytes, revision: u64) -> Bytes {
    let Some(at) = metadata_start(json) else { return json.clone() };
    let mut rest = &json[at..];
    if rest.starts_with(REVISION_FIELD) {
        let digits = &rest[REVISION_FIELD.len()..];
        let end = digits.iter().position(|byte| *byte == b'"').map_or(digits.len(), |end| end + 1);
        rest = digits[end..].strip_prefix(b",").unwrap_or(&digits[end..]);
    }
    let mut bytes = BytesMut::with_capacity(json.len() + 48);
    bytes.extend_from_slice(&json[..at]);
    bytes.extend_from_slice(REVISION_FIELD);
    bytes.extend_from_slice(revision.to_string().as_bytes());
    bytes.extend_from_slice(b"\"");
    if !rest.starts_with(b"}") {
        bytes.extend_from_slice(b",");
    }
    bytes.extend_from_slice(rest);
    bytes.freeze()
}

/// The offset after `"metadata":{` of the outermost object, in JSON without white space between
/// tokens (as this process encodes it).
fn metadata_start(json: &[u8]) -> Option<usize> {
    const METADATA: &[u8] = b"\"metadata\":{";
    let (mut depth, mut at) = (0usize, 0usize);
    while at < json.len() {
        match json[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                if depth == 1 && json[at..].starts_with(METADATA) {
                    return Some(at + METADATA.len());
                }
                at += 1;
                while at < json.len() && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests;
