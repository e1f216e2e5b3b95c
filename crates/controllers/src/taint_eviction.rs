//! Eviction by taints: pods leave a node whose `NoExecute` taints they do not tolerate, or no longer.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use parking_lot::Mutex;
use sampan_api::Status;
use sampan_client::events::{EventType, reference};
use sampan_client::{DeleteOptions, InformerEvent, WorkQueue};
use tokio::time::Instant;

use crate::Shared;
use crate::controller::Controller;
use crate::node_lifecycle::{patch_conditions, with_disruption};
use crate::view::{Kind, decode};

/// Keys are pods.
#[derive(Default)]
pub(crate) struct TaintEviction {
    /// The nodes with `NoExecute` taints.
    tainted: Mutex<HashMap<String, Vec<Taint>>>,
    /// Since when pods with limited patience are on a tainted node, by key; with their uids.
    since: Mutex<HashMap<String, (String, Instant)>>,
}

/// How long a pod may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Forever,
    For(Duration),
}

#[async_trait]
impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        "taint-eviction"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match (kind, event) {
            (Kind::Node, InformerEvent::Applied { new, .. }) => {
                let taints = decode::<Node>(new).map(|node| evicting(&node)).unwrap_or_default();
                self.note(shared, &new.header.name, taints, queue);
            }
            (Kind::Node, InformerEvent::Deleted(old)) => {
                self.note(shared, &old.header.name, Vec::new(), queue)
            }
            (Kind::Pod, InformerEvent::Applied { new, .. }) if !self.tainted.lock().is_empty() => {
                queue.add(new.key());
            }
            (Kind::Pod, InformerEvent::Deleted(old)) => {
                self.since.lock().remove(&old.key());
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(pod) = shared.view.get::<Pod>(Kind::Pod, key) else { return Ok(None) };
        let spec = pod.spec.as_ref();
        let node = spec.and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let taints = self.tainted.lock().get(node).cloned().unwrap_or_default();
        let tolerations = spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let patience = match patience(&taints, tolerations) {
            Patience::For(patience) if pod.metadata.deletion_timestamp.is_none() => patience,
            Patience::For(_) | Patience::Forever => {
                let waited = self.since.lock().remove(key).is_some_and(|(known, _)| known == uid);
                if waited && pod.metadata.deletion_timestamp.is_none() {
                    let message = format!("Cancelling deletion of Pod {key}");
                    shared.events.event(&reference(&pod), EventType::Normal, "TaintManagerEviction", message);
                }
                return Ok(None);
            }
        };
        let left = {
            let mut since = self.since.lock();
            let entry = since.entry(key.to_owned()).or_insert_with(|| (uid.clone(), Instant::now()));
            if entry.0 != uid {
                *entry = (uid, Instant::now());
            }
            (entry.1 + patience).saturating_duration_since(Instant::now())
        };
        if !left.is_zero() {
            return Ok(Some(left));
        }
        evict(shared, key, &pod).await?;
        self.since.lock().remove(key);
        Ok(None)
    }
}

fn evicting(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    taints.iter().filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

impl TaintEviction {
    /// Looks at the pods of a node again when its taints change.
    fn note(&self, shared: &Shared, node: &str, taints: Vec<Taint>, queue: &WorkQueue<String>) {
        let mut tainted = self.tainted.lock();
        if tainted.get(node).map(Vec::as_slice).unwrap_or_default() == taints.as_slice() {
            return;
        }
        if taints.is_empty() {
            tainted.remove(node)
        } else {
            tainted.insert(node.to_owned(), taints)
        };
        shared.view.pods_on(node).iter().for_each(|pod| queue.add(pod.key()));
    }
}

/// The shortest time of the tolerations that are used; none at all where a taint is not tolerated.
fn patience(taints: &[Taint], tolerations: &[Toleration]) -> Patience {
    let mut shortest = Patience::Forever;
    for taint in taints {
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Patience::For(Duration::ZERO);
        };
        if let Some(seconds) = toleration.toleration_seconds {
            let time = Duration::from_secs(seconds.max(0).unsigned_abs());
            shortest = match shortest {
                Patience::Forever => Patience::For(time),
                Patience::For(known) => Patience::For(known.min(time)),
            };
        }
    }
    shortest
}

pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |field: &'_ Option<String>| field.clone().filter(|text| !text.is_empty());
    let fits = |field: Option<String>, value: &str| field.is_none_or(|field| field == value);
    let value = taint.value.as_deref().unwrap_or_default();
    fits(given(&toleration.effect), &taint.effect)
        && fits(given(&toleration.key), &taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "Exists" => true,
            "" | "Equal" => {
                toleration.key.is_some() && toleration.value.as_deref().unwrap_or_default() == value
            }
            _ => false,
        }
}

async fn evict(shared: &Shared, key: &str, pod: &Pod) -> Result<(), Status> {
    let message = format!("Marking for deletion Pod {key}");
    shared.events.event(&reference(pod), EventType::Normal, "TaintManagerEviction", message);
    let conditions =
        with_disruption(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
    if !patch_conditions(shared, pod, &conditions, None).await? {
        return Ok(());
    }
    let api = shared.client.namespaced::<Pod>(pod.metadata.namespace.as_deref().unwrap_or_default());
    let options = DeleteOptions { uid: pod.metadata.uid.clone(), ..DeleteOptions::default() };
    match api.delete(pod.metadata.name.as_deref().unwrap_or_default(), &options).await {
        Err(status) if !status.is_not_found() => Err(status),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_least_patient_toleration_counts() {
        let tolerate = |seconds: Option<i64>| json!({"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let seconds = |seconds: u64| Patience::For(Duration::from_secs(seconds));
        for (taints, tolerations, expected) in [
            (json!([]), json!([]), Patience::Forever),
            (json!([{"key": "k", "effect": "NoExecute"}]), json!([]), seconds(0)),
            (json!([{"key": "k", "effect": "NoExecute"}]), json!([tolerate(None)]), Patience::Forever),
            (json!([{"key": "k", "effect": "NoExecute"}]), json!([tolerate(Some(300))]), seconds(300)),
            (json!([{"key": "k", "effect": "NoExecute"}]), json!([tolerate(Some(-1))]), seconds(0)),
            (
                json!([{"key": "k", "effect": "NoExecute"}, {"key": "other", "effect": "NoExecute"}]),
                json!([tolerate(None)]),
                seconds(0),
            ),
            (
                json!([{"key": "k", "value": "v", "effect": "NoExecute"}]),
                json!([{"key": "k", "value": "w"}]),
                seconds(0),
            ),
            (
                json!([{"key": "k", "value": "v", "effect": "NoExecute"}]),
                json!([{"key": "k", "value": "v"}]),
                Patience::Forever,
            ),
            (
                json!([{"key": "k", "effect": "NoExecute"}]),
                json!([{"operator": "Exists"}]),
                Patience::Forever,
            ),
        ] {
            let taints: Vec<Taint> = serde_json::from_value(taints).expect("taints");
            let tolerations: Vec<Toleration> = serde_json::from_value(tolerations).expect("tolerations");
            assert_eq!(patience(&taints, &tolerations), expected, "{taints:?} {tolerations:?}");
        }
    }
}
