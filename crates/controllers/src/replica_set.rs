//! Replica sets and replication controllers: as many pods of a template as asked for.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_api::selector::Selector;
use sampan_client::events::reference;
use sampan_client::{InformerEvent, PatchKind, WorkQueue};
use serde_json::{Value, json};

use crate::Shared;
use crate::claim::may_adopt;
use crate::controller::{Controller, subjects};
use crate::namespace::refused_by_terminating_namespace;
use crate::owned_pods::{NotCreated, OwnedPods, Owner, Victim};
use crate::pods::{self, Availability};
use crate::replication_controller;
use crate::view::{self, Kind};

/// The most pods that one pass creates or deletes.
const BURST: usize = 500;

/// Keeps the pods of every object of one flavour at their count.
pub(crate) struct ReplicaSets {
    flavour: Flavour,
    pods: OwnedPods,
}

/// Which of the resources that keep a count of pods a controller works for. They differ in how they
/// name their pods' labels and in nothing else, so that one controller serves both, as upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    ReplicaSet,
    ReplicationController,
}

impl Flavour {
    fn view_kind(self) -> Kind {
        match self {
            Flavour::ReplicaSet => Kind::ReplicaSet,
            Flavour::ReplicationController => Kind::ReplicationController,
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Flavour::ReplicaSet => "apps/v1",
            Flavour::ReplicationController => "v1",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Flavour::ReplicaSet => "ReplicaSet",
            Flavour::ReplicationController => "ReplicationController",
        }
    }

    fn decode(self, object: &ObjectRef) -> Option<ReplicaSet> {
        match self {
            Flavour::ReplicaSet => view::decode(object),
            Flavour::ReplicationController => view::decode(object).map(replication_controller::as_set),
        }
    }

    /// What the events about a set name as their subject.
    fn reference(self, set: &ReplicaSet) -> ObjectReference {
        let mut subject = reference(set);
        subject.api_version = Some(self.api_version().to_owned());
        subject.kind = Some(self.kind().to_owned());
        subject
    }

    /// The owner that a set's pods have.
    fn owner(self, set: &ReplicaSet) -> OwnerReference {
        pods::controller_reference(self.api_version(), self.kind(), &set.metadata)
    }

    async fn patch_status(
        self,
        shared: &Shared,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), Status> {
        match self {
            Flavour::ReplicaSet => {
                let api = shared.client.namespaced::<ReplicaSet>(namespace);
                api.patch_status(name, PatchKind::Merge, patch).await.map(drop)
            }
            Flavour::ReplicationController => {
                let api = shared.client.namespaced::<ReplicationController>(namespace);
                api.patch_status(name, PatchKind::Merge, patch).await.map(drop)
            }
        }
    }
}

/// What one pass does to the pods.
#[derive(Debug, PartialEq)]
pub(crate) enum Action {
    Create(usize),
    Delete(Vec<Victim>),
    Nothing,
}

/// Decides how many pods are missing, or which of them go. `pods` are the active ones.
pub(crate) fn plan(wanted: usize, pods: &[Pod]) -> Action {
    if pods.len() < wanted {
        return Action::Create((wanted - pods.len()).min(BURST));
    }
    if pods.len() == wanted {
        return Action::Nothing;
    }
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    let node = |pod: &'_ Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let nodes: Vec<String> = pods.iter().map(node).collect();
    for node in &nodes {
        *on_node.entry(node).or_default() += 1;
    }
    let mut ranked: Vec<(usize, &Pod)> =
        pods.iter().zip(&nodes).map(|(pod, node)| (on_node[node.as_str()], pod)).collect();
    ranked.sort_by_cached_key(|(siblings, pod)| pods::rank(pod, *siblings));
    let surplus = (pods.len() - wanted).min(BURST);
    Action::Delete(ranked.into_iter().take(surplus).map(|(_, pod)| Victim::of(pod)).collect())
}

/// What the status says, and when it may say something else without anything changing.
pub(crate) fn status(
    set: &ReplicaSet,
    pods: &[Pod],
    failure: Option<&Status>,
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let spec = set.spec.as_ref();
    let min_ready = spec.and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let template = spec.and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.as_ref());
    let (mut ready, mut available, mut labeled, mut again) = (0, 0, 0, None);
    for pod in pods {
        let labels = pod.metadata.labels.as_ref();
        let fits = template.is_none_or(|template| {
            template.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
        });
        labeled += i32::from(fits);
        match pods::availability(pod, min_ready, now) {
            Availability::NotReady => {}
            Availability::In(seconds) => {
                ready += 1;
                let wait = Duration::from_secs(seconds);
                again = Some(again.map_or(wait, |known: Duration| known.min(wait)));
            }
            Availability::Available => {
                ready += 1;
                available += 1;
            }
        }
    }
    let old = set.status.clone().unwrap_or_default();
    let terminating = old.terminating_replicas;
    let status = ReplicaSetStatus {
        replicas: pods.len() as i32,
        fully_labeled_replicas: Some(labeled),
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions, failure, now),
        terminating_replicas: terminating,
    };
    (status, again)
}

/// `ReplicaFailure` is there exactly while pods cannot be created or deleted.
fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    failure: Option<&Status>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = old.unwrap_or_default();
    let known = conditions.iter().position(|condition| condition.type_ == "ReplicaFailure");
    match (failure, known) {
        (Some(failure), None) => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some("FailedCreate".into()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(Time(now)),
        }),
        (None, Some(at)) => {
            conditions.remove(at);
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

#[async_trait]
impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        match self.flavour {
            Flavour::ReplicaSet => "replicaset",
            Flavour::ReplicationController => "replicationcontroller",
        }
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match kind {
            Kind::Pod => self.pods.changed(shared, event, queue),
            _ if kind == self.flavour.view_kind() => {
                subjects(event).for_each(|object| queue.add(object.key()));
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let object = shared.view.of(self.flavour.view_kind()).get(key);
        let Some(set) = object.and_then(|object| self.flavour.decode(&object)) else {
            self.pods.forget(key);
            return Ok(None);
        };
        let Some((namespace, _)) = key.split_once('/') else { return Ok(None) };
        let settled = self.pods.settled(key);
        let pods = owned_pods(shared, self.flavour, &set, namespace).await?;
        let active: Vec<Pod> = pods.into_iter().filter(pods::is_active).collect();
        let mut failure = None;
        if settled && set.metadata.deletion_timestamp.is_none() {
            let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0) as usize;
            failure = self.act(shared, key, namespace, &set, plan(wanted, &active)).await.err();
        }
        let (status, again) = status(&set, &active, failure.as_ref(), Timestamp::now());
        if set.status.as_ref() != Some(&status) {
            let name = set.metadata.name.clone().unwrap_or_default();
            // The status is this controller's alone, so that it needs no revision to be right.
            let patch = json!({"status": status});
            self.flavour.patch_status(shared, namespace, &name, &patch).await?;
        }
        failure.map_or(Ok(again), Err)
    }
}

impl ReplicaSets {
    pub fn new(flavour: Flavour) -> ReplicaSets {
        let pods = OwnedPods::new(flavour.view_kind(), flavour.api_version(), flavour.kind());
        ReplicaSets { flavour, pods }
    }

    async fn act(
        &self,
        shared: &Shared,
        key: &str,
        namespace: &str,
        set: &ReplicaSet,
        action: Action,
    ) -> Result<(), Status> {
        let owner = Owner { key, namespace, subject: &self.flavour.reference(set) };
        match action {
            Action::Nothing => Ok(()),
            Action::Create(count) => {
                let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
                let pod = pods::from_template(&template, self.flavour.owner(set), namespace);
                match self.pods.create(shared, owner, &vec![(); count], |()| pod.clone()).await {
                    Err(NotCreated { status, .. }) if !refused_by_terminating_namespace(&status) => {
                        Err(status)
                    }
                    Ok(()) | Err(_) => Ok(()),
                }
            }
            Action::Delete(victims) => self.pods.delete(shared, owner, &victims).await,
        }
    }
}

/// What a set looks for; none where that is nothing, everything or no selector.
fn selector_of(set: &ReplicaSet) -> Option<Selector> {
    let selector = serde_json::to_value(&set.spec.as_ref()?.selector).ok()?;
    Selector::from_json(&selector).ok().filter(|selector| !selector.is_everything())
}

/// The pods that a set controls. Pods that nobody controls and that fit are adopted; owned ones
/// that no longer fit are released.
async fn owned_pods(
    shared: &Shared,
    flavour: Flavour,
    set: &ReplicaSet,
    namespace: &str,
) -> Result<Vec<Pod>, Status> {
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let Some(selector) = selector_of(set) else { return Ok(Vec::new()) };
    let api = shared.client.namespaced::<Pod>(namespace);
    let mut pods = Vec::new();
    for object in shared.view.of(Kind::Pod).list(namespace) {
        let fits = selector.matches(|key| object.header.label(key));
        let controller = object.header.controller();
        match controller {
            Some(owner) if *owner.uid == *uid && fits => pods.extend(view::decode::<Pod>(&object)),
            Some(owner) if *owner.uid == *uid && !object.header.is_terminating() => {
                let patch = json!({"metadata": {"uid": object.header.uid, "ownerReferences": [{"$patch": "delete", "uid": uid}]}});
                api.patch(&object.header.name, PatchKind::Strategic, &patch).await?;
            }
            None if fits && !object.header.is_terminating() && set.metadata.deletion_timestamp.is_none() => {
                let owner = flavour.owner(set);
                may_adopt(shared, flavour.view_kind(), namespace, &owner).await?;
                let patch = json!({"metadata": {"uid": object.header.uid, "ownerReferences": [owner]}});
                pods.push(api.patch(&object.header.name, PatchKind::Strategic, &patch).await?);
            }
            Some(_) | None => {}
        }
    }
    Ok(pods)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sampan_client::{DeleteOptions, ListOptions, Target};

    use super::*;
    use crate::testing::Bench;

    fn pod(name: &str, phase: &str, ready: bool) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": {"containers": [], "nodeName": "n"},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2024-01-01T00:00:00Z"}]}}))
        .expect("a pod")
    }

    #[test]
    fn what_serves_least_goes_first() {
        let pods = [
            pod("ready", "Running", true),
            pod("pending", "Pending", false),
            pod("unready", "Running", false),
        ];
        assert_eq!(plan(5, &pods), Action::Create(2));
        assert_eq!(plan(3, &pods), Action::Nothing);
        assert_eq!(plan(2, &pods), Action::Delete(vec![Victim::of(&pods[1])]));
        let Action::Delete(two) = plan(1, &pods) else { panic!("two are too many") };
        assert_eq!(two[1].name, "unready");
    }

    #[test]
    fn a_pod_is_available_after_its_time() {
        let set: ReplicaSet = serde_json::from_value(json!({"metadata": {"generation": 4},
            "spec": {"minReadySeconds": 10, "selector": {}}}))
        .expect("a set");
        let now: Timestamp = "2024-01-01T00:00:04Z".parse().expect("a time");
        let (early, again) = status(&set, &[pod("a", "Running", true)], None, now);
        assert_eq!((early.ready_replicas, early.available_replicas), (Some(1), Some(0)));
        assert_eq!(again, Some(Duration::from_secs(6)));
        let (late, again) =
            status(&set, &[pod("a", "Running", true)], None, now + jiff::SignedDuration::from_secs(6));
        assert_eq!((late.available_replicas, again, late.observed_generation), (Some(1), None, Some(4)));
    }

    #[tokio::test]
    async fn what_a_deletion_set_free_is_not_made_anew() {
        let bench = Bench::start().await;
        let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "web", "namespace": "n", "finalizers": ["orphan"]},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}}});
        let before = bench.create("apps", "v1", "replicasets", "n", set).await;
        let free = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []},
            "metadata": {"name": "free", "namespace": "n", "labels": {"app": "web"}}});
        bench.create("", "v1", "pods", "n", free).await;
        bench.shown(Kind::Pod, "n/free").await;
        let gvr = Kind::ReplicaSet.gvr();
        let target = Target { gvr, namespace: Some("n"), name: "web", subresource: None };
        bench.backend().delete(target, &DeleteOptions::default()).await.expect("it waits for its finalizer");
        // Seen before the deletion, with a pod that it has no more.
        let before: ReplicaSet = serde_json::from_value(before).expect("a replica set");
        let pods = owned_pods(&bench.shared, Flavour::ReplicaSet, &before, "n").await;
        assert!(pods.is_err_and(|status| status.is_conflict()), "what it lacks would be made");
    }

    #[tokio::test]
    async fn what_is_seen_after_the_pods_were_looked_at_is_not_counted_as_seen() {
        let bench = Bench::start().await;
        let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web", "namespace": "n"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}});
        bench.create("apps", "v1", "replicasets", "n", set).await;
        let free = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []},
            "metadata": {"name": "free", "namespace": "n", "labels": {"app": "web"}}});
        bench.create("", "v1", "pods", "n", free).await;
        bench.shown(Kind::ReplicaSet, "n/web").await;
        bench.shown(Kind::Pod, "n/free").await;
        let sets = Arc::new(ReplicaSets::new(Flavour::ReplicaSet));
        sets.reconcile(&bench.shared, "n/web").await.expect("it adopts one pod and makes another");
        let all = ListOptions::default();
        let gvr = Kind::Pod.gvr();
        let pods = bench.backend().list(gvr, Some("n"), &all).await.expect("a list").items;
        let made = pods.into_iter().find(|pod| &*pod.header.name != "free").expect("one was made");
        assert!(bench.shared.view.of(Kind::Pod).get(&made.key()).is_none(), "the view shows it later");
        // It is shown when the pods have been looked at already, without it.
        let (again, shared) = (sets.clone(), bench.shared.clone());
        bench.during_patch(move || {
            let event = InformerEvent::Applied { old: None, new: made };
            again.affected(&shared, Kind::Pod, &event, &WorkQueue::new());
        });
        sets.reconcile(&bench.shared, "n/web").await.expect("it waits");
        let pods = bench.backend().list(gvr, Some("n"), &all).await.expect("a list").items;
        assert_eq!(pods.len(), 2, "none is made in its place");
    }
}
