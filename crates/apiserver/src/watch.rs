//! Watches: a cursor into a cache's window of events.
//!
//! A watcher owns no queue. It sleeps until its resource has a new event, reads what came after its
//! cursor, and lets its selection through. One that sleeps too long finds the window moved on and
//! ends with 410, so that its client lists again.

use std::sync::Arc;

use sampan_api::object::ObjectRef;
use sampan_api::{Object, Status};
use sampan_client::WatchEvent;
use tokio::sync::watch;

use crate::cache::{Change, with_revision};
use crate::registry::{Registry, Resource, Selection};

/// Events that one step of a watcher reads at most.
const BATCH: usize = 512;

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what exists, as `ADDED`, then its changes.
    Existing,
    /// After a revision.
    After(u64),
}

/// One client's watch on one resource.
pub struct Watcher {
    registry: Arc<Registry>,
    resource: Resource,
    selection: Selection,
    changed: watch::Receiver<u64>,
    cursor: u64,
    /// What existed at the start and was not sent yet.
    initial: Option<Vec<ObjectRef>>,
}

impl Watcher {
    pub async fn open(
        registry: Arc<Registry>,
        resource: Resource,
        selection: Selection,
        start: Start,
    ) -> Result<Self, Status> {
        let changed = resource.cache.subscribe();
        let (cursor, initial) = match start {
            Start::Existing => {
                let (snapshot, revision) = resource.cache.snapshot();
                let chosen =
                    snapshot.values().filter(|object| selection.matches(&resource.def, &object.header));
                (revision, Some(chosen.cloned().collect()))
            }
            Start::After(revision) => {
                registry.wait_for_revision(revision).await?;
                (revision, None)
            }
        };
        Ok(Watcher { registry, resource, selection, changed, cursor, initial })
    }

    /// Everything up to this revision was handed out.
    pub fn revision(&self) -> u64 {
        self.cursor
    }

    /// What existed at the start, for the first call; nothing afterwards.
    pub fn initial(&mut self) -> Result<Vec<WatchEvent>, Status> {
        let initial = self.initial.take().unwrap_or_default();
        initial.into_iter().map(|object| self.in_version(object).map(WatchEvent::Added)).collect()
    }

    /// The next events, at least one. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<Vec<WatchEvent>, Status> {
        let initial = self.initial()?;
        if !initial.is_empty() {
            return Ok(initial);
        }
        loop {
            self.changed.borrow_and_update();
            let (events, complete) =
                self.resource.cache.events_after(self.cursor, BATCH).map_err(|expired| {
                    Status::expired(format!("too old resource version: {} ({})", self.cursor, expired.oldest))
                })?;
            let mut chosen = Vec::new();
            for event in &events {
                if let Some(seen) = self.see(&event.change, event.revision)? {
                    chosen.push(seen);
                }
            }
            self.cursor = complete;
            if !chosen.is_empty() {
                return Ok(chosen);
            }
            if events.len() == BATCH {
                continue;
            }
            if self.changed.changed().await.is_err() {
                return Err(Status::unavailable("the server is shutting down"));
            }
        }
    }

    /// What a change looks like through the selection.
    fn see(&self, change: &Change, revision: u64) -> Result<Option<WatchEvent>, Status> {
        let chosen = |object: &ObjectRef| self.selection.matches(&self.resource.def, &object.header);
        Ok(match change {
            Change::Created(new) if chosen(new) => Some(WatchEvent::Added(self.in_version(new.clone())?)),
            Change::Created(_) => None,
            Change::Updated { old, new } => match (chosen(old), chosen(new)) {
                (true, true) => Some(WatchEvent::Modified(self.in_version(new.clone())?)),
                (false, true) => Some(WatchEvent::Added(self.in_version(new.clone())?)),
                // It left the selection: its last state in there, at the revision of leaving.
                (true, false) => {
                    let mut header = old.header.clone();
                    header.revision = revision;
                    let left = Arc::new(Object { header, bytes: with_revision(&old.bytes, revision) });
                    Some(WatchEvent::Deleted(self.in_version(left)?))
                }
                (false, false) => None,
            },
            Change::Deleted { old, last } if chosen(old) => {
                Some(WatchEvent::Deleted(self.in_version(last.clone())?))
            }
            Change::Deleted { .. } => None,
        })
    }

    fn in_version(&self, object: ObjectRef) -> Result<ObjectRef, Status> {
        self.registry.in_version(&self.resource, object)
    }
}
