//! `apps`, and replication controllers: what keeps copies of a pod template.

use serde_json::{Map, Value};

use super::field::{At, Faults, same};
use super::resources::{count_or_percent, not_more_than_all, percent};
use super::{pod, selector, storage};
use crate::names;
use crate::selector::Selector;

pub(super) fn content(kind: &str, root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    match kind {
        "Deployment" => {
            replicated(&spec, "deployment", "ReplicaSet", faults);
            deployment(&spec, faults);
        }
        "ReplicaSet" => replicated(&spec, "deployment", "ReplicaSet", faults),
        "StatefulSet" => {
            replicated(&spec, "statefulset", "StatefulSet", faults);
            stateful_set(&spec, faults);
        }
        "DaemonSet" => {
            replicated(&spec, "daemonset", "DaemonSet", faults);
            daemon_set(&spec, faults);
        }
        "ControllerRevision" => {
            if !root.get("data").is_set() {
                faults.required(&root.get("data"), "data is mandatory");
            }
            faults.not_negative(&root.get("revision"));
        }
        _ => {}
    }
}

/// What all of them share.
fn replicated(spec: &At<'_, '_>, what: &str, kind: &str, faults: &mut Faults) {
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        faults.not_negative(&spec.get(field));
    }
    selector::workload(spec, what, faults);
    always_running(spec, kind, faults);
}

/// The template of pods that run for ever.
fn always_running(spec: &At<'_, '_>, kind: &str, faults: &mut Faults) {
    let template = spec.get("template");
    pod::template(&template, faults);
    let pod = template.get("spec");
    let policy = pod.get("restartPolicy");
    if matches!(policy.text(), "OnFailure" | "Never") {
        faults.unsupported(&policy, &["Always"]);
    }
    let deadline = pod.get("activeDeadlineSeconds");
    if deadline.is_set() {
        faults.forbidden(&deadline, &format!("activeDeadlineSeconds in {kind} is not Supported"));
    }
}

fn is_zero(at: &At<'_, '_>) -> bool {
    percent(at).map_or(at.int() == Some(0), |percent| percent == 0)
}

fn deployment(spec: &At<'_, '_>, faults: &mut Faults) {
    let strategy = spec.get("strategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "Recreate" => {
            if rolling.is_set() {
                faults.forbidden(&rolling, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            count_or_percent(&unavailable, faults);
            count_or_percent(&surge, faults);
            if is_zero(&unavailable) && is_zero(&surge) {
                faults.invalid(&unavailable, "may not be 0 when `maxSurge` is 0");
            }
            not_more_than_all(&unavailable, faults);
        }
        _ => faults.unsupported(&strategy.get("type"), &["Recreate", "RollingUpdate"]),
    }
    let deadline = spec.get("progressDeadlineSeconds");
    faults.not_negative(&deadline);
    let ready = spec.get("minReadySeconds").int().unwrap_or_default();
    if deadline.int().is_some_and(|seconds| seconds <= ready) {
        faults.invalid(&deadline, "must be greater than minReadySeconds");
    }
}

fn stateful_set(spec: &At<'_, '_>, faults: &mut Faults) {
    let management = spec.get("podManagementPolicy");
    match management.text() {
        "" => faults.required(&management, ""),
        "OrderedReady" | "Parallel" => {}
        _ => faults.invalid(&management, "must be 'OrderedReady' or 'Parallel'"),
    }
    let strategy = spec.get("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "" => faults.required(&strategy, ""),
        "OnDelete" => {
            if rolling.is_set() {
                faults.invalid(&rolling, "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            faults.not_negative(&rolling.get("partition"));
            let unavailable = rolling.get("maxUnavailable");
            count_or_percent(&unavailable, faults);
            if unavailable.is_set() && is_zero(&unavailable) {
                faults.invalid(&unavailable, "cannot be 0");
            }
            not_more_than_all(&unavailable, faults);
        }
        _ => faults.invalid(&strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    for event in ["whenDeleted", "whenScaled"] {
        faults.one_of_or_none(&retention.get(event), &["Retain", "Delete"]);
    }
    faults.not_negative(&spec.get("ordinals").get("start"));
    for claim in spec.get("volumeClaimTemplates").items() {
        let metadata = claim.get("metadata");
        let name = metadata.get("name");
        if name.text().is_empty() {
            faults.required(&name, "name or generateName is required");
        } else {
            faults.named(&name, names::dns1123_subdomain(name.text()));
        }
        storage::claim_spec(&claim.get("spec"), faults);
    }
}

fn daemon_set(spec: &At<'_, '_>, faults: &mut Faults) {
    let strategy = spec.get("updateStrategy");
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "OnDelete" => {}
        "RollingUpdate" => {
            if !rolling.is_set() {
                faults.required(&rolling, "");
                return;
            }
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            for count in [&unavailable, &surge] {
                count_or_percent(count, faults);
                not_more_than_all(count, faults);
            }
            match (is_zero(&unavailable), is_zero(&surge)) {
                (false, false) => faults.invalid(&surge, "may not be set when maxUnavailable is non-zero"),
                (true, true) => faults.required(&unavailable, "cannot be 0 when maxSurge is 0"),
                (true, false) | (false, true) => {}
            }
        }
        _ => faults.unsupported(&strategy.get("type"), &["RollingUpdate", "OnDelete"]),
    }
}

/// Its selector is a plain map of labels.
pub(super) fn replication_controller(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    for field in ["replicas", "minReadySeconds"] {
        faults.not_negative(&spec.get(field));
    }
    let selector = spec.get("selector");
    if selector.is_empty() {
        faults.required(&selector, "");
    }
    if !spec.get("template").is_set() {
        faults.required(&spec.get("template"), "");
        return;
    }
    let template = spec.get("template");
    let metadata = template.get("metadata");
    let labels = metadata.get("labels");
    if let Ok(parsed) = Selector::from_map(selector.value)
        && !parsed.matches(|key| labels.value.get(key)?.as_str())
    {
        faults.invalid(&labels, "`selector` does not match template `labels`");
    }
    always_running(&spec, "ReplicationController", faults);
}

pub(super) fn update(kind: &str, root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    match kind {
        "Deployment" | "ReplicaSet" | "DaemonSet" => {
            faults.immutable(&spec.get("selector"), &old.get("selector"));
        }
        "StatefulSet" => {
            let unchanged = same(&frozen(spec.value), &frozen(old.value));
            if !unchanged {
                let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
                faults.forbidden(&spec, detail);
            }
        }
        "ControllerRevision" => faults.immutable(&root.get("data"), &before.get("data")),
        _ => {}
    }
}

/// A stateful set's spec without what may change.
fn frozen(spec: &Value) -> Value {
    let mut spec: Map<String, Value> = spec.as_object().cloned().unwrap_or_default();
    for field in [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ] {
        spec.remove(field);
    }
    Value::Object(spec)
}
