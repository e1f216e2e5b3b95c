//! Deployments: rollouts from one replica set to the next.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sampan_api::Status;
use sampan_api::selector::Selector;
use sampan_client::events::{EventType, reference};
use sampan_client::{DeleteOptions, InformerEvent, PatchKind, WorkQueue};
use serde_json::json;

use crate::Shared;
use crate::claim::may_adopt;
use crate::controller::{Controller, owner_key, subjects};
use crate::owned_pods::orphan_appeared;
use crate::pods;
use crate::view::{Kind, decode};

mod plan;
mod status;
mod template;

pub(crate) use plan::{Action, plan};

const API_VERSION: &str = "apps/v1";
const KIND: &str = "Deployment";
const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

pub(crate) struct Deployments;

#[async_trait]
impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match kind {
            Kind::Deployment => subjects(event).for_each(|object| queue.add(object.key())),
            Kind::ReplicaSet => {
                for object in subjects(event) {
                    match owner_key(object, API_VERSION, KIND) {
                        Some(key) => queue.add(key),
                        None => orphan_appeared(shared, Kind::Deployment, object, queue),
                    }
                }
            }
            // Recreate waits until the last old pod is gone.
            Kind::Pod => {
                if let InformerEvent::Deleted(pod) = event {
                    let set = owner_key(pod, API_VERSION, "ReplicaSet");
                    let set = set.and_then(|key| shared.view.of(Kind::ReplicaSet).get(&key));
                    if let Some(key) = set.and_then(|set| owner_key(&set, API_VERSION, KIND)) {
                        queue.add(key);
                    }
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(deployment) = shared.view.get::<Deployment>(Kind::Deployment, key) else { return Ok(None) };
        let Some((namespace, _)) = key.split_once('/') else { return Ok(None) };
        let sets = owned_sets(shared, &deployment, namespace).await?;
        let old_pods_left = recreates(&deployment) && old_pods_left(shared, &deployment, &sets, namespace);
        let now = Timestamp::now();
        let actions = if deployment.metadata.deletion_timestamp.is_some() {
            Vec::new()
        } else {
            plan(&deployment, &sets, old_pods_left)
        };
        for action in actions {
            execute(shared, &deployment, namespace, action).await?;
        }
        let (status, again) = status::status(&deployment, &sets, now);
        if deployment.status.as_ref() != Some(&status) {
            let name = deployment.metadata.name.as_deref().unwrap_or_default();
            let patch = json!({"status": status_patch(&deployment, &status)?});
            shared
                .client
                .namespaced::<Deployment>(namespace)
                .patch_status(name, PatchKind::Merge, &patch)
                .await?;
        }
        Ok(again)
    }
}

/// A merge patch from the old status to the new one: what went away must be null.
fn status_patch(
    deployment: &Deployment,
    status: &k8s_openapi::api::apps::v1::DeploymentStatus,
) -> Result<serde_json::Value, Status> {
    let new = serde_json::to_value(status).map_err(Status::internal)?;
    let mut patch = serde_json::to_value(&deployment.status).map_err(Status::internal)?;
    if let Some(fields) = patch.as_object_mut() {
        fields.values_mut().for_each(|value| *value = serde_json::Value::Null);
        fields.extend(new.as_object().cloned().unwrap_or_default());
        return Ok(patch);
    }
    Ok(new)
}

fn recreates(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.type_.as_deref());
    strategy == Some("Recreate")
}

/// Whether a pod of an old replica set still runs.
fn old_pods_left(shared: &Shared, deployment: &Deployment, sets: &[ReplicaSet], namespace: &str) -> bool {
    let current = template::current_set(deployment, sets).and_then(|set| set.metadata.uid.clone());
    let old: Vec<&str> = sets
        .iter()
        .filter_map(|set| set.metadata.uid.as_deref())
        .filter(|uid| Some(*uid) != current.as_deref())
        .collect();
    let pods = shared.view.list::<k8s_openapi::api::core::v1::Pod>(Kind::Pod, namespace, |pod| {
        pod.header.controller().is_some_and(|owner| old.contains(&&*owner.uid))
    });
    pods.iter().any(|pod| !matches!(pods::phase(pod), "Succeeded" | "Failed"))
}

/// The replica sets that a deployment controls; fitting orphans are adopted.
async fn owned_sets(
    shared: &Shared,
    deployment: &Deployment,
    namespace: &str,
) -> Result<Vec<ReplicaSet>, Status> {
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    let selector =
        deployment.spec.as_ref().map(|spec| serde_json::to_value(&spec.selector).unwrap_or_default());
    let Ok(selector) = Selector::from_json(&selector.unwrap_or_default()) else { return Ok(Vec::new()) };
    let api = shared.client.namespaced::<ReplicaSet>(namespace);
    let mut sets = Vec::new();
    for object in shared.view.of(Kind::ReplicaSet).list(namespace) {
        let fits = selector.matches(|key| object.header.label(key));
        match object.header.controller() {
            Some(owner) if *owner.uid == *uid && fits => sets.extend(decode::<ReplicaSet>(&object)),
            Some(owner) if *owner.uid == *uid && !object.header.is_terminating() => {
                let patch = json!({"metadata": {"uid": object.header.uid, "ownerReferences": [{"$patch": "delete", "uid": uid}]}});
                api.patch(&object.header.name, PatchKind::Strategic, &patch).await?;
            }
            None if fits
                && !object.header.is_terminating()
                && deployment.metadata.deletion_timestamp.is_none() =>
            {
                let owner = pods::controller_reference(API_VERSION, KIND, &deployment.metadata);
                may_adopt(shared, Kind::Deployment, namespace, &owner).await?;
                let patch = json!({"metadata": {"uid": object.header.uid, "ownerReferences": [owner]}});
                sets.push(api.patch(&object.header.name, PatchKind::Strategic, &patch).await?);
            }
            Some(_) | None => {}
        }
    }
    Ok(sets)
}

async fn execute(
    shared: &Shared,
    deployment: &Deployment,
    namespace: &str,
    action: Action,
) -> Result<(), Status> {
    let api = shared.client.namespaced::<ReplicaSet>(namespace);
    match action {
        Action::Create { hash, replicas, annotations } => {
            let set = new_set(deployment, namespace, &hash, replicas, annotations);
            match api.create(&set).await {
                // A set that starts with nothing scales nothing.
                Ok(created) if replicas > 0 => announce(shared, deployment, &created, 0, replicas),
                Ok(_) => {}
                // Ours from a pass whose result the view does not show yet, or another deployment's.
                Err(status) if status.is_already_exists() => {
                    collided(shared, deployment, namespace, &set).await?
                }
                Err(status) => return Err(status),
            }
        }
        Action::Scale { name, from, to, annotations } => {
            let patch = json!({"metadata": {"annotations": annotations}, "spec": {"replicas": to}});
            let scaled = api.patch(&name, PatchKind::Merge, &patch).await?;
            if from != to {
                announce(shared, deployment, &scaled, from, to);
            }
        }
        Action::Annotate { name, annotations } => {
            api.patch(&name, PatchKind::Merge, &json!({"metadata": {"annotations": annotations}})).await?;
        }
        Action::SetRevision(revision) => {
            let name = deployment.metadata.name.as_deref().unwrap_or_default();
            let patch = json!({"metadata": {"annotations": {REVISION: revision}}});
            shared.client.namespaced::<Deployment>(namespace).patch(name, PatchKind::Merge, &patch).await?;
        }
        Action::Delete { name, uid } => {
            let options = DeleteOptions { uid: Some(uid), ..DeleteOptions::default() };
            match api.delete(&name, &options).await {
                Err(status) if !status.is_not_found() => return Err(status),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

fn announce(shared: &Shared, deployment: &Deployment, set: &ReplicaSet, from: i32, to: i32) {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let direction = if to > from { "up" } else { "down" };
    let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
    shared.events.event(&reference(deployment), EventType::Normal, "ScalingReplicaSet", message);
}

/// A replica set of this name exists. If it is not this deployment's, the hash is changed.
async fn collided(
    shared: &Shared,
    deployment: &Deployment,
    namespace: &str,
    set: &ReplicaSet,
) -> Result<(), Status> {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let Some(existing) = shared.client.namespaced::<ReplicaSet>(namespace).find(name).await? else {
        return Ok(());
    };
    let owners = existing.metadata.owner_references.unwrap_or_default();
    if owners.iter().any(|owner| Some(&owner.uid) == deployment.metadata.uid.as_ref()) {
        return Ok(());
    }
    let count = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0) + 1;
    let patch = json!({"status": {"collisionCount": count}});
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    shared.client.namespaced::<Deployment>(namespace).patch_status(name, PatchKind::Merge, &patch).await?;
    Ok(())
}

fn new_set(
    deployment: &Deployment,
    namespace: &str,
    hash: &str,
    replicas: i32,
    annotations: plan::Annotations,
) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut template = spec.template;
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), hash.to_owned());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.to_owned());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default())),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![pods::controller_reference(API_VERSION, KIND, &deployment.metadata)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            selector,
            template: Some(template),
            min_ready_seconds: spec.min_ready_seconds,
        }),
        status: None,
    }
}
