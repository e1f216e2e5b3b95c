use serde_json::json;

use super::*;

#[test]
fn metadata_rules() {
    let named = |metadata: Value| json!({"metadata": metadata, "data": {}});
    check("", "ConfigMap", named(json!({"name": "a"})), &[]);
    check("", "ConfigMap", named(json!({"generateName": "a-", "name": "a-x"})), &[]);
    check(
        "",
        "ConfigMap",
        named(json!({})),
        &["metadata.name: Required value: name or generateName is required"],
    );
    let subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    check(
        "",
        "ConfigMap",
        named(json!({"name": "A"})),
        &[&format!("metadata.name: Invalid value: \"A\": {subdomain}")],
    );
    check(
        "",
        "ConfigMap",
        named(
            json!({"name": "a", "finalizers": ["x"], "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
        ),
        &[
            "metadata.ownerReferences.uid: Invalid value: \"\": uid must not be empty",
            "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
    check(
        "",
        "ConfigMap",
        named(json!({"name": "a", "annotations": {"k": "x".repeat(300_000)}})),
        &["metadata.annotations: Too long: may not be more than 262144 bytes"],
    );
    check("rbac.authorization.k8s.io", "ClusterRole", named(json!({"name": "system:A"})), &[]);
    check(
        "",
        "Service",
        json!({"metadata": {"name": "1a"}, "spec": {"clusterIP": "None"}}),
        &[
            "metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    check_update(
        "",
        "ConfigMap",
        named(json!({"name": "a", "uid": "1"})),
        named(json!({"name": "a", "uid": "2"})),
        &["metadata.uid: Invalid value: \"2\": field is immutable"],
    );
    check_update(
        "",
        "ConfigMap",
        named(json!({"name": "a", "deletionTimestamp": "2020-01-01T00:00:00Z"})),
        named(json!({"name": "a", "finalizers": ["x.io/y"]})),
        &[
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.io/y\"}",
        ],
    );
}

#[test]
fn only_finalizers_of_built_in_kinds_must_say_whose_they_are() {
    let named = |finalizer: &str| json!({"metadata": {"name": "a", "finalizers": [finalizer]}});
    assert_eq!(told(create_custom(&named("mine"))), Vec::<String>::new());
    assert_eq!(told(update_custom(&named("mine"), &named("example.com/x"))), Vec::<String>::new());
    let kind = "ValidatingAdmissionPolicyBinding";
    check("admissionregistration.k8s.io", kind, named("mine"), &[]);
    check_update(
        "",
        "ConfigMap",
        named("example.com/x"),
        named("mine"),
        &[
            "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
    let faults = told(create_custom(&named("not a name")));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("metadata.finalizers: Invalid value: \"not a name\": "), "{faults:?}");
}
