//! `autoscaling`: horizontal pod autoscalers of both versions.

use serde_json::{Map, Value, json};

use super::fields::{empty, ensure, object, set};
use super::quantity::canonical;

pub(super) fn apply(version: &str, kind: &str, root: &mut Map<String, Value>) {
    if kind != "HorizontalPodAutoscaler" {
        return;
    }
    let Some(spec) = object(root, "spec") else { return };
    set(spec, "minReplicas", json!(1));
    if version == "v1" {
        return;
    }
    if empty(spec, "metrics") {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".to_owned(), json!([metric]));
    }
    super::fields::each(spec, "metrics", |metric| {
        for source in ["resource", "containerResource", "pods", "object", "external"] {
            if let Some(target) = object(metric, source).and_then(|source| object(source, "target")) {
                canonical(target, "value");
                canonical(target, "averageValue");
            }
        }
    });
    if let Some(behavior) = object(spec, "behavior") {
        let all = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        if let Some(up) = ensure(behavior, "scaleUp") {
            set(up, "stabilizationWindowSeconds", json!(0));
            set(up, "selectPolicy", json!("Max"));
            set(up, "policies", json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, all]));
        }
        if let Some(down) = ensure(behavior, "scaleDown") {
            set(down, "selectPolicy", json!("Max"));
            set(down, "policies", json!([all]));
        }
    }
}
