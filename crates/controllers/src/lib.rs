//! The controllers: what kube-controller-manager does, each in the file of its name.
//!
//! Every controller has a queue of keys that events fill, a pure `plan` from what it sees to what is
//! to be done, and a thin part that does it. They share one view of the cluster ([`view::View`]), meet
//! only at API objects, and never poll: a key comes back only because something changed, because a
//! deadline that an object names is due, or because an action failed.

use std::sync::Arc;

use sampan_base::drain::Shutdown;
use sampan_client::events::EventRecorder;
use sampan_client::{Client, QueueFamilies};

mod claim;
mod cluster_role_aggregation;
mod controller;
mod cron_job;
mod daemon_set;
mod deployment;
mod discovery;
mod endpoint_slice;
mod endpoint_slice_mirroring;
mod endpoints;
mod expectations;
mod garbage_collector;
mod hash;
mod job;
mod namespace;
mod node_lifecycle;
mod owned_pods;
mod pod_garbage_collector;
mod pods;
mod replica_set;
mod replication_controller;
mod resource_quota;
mod revisions;
mod root_ca;
mod service_account;
mod service_pods;
mod slice_packing;
mod stateful_set;
mod storage_protection;
mod taint_eviction;
#[cfg(test)]
mod testing;
mod ttl_after_finished;
mod view;

use controller::Fleet;
use replica_set::{Flavour, ReplicaSets};
use view::View;

/// What the controllers need to know beside the API.
#[derive(Clone, Debug)]
pub struct ControllersConfig {
    /// The certificate authority that pods trust the API server by, in PEM.
    pub ca_pem: String,
    /// Where the queues are counted.
    pub queues: QueueFamilies,
}

/// What every controller works with.
pub(crate) struct Shared {
    pub client: Client,
    pub view: View,
    pub events: EventRecorder,
    pub config: ControllersConfig,
}

/// Runs every controller until shutdown. `ready` is called when all of them see the cluster.
pub async fn run(client: Client, config: ControllersConfig, ready: impl FnOnce() + Send, shutdown: Shutdown) {
    let (events, sink) = EventRecorder::new(client.clone(), "controller-manager", "");
    let (view, feed) = View::start(&client);
    let shared = Arc::new(Shared { client, view, events, config });
    let mut fleet = Fleet::new(shared.clone());
    fleet.add(ReplicaSets::new(Flavour::ReplicaSet));
    fleet.add(ReplicaSets::new(Flavour::ReplicationController));
    fleet.add(deployment::Deployments);
    fleet.add(cron_job::CronJobs);
    fleet.add(daemon_set::DaemonSets::default());
    fleet.add(stateful_set::StatefulSets);
    fleet.add(service_account::ServiceAccounts);
    fleet.add(root_ca::RootCertificates);
    fleet.add(endpoint_slice::EndpointSlices::default());
    fleet.add(endpoints::LegacyEndpoints::default());
    fleet.add(endpoint_slice_mirroring::EndpointSliceMirrors::default());
    fleet.add(namespace::Namespaces);
    fleet.add(job::Jobs::default());
    fleet.add(ttl_after_finished::TtlAfterFinished);
    fleet.add(node_lifecycle::Nodes::default());
    fleet.add(taint_eviction::TaintEviction::default());
    fleet.add(pod_garbage_collector::PodGarbageCollector);
    fleet.add(cluster_role_aggregation::ClusterRoleAggregation);
    fleet.add(storage_protection::ClaimProtection);
    fleet.add(storage_protection::VolumeProtection);
    shared.view.synced().await;
    let running = fleet.start(feed);
    let collector = garbage_collector::GarbageCollector::start(shared.clone());
    let quotas = resource_quota::ResourceQuotas::start(shared.clone());
    ready();
    shutdown.requested().await;
    running.stop().await;
    collector.stop().await;
    quotas.stop().await;
    drop(shared);
    sink.finish().await;
}
