//! The rules of each group by tables of objects and what is told of them.

use serde_json::json;

use super::*;
use crate::defaults;

mod access;
mod any;
mod core;
mod devices;
mod events;
mod fine;
mod metadata;
mod networking;
mod pods;
mod policy;
mod storage;
mod workloads;

fn told(causes: Vec<Cause>) -> Vec<String> {
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

/// A complete object of a kind, named `a`, after defaults.
fn complete(group: &str, kind: &str, mut value: Value) -> Value {
    if value.get("metadata").is_none() {
        value["metadata"] = json!({"name": "a", "namespace": "n"});
    }
    defaults::apply(group, "v1", kind, &mut value);
    defaults::prepare_create(group, kind, "u", &mut value);
    value
}

#[track_caller]
fn check(group: &str, kind: &str, value: Value, expected: &[&str]) {
    let value = complete(group, kind, value);
    assert_eq!(told(create(group, kind, &value)), expected, "{kind}: {value}");
}

#[track_caller]
fn check_update(group: &str, kind: &str, old: Value, new: Value, expected: &[&str]) {
    let (old, new) = (complete(group, kind, old), complete(group, kind, new));
    assert_eq!(told(update(group, kind, &new, &old)), expected, "{kind}: {new}");
}

fn container(more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i"});
    for (key, value) in more.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    container
}

fn pod(more: Value) -> Value {
    let mut spec = json!({"containers": [container(json!({}))]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"spec": spec})
}

fn pod_with(container_fields: Value) -> Value {
    pod(json!({"containers": [container(container_fields)], "volumes": [{"name": "v"}]}))
}

fn workload(more: Value) -> Value {
    let mut template = pod(json!({}));
    template["metadata"] = json!({"labels": {"app": "a"}});
    let mut spec = json!({"selector": {"matchLabels": {"app": "a"}}, "template": template});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"spec": spec})
}
