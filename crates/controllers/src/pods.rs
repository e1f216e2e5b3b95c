//! Facts about pods that several controllers count by.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether a pod still runs or will: neither ended nor being deleted.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed") && pod.metadata.deletion_timestamp.is_none()
}

/// Since when the pod is ready; absent when it is not.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_deref().unwrap_or_default();
    let ready =
        conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// Whether a pod has been ready for `min_ready_seconds`; otherwise the seconds until it will be,
/// where it is ready at all.
pub(crate) fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    let Some(since) = ready_since(pod) else { return Availability::NotReady };
    let left = i64::from(min_ready_seconds) - (now.as_second() - since.as_second());
    if min_ready_seconds == 0 || left <= 0 {
        Availability::Available
    } else {
        Availability::In(left.unsigned_abs())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    NotReady,
    /// Seconds.
    In(u64),
    Available,
}

/// A pod of a template, owned by a controller and named after it.
pub(crate) fn from_template(template: &PodTemplateSpec, owner: OwnerReference, namespace: &str) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name)),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The reference by which an object controls others.
pub(crate) fn controller_reference(api_version: &str, kind: &str, metadata: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The order in which pods are given up: what serves least goes first.
///
/// As upstream: not yet on a node, phase, readiness, deletion cost, more siblings on the same node,
/// shortest time ready, restarts, youngest.
pub(crate) fn rank(pod: &Pod, siblings_on_node: usize) -> impl Ord + use<> {
    let assigned =
        pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref().is_some_and(|node| !node.is_empty()));
    let phase = match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get("controller.kubernetes.io/pod-deletion-cost"));
    let cost: i32 = cost.and_then(|text| text.parse().ok()).unwrap_or(0);
    let restarts = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .map(|status| status.restart_count)
        .max();
    let ready = ready_since(pod).map(|since| std::cmp::Reverse(since.as_second()));
    let age = pod.metadata.creation_timestamp.as_ref().map(|time| std::cmp::Reverse(time.0.as_second()));
    (
        (assigned, phase, ready.is_some(), cost),
        std::cmp::Reverse(siblings_on_node),
        ready,
        std::cmp::Reverse(restarts.unwrap_or(0)),
        age,
    )
}
