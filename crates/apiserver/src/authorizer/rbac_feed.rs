//! Keeps the roles current from the caches.

use std::sync::Arc;

use futures_util::future::select_all;
use parking_lot::RwLock;
use sampan_api::Gvr;
use sampan_api::object::ObjectRef;

use crate::cache::Change;
use crate::identity::authorization::{GROUP, Rbac, RbacKind};
use crate::registry::{Registry, Resource};

fn resource(registry: &Registry, kind: RbacKind) -> Option<Resource> {
    registry.resource(&Gvr::new(GROUP, "v1", kind.resource())).ok()
}

fn apply(rbac: &mut Rbac, kind: RbacKind, object: &ObjectRef) {
    if let Err(error) = rbac.apply(kind, &object.bytes()) {
        tracing::error!(%error, object = object.key(), "a role was left out");
    }
}

/// The roles as they are stored.
pub fn load(registry: &Registry) -> Rbac {
    let mut rbac = Rbac::default();
    for kind in RbacKind::ALL {
        for object in resource(registry, kind).iter().flat_map(|resource| resource.cache.snapshot().0) {
            apply(&mut rbac, kind, &object.1);
        }
    }
    rbac
}

/// Follows the changes of roles and bindings.
pub async fn follow(registry: Arc<Registry>, rbac: &RwLock<Rbac>) {
    let sources: Vec<(RbacKind, Resource)> =
        RbacKind::ALL.into_iter().filter_map(|kind| Some((kind, resource(&registry, kind)?))).collect();
    let mut changed: Vec<_> = sources.iter().map(|(_, resource)| resource.cache.subscribe()).collect();
    let mut cursors: Vec<u64> = vec![0; sources.len()];
    loop {
        for (index, (kind, resource)) in sources.iter().enumerate() {
            changed[index].borrow_and_update();
            match resource.cache.events_after(cursors[index], usize::MAX) {
                Ok((events, complete)) => {
                    let mut rbac = rbac.write();
                    for event in events {
                        match &event.change {
                            Change::Created(new) | Change::Updated { new, .. } => {
                                apply(&mut rbac, *kind, new)
                            }
                            Change::Deleted { old, .. } => {
                                rbac.remove(*kind, &old.header.namespace, &old.header.name);
                            }
                        }
                    }
                    cursors[index] = complete;
                }
                // The window moved on: everything anew, from what is stored now.
                Err(_) => {
                    let revision = registry.caches.revision();
                    *rbac.write() = load(&registry);
                    cursors.fill(revision);
                }
            }
        }
        let changes = changed.iter_mut().map(|receiver| Box::pin(receiver.changed()));
        if select_all(changes).await.0.is_err() {
            return;
        }
    }
}
