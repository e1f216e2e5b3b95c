//! What the server gives a new object, whatever its author wrote there.

use serde_json::{Map, Value, json};

use super::fields::{ensure, object, set, set_text};
use crate::quantity::Quantity;

/// Gives a new object its first status and the fields that only the server sets.
///
/// Runs after [`super::apply`], once, when the object is created and has its `uid`.
pub fn prepare_create(group: &str, kind: &str, uid: &str, value: &mut Value) {
    let class = if (group, kind) == ("", "Pod") { qos_class(value) } else { "" };
    let Value::Object(root) = value else { return };
    let status = match (group, kind) {
        ("", "Pod") => json!({"phase": "Pending", "qosClass": class}),
        ("", "Namespace") => {
            if let Some(spec) = ensure(root, "spec") {
                add_finalizer(spec);
            }
            json!({"phase": "Active"})
        }
        ("", "PersistentVolume" | "PersistentVolumeClaim") => json!({"phase": "Pending"}),
        ("", "Service") => json!({"loadBalancer": {}}),
        ("", "ReplicationController") | ("apps", "ReplicaSet") => json!({"replicas": 0}),
        ("apps", "StatefulSet") => json!({"replicas": 0, "availableReplicas": 0}),
        ("apps", "DaemonSet") => json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        }),
        ("policy", "PodDisruptionBudget") => {
            json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
        }
        ("batch", "Job") => {
            generate_job_selector(root, uid);
            json!({})
        }
        ("autoscaling", "HorizontalPodAutoscaler") => json!({"currentReplicas": 0, "desiredReplicas": 0}),
        ("networking.k8s.io", "Ingress") => json!({"loadBalancer": {}}),
        ("apps", "Deployment")
        | ("batch", "CronJob")
        | ("", "ResourceQuota")
        | ("certificates.k8s.io", "CertificateSigningRequest")
        | ("flowcontrol.apiserver.k8s.io", _) => json!({}),
        _ => return,
    };
    root.insert("status".to_owned(), status);
}

/// A namespace goes away only after its contents, which its finalizer waits for.
fn add_finalizer(spec: &mut Map<String, Value>) {
    const FINALIZER: &str = "kubernetes";
    set(spec, "finalizers", json!([]));
    if let Some(Value::Array(finalizers)) = spec.get_mut("finalizers")
        && !finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    {
        finalizers.push(json!(FINALIZER));
    }
}

/// A job selects its pods by its own uid, unless its author chose a selector by hand.
fn generate_job_selector(root: &mut Map<String, Value>, uid: &str) {
    let name = root.get("metadata").map(|metadata| metadata["name"].clone()).unwrap_or_default();
    let Some(spec) = object(root, "spec") else { return };
    if spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let labels = ensure(spec, "template")
        .and_then(|template| ensure(template, "metadata"))
        .and_then(|metadata| ensure(metadata, "labels"));
    let Some(labels) = labels else { return };
    for (key, value) in [
        ("controller-uid", Value::from(uid)),
        ("batch.kubernetes.io/controller-uid", Value::from(uid)),
        ("job-name", name.clone()),
        ("batch.kubernetes.io/job-name", name),
    ] {
        set(labels, key, value);
    }
    if let Some(selected) = ensure(spec, "selector").and_then(|selector| ensure(selector, "matchLabels")) {
        set_text(selected, "batch.kubernetes.io/controller-uid", uid);
    }
}

/// A pod's quality of service: `Guaranteed`, `Burstable` or `BestEffort`, from CPU and memory of
/// its containers (of the pod itself, where the pod has resources).
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let own = &spec["resources"];
    let holders: Vec<&Value> = if has_resources(own) {
        vec![own]
    } else {
        ["initContainers", "containers"]
            .iter()
            .filter_map(|list| spec[*list].as_array())
            .flatten()
            .map(|container| &container["resources"])
            .collect()
    };
    let mut any = false;
    let mut guaranteed = true;
    for resources in holders {
        for name in ["cpu", "memory"] {
            let limit = amount(&resources["limits"][name]);
            // A request that is left out is the limit.
            let request = amount(&resources["requests"][name]).or(limit);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn has_resources(resources: &Value) -> bool {
    ["cpu", "memory"]
        .iter()
        .any(|name| amount(&resources["limits"][*name]).or(amount(&resources["requests"][*name])).is_some())
}

fn amount(value: &Value) -> Option<Quantity> {
    if value.is_null() {
        return None;
    }
    Quantity::from_json(value).ok().filter(|quantity| !quantity.is_zero())
}
