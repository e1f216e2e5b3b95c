//! `autoscaling/v1` ↔ `autoscaling/v2` HorizontalPodAutoscaler.
//!
//! v1 knows one metric, the CPU's utilisation. What else v2 holds travels in v1 in annotations, as
//! upstream does, so that a client that reads and writes v1 loses nothing.

use sampan_api::schema;
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// Spec or status, v2's field, and the annotation that carries it in v1.
const CARRIED: [(&str, &str, &str); 4] = [
    ("spec", "metrics", METRICS),
    ("spec", "behavior", BEHAVIOR),
    ("status", "currentMetrics", CURRENT_METRICS),
    ("status", "conditions", CONDITIONS),
];

fn is_cpu_utilization(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

/// Whether what an annotation carries is of the field's type: anybody may write annotations, and what
/// is stored must be of its kind.
fn fits(owner: &str, field: &str, value: &Value) -> bool {
    let types = schema::builtin();
    let Some(kind) = types.lookup("io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler") else { return false };
    let mut object = json!({owner: {field: value}});
    schema::check(types, kind, &mut object).mistyped.is_none()
}

fn part<'a>(object: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(name)?.as_object_mut()
}

pub fn to_v2(object: &mut Value) {
    for (owner, field, annotation) in CARRIED {
        let carried = object
            .pointer_mut("/metadata/annotations")
            .and_then(Value::as_object_mut)
            .and_then(|annotations| annotations.remove(annotation))
            .and_then(|text| serde_json::from_str(text.as_str()?).ok())
            .filter(|value| fits(owner, field, value));
        if let (Some(value), Some(owner)) = (carried, part(object, owner)) {
            owner.insert(field.to_owned(), value);
        }
    }
    drop_empty_annotations(object);
    if let Some(spec) = part(object, "spec")
        && let Some(target) = spec.remove("targetCPUUtilizationPercentage")
    {
        let metric = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": target}}});
        if let Some(metrics) = spec.entry("metrics").or_insert_with(|| json!([])).as_array_mut() {
            metrics.insert(0, metric);
        }
    }
    if let Some(status) = part(object, "status")
        && let Some(current) = status.remove("currentCPUUtilizationPercentage")
    {
        let metric = json!({"type": "Resource", "resource": {"name": "cpu",
            "current": {"averageUtilization": current, "averageValue": "0"}}});
        if let Some(metrics) = status.entry("currentMetrics").or_insert_with(|| json!([])).as_array_mut() {
            metrics.insert(0, metric);
        }
    }
}

pub fn to_v1(object: &mut Value) {
    take_cpu(
        object,
        "spec",
        "metrics",
        "/resource/target/averageUtilization",
        "targetCPUUtilizationPercentage",
    );
    take_cpu(
        object,
        "status",
        "currentMetrics",
        "/resource/current/averageUtilization",
        "currentCPUUtilizationPercentage",
    );
    for (owner, field, annotation) in CARRIED {
        let Some(value) = part(object, owner).and_then(|owner| owner.remove(field)) else { continue };
        if value.as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        let metadata = crate::registry::metadata_of(object);
        if let Some(annotations) = metadata.entry("annotations").or_insert_with(|| json!({})).as_object_mut()
        {
            annotations.insert(annotation.to_owned(), value.to_string().into());
        }
    }
}

/// Moves the CPU metric out of v2's list into v1's field.
fn take_cpu(object: &mut Value, owner: &str, list: &str, pointer: &str, field: &str) {
    let Some(owner) = part(object, owner) else { return };
    let Some(metrics) = owner.get_mut(list).and_then(Value::as_array_mut) else { return };
    let found =
        metrics.iter().position(|metric| is_cpu_utilization(metric) && metric.pointer(pointer).is_some());
    if let Some(at) = found
        && let Some(value) = metrics.remove(at).pointer(pointer).cloned()
    {
        owner.insert(field.to_owned(), value);
    }
}

fn drop_empty_annotations(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        && metadata.get("annotations").and_then(Value::as_object).is_some_and(Map::is_empty)
    {
        metadata.remove("annotations");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_carry_what_fits_and_nothing_else() {
        let check = |text: &str, expected: Value| {
            let mut object =
                json!({"metadata": {"annotations": {METRICS: text}}, "spec": {"maxReplicas": 2}});
            to_v2(&mut object);
            assert_eq!(object, json!({"metadata": {}, "spec": expected}), "{text}");
        };
        let pods = json!({"type": "Pods", "pods": {"metric": {"name": "m"},
            "target": {"type": "AverageValue", "averageValue": "1"}}});
        check(&json!([pods]).to_string(), json!({"maxReplicas": 2, "metrics": [pods]}));
        for text in ["", "{", "1", "{\"a\": 1}", "[1]", "[{\"type\": 1}]", "[{\"pods\": []}]"] {
            check(text, json!({"maxReplicas": 2}));
        }
    }
}
