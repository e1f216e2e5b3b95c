//! Pods whose node is gone: nobody will ever end them, so they are ended here.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Node, Pod};
use sampan_api::Status;
use sampan_client::{DeleteOptions, InformerEvent, WorkQueue};

use crate::Shared;
use crate::controller::Controller;
use crate::node_lifecycle::{patch_conditions, with_disruption};
use crate::pods::phase;
use crate::view::{Kind, decode, node_of};

/// How long a node must be gone: it may come back under its name.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Keys are names of nodes.
pub(crate) struct PodGarbageCollector;

#[async_trait]
impl Controller for PodGarbageCollector {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match (kind, event) {
            (Kind::Node, InformerEvent::Deleted(node)) => {
                queue.add_after(node.header.name.to_string(), QUARANTINE)
            }
            (Kind::Pod, InformerEvent::Applied { new, .. }) => {
                let node = node_of(new).filter(|node| shared.view.of(Kind::Node).get(node).is_none());
                node.into_iter().for_each(|node| queue.add_after(node, QUARANTINE));
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        if shared.view.of(Kind::Node).get(key).is_some()
            || shared.client.all::<Node>().find(key).await?.is_some()
        {
            return Ok(None);
        }
        for pod in shared.view.pods_on(key).iter().filter_map(decode::<Pod>) {
            end(shared, &pod).await?;
        }
        Ok(None)
    }
}

async fn end(shared: &Shared, pod: &Pod) -> Result<(), Status> {
    if !matches!(phase(pod), "Succeeded" | "Failed") {
        let conditions = with_disruption(pod, "DeletionByPodGC", "PodGC: node no longer exists");
        if !patch_conditions(shared, pod, &conditions, Some("Failed")).await? {
            return Ok(());
        }
    }
    let api = shared.client.namespaced::<Pod>(pod.metadata.namespace.as_deref().unwrap_or_default());
    let options = DeleteOptions {
        uid: pod.metadata.uid.clone(),
        grace_period_seconds: Some(0),
        ..DeleteOptions::default()
    };
    match api.delete(pod.metadata.name.as_deref().unwrap_or_default(), &options).await {
        Err(status) if !status.is_not_found() => Err(status),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::Bench;

    #[tokio::test]
    async fn pods_go_with_their_node() {
        let bench = Bench::start().await;
        bench.create("", "v1", "nodes", "", json!({"metadata": {"name": "here"}})).await;
        for (name, node) in [("a", "here"), ("b", "gone"), ("c", "")] {
            let pod = json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": []}, "status": {"phase": "Running"}});
            bench.create("", "v1", "pods", "n", pod).await;
            bench.shown(Kind::Pod, &format!("n/{name}")).await;
        }
        for node in ["here", "gone"] {
            assert_eq!(PodGarbageCollector.reconcile(&bench.shared, node).await.expect("works"), None);
        }
        for (name, left) in [("a", true), ("b", false), ("c", true)] {
            assert_eq!(bench.find("", "v1", "pods", "n", name).await.is_some(), left, "{name}");
        }
    }
}
