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

mod authority;
mod certificates;
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
mod identities;
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
mod service_account_token;
mod service_pods;
mod slice_packing;
mod stateful_set;
mod storage_protection;
mod taint_eviction;
#[cfg(test)]
mod testing;
mod token_cleaner;
mod ttl_after_finished;
mod view;

pub use authority::{Authority, SignError};
pub use identities::Identities;

use controller::Fleet;
use identities::Distributor;
use replica_set::{Flavour, ReplicaSets};
use view::View;

/// What the controllers need to know beside the API.
#[derive(Clone)]
pub struct ControllersConfig {
    /// By which pods trust the API server, and which signs certificates.
    pub authority: Arc<dyn Authority>,
    /// Where the queues are counted.
    pub queues: QueueFamilies,
}

/// What a controller works with: its own identity, and what it shares with the others.
pub(crate) struct Shared {
    pub client: Client,
    pub view: Arc<View>,
    pub events: EventRecorder,
    pub config: ControllersConfig,
}

/// Runs every controller until shutdown. `ready` is called when all of them see the cluster.
pub async fn run(
    identities: impl Identities + 'static,
    config: ControllersConfig,
    ready: impl FnOnce() + Send,
    shutdown: Shutdown,
) {
    let client = identities.manager();
    let (events, sink) = EventRecorder::new(client.clone(), "controller-manager", "");
    let (view, feed) = View::start(&client);
    let view = Arc::new(view);
    let base = Shared { client, view: view.clone(), events, config };
    let mut distributor = Distributor::new(Box::new(identities), base);
    let mut fleet = Fleet::default();
    fleet.add(&mut distributor, ReplicaSets::new(Flavour::ReplicaSet));
    fleet.add(&mut distributor, ReplicaSets::new(Flavour::ReplicationController));
    fleet.add(&mut distributor, deployment::Deployments);
    fleet.add(&mut distributor, cron_job::CronJobs);
    fleet.add(&mut distributor, daemon_set::DaemonSets::default());
    fleet.add(&mut distributor, stateful_set::StatefulSets);
    fleet.add(&mut distributor, service_account::ServiceAccounts);
    fleet.add(&mut distributor, root_ca::RootCertificates);
    fleet.add(&mut distributor, endpoint_slice::EndpointSlices::default());
    fleet.add(&mut distributor, endpoints::LegacyEndpoints::default());
    fleet.add(&mut distributor, endpoint_slice_mirroring::EndpointSliceMirrors::default());
    fleet.add(&mut distributor, namespace::Namespaces);
    fleet.add(&mut distributor, job::Jobs::default());
    fleet.add(&mut distributor, ttl_after_finished::TtlAfterFinished);
    fleet.add(&mut distributor, node_lifecycle::Nodes::default());
    fleet.add(&mut distributor, taint_eviction::TaintEviction::default());
    fleet.add(&mut distributor, pod_garbage_collector::PodGarbageCollector);
    fleet.add(&mut distributor, cluster_role_aggregation::ClusterRoleAggregation);
    fleet.add(&mut distributor, storage_protection::ClaimProtection);
    fleet.add(&mut distributor, storage_protection::VolumeProtection);
    fleet.add(&mut distributor, certificates::Approving);
    fleet.add(&mut distributor, certificates::Signing);
    fleet.add(&mut distributor, certificates::Cleaner);
    fleet.add(&mut distributor, token_cleaner::TokenCleaner);
    fleet.add(&mut distributor, service_account_token::ServiceAccountTokens);
    view.synced().await;
    let running = fleet.start(feed);
    let collector = garbage_collector::GarbageCollector::start(distributor.of("garbage-collector"));
    let quotas = resource_quota::ResourceQuotas::start(distributor.of("resourcequota"));
    ready();
    shutdown.requested().await;
    running.stop().await;
    collector.stop().await;
    quotas.stop().await;
    distributor.finish().await;
    sink.finish().await;
}
