//! Aggregated APIs: groups and versions that another server answers, registered by an APIService
//! (`apiregistration.k8s.io/v1`).
//!
//! Every group and version of this server's own has an APIService too, which says `Local`. Requests
//! under a remote one are passed on with this server's front-proxy certificate and the user's name.
//! Whether a remote server answers is asked after each change that may matter and twice a minute, for
//! as long as there is one; what it says of its resources then becomes part of our documents.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::RwLock;
use sampan_api::{Gvr, Status};
use serde_json::Value;

use crate::identity::{MASTERS_GROUP, User};
use crate::outgoing::ClientIdentity;
use crate::registry::{Context, Registry};
use crate::resource_metrics;

mod availability;
mod forward;
mod local;
pub mod merge;
mod remote;

pub use forward::forward;
pub use merge::Described;
pub use remote::Remote;

const APISERVICES: Gvr = Gvr::new("apiregistration.k8s.io", "v1", "apiservices");
/// What may change whether a remote server is reached, besides its APIService.
const REACHED_BY: [Gvr; 2] = [Gvr::new("", "v1", "services"), Gvr::new("", "v1", "endpoints")];
const DEFINITIONS: Gvr = Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");

/// The time between two looks at remote servers, and after one did not answer.
const LOOK: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Changes come in groups: how long they are gathered.
const GATHER: Duration = Duration::from_millis(100);

/// Remote servers by group and version.
type Remotes = HashMap<(String, String), Arc<Remote>>;

/// The aggregated APIs of a server.
pub struct Aggregator {
    registry: Arc<Registry>,
    /// The certificate by which remote servers know us.
    identity: Option<ClientIdentity>,
    remotes: RwLock<Arc<Remotes>>,
}

impl Aggregator {
    pub fn new(registry: Arc<Registry>, identity: Option<ClientIdentity>) -> Self {
        let aggregator = Aggregator { registry, identity, remotes: RwLock::default() };
        aggregator.rebuild();
        aggregator
    }

    /// The remote server of a group and version.
    pub fn remote(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.read();
        if remotes.is_empty() {
            return None;
        }
        remotes.get(&(group.to_owned(), version.to_owned())).cloned()
    }

    /// The remote server that a path belongs to: `/apis/<group>/<version>` or below.
    pub fn remote_of_path(&self, path: &str) -> Option<Arc<Remote>> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        match (parts.next(), parts.next(), parts.next()) {
            (Some("apis"), Some(group), Some(version)) => self.remote(group, version),
            _ => None,
        }
    }

    /// What the remote servers said of themselves, and the resource metrics of our own where no remote
    /// server has them, in the order of discovery.
    pub fn described(&self) -> Vec<Described> {
        let remotes = self.remotes.read().clone();
        let mut described: Vec<Described> = remotes.values().map(|remote| remote.described()).collect();
        let ours = resource_metrics::described();
        if !remotes.contains_key(&(ours.group.clone(), ours.version.clone())) {
            described.push(ours);
        }
        described.sort_by(|a, b| a.order().cmp(&b.order()));
        described
    }

    /// Keeps everything current; `changed` is told when documents are no longer what they were.
    pub async fn follow(self: Arc<Self>, changed: impl Fn()) {
        let subscribe = |gvr: &Gvr| self.registry.resource(gvr).ok().map(|one| one.cache.subscribe());
        let (Some(mut services), Some(mut definitions)) = (subscribe(&APISERVICES), subscribe(&DEFINITIONS))
        else {
            return;
        };
        let mut reached: Vec<_> = REACHED_BY.iter().filter_map(subscribe).collect();
        let mut context = context();
        loop {
            services.borrow_and_update();
            definitions.borrow_and_update();
            for receiver in &mut reached {
                receiver.borrow_and_update();
            }
            local::register(&self.registry, &mut context).await;
            if self.rebuild() {
                changed();
            }
            let remotes = self.remotes.read().clone();
            let looks =
                join_all(remotes.values().map(|remote| availability::look(&self.registry, remote))).await;
            if looks.iter().any(|look| look.changed) {
                changed();
            }
            let wait = if looks.iter().all(|look| look.available) { LOOK } else { LOOK_AGAIN };
            tokio::select! {
                result = services.changed() => if result.is_err() { return },
                result = definitions.changed() => if result.is_err() { return },
                () = any_changed(&mut reached), if !remotes.is_empty() => {}
                () = tokio::time::sleep(wait), if !remotes.is_empty() => {}
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Reads the APIServices; whether the set of remote servers changed.
    fn rebuild(&self) -> bool {
        let Ok(resource) = self.registry.resource(&APISERVICES) else { return false };
        let old = self.remotes.read().clone();
        let mut new = Remotes::new();
        for object in resource.cache.snapshot().0.values() {
            let Ok(value) = object.decode::<Value>() else { continue };
            if !value["spec"]["service"].is_object() {
                continue;
            }
            let text = |field: &str| value["spec"][field].as_str().unwrap_or_default().to_owned();
            let key = (text("group"), text("version"));
            let known = old.get(&key).filter(|known| known.spec == value["spec"]).cloned();
            let remote =
                known.unwrap_or_else(|| Arc::new(Remote::new(&self.registry, &value, self.identity.clone())));
            new.insert(key, remote);
        }
        let same = old.len() == new.len()
            && new.iter().all(|(key, remote)| old.get(key).is_some_and(|known| Arc::ptr_eq(known, remote)));
        if !same {
            *self.remotes.write() = Arc::new(new);
        }
        !same
    }
}

async fn any_changed(receivers: &mut [tokio::sync::watch::Receiver<u64>]) {
    let changes = receivers.iter_mut().map(|receiver| Box::pin(receiver.changed()));
    // A cache that is gone is the end of the process.
    let _ = futures_util::future::select_all(changes).await;
}

fn context() -> Context {
    Context::new(User::component("system:kube-aggregator", &[MASTERS_GROUP]))
}

/// A condition's write that failed is made again at the next look.
fn log_failure(name: &str, result: Result<(), Status>) {
    if let Err(error) = result {
        tracing::warn!(name, %error, "an APIService was not written");
    }
}
