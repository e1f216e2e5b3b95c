//! Whether a history can have come from one store that does one thing after the other.
//!
//! A store numbers its commits, and its watch tells them all: that is the order in which everything must
//! have happened. So there is nothing to search for, as a general checker must: each call is held
//! against that order, at the earliest place where its answer is true, and no earlier than what had
//! ended before it began. That place being the earliest, a call without one proves a violation.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::history::{Call, Operation, Outcome};
use crate::{Entry, Event, EventKind, Expect, Revision, Snapshot};

/// A history that no single store can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("the watch told revision {revision} of {key} out of order, or untruly")]
    Log { key: String, revision: Revision },
    #[error("nobody wrote what the watch told of {key} at revision {revision}, or it happened twice")]
    Unasked { key: String, revision: Revision },
    #[error("the write of {key} was acknowledged at revision {revision}, and did not happen so")]
    Lost { key: String, revision: Revision },
    #[error("the write of {key} at revision {revision} happened against its expectation")]
    Expectation { key: String, revision: Revision },
    #[error("the write of {key} was refused, and what it was told is what it expected")]
    Refusal { key: String },
    #[error("{what} at revision {revision} came after something that had seen revision {floor}")]
    Late { what: String, revision: Revision, floor: Revision },
    #[error("{key} was never so at or after revision {floor}: {found:?}")]
    Read { key: String, floor: Revision, found: Option<Entry> },
    #[error("{prefix} was not so at revision {revision}")]
    List { prefix: String, revision: Revision },
    #[error("a watch of {prefix} after revision {after} was told otherwise")]
    Watch { prefix: String, after: Revision },
}

/// What a watch was told.
#[derive(Clone, Debug)]
pub struct Told {
    pub prefix: String,
    pub after: Revision,
    pub events: Vec<Arc<Event>>,
}

/// Holds operations, in the order in which they began, and watches against everything that happened to an
/// empty store.
pub fn check(log: &[Arc<Event>], operations: &[Operation], watches: &[Told]) -> Result<(), Violation> {
    let timelines = Timelines::of(log)?;
    let revisions = timelines.claim(log, operations)?;
    let mut places = Places::default();
    for (operation, revision) in operations.iter().zip(revisions) {
        let floor = places.floor(operation.begun);
        let place = timelines.place(&operation.call, revision, floor)?;
        if let (Some(ended), Some(place)) = (operation.ended, place) {
            places.ended(ended, place);
        }
    }
    watches.iter().try_for_each(|watch| check_watch(log, watch))
}

/// How far operations that ended had come.
#[derive(Default)]
struct Places {
    /// The furthest place of everything that ended until a tick.
    furthest: BTreeMap<u64, Revision>,
}

impl Places {
    fn floor(&self, begun: u64) -> Revision {
        self.furthest.range(..begun).next_back().map_or(0, |(_, place)| *place)
    }

    fn ended(&mut self, ended: u64, place: Revision) {
        if self.floor(ended) >= place {
            return;
        }
        self.furthest.insert(ended, place);
        let later: Vec<u64> = self
            .furthest
            .range(ended + 1..)
            .take_while(|(_, known)| **known < place)
            .map(|(tick, _)| *tick)
            .collect();
        later.iter().for_each(|tick| {
            self.furthest.remove(tick);
        });
    }
}

/// The states of every key, by the revisions at which they began.
#[derive(Default)]
struct Timelines {
    of_key: BTreeMap<Arc<str>, BTreeMap<Revision, Option<Entry>>>,
}

impl Timelines {
    fn of(log: &[Arc<Event>]) -> Result<Self, Violation> {
        let mut timelines = Timelines::default();
        let mut last = 0;
        for event in log {
            let Event { revision, key, kind, value, previous } = &**event;
            let before = timelines.at(key, *revision);
            let entry = match kind {
                EventKind::Delete => None,
                EventKind::Put { .. } => Some(Entry {
                    key: key.clone(),
                    value: value.clone(),
                    revision: *revision,
                    create_revision: before.map_or(*revision, |entry| entry.create_revision),
                    version: before.map_or(1, |entry| entry.version + 1),
                }),
            };
            let is_true = match kind {
                EventKind::Put { created } => *created == before.is_none(),
                EventKind::Delete => before.is_some(),
            };
            let follows = previous.as_ref() == before.map(|entry| &entry.value);
            if *revision < last || !is_true || !follows {
                return Err(Violation::Log { key: key.to_string(), revision: *revision });
            }
            last = *revision;
            timelines.of_key.entry(key.clone()).or_default().insert(*revision, entry);
        }
        Ok(timelines)
    }

    /// A key's entry once everything up to a revision has happened.
    fn at(&self, key: &str, revision: Revision) -> Option<&Entry> {
        self.of_key.get(key)?.range(..=revision).next_back()?.1.as_ref()
    }

    /// The revisions of the writes that happened, by the place of their operations. Each event has one write
    /// that asked for it.
    fn claim(
        &self,
        log: &[Arc<Event>],
        operations: &[Operation],
    ) -> Result<Vec<Option<Revision>>, Violation> {
        let mut events: HashMap<(&str, Revision), &Event> =
            log.iter().map(|event| ((&*event.key, event.revision), &**event)).collect();
        let mut revisions = vec![None; operations.len()];
        for (at, operation) in operations.iter().enumerate() {
            let Call::Write { key, expect, put, outcome: Outcome::Done(revision) } = &operation.call else {
                continue;
            };
            let happened = events.remove(&(&**key, *revision)).filter(|event| is_of(event, put.as_ref()));
            if happened.is_none() {
                return Err(Violation::Lost { key: key.to_string(), revision: *revision });
            }
            self.expected(key, *expect, *revision)?;
            revisions[at] = Some(*revision);
        }
        // What is left was done by writes that got no answer.
        let mut left: Vec<&Event> = events.into_values().collect();
        left.sort_by_key(|event| event.revision);
        let mut used = HashSet::new();
        for event in left {
            let asked = operations.iter().enumerate().find(|(at, operation)| match &operation.call {
                Call::Write { key, expect, put, outcome: Outcome::Unknown } => {
                    *key == event.key
                        && is_of(event, put.as_ref())
                        && !used.contains(at)
                        && self.expected(key, *expect, event.revision).is_ok()
                }
                Call::Write { .. } | Call::Get { .. } | Call::List { .. } => false,
            });
            let Some((at, _)) = asked else {
                return Err(Violation::Unasked { key: event.key.to_string(), revision: event.revision });
            };
            used.insert(at);
            revisions[at] = Some(event.revision);
        }
        Ok(revisions)
    }

    /// Whether a write's expectation held when it happened.
    fn expected(&self, key: &str, expect: Expect, revision: Revision) -> Result<(), Violation> {
        let before = self.at(key, revision.saturating_sub(1));
        match holds(expect, before) {
            true => Ok(()),
            false => Err(Violation::Expectation { key: key.to_owned(), revision }),
        }
    }

    /// The revision after which a call saw the store, at least `floor`; none for a write that did not happen.
    fn place(
        &self,
        call: &Call,
        happened: Option<Revision>,
        floor: Revision,
    ) -> Result<Option<Revision>, Violation> {
        let late = |what: &str, revision| Violation::Late { what: what.to_owned(), revision, floor };
        match call {
            Call::Write { key, outcome: Outcome::Done(_) | Outcome::Unknown, .. } => match happened {
                Some(revision) if revision <= floor => Err(late(key, revision)),
                happened => Ok(happened),
            },
            Call::Write { key, expect, put, outcome: Outcome::Refused(found) } => {
                let deletes_nothing = put.is_none() && found.is_none();
                if holds(*expect, found.as_ref()) && !deletes_nothing {
                    return Err(Violation::Refusal { key: key.to_string() });
                }
                self.read(key, found.as_ref(), floor).map(Some)
            }
            Call::Get { key, found } => self.read(key, found.as_ref(), floor).map(Some),
            Call::List { prefix, snapshot } if snapshot.revision < floor => {
                Err(late(prefix, snapshot.revision))
            }
            Call::List { prefix, snapshot: Snapshot { entries, revision } } => {
                let all = self.of_key.keys().filter(|key| key.starts_with(prefix.as_str()));
                let state = all.filter_map(|key| self.at(key, *revision));
                match state.eq(entries) {
                    true => Ok(Some(*revision)),
                    false => Err(Violation::List { prefix: prefix.clone(), revision: *revision }),
                }
            }
        }
    }

    /// The first revision from `floor` on at which a key was so.
    fn read(&self, key: &str, found: Option<&Entry>, floor: Revision) -> Result<Revision, Violation> {
        if self.at(key, floor) == found {
            return Ok(floor);
        }
        let later = self.of_key.get(key).into_iter().flat_map(|states| states.range(floor + 1..));
        let place = later.into_iter().find(|(_, entry)| entry.as_ref() == found);
        place.map(|(revision, _)| *revision).ok_or_else(|| Violation::Read {
            key: key.to_owned(),
            floor,
            found: found.cloned(),
        })
    }
}

fn is_of(event: &Event, put: Option<&Bytes>) -> bool {
    match event.kind {
        EventKind::Put { .. } => put == Some(&event.value),
        EventKind::Delete => put.is_none(),
    }
}

fn holds(expect: Expect, entry: Option<&Entry>) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => entry.is_none(),
        Expect::Revision(revision) => entry.is_some_and(|entry| entry.revision == revision),
    }
}

/// A watch is told everything of its prefix, once and in order, up to where it was last told something.
fn check_watch(log: &[Arc<Event>], watch: &Told) -> Result<(), Violation> {
    let Told { prefix, after, events } = watch;
    let wanted = log.iter().filter(|event| event.revision > *after && event.key.starts_with(prefix.as_str()));
    match wanted.take(events.len()).eq(events) {
        true => Ok(()),
        false => Err(Violation::Watch { prefix: prefix.clone(), after: *after }),
    }
}

#[cfg(test)]
mod tests;
