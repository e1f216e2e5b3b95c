//! The OpenAPI v3 document of the group: its types and where they are served.

use serde_json::{Value, json};

const PREFIX: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The whole document.
pub fn v3() -> Value {
    let mut paths = serde_json::Map::new();
    let base = "/apis/metrics.k8s.io/v1beta1";
    for (path, kind, list) in [
        ("/nodes", "NodeMetrics", true),
        ("/nodes/{name}", "NodeMetrics", false),
        ("/pods", "PodMetrics", true),
        ("/namespaces/{namespace}/pods", "PodMetrics", true),
        ("/namespaces/{namespace}/pods/{name}", "PodMetrics", false),
    ] {
        paths.insert(format!("{base}{path}"), operation(path, kind, list));
    }
    json!({"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "unversioned"}, "paths": paths,
        "components": {"schemas": schemas()}})
}

fn operation(path: &str, kind: &str, list: bool) -> Value {
    let answer = if list { format!("{kind}List") } else { kind.to_owned() };
    let what = if list { "list objects of kind" } else { "read the specified" };
    let text = json!({"type": "string", "uniqueItems": true});
    let in_path = ["namespace", "name"].into_iter().filter(|name| path.contains(&format!("{{{name}}}")));
    let in_path = in_path.map(|name| json!({"name": name, "in": "path", "required": true, "schema": text}));
    let in_query: &[&str] = if list { &["fieldSelector", "labelSelector"] } else { &[] };
    let in_query = in_query.iter().map(|name| json!({"name": name, "in": "query", "schema": text}));
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    let schema = json!({"$ref": format!("#/components/schemas/{PREFIX}.{answer}")});
    json!({
        "get": {
            "tags": ["metrics_v1beta1"],
            "description": format!("{what} {kind}"),
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": schema}}}},
            "x-kubernetes-action": if list { "list" } else { "get" },
            "x-kubernetes-group-version-kind": {"group": "metrics.k8s.io", "version": "v1beta1", "kind": kind},
        },
        "parameters": parameters,
    })
}

fn schemas() -> Value {
    let reference =
        |name: &str| json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}], "default": {}});
    let text = |description: &str| json!({"type": "string", "description": description});
    let kind = |kind: &str| json!([{"group": "metrics.k8s.io", "version": "v1beta1", "kind": kind}]);
    let usage = json!({"type": "object", "description": "The memory usage is the memory working set.",
        "additionalProperties": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"}});
    let time = json!({"allOf": [{"$ref": format!("#/components/schemas/{META}.Time")}],
        "description": "The following fields define time interval from which metrics were collected from the interval [Timestamp-Window, Timestamp]."});
    let window = json!({"$ref": format!("#/components/schemas/{META}.Duration")});
    let with_type = |mut properties: Value| {
        properties["apiVersion"] = text(
            "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources",
        );
        properties["kind"] = text(
            "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds",
        );
        properties
    };
    let list = |of: &str| {
        let items = json!({"type": "array", "description": format!("List of {of}."), "items": reference(&format!("{PREFIX}.{}", if of == "pod metrics" { "PodMetrics" } else { "NodeMetrics" }))});
        with_type(json!({"metadata": reference(&format!("{META}.ListMeta")), "items": items}))
    };
    json!({
        format!("{PREFIX}.NodeMetrics"): {
            "type": "object", "description": "NodeMetrics sets resource usage metrics of a node.",
            "required": ["timestamp", "window", "usage"],
            "properties": with_type(json!({"metadata": reference(&format!("{META}.ObjectMeta")), "timestamp": time, "window": window, "usage": usage})),
            "x-kubernetes-group-version-kind": kind("NodeMetrics"),
        },
        format!("{PREFIX}.PodMetrics"): {
            "type": "object", "description": "PodMetrics sets resource usage metrics of a pod.",
            "required": ["timestamp", "window", "containers"],
            "properties": with_type(json!({"metadata": reference(&format!("{META}.ObjectMeta")), "timestamp": time, "window": window,
                "containers": {"type": "array", "description": "Metrics for all containers are collected within the same time window.",
                    "items": reference(&format!("{PREFIX}.ContainerMetrics"))}})),
            "x-kubernetes-group-version-kind": kind("PodMetrics"),
        },
        format!("{PREFIX}.ContainerMetrics"): {
            "type": "object", "description": "ContainerMetrics sets resource usage metrics of a container.",
            "required": ["name", "usage"],
            "properties": {"name": text("Container name corresponding to the one from pod.spec.containers."), "usage": usage},
        },
        format!("{PREFIX}.NodeMetricsList"): {
            "type": "object", "description": "NodeMetricsList is a list of NodeMetrics.", "required": ["items"],
            "properties": list("node metrics"), "x-kubernetes-group-version-kind": kind("NodeMetricsList"),
        },
        format!("{PREFIX}.PodMetricsList"): {
            "type": "object", "description": "PodMetricsList is a list of PodMetrics.", "required": ["items"],
            "properties": list("pod metrics"), "x-kubernetes-group-version-kind": kind("PodMetricsList"),
        },
        format!("{META}.ObjectMeta"): {"type": "object", "description": "ObjectMeta is metadata that all persisted resources must have, which includes all objects users must create.",
            "properties": {"name": text("Name must be unique within a namespace."), "namespace": text("Namespace defines the space within which each name must be unique."),
                "creationTimestamp": {"$ref": format!("#/components/schemas/{META}.Time")},
                "labels": {"type": "object", "additionalProperties": {"type": "string", "default": ""}}}},
        format!("{META}.ListMeta"): {"type": "object", "description": "ListMeta describes metadata that synthetic resources must have, including lists and various status objects."},
        format!("{META}.Time"): {"type": "string", "format": "date-time", "description": "Time is a wrapper around time.Time which supports correct marshaling to YAML and JSON."},
        format!("{META}.Duration"): {"type": "string", "description": "Duration is a wrapper around time.Duration which supports correct marshaling to YAML and JSON."},
        "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string", "description": "Quantity is a fixed-point representation of a number."},
    })
}
