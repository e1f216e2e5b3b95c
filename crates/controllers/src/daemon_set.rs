//! Daemon sets: a pod on every node that fits.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_client::events::{EventType, reference};
use sampan_client::{InformerEvent, PatchKind, WorkQueue};
use serde_json::{Value, json};

use crate::Shared;
use crate::claim::Claimant;
use crate::controller::{Controller, owner_key, subjects};
use crate::namespace::refused_by_terminating_namespace;
use crate::owned_pods::{NotCreated, OwnedPods, Owner, Victim};
use crate::pods::{controller_reference, from_template};
use crate::revisions::{self, Author, REVISION_LABEL, name};
use crate::view::{Kind, decode};

mod nodes;
mod plan;

use plan::{Plan, Snapshot, plan};

const API_VERSION: &str = "apps/v1";
const KIND: &str = "DaemonSet";
/// The most pods that one pass creates or deletes.
const BURST: usize = 250;
/// Pauses before a pod that failed is replaced.
const PAUSE_FROM: Duration = Duration::from_secs(1);
const PAUSE_TO: Duration = Duration::from_secs(15 * 60);

pub(crate) struct DaemonSets {
    pods: OwnedPods,
    /// Replacements of pods that failed, by key of the set and name of the node.
    failures: Mutex<HashMap<(String, String), (Instant, Duration)>>,
}

impl Default for DaemonSets {
    fn default() -> DaemonSets {
        let pods = OwnedPods::new(Kind::DaemonSet, API_VERSION, KIND);
        DaemonSets { pods, failures: Mutex::default() }
    }
}

#[async_trait]
impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match kind {
            Kind::DaemonSet => subjects(event).for_each(|object| queue.add(object.key())),
            Kind::Pod => self.pods.changed(shared, event, queue),
            Kind::ControllerRevision => {
                let keys = subjects(event).filter_map(|object| owner_key(object, API_VERSION, KIND));
                keys.for_each(|key| queue.add(key));
            }
            Kind::Node if concerns_placing(event) => {
                shared.view.of(Kind::DaemonSet).list("").iter().for_each(|set| queue.add(set.key()));
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(set) = shared.view.get::<DaemonSet>(Kind::DaemonSet, key) else {
            self.pods.forget(key);
            self.failures.lock().retain(|(set, _), _| set != key);
            return Ok(None);
        };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let settled = self.pods.settled(key);
        self.advance(shared, key, &set, settled).await
    }
}

impl DaemonSets {
    async fn advance(
        &self,
        shared: &Shared,
        key: &str,
        set: &DaemonSet,
        settled: bool,
    ) -> Result<Option<Duration>, Status> {
        let Some((namespace, _)) = key.split_once('/') else { return Ok(None) };
        let Some(spec) = set.spec.as_ref() else { return Ok(None) };
        let owner = controller_reference(API_VERSION, KIND, &set.metadata);
        let claimant = Claimant {
            namespace,
            kind: Kind::DaemonSet,
            owner: owner.clone(),
            selector: Some(&spec.selector),
            adopts: true,
            finalizer: None,
        };
        let pods = claimant.claim(shared).await?;
        let author = Author {
            namespace,
            kind: Kind::DaemonSet,
            metadata: &set.metadata,
            owner,
            selector: &spec.selector,
            template: &spec.template,
            collisions: set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0),
        };
        let mut history = author.history(shared, true).await?;
        let (current, collisions) = author.latest(shared, &mut history).await?;
        let nodes: Vec<Node> = shared.view.of(Kind::Node).list("").iter().filter_map(decode).collect();
        let snapshot = Snapshot {
            set,
            template: &nodes::with_tolerations(&spec.template),
            hash: revisions::hash(&current),
            collisions,
            nodes: &nodes,
            pods: &pods,
            settled,
            now: Timestamp::now(),
        };
        let (mut plan, status) = plan(&snapshot);
        let pause = self.spare(shared, key, set, &pods, &mut plan);
        let done = self.act(shared, key, &snapshot, &plan).await;
        if set.status.as_ref() != Some(&status) {
            let patch = json!({"status": status_patch(set, &status)?});
            let api = shared.client.namespaced::<DaemonSet>(namespace);
            api.patch_status(name(&set.metadata), PatchKind::Merge, &patch).await?;
        }
        done?;
        let used: BTreeSet<&str> = pods.iter().filter_map(hash_of).collect();
        let live = history.iter().filter(|revision| used.contains(revisions::hash(revision)));
        let live = live.map(|revision| name(&revision.metadata)).chain([name(&current.metadata)]);
        author.truncate(shared, &history, &live.collect(), spec.revision_history_limit).await?;
        Ok(plan.again.into_iter().chain(pause).min())
    }
}

fn hash_of(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(REVISION_LABEL).map(String::as_str)
}

/// Whether a change of a node may change what belongs on it. Heartbeats do not.
fn concerns_placing(event: &InformerEvent) -> bool {
    match event {
        InformerEvent::Applied { old: Some(old), new } => {
            let parts = |node: &ObjectRef| {
                let value: Value = node.decode().unwrap_or_default();
                (value["metadata"]["labels"].clone(), value["spec"].clone())
            };
            parts(old) != parts(new)
        }
        InformerEvent::Applied { old: None, .. } | InformerEvent::Deleted(_) => true,
        InformerEvent::Synced => false,
    }
}

/// A merge patch from the old status to the new one: what went away must be null.
fn status_patch(
    set: &DaemonSet,
    status: &k8s_openapi::api::apps::v1::DaemonSetStatus,
) -> Result<Value, Status> {
    let mut patch = serde_json::to_value(&set.status).map_err(Status::internal)?;
    let new = serde_json::to_value(status).map_err(Status::internal)?;
    match patch.as_object_mut() {
        Some(fields) => {
            fields.values_mut().for_each(|value| *value = Value::Null);
            fields.extend(new.as_object().cloned().unwrap_or_default());
            Ok(patch)
        }
        None => Ok(new),
    }
}

impl DaemonSets {
    /// Lets pods that failed be until their node's pause is over. Answers when the first one is.
    fn spare(
        &self,
        shared: &Shared,
        key: &str,
        set: &DaemonSet,
        pods: &[Pod],
        plan: &mut Plan,
    ) -> Option<Duration> {
        let mut failures = self.failures.lock();
        let now = Instant::now();
        failures.retain(|_, (since, pause)| now.duration_since(*since) < PAUSE_TO.max(*pause * 2));
        let mut first: Option<Duration> = None;
        for index in std::mem::take(&mut plan.ended) {
            let pod = &pods[index];
            let Some(node) = nodes::target(pod) else { continue };
            let place = (key.to_owned(), node.clone());
            let waits = failures.get(&place).and_then(|(since, pause)| {
                pause.checked_sub(now.duration_since(*since)).filter(|left| !left.is_zero())
            });
            if let Some(left) = waits {
                plan.delete.retain(|other| *other != index);
                first = Some(first.map_or(left, |known| known.min(left)));
                continue;
            }
            let pause = failures.get(&place).map_or(PAUSE_FROM, |(_, pause)| (*pause * 2).min(PAUSE_TO));
            failures.insert(place, (now, pause));
            let full_name =
                format!("{}/{}", pod.metadata.namespace.as_deref().unwrap_or_default(), name(&pod.metadata));
            let (kind, reason, message) = match crate::pods::phase(pod) {
                "Failed" => (
                    EventType::Warning,
                    "FailedDaemonPod",
                    format!("Found failed daemon pod {full_name} on node {node}, will try to kill it"),
                ),
                _ => (
                    EventType::Normal,
                    "SucceededDaemonPod",
                    format!("Found succeeded daemon pod {full_name} on node {node}, will try to delete it"),
                ),
            };
            shared.events.event(&reference(set), kind, reason, message);
        }
        first
    }

    async fn act(
        &self,
        shared: &Shared,
        key: &str,
        snapshot: &Snapshot<'_>,
        plan: &Plan,
    ) -> Result<(), Status> {
        let create = &plan.create[..plan.create.len().min(BURST)];
        let delete = &plan.delete[..plan.delete.len().min(BURST)];
        let set = snapshot.set;
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let owner = Owner { key, namespace, subject: &reference(set) };
        let created = self.pods.create(shared, owner, create, |node| snapshot.pod(node)).await;
        let victims: Vec<Victim> = delete.iter().map(|index| Victim::of(&snapshot.pods[*index])).collect();
        let deleted = self.pods.delete(shared, owner, &victims).await;
        match created {
            Err(NotCreated { status, .. }) if !refused_by_terminating_namespace(&status) => Err(status),
            Ok(()) | Err(_) => deleted,
        }
    }
}

impl Snapshot<'_> {
    /// The pod of a node.
    fn pod(&self, node: &str) -> Pod {
        let template = nodes::bind(self.template, node);
        let owner = controller_reference(API_VERSION, KIND, &self.set.metadata);
        let namespace = self.set.metadata.namespace.as_deref().unwrap_or_default();
        let mut pod = from_template(&template, owner, namespace);
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(REVISION_LABEL.to_owned(), self.hash.to_owned());
        pod
    }
}
