//! Watches: a cursor into a cache's window of events.
//!
//! A watcher owns no queue. It sleeps until its resource has a new event, reads what came after its
//! cursor, and lets its selection through. One that sleeps too long finds the window moved on and
//! ends with 410, so that its client lists again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sampan_api::custom::Conversion;
use sampan_api::object::ObjectRef;
use sampan_api::{Object, Status};
use sampan_client::WatchEvent;
use tokio::sync::watch;

use crate::cache::{Change, Event, Expired, Pinned, with_revision};
use crate::frames::{Batch, Stand};
use crate::http::FormKey;
use crate::registry::{Registry, Resource, Selection};

/// Events that one step of a watcher reads at most.
const BATCH: usize = 512;

/// What waking one watcher costs, roughly: with very many of them, each is woken so rarely that all
/// together take half a processor, and gets what happened meanwhile at once.
const WAKE: Duration = Duration::from_micros(10);
/// The longest that a watcher is left alone, and the shortest that is worth a timer.
const PACE: std::ops::RangeInclusive<Duration> = Duration::from_millis(2)..=Duration::from_millis(128);

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what exists, as `ADDED`, then its changes.
    Existing,
    /// With the next change.
    Now,
    /// After a revision.
    After(u64),
}

/// What a change looks like through a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Look {
    /// Created, or changed into the selection.
    Added,
    Modified,
    Deleted,
    /// Changed out of the selection: its last state in there, at the revision of leaving.
    Left,
}

impl Look {
    /// The `type` of the event.
    pub fn as_str(self) -> &'static str {
        match self {
            Look::Added => "ADDED",
            Look::Modified => "MODIFIED",
            Look::Deleted | Look::Left => "DELETED",
        }
    }
}

/// One event as one watcher sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub event: Arc<Event>,
    pub look: Look,
}

impl Seen {
    /// The object to show, in the stored version.
    pub fn object(&self) -> ObjectRef {
        match (&self.event.change, self.look) {
            (Change::Updated { old, .. }, Look::Left) => {
                let mut header = old.header.clone();
                header.revision = self.event.revision;
                let bytes = with_revision(&old.bytes(), self.event.revision);
                Arc::new(Object::new(header, bytes))
            }
            (Change::Created(new) | Change::Updated { new, .. }, _) => new.clone(),
            (Change::Deleted { last, .. }, _) => last.clone(),
        }
    }
}

/// What wakes a watcher.
enum Wakes {
    /// Every event of the resource.
    All(watch::Receiver<u64>),
    /// The events of objects that have something in common, which its selection asks for.
    Pinned(Pinned),
}

impl Wakes {
    fn mark_seen(&mut self) {
        match self {
            Wakes::All(changed) => {
                changed.borrow_and_update();
            }
            Wakes::Pinned(pinned) => pinned.mark_seen(),
        }
    }

    async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        match self {
            Wakes::All(changed) => changed.changed().await,
            Wakes::Pinned(pinned) => pinned.changed().await,
        }
    }
}

/// One client's watch on one resource.
pub struct Watcher {
    registry: Arc<Registry>,
    resource: Resource,
    selection: Selection,
    wakes: Wakes,
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
        let mut wakes = Wakes::All(resource.cache.subscribe());
        let (cursor, initial) = match start {
            Start::Existing => {
                let (snapshot, revision) = resource.cache.snapshot();
                let snapshot = registry.selectable(&resource, &selection, snapshot).await?;
                (revision, Some(selection.choose(&resource.def, &snapshot)))
            }
            Start::Now => (resource.cache.snapshot().1, None),
            Start::After(revision) => {
                registry.wait_for_revision(revision).await?;
                (revision, None)
            }
        };
        if let Some(pin) = selection.pin(&resource.def)
            // One that is too old already is told so when it is read.
            && let Ok(pinned) = Pinned::new(resource.cache.clone(), pin, cursor)
        {
            wakes = Wakes::Pinned(pinned);
        }
        Ok(Watcher { registry, resource, selection, wakes, cursor, initial })
    }

    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Everything up to this revision was handed out.
    pub fn revision(&self) -> u64 {
        self.cursor
    }

    /// The same, brought up to what other resources moved on to, where nothing is left to hand out.
    pub fn latest_revision(&mut self) -> u64 {
        if let Ok((events, complete)) = self.events_after(1)
            && events.is_empty()
        {
            self.cursor = complete;
        }
        self.cursor
    }

    fn events_after(&self, limit: usize) -> Result<(Vec<Arc<Event>>, u64), Expired> {
        match &self.wakes {
            Wakes::All(_) => self.resource.cache.events_after(self.cursor, limit),
            Wakes::Pinned(pinned) => pinned.events_after(self.cursor, limit),
        }
    }

    /// How long to leave this watcher alone after it got something; none while watchers are few. Only powers
    /// of two, so that it is the same for all watchers of a resource while some come and go.
    pub fn pace(&self) -> Option<Duration> {
        if matches!(self.wakes, Wakes::Pinned(_)) {
            return None;
        }
        let pace = WAKE * u32::try_from(self.resource.cache.watchers()).unwrap_or(u32::MAX);
        let milliseconds = u64::try_from(pace.as_millis()).unwrap_or(u64::MAX).min(1 << 32);
        let pace = Duration::from_millis(milliseconds.next_power_of_two());
        (pace >= *PACE.start()).then(|| pace.min(*PACE.end()))
    }

    /// Goes on with what another watcher got that stood where this one does and wants the same.
    pub fn joined(&mut self, form: FormKey) -> Option<Batch> {
        let batch = self.resource.cache.frames.batches.find(self.stand(self.cursor, form))?;
        self.cursor = batch.until;
        Some(batch)
    }

    /// Leaves to others what this watcher got after a revision, and answers what it is to send itself.
    pub fn join(&mut self, after: u64, form: FormKey, bytes: Bytes, lengths: Arc<[usize]>) -> Batch {
        let batch = Batch { until: self.cursor, bytes, lengths };
        let batch = self.resource.cache.frames.batches.keep(self.stand(after, form), batch);
        self.cursor = batch.until;
        batch
    }

    fn stand(&self, after: u64, form: FormKey) -> Stand<'_> {
        Stand { after, form, def: &self.resource.def, selection: &self.selection }
    }

    /// What existed at the start, for the first call and in the stored version; nothing afterwards.
    pub fn take_initial(&mut self) -> Vec<ObjectRef> {
        self.initial.take().unwrap_or_default()
    }

    /// The next events, for who has taken what existed at the start; none when the resource is no
    /// longer served in this form. Cancelling it loses nothing.
    pub async fn changes(&mut self) -> Result<Vec<Seen>, Status> {
        loop {
            self.wakes.mark_seen();
            let (chosen, is_full) = self.read().await?;
            if !chosen.is_empty() {
                return Ok(chosen);
            }
            if is_full {
                continue;
            }
            tokio::select! {
                changed = self.wakes.changed() => if changed.is_err() {
                    return Err(Status::unavailable("the server is shutting down"));
                },
                // Its last events came before its end.
                () = self.resource.ended() => return self.read().await.map(|(chosen, _)| chosen),
            }
        }
    }

    /// What came after the cursor and is selected, and whether there may be more.
    async fn read(&mut self) -> Result<(Vec<Seen>, bool), Status> {
        let (events, complete) = self.events_after(BATCH).map_err(|expired| {
            Status::expired(format!("too old resource version: {} ({})", self.cursor, expired.oldest))
        })?;
        let is_full = events.len() >= BATCH;
        let chosen = if self.selection.needs_conversion(&self.resource.def) {
            self.look_in_version(events).await?
        } else {
            events
                .into_iter()
                .filter_map(|event| Some(Seen { look: self.look(&event.change)?, event }))
                .collect()
        };
        self.cursor = complete;
        Ok((chosen, is_full))
    }

    /// The next events as objects in the served version, beginning with what existed.
    pub async fn next(&mut self) -> Result<Vec<WatchEvent>, Status> {
        let initial = self.take_initial();
        if !initial.is_empty() {
            let initial = self.all_in_version(initial).await?;
            return Ok(initial.into_iter().map(WatchEvent::Added).collect());
        }
        let mut events = Vec::new();
        for seen in self.changes().await? {
            let object = self.in_version(seen.object()).await?;
            events.push(match seen.look {
                Look::Added => WatchEvent::Added(object),
                Look::Modified => WatchEvent::Modified(object),
                Look::Deleted | Look::Left => WatchEvent::Deleted(object),
            });
        }
        Ok(events)
    }

    /// The same events for a selection by fields of another version than the stored one.
    async fn look_in_version(&self, events: Vec<Arc<Event>>) -> Result<Vec<Seen>, Status> {
        let mut chosen = Vec::new();
        for event in events {
            let change = match &event.change {
                Change::Created(new) => Change::Created(self.with_fields(new).await?),
                Change::Updated { old, new } => {
                    Change::Updated { old: self.with_fields(old).await?, new: self.with_fields(new).await? }
                }
                Change::Deleted { old, last } => {
                    Change::Deleted { old: self.with_fields(old).await?, last: last.clone() }
                }
            };
            if let Some(look) = self.look(&change) {
                chosen.push(Seen { event, look });
            }
        }
        Ok(chosen)
    }

    async fn with_fields(&self, object: &ObjectRef) -> Result<ObjectRef, Status> {
        let mut objects = self.registry.all_with_fields(&self.resource, vec![object.clone()]).await?;
        objects.pop().ok_or_else(|| Status::internal("a conversion answered no object"))
    }

    fn look(&self, change: &Change) -> Option<Look> {
        let chosen = |object: &ObjectRef| self.selection.matches(&self.resource.def, &object.header);
        match change {
            Change::Created(new) => chosen(new).then_some(Look::Added),
            Change::Updated { old, new } => match (chosen(old), chosen(new)) {
                (true, true) => Some(Look::Modified),
                (false, true) => Some(Look::Added),
                (true, false) => Some(Look::Left),
                (false, false) => None,
            },
            Change::Deleted { old, .. } => chosen(old).then_some(Look::Deleted),
        }
    }

    /// An object in the version that was asked for.
    pub async fn in_version(&self, object: ObjectRef) -> Result<ObjectRef, Status> {
        self.registry.in_version(&self.resource, object).await
    }

    pub async fn all_in_version(&self, objects: Vec<ObjectRef>) -> Result<Vec<ObjectRef>, Status> {
        self.registry.all_in_version(&self.resource, objects).await
    }

    /// Whether somebody else converts the objects.
    pub fn asks(&self) -> bool {
        let version = self.resource.def.version.as_ref();
        version.is_some_and(|version| matches!(version.conversion, Conversion::Webhook { .. }))
    }

    /// An object in the version that was asked for, where nobody else converts it.
    pub fn in_version_now(&self, object: ObjectRef) -> Result<ObjectRef, Status> {
        self.registry.in_version_now(&self.resource, object)
    }
}
