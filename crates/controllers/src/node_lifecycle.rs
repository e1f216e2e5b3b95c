//! The life of nodes: one that is no longer heard of is marked so, and tainted; taints follow a
//! node's conditions.
//!
//! A node is heard of when its lease or the heartbeat of its status changes, by this process' own
//! clock. There is one deadline per node; a renewal only moves it.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use parking_lot::Mutex;
use sampan_api::Status;
use sampan_client::events::{EventType, reference};
use sampan_client::{InformerEvent, PatchKind, WorkQueue};
use serde_json::json;
use tokio::time::Instant;

use crate::Shared;
use crate::controller::Controller;
use crate::pods::is_ready;
use crate::view::{Kind, decode};

mod plan;

use plan::{Changes, plan, ready_condition};

/// How long a node may be silent, and how long one that never told its status.
const GRACE: Duration = Duration::from_secs(40);
const STARTUP_GRACE: Duration = Duration::from_secs(60);

/// Keys are nodes.
#[derive(Default)]
pub(crate) struct Nodes {
    heard: Mutex<HashMap<String, Heard>>,
    /// Whether each node is ready.
    ready: Mutex<HashMap<String, bool>>,
}

/// The last sign of life of a node.
struct Heard {
    at: Instant,
    told: Told,
}

/// What a node said last.
#[derive(Clone, PartialEq)]
struct Told {
    heartbeat: Option<Timestamp>,
    ready: String,
}

#[async_trait]
impl Controller for Nodes {
    fn name(&self) -> &'static str {
        "node-lifecycle"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match (kind, event) {
            (Kind::Lease, InformerEvent::Applied { new, .. }) => {
                // The deadline that is set looks here when it is due.
                if let Some(heard) = self.heard.lock().get_mut(&*new.header.name) {
                    heard.at = Instant::now();
                }
            }
            (Kind::Node, InformerEvent::Applied { new, .. }) => {
                let ready = decode::<Node>(new).is_some_and(|node| is_node_ready(&node));
                self.note_ready(shared, &new.header.name, Some(ready), queue);
                queue.add(new.key());
            }
            (Kind::Node, InformerEvent::Deleted(old)) => {
                self.note_ready(shared, &old.header.name, None, queue);
                queue.add(old.key());
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(node) = shared.view.get::<Node>(Kind::Node, key) else {
            self.heard.lock().remove(key);
            return Ok(None);
        };
        let silence_left = self.silence_left(&node, key);
        // When nobody is ready, this process is more likely at fault than all nodes.
        let evicts = self.ready.lock().values().any(|ready| *ready);
        let changes = plan(&node, silence_left.is_zero(), evicts, Timestamp::now());
        let node = execute(shared, node, changes).await?;
        let lost = ready_condition(&node).is_some_and(|ready| ready.status == "Unknown");
        if lost {
            mark_pods_unready(shared, key).await?;
        }
        Ok(Some(silence_left).filter(|left| !left.is_zero()))
    }
}

pub(crate) fn is_node_ready(node: &Node) -> bool {
    ready_condition(node).is_some_and(|ready| ready.status == "True")
}

impl Nodes {
    /// Looks at all nodes again when the first becomes ready, or the last no longer is.
    fn note_ready(&self, shared: &Shared, name: &str, ready: Option<bool>, queue: &WorkQueue<String>) {
        let mut all = self.ready.lock();
        let before = all.values().any(|ready| *ready);
        match ready {
            Some(ready) => all.insert(name.to_owned(), ready),
            None => all.remove(name),
        };
        if before != all.values().any(|ready| *ready) {
            shared.view.of(Kind::Node).list("").iter().for_each(|node| queue.add(node.key()));
        }
    }

    /// How long a node may go on being silent; zero when it was for too long.
    fn silence_left(&self, node: &Node, name: &str) -> Duration {
        let ready = ready_condition(node);
        let heartbeat = ready.and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0);
        let told = Told { heartbeat, ready: ready.map(|ready| ready.status.clone()).unwrap_or_default() };
        let grace = if ready.is_some() { GRACE } else { STARTUP_GRACE };
        let now = Instant::now();
        let mut all = self.heard.lock();
        let heard = all.entry(name.to_owned()).or_insert(Heard { at: now, told: told.clone() });
        if heard.told != told {
            // That nobody knows is what this controller says.
            if heard.told.heartbeat != told.heartbeat || told.ready != "Unknown" {
                heard.at = now;
            }
            heard.told = told;
        }
        (heard.at + grace).saturating_duration_since(now)
    }
}

async fn execute(shared: &Shared, mut node: Node, changes: Changes) -> Result<Node, Status> {
    let api = shared.client.all::<Node>();
    let name = node.metadata.name.clone().unwrap_or_default();
    if let Some(conditions) = changes.conditions {
        let was_ready = is_node_ready(&node);
        let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version},
            "status": {"conditions": conditions}});
        node = api.patch_status(&name, PatchKind::Merge, &patch).await?;
        if was_ready {
            let message = format!("Node {name} status is now: NodeNotReady");
            shared.events.event(&reference(&node), EventType::Normal, "NodeNotReady", message);
        }
    }
    if let Some(taints) = changes.taints {
        let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": taints}});
        node = api.patch(&name, PatchKind::Merge, &patch).await?;
    }
    Ok(node)
}

/// Nobody knows whether the pods of a lost node serve, so that no service leads to them.
async fn mark_pods_unready(shared: &Shared, node: &str) -> Result<(), Status> {
    let pods = shared.view.pods_on(node);
    for pod in pods.iter().filter_map(decode::<Pod>).filter(is_ready) {
        let mut conditions =
            pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        for condition in conditions.iter_mut().filter(|condition| condition.type_ == "Ready") {
            condition.status = "False".to_owned();
            condition.last_transition_time = Some(Time(Timestamp::now()));
        }
        if patch_conditions(shared, &pod, &conditions, None).await? {
            shared.events.event(&reference(&pod), EventType::Warning, "NodeNotReady", "Node is not ready");
        }
    }
    Ok(())
}

/// Replaces a pod's conditions, and its phase where given. Answers false where the pod is gone.
pub(crate) async fn patch_conditions(
    shared: &Shared,
    pod: &Pod,
    conditions: &[PodCondition],
    phase: Option<&str>,
) -> Result<bool, Status> {
    let metadata = &pod.metadata;
    let mut patch = json!({"metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version},
        "status": {"conditions": conditions}});
    if let Some(phase) = phase {
        patch["status"]["phase"] = phase.into();
    }
    let api = shared.client.namespaced::<Pod>(metadata.namespace.as_deref().unwrap_or_default());
    match api.patch_status(metadata.name.as_deref().unwrap_or_default(), PatchKind::Merge, &patch).await {
        Ok(_) => Ok(true),
        Err(status) if status.is_not_found() => Ok(false),
        Err(status) => Err(status),
    }
}

/// A pod's conditions with the one that says who ends it.
pub(crate) fn with_disruption(pod: &Pod, reason: &str, message: &str) -> Vec<PodCondition> {
    let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(Timestamp::now())),
        ..PodCondition::default()
    });
    conditions
}

#[cfg(test)]
mod tests;
