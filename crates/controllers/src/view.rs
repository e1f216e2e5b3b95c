//! The controllers' view of the cluster: one informer per resource, shared by all of them.

use std::sync::Arc;

use futures_util::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use sampan_api::Gvr;
use sampan_api::object::ObjectRef;
use sampan_client::typed::Resource;
use sampan_client::{Client, Informer, InformerEvent, ListOptions};
use tokio::sync::mpsc;

mod placed;

use placed::Placed;
pub(crate) use placed::node_of;

/// The resources that controllers look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Secrets that are bootstrap tokens.
    BootstrapToken,
    CertificateSigningRequest,
    ClusterRole,
    ConfigMap,
    ControllerRevision,
    CronJob,
    DaemonSet,
    Deployment,
    EndpointSlice,
    Endpoints,
    Job,
    Lease,
    Namespace,
    Node,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    ReplicaSet,
    ReplicationController,
    Service,
    ServiceAccount,
    /// Secrets with tokens of service accounts.
    ServiceAccountToken,
    StatefulSet,
}

const SECRETS: Gvr = Gvr::new("", "v1", "secrets");
const KIND_COUNT: usize = 23;

/// In the order of [`Kind`]'s discriminants.
const KINDS: [(Kind, Gvr); KIND_COUNT] = [
    (Kind::BootstrapToken, SECRETS),
    (Kind::CertificateSigningRequest, Gvr::new("certificates.k8s.io", "v1", "certificatesigningrequests")),
    (Kind::ClusterRole, Gvr::new("rbac.authorization.k8s.io", "v1", "clusterroles")),
    (Kind::ConfigMap, Gvr::new("", "v1", "configmaps")),
    (Kind::ControllerRevision, Gvr::new("apps", "v1", "controllerrevisions")),
    (Kind::CronJob, Gvr::new("batch", "v1", "cronjobs")),
    (Kind::DaemonSet, Gvr::new("apps", "v1", "daemonsets")),
    (Kind::Deployment, Gvr::new("apps", "v1", "deployments")),
    (Kind::EndpointSlice, Gvr::new("discovery.k8s.io", "v1", "endpointslices")),
    (Kind::Endpoints, Gvr::new("", "v1", "endpoints")),
    (Kind::Job, Gvr::new("batch", "v1", "jobs")),
    (Kind::Lease, Gvr::new("coordination.k8s.io", "v1", "leases")),
    (Kind::Namespace, Gvr::new("", "v1", "namespaces")),
    (Kind::Node, Gvr::new("", "v1", "nodes")),
    (Kind::PersistentVolume, Gvr::new("", "v1", "persistentvolumes")),
    (Kind::PersistentVolumeClaim, Gvr::new("", "v1", "persistentvolumeclaims")),
    (Kind::Pod, Gvr::new("", "v1", "pods")),
    (Kind::ReplicaSet, Gvr::new("apps", "v1", "replicasets")),
    (Kind::ReplicationController, Gvr::new("", "v1", "replicationcontrollers")),
    (Kind::Service, Gvr::new("", "v1", "services")),
    (Kind::ServiceAccount, Gvr::new("", "v1", "serviceaccounts")),
    (Kind::ServiceAccountToken, SECRETS),
    (Kind::StatefulSet, Gvr::new("apps", "v1", "statefulsets")),
];

/// The namespace and the field selector of what controllers look at, where that is not all of a resource.
fn part(kind: Kind) -> (Option<&'static str>, Option<&'static str>) {
    match kind {
        Kind::BootstrapToken => (Some("kube-system"), Some("type=bootstrap.kubernetes.io/token")),
        // The only config maps that a controller owns.
        Kind::ConfigMap => (None, Some("metadata.name=kube-root-ca.crt")),
        Kind::Lease => (Some("kube-node-lease"), None),
        Kind::ServiceAccountToken => (None, Some("type=kubernetes.io/service-account-token")),
        _ => (None, None),
    }
}

/// A change of one object, or the end of a resource's first list.
pub(crate) type Feed = mpsc::UnboundedReceiver<(Kind, InformerEvent)>;

/// Local, always current views.
pub(crate) struct View {
    informers: Vec<Informer>,
    placed: Arc<Placed>,
}

impl View {
    /// Follows every resource. Changes arrive in the feed, each after the view shows it.
    pub fn start(client: &Client) -> (View, Feed) {
        let (sender, feed) = mpsc::unbounded_channel();
        let placed = Arc::new(Placed::default());
        let informers = KINDS
            .into_iter()
            .map(|(kind, gvr)| {
                let (events, mut receiver) = mpsc::unbounded_channel();
                let (sender, placed) = (sender.clone(), placed.clone());
                tokio::spawn(async move {
                    while let Some(event) = receiver.recv().await {
                        if kind == Kind::Pod {
                            placed.note(&event);
                        }
                        if sender.send((kind, event)).is_err() {
                            return;
                        }
                    }
                });
                let (namespace, fields) = part(kind);
                let selection =
                    ListOptions { field_selector: fields.map(str::to_owned), ..ListOptions::default() };
                Informer::start(client.clone(), gvr, namespace.map(str::to_owned), selection, events)
            })
            .collect();
        (View { informers, placed }, feed)
    }

    /// Waits for the first list of every resource.
    pub async fn synced(&self) {
        join_all(self.informers.iter().map(Informer::synced)).await;
    }

    pub fn of(&self, kind: Kind) -> &Informer {
        &self.informers[kind as usize]
    }

    /// The pods that run on a node.
    pub fn pods_on(&self, node: &str) -> Vec<ObjectRef> {
        let pods = self.of(Kind::Pod);
        self.placed.on(node).iter().filter_map(|key| pods.get(key)).collect()
    }

    /// One object, decoded.
    pub fn get<T: Resource>(&self, kind: Kind, key: &str) -> Option<T> {
        decode(&self.of(kind).get(key)?)
    }

    /// The objects of a namespace that pass `wanted`, decoded. Only those are decoded.
    pub fn list<T>(&self, kind: Kind, namespace: &str, wanted: impl Fn(&ObjectRef) -> bool) -> Vec<T>
    where
        T: Resource + k8s_openapi::Resource<Scope = NamespaceResourceScope>,
    {
        self.of(kind).list(namespace).iter().filter(|object| wanted(object)).filter_map(decode).collect()
    }
}

impl Kind {
    pub fn gvr(self) -> &'static Gvr {
        static TABLE: [(Kind, Gvr); KIND_COUNT] = KINDS;
        &TABLE[self as usize].1
    }
}

/// An object that cannot be decoded is left out: it came through the API's own schema, so this is
/// a fault of ours, and is logged.
pub(crate) fn decode<T: Resource>(object: &ObjectRef) -> Option<T> {
    match object.decode() {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(object = object.key(), %error, "an object does not fit its type");
            None
        }
    }
}
