//! What may change of a pod that exists: very little.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::field::{At, Faults, same};
use crate::names::out_of_range;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn update(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    for list in ["containers", "initContainers"] {
        if spec.get(list).len() != old.get(list).len() {
            faults.forbidden(&spec.get(list), "pod updates may not add or remove containers");
            return;
        }
    }
    if !deadline(&spec.get("activeDeadlineSeconds"), &old.get("activeDeadlineSeconds"), faults) {
        return;
    }
    tolerations(&spec.get("tolerations"), &old.get("tolerations"), faults);
    scheduling_gates(&spec.get("schedulingGates"), &old.get("schedulingGates"), faults);
    let gated = !old.get("schedulingGates").is_empty();
    let changed = changed_fields(spec.value, old.value, gated);
    if !changed.is_empty() {
        let detail = format!(
            "pod updates may not change fields other than {UPDATABLE}\nchanged: {}",
            changed.join(", ")
        );
        faults.forbidden(&spec, &detail);
    }
}

/// Answers whether the rest is worth checking.
fn deadline(now: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) -> bool {
    match (now.int(), before.int()) {
        (Some(now_seconds), _) if !(0..=i64::from(i32::MAX)).contains(&now_seconds) => {
            faults.invalid(now, &out_of_range(0, i64::from(i32::MAX)));
            false
        }
        (Some(now_seconds), Some(old_seconds)) if now_seconds > old_seconds => {
            faults.invalid(now, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            faults.invalid(now, "must not update from a positive integer to nil value");
            true
        }
        (Some(_), _) | (None, None) => true,
    }
}

fn tolerations(now: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Value::Object(map) = &mut toleration {
            map.remove("tolerationSeconds");
        }
        toleration
    };
    let kept: Vec<Value> = now.items().map(|toleration| without_seconds(toleration.value)).collect();
    let lost = before.items().any(|old| {
        let old = without_seconds(old.value);
        !kept.iter().any(|candidate| same(candidate, &old))
    });
    if lost {
        faults.forbidden(now, "existing toleration can not be modified except its tolerationSeconds");
    }
}

fn scheduling_gates(now: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let old: BTreeSet<&str> = before.items().map(|gate| gate.get("name").text()).collect();
    for gate in now.items() {
        let name = gate.get("name");
        if !old.contains(name.text()) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", name.text());
            faults.forbidden(&name, &detail);
        }
    }
}

/// Through their subresource ephemeral containers are added; they stay as they were made.
pub(super) fn ephemeral_containers(now: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    for old in before.items() {
        let name = old.get("name").text();
        match now.items().find(|container| container.get("name").text() == name) {
            None => {
                faults.forbidden(now, &format!("existing ephemeral containers {name:?} may not be removed\n"))
            }
            Some(container) if !same(container.value, old.value) => {
                faults
                    .forbidden(now, &format!("existing ephemeral containers {name:?} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
}

/// The fields of a pod's spec that changed and may not.
fn changed_fields(new: &Value, old: &Value, gated: bool) -> Vec<String> {
    let (new, old) = (frozen(new, gated), frozen(old, gated));
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let value = |map: &Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or_default();
    keys.into_iter()
        .filter(|key| !same(&value(&new, key), &value(&old, key)))
        .map(|key| format!("spec.{key}"))
        .collect()
}

/// A pod's spec without what may change.
fn frozen(spec: &Value, gated: bool) -> Map<String, Value> {
    let mut spec = spec.as_object().cloned().unwrap_or_default();
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        spec.remove(field);
    }
    // A negative grace period means one second.
    if let Some(grace) = spec.get_mut("terminationGracePeriodSeconds")
        && grace.as_i64().is_some_and(|seconds| seconds < 0)
    {
        *grace = Value::from(1);
    }
    if gated {
        // While a pod waits for its gates, where it may run can still be narrowed.
        spec.remove("nodeSelector");
        if let Some(Value::Object(affinity)) = spec.get_mut("affinity") {
            affinity.remove("nodeAffinity");
        }
    }
    for list in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = spec.get_mut(list) else { continue };
        for container in containers {
            if let Value::Object(container) = container {
                container.remove("image");
            }
        }
    }
    spec
}
