//! `networking.k8s.io` and `discovery.k8s.io`.

use serde_json::{Map, Value, json};

use super::fields::{each, empty, object, set};

pub(super) fn apply(kind: &str, root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else { return };
    match kind {
        "NetworkPolicy" => network_policy(spec),
        "IngressClass" => {
            if let Some(parameters) = object(spec, "parameters") {
                set(parameters, "scope", json!("Cluster"));
            }
        }
        _ => {}
    }
}

fn network_policy(spec: &mut Map<String, Value>) {
    set(spec, "podSelector", json!({}));
    for direction in ["ingress", "egress"] {
        each(spec, direction, |rule| each(rule, "ports", |port| set(port, "protocol", json!("TCP"))));
    }
    if empty(spec, "policyTypes") {
        let types = if empty(spec, "egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        spec.insert("policyTypes".to_owned(), types);
    }
}

pub(super) fn apply_discovery(kind: &str, root: &mut Map<String, Value>) {
    if kind == "EndpointSlice" {
        each(root, "ports", |port| {
            set(port, "name", json!(""));
            set(port, "protocol", json!("TCP"));
        });
    }
}
