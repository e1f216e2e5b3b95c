//! Informers: a local, always current view of one resource.
//!
//! Flow: list, then watch from the list's revision; on 410 or a broken stream, list again and
//! report the difference. Objects are shared with the backend's cache where it is in the same
//! process, so that a view costs a pointer per object.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::RwLock;
use sampan_api::object::ObjectRef;
use sampan_api::{Gvr, Status};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{Client, ListOptions, WatchEvent};

mod objects;

use objects::Objects;

/// What changed in a view. Sent after the view shows it.
#[derive(Clone, Debug)]
pub enum InformerEvent {
    /// The object appeared or changed; `old` is what the view held before.
    Applied {
        old: Option<ObjectRef>,
        new: ObjectRef,
    },
    Deleted(ObjectRef),
    /// The first list is complete in the view.
    Synced,
}

/// A view of one resource, kept current by a task that ends when the informer is dropped.
pub struct Informer {
    view: Arc<View>,
    synced: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct View {
    objects: RwLock<Objects>,
}

impl Drop for Informer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Informer {
    /// Starts to follow a resource. Every change is sent to `events`, in order.
    pub fn start(
        client: Client,
        gvr: Gvr,
        namespace: Option<String>,
        selection: ListOptions,
        events: mpsc::UnboundedSender<InformerEvent>,
    ) -> Self {
        let view = Arc::new(View::default());
        let (synced_sender, synced) = watch::channel(false);
        let follower =
            Follower { client, gvr, namespace, selection, events, view: view.clone(), synced: synced_sender };
        Informer { view, synced, task: tokio::spawn(follower.run()) }
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        // The sender lives as long as the task, which ends with `self`.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// The object with this key (`namespace/name`, or `name` for objects of the cluster).
    pub fn get(&self, key: &str) -> Option<ObjectRef> {
        self.view.objects.read().get(key).cloned()
    }

    /// Every object of a namespace, or of the view when `namespace` is empty, in the order of
    /// namespaces and names.
    pub fn list(&self, namespace: &str) -> Vec<ObjectRef> {
        let objects = self.view.objects.read();
        if namespace.is_empty() {
            return objects.iter().cloned().collect();
        }
        objects.of_namespace(namespace).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.view.objects.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

struct Follower {
    client: Client,
    gvr: Gvr,
    namespace: Option<String>,
    selection: ListOptions,
    events: mpsc::UnboundedSender<InformerEvent>,
    view: Arc<View>,
    synced: watch::Sender<bool>,
}

/// The delays between attempts to reach a server that does not answer.
const RETRY_FROM: Duration = Duration::from_millis(50);
const RETRY_TO: Duration = Duration::from_secs(10);

impl Follower {
    async fn run(self) {
        let mut delay = RETRY_FROM;
        loop {
            match self.list_and_watch(&mut delay).await {
                Ok(()) => {}
                Err(status) if status.is_expired() => {}
                Err(status) => {
                    tracing::debug!(resource = %self.gvr, %status, "list and watch failed; retrying");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY_TO);
                }
            }
        }
    }

    async fn list_and_watch(&self, delay: &mut Duration) -> Result<(), Status> {
        let list = self.client.backend().list(&self.gvr, self.namespace.as_deref(), &self.selection).await?;
        let mut revision = list.revision;
        self.replace(list.items);
        if !self.synced.send_replace(true) {
            self.send(InformerEvent::Synced);
        }
        *delay = RETRY_FROM;
        loop {
            let options = ListOptions { revision: Some(revision), ..self.selection.clone() };
            let opened = Instant::now();
            let mut stream =
                self.client.backend().watch(&self.gvr, self.namespace.as_deref(), &options).await?;
            while let Some(event) = stream.next().await {
                match event? {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                        revision = object.header.revision;
                        self.apply(object);
                    }
                    WatchEvent::Deleted(object) => {
                        revision = object.header.revision;
                        self.delete(object);
                    }
                    WatchEvent::Bookmark(at) => revision = at,
                }
            }
            // A server that ends streams as soon as they begin is not asked without a pause.
            if opened.elapsed() < RETRY_FROM {
                tokio::time::sleep(RETRY_FROM).await;
            }
        }
    }

    /// Makes the view equal to a list and reports only what differs.
    fn replace(&self, items: Vec<ObjectRef>) {
        let fresh: Objects = items.into_iter().collect();
        let gone: Vec<ObjectRef> = {
            let view = self.view.objects.read();
            view.iter().filter(|object| fresh.get_like(object).is_none()).cloned().collect()
        };
        for object in gone {
            self.delete(object);
        }
        for object in fresh.iter() {
            let known = self.view.objects.read().get_like(object).map(|old| old.header.revision);
            if known != Some(object.header.revision) {
                self.apply(object.clone());
            }
        }
    }

    fn apply(&self, new: ObjectRef) {
        let old = self.view.objects.write().insert(new.clone());
        self.send(InformerEvent::Applied { old, new });
    }

    fn delete(&self, object: ObjectRef) {
        self.view.objects.write().remove(&object);
        self.send(InformerEvent::Deleted(object));
    }

    fn send(&self, event: InformerEvent) {
        // A receiver that is gone belongs to a component that is stopping.
        let _ = self.events.send(event);
    }
}
