//! `apps`: deployments, replica sets, stateful sets, daemon sets.

use serde_json::{Map, Value, json};

use super::fields::{absent, each, ensure, object, set, set_text, text};
use super::{pod, volume};

pub(super) fn apply(kind: &str, root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else { return };
    match kind {
        "Deployment" => deployment(spec),
        "ReplicaSet" => set(spec, "replicas", json!(1)),
        "StatefulSet" => stateful_set(spec),
        "DaemonSet" => daemon_set(spec),
        _ => return,
    }
    pod::template(spec, "template");
}

fn deployment(spec: &mut Map<String, Value>) {
    set(spec, "replicas", json!(1));
    set(spec, "revisionHistoryLimit", json!(10));
    set(spec, "progressDeadlineSeconds", json!(600));
    let Some(strategy) = ensure(spec, "strategy") else { return };
    set_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate"
        && let Some(update) = ensure(strategy, "rollingUpdate")
    {
        set(update, "maxUnavailable", json!("25%"));
        set(update, "maxSurge", json!("25%"));
    }
}

fn daemon_set(spec: &mut Map<String, Value>) {
    set(spec, "revisionHistoryLimit", json!(10));
    let Some(strategy) = ensure(spec, "updateStrategy") else { return };
    set_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate"
        && let Some(update) = ensure(strategy, "rollingUpdate")
    {
        set(update, "maxUnavailable", json!(1));
        set(update, "maxSurge", json!(0));
    }
}

fn stateful_set(spec: &mut Map<String, Value>) {
    set(spec, "replicas", json!(1));
    set(spec, "revisionHistoryLimit", json!(10));
    set_text(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = ensure(spec, "updateStrategy") {
        if absent(strategy, "type") || text(strategy, "type").is_empty() {
            set_text(strategy, "type", "RollingUpdate");
            set(strategy, "rollingUpdate", json!({}));
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(update) = object(strategy, "rollingUpdate")
        {
            set(update, "partition", json!(0));
        }
    }
    if let Some(policy) = ensure(spec, "persistentVolumeClaimRetentionPolicy") {
        set_text(policy, "whenDeleted", "Retain");
        set_text(policy, "whenScaled", "Retain");
    }
    each(spec, "volumeClaimTemplates", |claim| {
        set_text(claim, "apiVersion", "v1");
        set_text(claim, "kind", "PersistentVolumeClaim");
        volume::claim(claim);
        if let Some(status) = ensure(claim, "status") {
            set_text(status, "phase", "Pending");
        }
    });
}
