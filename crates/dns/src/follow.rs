//! Keeps the index as the API is.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Service as ApiService};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use sampan_api::object::Object;
use sampan_client::typed::Resource;
use sampan_client::{Client, Informer, InformerEvent, ListOptions};
use tokio::sync::{mpsc, watch};

use crate::index::Index;
use crate::index::objects::{Service, Slice};

/// What is followed.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Namespaces,
    Services,
    Slices,
}

struct Feed {
    kind: Kind,
    /// Held for its task.
    _informer: Informer,
    events: mpsc::UnboundedReceiver<InformerEvent>,
}

impl Feed {
    fn start<T: Resource>(kind: Kind, client: &Client) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let informer = Informer::start(client.clone(), T::gvr(), None, ListOptions::default(), sender);
        Feed { kind, _informer: informer, events }
    }
}

/// Follows the API for ever. Sets `ready` once the index holds all that existed at the start.
pub async fn follow(client: Client, index: Arc<RwLock<Index>>, ready: watch::Sender<bool>) {
    let mut namespaces = Feed::start::<Namespace>(Kind::Namespaces, &client);
    let mut services = Feed::start::<ApiService>(Kind::Services, &client);
    let mut slices = Feed::start::<EndpointSlice>(Kind::Slices, &client);
    let mut unsynced = 3;
    loop {
        let (kind, event) = tokio::select! {
            event = namespaces.events.recv() => (namespaces.kind, event),
            event = services.events.recv() => (services.kind, event),
            event = slices.events.recv() => (slices.kind, event),
        };
        // An informer's task ends only with its informer, which lives here.
        let Some(event) = event else { return };
        match event {
            InformerEvent::Synced => {
                unsynced -= 1;
                if unsynced == 0 {
                    ready.send_replace(true);
                }
            }
            InformerEvent::Applied { old, new } => apply(&index, kind, old.as_deref(), &new),
            InformerEvent::Deleted(object) => delete(&index, kind, &object),
        }
    }
}

fn apply(index: &RwLock<Index>, kind: Kind, old: Option<&Object>, new: &Object) {
    let unreadable = |error: serde_json::Error| {
        tracing::warn!(object = %new.key(), ?kind, %error, "an object without names: it cannot be read");
    };
    match kind {
        Kind::Namespaces => index.write().apply_namespace(&new.header.name),
        Kind::Services => match Service::read(new) {
            Ok(service) => index.write().apply_service(service),
            Err(error) => {
                unreadable(error);
                delete(index, kind, new);
            }
        },
        Kind::Slices => {
            if let Some(old) = old.filter(|old| Slice::service_of(old) != Slice::service_of(new)) {
                delete(index, kind, old);
            }
            match Slice::read(new) {
                Ok(Some(slice)) => index.write().apply_slice(slice),
                Ok(None) => {}
                Err(error) => {
                    unreadable(error);
                    delete(index, kind, new);
                }
            }
        }
    }
}

fn delete(index: &RwLock<Index>, kind: Kind, object: &Object) {
    let header = &object.header;
    match kind {
        Kind::Namespaces => index.write().remove_namespace(&header.name),
        Kind::Services => index.write().remove_service(&header.namespace, &header.name),
        Kind::Slices => {
            if let Some(service) = Slice::service_of(object) {
                index.write().remove_slice(&header.namespace, service, &header.name);
            }
        }
    }
}
