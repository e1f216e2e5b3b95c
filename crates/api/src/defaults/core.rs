//! The core group.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::fields::{absent, each, empty, ensure, object, set, set_text, text};
use super::quantity::canonical_list;
use super::{pod, volume};

pub(super) fn apply(kind: &str, root: &mut Map<String, Value>) {
    match kind {
        "Pod" => pod::pod(root),
        "PodTemplate" => pod::template(root, "template"),
        "ReplicationController" => replication_controller(root),
        "Service" => service(root),
        "Namespace" => namespace(root),
        "Secret" => secret(root),
        "Endpoints" => each(root, "subsets", |subset| {
            each(subset, "ports", |port| set_text(port, "protocol", "TCP"));
        }),
        "PersistentVolume" => volume::persistent_volume(root),
        "PersistentVolumeClaim" => volume::claim(root),
        "LimitRange" => limit_range(root),
        "ResourceQuota" => {
            if let Some(spec) = object(root, "spec") {
                canonical_list(spec, "hard");
            }
            if let Some(status) = object(root, "status") {
                canonical_list(status, "hard");
                canonical_list(status, "used");
            }
        }
        "Node" => node(root),
        _ => {}
    }
}

fn replication_controller(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else { return };
    set(spec, "replicas", json!(1));
    pod::template(spec, "template");
    let labels = spec.get("template").map(|template| template["metadata"]["labels"].clone());
    let Some(labels @ Value::Object(_)) = labels else { return };
    if empty(spec, "selector") {
        spec.insert("selector".to_owned(), labels.clone());
    }
    label_like_template(root, labels);
}

/// An object without labels takes those of its template.
pub(super) fn label_like_template(root: &mut Map<String, Value>, labels: Value) {
    if let Some(metadata) = ensure(root, "metadata")
        && empty(metadata, "labels")
    {
        metadata.insert("labels".to_owned(), labels);
    }
}

fn service(root: &mut Map<String, Value>) {
    let Some(spec) = ensure(root, "spec") else { return };
    set_text(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            if let Some(client) =
                ensure(spec, "sessionAffinityConfig").and_then(|config| ensure(config, "clientIP"))
            {
                set(client, "timeoutSeconds", json!(10800));
            }
        }
        _ => {}
    }
    set_text(spec, "type", "ClusterIP");
    each(spec, "ports", |port| {
        set_text(port, "protocol", "TCP");
        let unset = match port.get("targetPort") {
            None | Some(Value::Null) => true,
            Some(Value::Number(number)) => number.as_i64() == Some(0),
            Some(Value::String(name)) => name.is_empty(),
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => false,
        };
        if unset && let Some(number) = port.get("port").cloned() {
            port.insert("targetPort".to_owned(), number);
        }
    });
    let kind = text(spec, "type").to_owned();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        set(spec, "internalTrafficPolicy", json!("Cluster"));
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
    let balancer = ensure(root, "status").and_then(|status| ensure(status, "loadBalancer"));
    if let Some(balancer) = balancer.filter(|_| kind == "LoadBalancer") {
        each(balancer, "ingress", |ingress| {
            if !text(ingress, "ip").is_empty() {
                set(ingress, "ipMode", json!("VIP"));
            }
        });
    }
}

fn namespace(root: &mut Map<String, Value>) {
    let Some(metadata) = object(root, "metadata") else { return };
    let name = text(metadata, "name").to_owned();
    if !name.is_empty()
        && let Some(labels) = ensure(metadata, "labels")
    {
        labels.insert("kubernetes.io/metadata.name".to_owned(), Value::from(name));
    }
}

/// `stringData` is only ever written: its texts move into `data`, over what is there.
fn secret(root: &mut Map<String, Value>) {
    set_text(root, "type", "Opaque");
    let is_text = |data: &Map<String, Value>| data.values().all(Value::is_string);
    match root.get("stringData") {
        Some(Value::Null) => {
            root.remove("stringData");
        }
        Some(Value::Object(plain))
            if is_text(plain) && (absent(root, "data") || root["data"].is_object()) =>
        {
            let Some(Value::Object(plain)) = root.remove("stringData") else { return };
            let Some(data) = ensure(root, "data") else { return };
            for (key, value) in plain {
                let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
                data.insert(key, Value::from(encoded));
            }
        }
        None | Some(_) => {}
    }
}

fn limit_range(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else { return };
    each(spec, "limits", |item| {
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            canonical_list(item, list);
        }
        if text(item, "type") == "Container" {
            fill(item, "max", "default");
            fill(item, "default", "defaultRequest");
            fill(item, "min", "defaultRequest");
        }
    });
}

/// Resources that the list `to` lacks are taken from the list `from`.
fn fill(item: &mut Map<String, Value>, from: &str, to: &str) {
    let Some(source) = item.get(from).and_then(Value::as_object).filter(|source| !source.is_empty()).cloned()
    else {
        return;
    };
    let Some(target) = ensure(item, to) else { return };
    for (name, value) in source {
        set(target, &name, value);
    }
}

fn node(root: &mut Map<String, Value>) {
    let Some(status) = object(root, "status") else { return };
    canonical_list(status, "capacity");
    canonical_list(status, "allocatable");
    if let Some(capacity @ Value::Object(_)) = status.get("capacity").cloned() {
        set(status, "allocatable", capacity);
    }
}
