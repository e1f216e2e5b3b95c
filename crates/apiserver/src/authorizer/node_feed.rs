//! Keeps the nodes' graph current from the caches.
//!
//! A node hears of its pod at the very moment that the cache shows it, and asks for the pod's secrets at
//! once. So a question that the graph would deny is asked again after the graph has caught up with the
//! caches, which is what a follower would do a little later anyway.

use std::sync::Arc;

use futures_util::future::select_all;
use parking_lot::RwLock;
use sampan_api::Gvr;
use sampan_api::object::ObjectRef;
use serde_json::Value;

use crate::cache::{Cache, Change, Event};
use crate::identity::authorization::node::{Vertex, of_pod, of_volume};
use crate::identity::authorization::{Attributes, NodeAuthorizer, NodeDecision};
use crate::registry::Registry;

/// The resources that ways begin at or lead over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Pods,
    Volumes,
    Attachments,
    Slices,
}

const SOURCES: [(Source, Gvr); 4] = [
    (Source::Pods, Gvr::new("", "v1", "pods")),
    (Source::Volumes, Gvr::new("", "v1", "persistentvolumes")),
    (Source::Attachments, Gvr::new("storage.k8s.io", "v1", "volumeattachments")),
    (Source::Slices, Gvr::new("resource.k8s.io", "v1", "resourceslices")),
];

struct State {
    authorizer: NodeAuthorizer,
    /// Up to which revision each source is in the graph.
    cursors: Vec<u64>,
}

/// The graph and where it comes from.
pub struct NodeFeed {
    sources: Vec<(Source, Arc<Cache>)>,
    state: RwLock<State>,
}

impl NodeFeed {
    pub fn new(registry: &Registry) -> Self {
        let sources: Vec<_> = SOURCES
            .into_iter()
            .filter_map(|(source, gvr)| Some((source, registry.resource(&gvr).ok()?.cache)))
            .collect();
        NodeFeed { state: RwLock::new(load(&sources)), sources }
    }

    /// Whether a node may do this, and else why not.
    pub fn authorize(&self, node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
        if self.state.read().authorizer.authorize(node, attributes) == NodeDecision::Allow {
            return Ok(());
        }
        self.catch_up();
        match self.state.read().authorizer.authorize(node, attributes) {
            NodeDecision::Allow => Ok(()),
            NodeDecision::NoOpinion(why) => Err(why),
        }
    }

    /// Follows the sources for as long as it is polled.
    pub async fn follow(&self) {
        let mut changed: Vec<_> = self.sources.iter().map(|(_, cache)| cache.subscribe()).collect();
        loop {
            for receiver in &mut changed {
                receiver.borrow_and_update();
            }
            self.catch_up();
            let changes = changed.iter_mut().map(|receiver| Box::pin(receiver.changed()));
            if select_all(changes).await.0.is_err() {
                return;
            }
        }
    }

    /// Takes in what the caches show and the graph does not.
    fn catch_up(&self) {
        for (index, (source, cache)) in self.sources.iter().enumerate() {
            let from = self.state.read().cursors[index];
            match cache.events_after(from, usize::MAX) {
                Ok((events, _)) if events.is_empty() => {}
                Ok(_) => {
                    let mut state = self.state.write();
                    // Others may have been here since the look without the lock.
                    let from = state.cursors[index];
                    let Ok((events, complete)) = cache.events_after(from, usize::MAX) else { continue };
                    for event in &events {
                        apply(&mut state.authorizer, *source, event);
                    }
                    state.cursors[index] = complete;
                }
                // The window moved on: everything anew, from what is stored now.
                Err(_) => *self.state.write() = load(&self.sources),
            }
        }
    }
}

fn load(sources: &[(Source, Arc<Cache>)]) -> State {
    let mut authorizer = NodeAuthorizer::default();
    let mut cursors = Vec::new();
    for (source, cache) in sources {
        let (objects, revision) = cache.snapshot();
        for (_, object) in &objects {
            put(&mut authorizer, *source, object);
        }
        cursors.push(revision);
    }
    State { authorizer, cursors }
}

fn apply(authorizer: &mut NodeAuthorizer, source: Source, event: &Event) {
    match &event.change {
        Change::Created(new) => put(authorizer, source, new),
        Change::Updated { old, new } if source == Source::Pods && says_the_same(old, new) => {}
        Change::Updated { old, new } => {
            // A volume is replaced as a whole; of pods the graph remembers nothing.
            if source == Source::Pods {
                take(authorizer, source, old);
            }
            put(authorizer, source, new);
        }
        Change::Deleted { old, .. } => take(authorizer, source, old),
    }
}

/// Whether a change of a pod surely changes nothing of what it refers to, told without decoding it: its
/// spec has the same generation, and its status names no claims.
fn says_the_same(old: &ObjectRef, new: &ObjectRef) -> bool {
    let claims = |object: &ObjectRef| {
        let bytes = object.bytes();
        memchr::memmem::find(&bytes, b"esourceClaim").is_some()
    };
    old.header.uid == new.header.uid
        && old.header.generation == new.header.generation
        && !claims(new)
        && !claims(old)
}

fn put(authorizer: &mut NodeAuthorizer, source: Source, object: &ObjectRef) {
    let graph = &mut authorizer.graph;
    let name = &object.header.name;
    match source {
        Source::Pods => {
            if let Some(links) = of_pod(&object.bytes()) {
                graph.add_pod(&links);
            }
        }
        Source::Volumes => graph.set_volume(name, decoded(object).and_then(|volume| of_volume(&volume))),
        Source::Attachments => graph.set_node(Vertex::VolumeAttachment, name, &node_of(object)),
        Source::Slices => graph.set_node(Vertex::ResourceSlice, name, &node_of(object)),
    }
}

fn take(authorizer: &mut NodeAuthorizer, source: Source, object: &ObjectRef) {
    let graph = &mut authorizer.graph;
    let name = &object.header.name;
    match source {
        Source::Pods => {
            if let Some(links) = of_pod(&object.bytes()) {
                graph.remove_pod(&links);
            }
        }
        Source::Volumes => graph.set_volume(name, None),
        Source::Attachments => graph.set_node(Vertex::VolumeAttachment, name, ""),
        Source::Slices => graph.set_node(Vertex::ResourceSlice, name, ""),
    }
}

fn decoded(object: &ObjectRef) -> Option<Value> {
    object.decode().ok()
}

fn node_of(object: &ObjectRef) -> String {
    let value = decoded(object);
    let node = value.as_ref().and_then(|value| value.pointer("/spec/nodeName")).and_then(Value::as_str);
    node.unwrap_or_default().to_owned()
}
