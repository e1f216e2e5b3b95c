//! The identities of the controllers: each acts under the service account that Kubernetes has for it, with
//! the rights of that one's role and no others. The shared view is the manager's own, which may read
//! everything, and so is what has to do with tokens, as upstream.

use std::sync::Arc;

use sampan_client::Client;
use sampan_client::events::{EventRecorder, EventSink};

use crate::Shared;

/// The API under the identities of kube-controller-manager.
pub trait Identities: Send + Sync {
    /// The user `system:kube-controller-manager`.
    fn manager(&self) -> Client;
    /// A service account in `kube-system`.
    fn service_account(&self, name: &str) -> Client;
}

/// Where controllers act as the manager itself.
const MANAGER: &str = "controller-manager";

/// The service account of a controller, by the name that its queue has.
pub(crate) fn account(controller: &str) -> &'static str {
    match controller {
        "certificatesigningrequest-approving"
        | "certificatesigningrequest-signing"
        | "certificatesigningrequest-cleaner" => "certificate-controller",
        "clusterrole-aggregation" => "clusterrole-aggregation-controller",
        "cronjob" => "cronjob-controller",
        "daemonset" => "daemon-set-controller",
        "deployment" => "deployment-controller",
        "endpoint" => "endpoint-controller",
        "endpointslice" => "endpointslice-controller",
        "endpointslicemirroring" => "endpointslicemirroring-controller",
        "garbage-collector" => "generic-garbage-collector",
        "job" => "job-controller",
        "namespace" => "namespace-controller",
        "node-lifecycle" | "taint-eviction" => "node-controller",
        "persistentvolume-protection" => "pv-protection-controller",
        "persistentvolumeclaim-protection" => "pvc-protection-controller",
        "pod-garbage-collector" => "pod-garbage-collector",
        "replicaset" => "replicaset-controller",
        "replicationcontroller" => "replication-controller",
        "resourcequota" => "resourcequota-controller",
        "root-ca-certificate-publisher" => "root-ca-cert-publisher",
        "serviceaccount" => "service-account-controller",
        "serviceaccount-token" | "token-cleaner" => MANAGER,
        "statefulset" => "statefulset-controller",
        "ttl-after-finished" => "ttl-after-finished-controller",
        other => unreachable!("the controller {other} has no identity"),
    }
}

/// What `kubectl describe` shows as the origin of a controller's events.
fn component(account: &str) -> &str {
    match account {
        "daemon-set-controller" => "daemonset-controller",
        other => other,
    }
}

/// Gives controllers what they share, each under its own identity.
pub(crate) struct Distributor {
    identities: Box<dyn Identities>,
    base: Shared,
    sinks: Vec<EventSink>,
}

impl Distributor {
    /// `base` is the manager's own.
    pub fn new(identities: Box<dyn Identities>, base: Shared) -> Self {
        Distributor { identities, base, sinks: Vec::new() }
    }

    /// What a controller works with.
    pub fn of(&mut self, controller: &str) -> Arc<Shared> {
        let account = account(controller);
        let client = match account {
            MANAGER => self.identities.manager(),
            account => self.identities.service_account(account),
        };
        let (events, sink) = EventRecorder::new(client.clone(), component(account), "");
        self.sinks.push(sink);
        Arc::new(Shared { client, events, view: self.base.view.clone(), config: self.base.config.clone() })
    }

    /// Waits until every event is told. Nobody may hold anything that was given out.
    pub async fn finish(self) {
        drop(self.base);
        for sink in self.sinks {
            sink.finish().await;
        }
    }
}
