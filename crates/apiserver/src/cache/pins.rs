//! Who waits for a few objects: watchers whose selection pins a key, a name or a field.
//!
//! Such a watcher is woken by the events of its objects alone. All that pin the same share one entry, which
//! knows the revisions of their events in the cache's window and the latest one that left it. So a watcher
//! still owns nothing but a cursor: one that slept while the window moved on lost something only if an event
//! of its own has left.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sampan_api::object::{Header, ObjectRef};
use tokio::sync::watch;

use super::{Cache, Change, Event, Expired, State};

/// What all objects of a watcher have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pin {
    /// The key in the cache.
    Key(Box<str>),
    /// The name, in whichever namespace.
    Name(Box<str>),
    /// A selectable field by its place in the resource table, and its value.
    Field(usize, Box<str>),
}

impl Pin {
    fn fits(&self, key: &str, header: &Header) -> bool {
        match self {
            Pin::Key(wanted) => **wanted == *key,
            Pin::Name(name) => *name == header.name,
            Pin::Field(at, value) => header.fields.get(*at).is_some_and(|field| field == value),
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        let (one, other) = states(&event.change);
        let fits = |object: &ObjectRef| self.fits(&event.key, &object.header);
        fits(one) || other.is_some_and(fits)
    }
}

/// The states of an object around a change.
fn states(change: &Change) -> (&ObjectRef, Option<&ObjectRef>) {
    match change {
        Change::Created(new) => (new, None),
        Change::Updated { old, new } => (old, Some(new)),
        Change::Deleted { old, .. } => (old, None),
    }
}

/// The pins of a cache. It is a part of the cache's state, so that an event and who it is for are one.
#[derive(Default)]
pub(super) struct Pins {
    entries: HashMap<Pin, Entry>,
    /// How many entries there are of keys, of names, and of fields by their places.
    keys: usize,
    names: usize,
    fields: Vec<usize>,
}

struct Entry {
    /// The revision of the latest event of these objects.
    latest: watch::Sender<u64>,
    users: usize,
    /// Revisions of the events in the window, as far back as `since`.
    revisions: VecDeque<u64>,
    since: u64,
    /// The revision of the latest such event that left the window.
    gone: u64,
}

impl Pins {
    /// Wakes who waits for the objects of an event. `event` is in the window.
    pub fn entered(&mut self, event: &Event) {
        self.each(event, |entry| {
            // One commit may change several objects.
            if entry.revisions.back() != Some(&event.revision) {
                entry.revisions.push_back(event.revision);
            }
            entry.latest.send_replace(event.revision);
        });
    }

    /// Notes that an event left the window.
    pub fn left(&mut self, event: &Event) {
        self.each(event, |entry| {
            entry.gone = event.revision;
            if entry.revisions.front() == Some(&event.revision) {
                entry.revisions.pop_front();
            }
        });
    }

    /// Everything left the window at a revision: wakes all who wait.
    pub fn all_left(&mut self, revision: u64) {
        for entry in self.entries.values_mut() {
            entry.revisions.clear();
            entry.gone = revision;
            entry.latest.send_replace(revision);
        }
    }

    fn each(&mut self, event: &Event, mut act: impl FnMut(&mut Entry)) {
        if self.entries.is_empty() {
            return;
        }
        let (one, other) = states(&event.change);
        if self.keys > 0
            && let Some(entry) = self.entries.get_mut(&Pin::Key((&*event.key).into()))
        {
            act(entry);
        }
        if self.names > 0
            && let Some(entry) = self.entries.get_mut(&Pin::Name(one.header.name.clone()))
        {
            act(entry);
        }
        for at in 0..self.fields.len() {
            if self.fields[at] == 0 {
                continue;
            }
            let value = |object: &ObjectRef| object.header.fields.get(at).cloned();
            let (before, after) = (value(one), other.and_then(value));
            let after = after.filter(|after| before.as_ref() != Some(after));
            for value in before.into_iter().chain(after) {
                if let Some(entry) = self.entries.get_mut(&Pin::Field(at, value)) {
                    act(entry);
                }
            }
        }
    }

    fn count(&mut self, pin: &Pin) -> &mut usize {
        match pin {
            Pin::Key(_) => &mut self.keys,
            Pin::Name(_) => &mut self.names,
            Pin::Field(at, _) => {
                if self.fields.len() <= *at {
                    self.fields.resize(at + 1, 0);
                }
                &mut self.fields[*at]
            }
        }
    }
}

/// A watcher's hold on a pin.
pub struct Pinned {
    cache: Arc<Cache>,
    pin: Pin,
    changed: watch::Receiver<u64>,
}

impl Pinned {
    /// Begins to wait for the events of a pin's objects after a revision that is still in the window.
    pub fn new(cache: Arc<Cache>, pin: Pin, revision: u64) -> Result<Pinned, Expired> {
        let mut state = cache.state.write();
        let State { pins, window, oldest, revision: now, .. } = &mut *state;
        if revision < *oldest {
            return Err(Expired { oldest: *oldest });
        }
        if !pins.entries.contains_key(&pin) {
            *pins.count(&pin) += 1;
        }
        let entry = pins.entries.entry(pin.clone()).or_insert_with(|| Entry {
            latest: watch::Sender::new(0),
            users: 0,
            revisions: VecDeque::new(),
            since: *now,
            gone: 0,
        });
        entry.users += 1;
        if revision < entry.since {
            let earlier = window.iter().rev().skip_while(|event| event.revision > entry.since);
            for event in earlier.take_while(|event| event.revision > revision) {
                if pin.concerns(event) && entry.revisions.front() != Some(&event.revision) {
                    entry.revisions.push_front(event.revision);
                }
            }
            entry.since = revision;
        }
        let changed = entry.latest.subscribe();
        drop(state);
        Ok(Pinned { cache, pin, changed })
    }

    /// Waits for an event of these objects; answers none when the cache is no more.
    pub async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.changed.changed().await
    }

    /// What happened from here on wakes.
    pub fn mark_seen(&mut self) {
        self.changed.borrow_and_update();
    }

    /// Events of these objects after a revision, at most `limit`, and the revision up to which none is
    /// missing.
    pub fn events_after(&self, revision: u64, limit: usize) -> Result<(Vec<Arc<Event>>, u64), Expired> {
        let state = self.cache.state.read();
        let Some(entry) = state.pins.entries.get(&self.pin) else { return Ok((Vec::new(), revision)) };
        if entry.gone > revision {
            return Err(Expired { oldest: state.oldest });
        }
        let from = entry.revisions.partition_point(|known| *known <= revision);
        let chosen: Vec<u64> = entry.revisions.range(from..).take(limit).copied().collect();
        let complete = if from + chosen.len() < entry.revisions.len() {
            chosen.last().copied().unwrap_or(revision)
        } else {
            state.revision.max(revision)
        };
        let mut events = Vec::with_capacity(chosen.len());
        for revision in chosen {
            let at = state.window.partition_point(|event| event.revision < revision);
            let same = state.window.range(at..).take_while(|event| event.revision == revision);
            events.extend(same.filter(|event| self.pin.concerns(event)).cloned());
        }
        Ok((events, complete))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut state = self.cache.state.write();
        let pins = &mut state.pins;
        if let Some(entry) = pins.entries.get_mut(&self.pin) {
            entry.users -= 1;
            if entry.users == 0 {
                pins.entries.remove(&self.pin);
                *pins.count(&self.pin) -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
