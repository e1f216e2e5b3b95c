//! What the scheduler tells the API: bindings, conditions, and who must go.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use sampan_api::Status;
use sampan_client::{Client, DeleteOptions, PatchKind};
use serde_json::{Value, json};

use crate::algorithm::Refusal;
use crate::pod::PodInfo;

/// The reason of `PodScheduled=False`.
pub const UNSCHEDULABLE: &str = "Unschedulable";

/// A write that ended.
pub enum Finished {
    Bound {
        pod: Arc<PodInfo>,
        node: Arc<str>,
        /// When the pod was taken up.
        began: Instant,
        result: Result<(), Box<Status>>,
    },
    /// Conditions that were not written are told with the next attempt.
    Told {
        uid: Box<str>,
        /// Somebody who should make room did not: the pod must be decided on anew.
        retry: bool,
    },
}

#[derive(Clone)]
pub struct Writer {
    pub client: Client,
    /// The scheduler's name.
    pub scheduler: Arc<str>,
}

/// A reference to a pod, as events name it.
pub fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.to_string()),
        name: Some(pod.name.to_string()),
        uid: Some(pod.uid.to_string()),
        ..ObjectReference::default()
    }
}

impl Writer {
    /// Binds a pod to its node.
    pub async fn bind(self, pod: Arc<PodInfo>, node: Arc<str>, began: Instant) -> Finished {
        let binding = Binding {
            metadata: ObjectMeta {
                namespace: Some(pod.namespace.to_string()),
                name: Some(pod.name.to_string()),
                uid: Some(pod.uid.to_string()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node.to_string()),
                ..ObjectReference::default()
            },
        };
        let pods = self.client.namespaced::<Pod>(&pod.namespace);
        let result = pods.create_subresource(&pod.name, "binding", &binding).await;
        Finished::Bound { pod, node, began, result: result.map(drop).map_err(Box::new) }
    }

    /// Makes room for a pod where that was decided, and says in its status why it waits.
    pub async fn refuse(self, pod: Arc<PodInfo>, refusal: Refusal, nominated: Option<Box<str>>) -> Finished {
        let mut retry = false;
        if let Some(preemption) = &refusal.preemption {
            for victim in &preemption.victims {
                if let Err(status) = self.preempt(victim).await {
                    tracing::warn!(pod = pod.key(), victim = victim.key(), %status, "a pod was not preempted");
                    retry = true;
                }
            }
            for other in &preemption.displaced {
                self.tell(other, json!({ "nominatedNodeName": null })).await;
            }
        }
        let condition = condition("PodScheduled", "False", UNSCHEDULABLE, &refusal.message);
        let mut status = json!({ "conditions": [condition] });
        if nominated != pod.nominated || refusal.preemption.is_some() {
            status["nominatedNodeName"] = json!(nominated);
        }
        self.tell(&pod, status).await;
        Finished::Told { uid: pod.uid.clone(), retry }
    }

    async fn preempt(&self, victim: &PodInfo) -> Result<(), Box<Status>> {
        if victim.terminating {
            return Ok(());
        }
        let why = format!("{}: preempting to accommodate a higher priority pod", self.scheduler);
        let condition = condition("DisruptionTarget", "True", "PreemptionByScheduler", &why);
        self.tell(victim, json!({ "conditions": [condition] })).await;
        let options = DeleteOptions { uid: Some(victim.uid.to_string()), ..DeleteOptions::default() };
        match self.client.namespaced::<Pod>(&victim.namespace).delete(&victim.name, &options).await {
            Err(status) if !status.is_not_found() => Err(Box::new(status)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn tell(&self, pod: &PodInfo, status: Value) {
        // The uid keeps the patch from a new pod of the same name.
        let patch = json!({ "metadata": { "uid": pod.uid }, "status": status });
        let pods = self.client.namespaced::<Pod>(&pod.namespace);
        match pods.patch_status(&pod.name, PatchKind::Strategic, &patch).await {
            Ok(_) => {}
            Err(status) if status.is_not_found() || status.is_conflict() => {}
            Err(status) => tracing::warn!(pod = pod.key(), %status, "a pod's status was not written"),
        }
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastProbeTime": null,
        "lastTransitionTime": Time(Timestamp::now()),
    })
}
