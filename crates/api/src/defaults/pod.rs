//! Pods, and the pod templates of whatever makes pods.

use serde_json::{Map, Value, json};

use super::fields::{absent, each, ensure, object, set, set_number, set_text, text};
use super::quantity::{canonical, canonical_list, canonical_resources};
use super::volume;

const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// A pod: what its template would get, and what only pods get.
pub(super) fn pod(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else { return };
    pod_spec(spec);
    for list in ["initContainers", "containers"] {
        each(spec, list, requests_from_limits);
    }
    if let Some(resources) = object(spec, "resources") {
        fill_requests(resources);
    }
    set(spec, "enableServiceLinks", json!(true));
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for list in ["initContainers", "containers"] {
            each(spec, list, |container| each(container, "ports", host_port));
        }
    }
}

/// The pod template below `key`.
pub(super) fn template(parent: &mut Map<String, Value>, key: &str) {
    if let Some(spec) = object(parent, key).and_then(|template| object(template, "spec")) {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Map<String, Value>) {
    set_text(spec, "dnsPolicy", "ClusterFirst");
    set_text(spec, "restartPolicy", "Always");
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", json!(30));
    set_text(spec, "schedulerName", "default-scheduler");
    mirror_service_account(spec);
    canonical_list(spec, "overhead");
    canonical_resources(spec, "resources");
    for list in CONTAINER_LISTS {
        each(spec, list, container);
    }
    each(spec, "volumes", volume::volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`; clients read either.
fn mirror_service_account(spec: &mut Map<String, Value>) {
    let current = text(spec, "serviceAccountName").to_owned();
    let deprecated = text(spec, "serviceAccount").to_owned();
    if !current.is_empty() {
        spec.insert("serviceAccount".to_owned(), Value::from(current));
    } else if !deprecated.is_empty() {
        set_text(spec, "serviceAccountName", &deprecated);
    }
}

fn container(container: &mut Map<String, Value>) {
    let policy = pull_policy(text(container, "image"));
    set_text(container, "imagePullPolicy", policy);
    set_text(container, "terminationMessagePath", "/dev/termination-log");
    set_text(container, "terminationMessagePolicy", "File");
    set(container, "resources", json!({}));
    canonical_resources(container, "resources");
    each(container, "ports", |port| set_text(port, "protocol", "TCP"));
    each(container, "env", |variable| {
        let Some(source) = object(variable, "valueFrom") else { return };
        field_sources(source);
        if let Some(file) = object(source, "fileKeyRef") {
            set(file, "optional", json!(false));
        }
    });
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = object(container, kind) {
            apply_probe(probe);
        }
    }
    let Some(lifecycle) = object(container, "lifecycle") else { return };
    for hook in ["postStart", "preStop"] {
        if let Some(hook) = object(lifecycle, hook) {
            http_get(hook);
        }
    }
}

/// `fieldRef` and `resourceFieldRef`, in a variable or in a file of the downward API.
pub(super) fn field_sources(source: &mut Map<String, Value>) {
    if let Some(field) = object(source, "fieldRef") {
        set_text(field, "apiVersion", "v1");
    }
    if let Some(resource) = object(source, "resourceFieldRef") {
        set(resource, "divisor", json!("0"));
        canonical(resource, "divisor");
    }
}

fn apply_probe(probe: &mut Map<String, Value>) {
    set_number(probe, "timeoutSeconds", 1);
    set_number(probe, "periodSeconds", 10);
    set_number(probe, "successThreshold", 1);
    set_number(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = object(probe, "grpc") {
        set(grpc, "service", json!(""));
    }
}

fn http_get(handler: &mut Map<String, Value>) {
    if let Some(get) = object(handler, "httpGet") {
        set_text(get, "path", "/");
        set_text(get, "scheme", "HTTP");
    }
}

/// `Always` for an image without a tag or with `latest`, since those move.
pub(super) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
        None if digest || image.is_empty() => "IfNotPresent",
        None => "Always",
    }
}

fn requests_from_limits(container: &mut Map<String, Value>) {
    if let Some(resources) = object(container, "resources") {
        fill_requests(resources);
    }
}

fn fill_requests(resources: &mut Map<String, Value>) {
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    if limits.is_empty() {
        return;
    }
    let Some(requests) = ensure(resources, "requests") else { return };
    for (name, limit) in limits {
        if absent(requests, &name) {
            requests.insert(name, limit);
        }
    }
}

fn host_port(port: &mut Map<String, Value>) {
    if let Some(container_port) = port.get("containerPort").and_then(Value::as_i64) {
        set_number(port, "hostPort", container_port);
    }
}
