//! Storage protection: a claim that is being deleted goes when no pod uses it, a volume when no
//! claim has it. Until then the finalizers that admission gave them hold them.

use std::time::Duration;

use async_trait::async_trait;
use sampan_api::object::ObjectRef;
use sampan_api::{Gvr, Status};
use sampan_client::{InformerEvent, PatchKind, Target, WorkQueue};
use serde_json::{Value, json};

use crate::Shared;
use crate::controller::{Controller, subjects};
use crate::view::Kind;

const CLAIMS: Gvr = Gvr::new("", "v1", "persistentvolumeclaims");
const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUMES: Gvr = Gvr::new("", "v1", "persistentvolumes");
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// Keys are claims.
pub(crate) struct ClaimProtection;

/// Keys are volumes.
pub(crate) struct VolumeProtection;

#[async_trait]
impl Controller for ClaimProtection {
    fn name(&self) -> &'static str {
        "persistentvolumeclaim-protection"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match (kind, event) {
            (Kind::PersistentVolumeClaim, InformerEvent::Applied { new, .. })
                if waits(new, CLAIM_FINALIZER) =>
            {
                queue.add(new.key());
            }
            (Kind::Pod, event) => {
                for pod in subjects(event) {
                    let claims = shared.view.of(Kind::PersistentVolumeClaim).list(&pod.header.namespace);
                    let waiting = claims.iter().filter(|claim| waits(claim, CLAIM_FINALIZER));
                    waiting.for_each(|claim| queue.add(claim.key()));
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let claim = shared.view.of(Kind::PersistentVolumeClaim).get(key);
        let Some(claim) = claim.filter(|claim| waits(claim, CLAIM_FINALIZER)) else { return Ok(None) };
        let (namespace, name) = (&*claim.header.namespace, &*claim.header.name);
        // The view may lag behind a pod that was just bound: the API is asked.
        let pods = Gvr::new("", "v1", "pods");
        let options = sampan_client::ListOptions::default();
        let pods = shared.client.backend().list(&pods, Some(namespace), &options).await?;
        for pod in pods.items {
            let pod: Value = pod.decode().map_err(Status::internal)?;
            if uses(&pod, name) {
                return Ok(None);
            }
        }
        release(shared, &CLAIMS, &claim, CLAIM_FINALIZER).await
    }
}

#[async_trait]
impl Controller for VolumeProtection {
    fn name(&self) -> &'static str {
        "persistentvolume-protection"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        if let (Kind::PersistentVolume, InformerEvent::Applied { new, .. }) = (kind, event)
            && waits(new, VOLUME_FINALIZER)
        {
            queue.add(new.key());
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let volume = shared.view.of(Kind::PersistentVolume).get(key);
        let Some(volume) = volume.filter(|volume| waits(volume, VOLUME_FINALIZER)) else { return Ok(None) };
        let value: Value = volume.decode().map_err(Status::internal)?;
        if value["status"]["phase"] == "Bound" {
            return Ok(None);
        }
        release(shared, &VOLUMES, &volume, VOLUME_FINALIZER).await
    }
}

fn waits(object: &ObjectRef, finalizer: &str) -> bool {
    let header = &object.header;
    header.is_terminating() && header.finalizers.iter().any(|one| **one == *finalizer)
}

/// Whether a pod that has a node uses a claim; one without a node gets none while the claim goes.
fn uses(pod: &Value, claim: &str) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pod_name = text(&pod["metadata"]["name"]);
    let scheduled = !text(&pod["spec"]["nodeName"]).is_empty();
    let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    scheduled
        && volumes.any(|volume| {
            let of_its_own = || {
                volume["ephemeral"].is_object() && claim == format!("{pod_name}-{}", text(&volume["name"]))
            };
            volume["persistentVolumeClaim"]["claimName"] == claim || of_its_own()
        })
}

async fn release(
    shared: &Shared,
    gvr: &Gvr,
    object: &ObjectRef,
    finalizer: &str,
) -> Result<Option<Duration>, Status> {
    let header = &object.header;
    let left: Vec<&str> =
        header.finalizers.iter().map(AsRef::as_ref).filter(|one| **one != *finalizer).collect();
    // At the revision that was looked at: others change finalizers too.
    let patch = json!({"metadata": {"resourceVersion": header.revision.to_string(), "finalizers": left}});
    let namespace = Some(&*header.namespace).filter(|namespace| !namespace.is_empty());
    let target = Target { gvr, namespace, name: &header.name, subresource: None };
    match shared.client.backend().patch(target, PatchKind::Merge, patch.to_string().into()).await {
        Err(status) if !status.is_not_found() => Err(status),
        Ok(_) | Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::Fleet;
    use crate::testing::{Bench, until};

    #[tokio::test]
    async fn a_claim_goes_after_its_pods() {
        let mut bench = Bench::start().await;
        let mut fleet = Fleet::default();
        fleet.add_with(bench.shared.clone(), ClaimProtection);
        let running = fleet.start(bench.take_feed());
        let claim = json!({"metadata": {"name": "c", "finalizers": [CLAIM_FINALIZER]}, "spec": {}});
        bench.create("", "v1", "persistentvolumeclaims", "n", claim).await;
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "x", "containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}});
        bench.create("", "v1", "pods", "n", pod).await;
        bench.delete("", "v1", "persistentvolumeclaims", "n", "c").await;
        until(&bench, ("", "persistentvolumeclaims"), |claim| {
            !claim["metadata"]["deletionTimestamp"].is_null()
        })
        .await;
        tokio::task::yield_now().await;
        assert!(bench.find("", "v1", "persistentvolumeclaims", "n", "c").await.is_some());
        bench.delete("", "v1", "pods", "n", "p").await;
        while bench.find("", "v1", "persistentvolumeclaims", "n", "c").await.is_some() {
            tokio::task::yield_now().await;
        }
        running.stop().await;
    }

    #[test]
    fn pods_use_claims_when_they_have_a_node() {
        let check = |spec: Value, expected: bool| {
            assert_eq!(uses(&json!({"metadata": {"name": "p"}, "spec": spec}), "p-v"), expected, "{spec}");
        };
        let named = json!([{"name": "x", "persistentVolumeClaim": {"claimName": "p-v"}}]);
        check(json!({"nodeName": "n", "volumes": named}), true);
        check(json!({"volumes": named}), false);
        check(json!({"nodeName": "n", "volumes": [{"name": "v", "ephemeral": {}}]}), true);
        check(json!({"nodeName": "n", "volumes": [{"name": "v", "emptyDir": {}}]}), false);
    }
}
