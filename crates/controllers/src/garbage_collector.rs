//! Garbage collection: objects go when all their owners are gone, before them or after them, or are
//! set free, as the deletion of the owner asked for.
//!
//! It follows every resource that can be deleted, also those that custom definitions add, by the
//! objects' headers alone. What it keeps itself is only which objects name which owner
//! ([`graph::Graph`]). An owner that its view does not show is looked for in the API before anything
//! is deleted, so that a view that lags costs a request and never an object.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sampan_api::object::ObjectRef;
use sampan_api::{Gvr, Status};
use sampan_client::{Informer, InformerEvent, ListOptions, WorkQueue};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Shared;
use crate::discovery::{Served, discover};

mod collect;
mod graph;
#[cfg(test)]
mod tests;

use graph::{Graph, Item};

/// Objects that are worked on at the same time.
const WORKERS: usize = 8;
/// The delays between attempts to learn what is served.
const RETRY_FROM: Duration = Duration::from_millis(50);
const RETRY_TO: Duration = Duration::from_secs(30);
const DEFINITIONS: Gvr = Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");

/// The finalizer of an object that goes after its dependents.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents are set free before it goes.
pub(crate) const ORPHAN: &str = "orphan";

/// The tasks of the garbage collector.
pub(crate) struct GarbageCollector {
    tasks: JoinSet<()>,
    queue: WorkQueue<Item>,
}

impl GarbageCollector {
    pub fn start(shared: Arc<Shared>) -> Self {
        let queue = WorkQueue::observed(&shared.config.queues, "garbage-collector");
        let (ready, is_ready) = watch::channel(false);
        let collector = Arc::new(Collector {
            shared,
            queue: queue.clone(),
            graph: Mutex::default(),
            monitors: RwLock::default(),
            unresolved: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..WORKERS {
            tasks.spawn(work(collector.clone(), is_ready.clone()));
        }
        tasks.spawn(follow(collector, ready));
        GarbageCollector { tasks, queue }
    }

    pub async fn stop(mut self) {
        self.queue.close();
        self.tasks.shutdown().await;
    }
}

struct Collector {
    shared: Arc<Shared>,
    queue: WorkQueue<Item>,
    graph: Mutex<Graph>,
    monitors: RwLock<BTreeMap<Gvr, Monitor>>,
    /// Objects with an owner of a kind that nobody serves: looked at again when that changes.
    unresolved: Mutex<HashSet<Item>>,
}

/// What follows one resource.
struct Monitor {
    served: Served,
    informer: Informer,
    /// Whether the graph has the first list.
    listed: bool,
}

type Feed = mpsc::UnboundedSender<(Gvr, InformerEvent)>;

/// Keeps monitors in line with what is served, and the graph with what they see.
async fn follow(collector: Arc<Collector>, ready: watch::Sender<bool>) {
    let (sender, mut feed) = mpsc::unbounded_channel();
    let (mut delay, mut due) = (RETRY_FROM, Some(Instant::now()));
    loop {
        tokio::select! {
            biased;
            event = feed.recv() => {
                // The loop holds a sender.
                let Some((gvr, event)) = event else { return };
                if gvr == DEFINITIONS && !matches!(event, InformerEvent::Synced) {
                    due = Some(Instant::now());
                }
                collector.observe(&gvr, event);
                if !*ready.borrow() && collector.is_complete() {
                    ready.send_replace(true);
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                match collector.follow_what_is_served(&sender).await {
                    Ok(()) => (delay, due) = (RETRY_FROM, None),
                    Err(status) => {
                        tracing::warn!(%status, "the garbage collector does not know every resource");
                        due = Some(Instant::now() + delay);
                        delay = (delay * 2).min(RETRY_TO);
                    }
                }
            }
        }
    }
}

async fn work(collector: Arc<Collector>, mut ready: watch::Receiver<bool>) {
    if ready.wait_for(|ready| *ready).await.is_err() {
        return;
    }
    while let Some(item) = collector.queue.next().await {
        match collector.collect(&item).await {
            Ok(()) => collector.queue.forget(&item),
            Err(status) => {
                if !status.is_conflict() {
                    tracing::warn!(?item, %status, "garbage collection failed");
                }
                collector.queue.retry(item.clone());
            }
        }
        collector.queue.done(&item);
    }
}

impl Collector {
    /// Starts to follow resources that appeared and ends to follow those that went.
    async fn follow_what_is_served(&self, feed: &Feed) -> Result<(), Status> {
        let discovered = discover(&self.shared.client).await?;
        let is_event = |served: &Served| served.gvr.resource == "events";
        let wanted = discovered
            .resources
            .into_iter()
            .filter(|served| served.deletable && served.listable && served.watchable && !is_event(served));
        let wanted: BTreeMap<Gvr, Served> = wanted.map(|served| (served.gvr.clone(), served)).collect();
        let mut gone = Vec::new();
        {
            let mut monitors = self.monitors.write();
            // A group that could not be asked may well have what it had.
            if discovered.failures.is_empty() {
                let left: Vec<Gvr> =
                    monitors.keys().filter(|gvr| !wanted.contains_key(gvr)).cloned().collect();
                gone.extend(left.iter().filter_map(|gvr| monitors.remove(gvr)));
            }
            for (gvr, served) in wanted {
                monitors.entry(gvr).or_insert_with(|| self.monitor(served, feed));
            }
        }
        for monitor in gone {
            for object in monitor.informer.list("") {
                self.forget(&monitor.served.gvr, &object);
            }
        }
        match discovered.failures.as_slice() {
            [] => Ok(()),
            failures => Err(Status::unavailable(failures.join(", "))),
        }
    }

    fn monitor(&self, served: Served, feed: &Feed) -> Monitor {
        let (events, mut receiver) = mpsc::unbounded_channel();
        let (feed, gvr) = (feed.clone(), served.gvr.clone());
        // Ends with the informer.
        tokio::spawn(async move {
            while let Some(event) = receiver.recv().await {
                if feed.send((gvr.clone(), event)).is_err() {
                    return;
                }
            }
        });
        let client = self.shared.client.clone();
        let informer = Informer::start(client, served.gvr.clone(), None, ListOptions::default(), events);
        Monitor { served, informer, listed: false }
    }

    fn is_complete(&self) -> bool {
        let monitors = self.monitors.read();
        !monitors.is_empty() && monitors.values().all(|monitor| monitor.listed)
    }

    fn observe(&self, gvr: &Gvr, event: InformerEvent) {
        match event {
            InformerEvent::Applied { old, new } => self.applied(gvr, old.as_ref(), &new),
            InformerEvent::Deleted(object) => self.forget(gvr, &object),
            InformerEvent::Synced => {
                if let Some(monitor) = self.monitors.write().get_mut(gvr) {
                    monitor.listed = true;
                }
                for item in std::mem::take(&mut *self.unresolved.lock()) {
                    self.queue.add(item);
                }
            }
        }
    }

    fn applied(&self, gvr: &Gvr, old: Option<&ObjectRef>, new: &ObjectRef) {
        let before = old.map(|old| &old.header);
        let owners_before = before.map(|header| &*header.owners).unwrap_or_default();
        let (header, item) = (&new.header, Item { gvr: gvr.clone(), key: new.key() });
        let owners_changed = before.is_none() || owners_before != &*header.owners;
        let mut graph = self.graph.lock();
        if owners_changed && !(owners_before.is_empty() && header.owners.is_empty()) {
            graph.update(&item, owners_before, &header.owners);
            // An owner that waits for its dependents may wait for one less.
            owners_before.iter().for_each(|owner| self.add_owner(&item, owner));
            if !header.owners.is_empty() {
                self.queue.add(item.clone());
            }
        }
        let has = |name: &str| header.finalizers.iter().any(|finalizer| &**finalizer == name);
        if header.is_terminating() && (has(FOREGROUND) || has(ORPHAN)) {
            let began = before
                .is_none_or(|before| !before.is_terminating() || before.finalizers != header.finalizers);
            if began {
                self.queue.add(item);
                if has(FOREGROUND) {
                    graph.dependents(&header.uid).for_each(|dependent| self.queue.add(dependent.clone()));
                }
            }
        }
    }

    /// An object is gone: its dependents may follow, and its owners may wait for one less.
    fn forget(&self, gvr: &Gvr, object: &ObjectRef) {
        let item = Item { gvr: gvr.clone(), key: object.key() };
        let header = &object.header;
        let mut graph = self.graph.lock();
        graph.update(&item, &header.owners, &[]);
        graph.dependents(&header.uid).for_each(|dependent| self.queue.add(dependent.clone()));
        header.owners.iter().for_each(|owner| self.add_owner(&item, owner));
    }

    /// Looks at an owner again, where it waits for its dependents.
    fn add_owner(&self, item: &Item, reference: &sampan_api::object::OwnerReference) {
        let Some((gvr, namespaced)) = self.resolve(&reference.api_version, &reference.kind) else { return };
        let Some(key) = graph::owner_key(item, namespaced, &reference.name) else { return };
        if self
            .view(&gvr, &key)
            .is_some_and(|owner| owner.header.is_terminating() && owner.header.uid == reference.uid)
        {
            self.queue.add(Item { gvr, key });
        }
    }

    /// The followed resource of a kind, and whether it is in namespaces. Any version of a group
    /// names the same objects.
    fn resolve(&self, api_version: &str, kind: &str) -> Option<(Gvr, bool)> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let monitors = self.monitors.read();
        let found = monitors
            .values()
            .find(|monitor| monitor.served.kind == kind && monitor.served.gvr.group == group)?;
        Some((found.served.gvr.clone(), found.served.namespaced))
    }

    fn view(&self, gvr: &Gvr, key: &str) -> Option<ObjectRef> {
        self.monitors.read().get(gvr)?.informer.get(key)
    }
}
