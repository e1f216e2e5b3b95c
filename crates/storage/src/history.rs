//! The bounded window of recent events, and the watches that are fed from it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Batch, Event, Revision, StoreError, Watch, WatchBound, WatchError, WatchSender};

/// How much history is kept. Whichever bound is reached first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBound {
    pub events: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl Default for HistoryBound {
    fn default() -> Self {
        HistoryBound { events: 32_768, bytes: 16 << 20 }
    }
}

/// Every event after `oldest`, and who wants the next ones.
///
/// One lock covers the window and the list of watches, so that a watch that starts sees each event
/// either in the window or as it is published, never in both and never in neither.
pub(crate) struct History {
    bound: HistoryBound,
    watch_bound: WatchBound,
    state: Mutex<State>,
}

struct State {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Events up to this revision are not in the window.
    oldest: Revision,
    revision: Revision,
    watches: Vec<Registered>,
    closed: bool,
}

struct Registered {
    prefix: Box<str>,
    after: Revision,
    sender: WatchSender,
}

/// Figures of a history.
pub(crate) struct HistoryStats {
    pub revision: Revision,
    pub oldest: Revision,
    pub events: u64,
    pub bytes: u64,
    pub watches: u64,
}

impl Registered {
    /// The part of `events` that this watch has asked for.
    fn select<'a>(&self, events: impl Iterator<Item = &'a Arc<Event>>) -> Batch {
        events
            .filter(|event| event.revision > self.after && event.key.starts_with(&*self.prefix))
            .cloned()
            .collect()
    }
}

impl History {
    /// An empty window that begins after `revision`.
    pub fn new(revision: Revision, bound: HistoryBound, watch_bound: WatchBound) -> Self {
        let state = State {
            events: VecDeque::new(),
            bytes: 0,
            oldest: revision,
            revision,
            watches: Vec::new(),
            closed: false,
        };
        History { bound, watch_bound, state: Mutex::new(state) }
    }

    /// The revision up to which events were published.
    pub fn revision(&self) -> Revision {
        self.state.lock().revision
    }

    /// Adds events, in the order of revisions, and hands them to the watches.
    pub fn publish(&self, events: Vec<Arc<Event>>) {
        let Some(revision) = events.last().map(|event| event.revision) else { return };
        self.publish_to(revision, events);
    }

    /// The same where `events` are all that happened up to `revision`, which none of them need have.
    pub fn publish_to(&self, revision: Revision, events: Vec<Arc<Event>>) {
        let mut state = self.state.lock();
        debug_assert!(
            events.first().is_none_or(|event| event.revision > state.revision),
            "revisions only grow"
        );
        state.revision = state.revision.max(revision);
        state.watches.retain(|watch| {
            let batch = watch.select(events.iter());
            if batch.is_empty() { watch.sender.is_open() } else { watch.sender.send(batch) }
        });
        for event in events {
            state.bytes += event.weight();
            state.events.push_back(event);
        }
        while state.events.len() > self.bound.events || state.bytes > self.bound.bytes {
            let Some(revision) = state.events.front().map(|event| event.revision) else { break };
            state.forget(revision);
        }
    }

    /// Forgets events up to and including `revision`.
    pub fn compact(&self, revision: Revision) {
        let mut state = self.state.lock();
        let revision = revision.min(state.revision);
        state.forget(revision);
    }

    /// Starts a watch on events after `after`.
    pub fn watch(&self, prefix: &str, after: Revision) -> Result<Watch, WatchError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(StoreError::Closed.into());
        }
        if after < state.oldest {
            return Err(WatchError::Compacted { oldest: state.oldest });
        }
        let (sender, watch) = Watch::channel(after, self.watch_bound);
        let registered = Registered { prefix: prefix.into(), after, sender };
        let from = state.events.partition_point(|event| event.revision <= after);
        let missed = registered.select(state.events.range(from..));
        registered.sender.send(missed);
        state.watches.retain(|watch| watch.sender.is_open());
        state.watches.push(registered);
        Ok(watch)
    }

    /// Begins anew after `revision`, since what happened up to it cannot be known any more. Watches end, and
    /// learn by another one that they have to read everything again.
    pub fn restart(&self, revision: Revision) {
        let mut state = self.state.lock();
        let after = state.revision;
        state.forget(revision);
        state.revision = revision;
        for watch in state.watches.drain(..) {
            watch.sender.fail(WatchError::Lagged { after });
        }
    }

    /// Ends every watch, and refuses new ones.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.watches.clear();
    }

    pub fn stats(&self) -> HistoryStats {
        let state = self.state.lock();
        HistoryStats {
            revision: state.revision,
            oldest: state.oldest,
            events: state.events.len() as u64,
            bytes: state.bytes as u64,
            watches: state.watches.iter().filter(|watch| watch.sender.is_open()).count() as u64,
        }
    }
}

impl State {
    fn forget(&mut self, revision: Revision) {
        while let Some(event) = self.events.front()
            && event.revision <= revision
        {
            self.bytes -= event.weight();
            self.events.pop_front();
        }
        self.oldest = self.oldest.max(revision);
    }
}
