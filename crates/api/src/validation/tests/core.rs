use serde_json::json;

use super::*;

#[test]
fn services() {
    let service = |spec: Value| json!({"spec": spec});
    check("", "Service", service(json!({"ports": [{"port": 80}]})), &[]);
    check("", "Service", service(json!({})), &["spec.ports: Required value"]);
    check(
        "",
        "Service",
        service(json!({"ports": [{"port": 80}, {"port": 80, "name": "b", "nodePort": 30000}]})),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
        ],
    );
    check("", "Service", service(json!({"type": "ExternalName"})), &["spec.externalName: Required value"]);
    check("", "Service", service(json!({"type": "ExternalName", "externalName": "a.b"})), &[]);
    check(
        "",
        "Service",
        service(json!({"type": "X", "ports": [{"port": 0}]})),
        &[
            "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
        ],
    );
    let with_ip = |ip: &str| service(json!({"ports": [{"port": 80}], "clusterIP": ip, "clusterIPs": [ip]}));
    check_update(
        "",
        "Service",
        with_ip("10.0.0.1"),
        with_ip("10.0.0.2"),
        &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
    );
}

#[test]
fn configuration() {
    check(
        "",
        "ConfigMap",
        json!({"data": {"a/b": "x", "c": "1"}, "binaryData": {"c": "AA=="}}),
        &[
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            "data[c]: Invalid value: \"c\": duplicate of key present in binaryData",
        ],
    );
    check(
        "",
        "Secret",
        json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "AA=="}}),
        &["data[tls.key]: Required value"],
    );
    check(
        "",
        "Secret",
        json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{}"}}),
        &[],
    );
    check_update(
        "",
        "Secret",
        json!({"type": "a"}),
        json!({"type": "b"}),
        &["type: Invalid value: \"b\": field is immutable"],
    );
    check_update(
        "",
        "ConfigMap",
        json!({"immutable": true, "data": {"a": "1"}}),
        json!({"data": {"a": "2"}}),
        &[
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ],
    );
}

#[test]
fn limits_quotas_nodes_and_events() {
    check(
        "",
        "LimitRange",
        json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}),
        &[
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1",
            "spec.limits[0].default[cpu]: Invalid value: \"1\": min value 2 is greater than default value 1",
        ],
    );
    check(
        "",
        "ResourceQuota",
        json!({"spec": {"hard": {"pods": "1.5", "x": "1", "count/deployments.apps": "2"}}}),
        &[
            "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
            "spec.hard[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
        ],
    );
    check(
        "",
        "Node",
        json!({"spec": {"taints": [{"key": "k", "effect": "X"}]}}),
        &[
            "spec.taints[0].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ],
    );
    check(
        "",
        "Event",
        json!({"involvedObject": {"namespace": "m"}}),
        &["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"],
    );
}
