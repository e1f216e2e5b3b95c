use sampan_api::apply::Typed;
use sampan_api::schema;
use serde_json::{Value, json};

use super::check;
use super::evaluate::{applied, patched};
use crate::admission::policies::faults::Faults;

fn told(run: impl FnOnce(&mut Faults)) -> Vec<String> {
    let mut faults = Faults::default();
    run(&mut faults);
    faults.causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn policy() -> Value {
    json!({
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {"matchPolicy": "Equivalent", "resourceRules": [
            {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]},
        ]},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}],
    })
}

#[test]
fn policies_are_held_to_upstreams_rules() {
    let check = |field: &str, value: Value, expected: &[&str]| {
        let mut policy = policy();
        *policy.pointer_mut(field).unwrap_or_else(|| panic!("{field}")) = value;
        assert_eq!(told(|faults| check::policy(faults, &policy)), expected, "{field}");
    };
    check("/failurePolicy", json!("Fail"), &[]);
    check(
        "/reinvocationPolicy",
        json!("Often"),
        &["spec.reinvocationPolicy: Unsupported value: \"Often\": supported values: \"Never\", \"IfNeeded\""],
    );
    check("/reinvocationPolicy", Value::Null, &["spec.reinvocationPolicy: Required value"]);
    check(
        "/mutations",
        json!([]),
        &["spec.mutations: Required value: mutations must contain at least one item"],
    );
    check("/mutations/0/patchType", json!(""), &["spec.mutations[0].patchType: Required value"]);
    check(
        "/mutations/0/patchType",
        json!("Other"),
        &[
            "spec.mutations[0].patchType: Unsupported value: \"Other\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
        ],
    );
    check(
        "/mutations/0/patchType",
        json!("JSONPatch"),
        &[
            "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
        ],
    );
    check(
        "/mutations/0/applyConfiguration/expression",
        json!(" "),
        &["spec.mutations[0].applyConfiguration.expression: Required value: expression is not specified"],
    );
    check(
        "/mutations/0/applyConfiguration/expression",
        json!("Object.spec{}"),
        &[
            "spec.mutations[0].applyConfiguration.expression: Invalid value: \"Object.spec{}\": must evaluate to Object",
        ],
    );
    check(
        "/matchConstraints/resourceRules/0/operations",
        json!(["DELETE"]),
        &[
            "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
        ],
    );
    check(
        "/matchConstraints/resourceRules",
        json!([]),
        &["spec.matchConstraints.resourceRules: Required value"],
    );
}

#[test]
fn bindings_name_a_policy_and_no_deletions() {
    assert_eq!(told(|faults| check::binding(faults, &json!({"policyName": "p"}))), Vec::<String>::new());
    let wrong = json!({"policyName": "", "matchResources": {"resourceRules": [
        {"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]},
    ]}});
    assert_eq!(
        told(|faults| check::binding(faults, &wrong)),
        [
            "spec.policyName: Required value",
            "spec.matchResources.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
        ]
    );
}

fn merged(object: &Value, configuration: Value) -> Result<Value, String> {
    let id = schema::builtin().lookup("io.k8s.api.apps.v1.Deployment").expect("a type");
    let Value::Object(configuration) = configuration else { panic!("a configuration is an object") };
    applied(Typed::new(schema::builtin(), id), object, configuration)
}

#[test]
fn configurations_are_merged_and_pieces_refused() {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {
            "containers": [{"name": "one", "image": "x"}, {"name": "two", "image": "y"}],
        }}},
    });
    let containers = |list: Value| json!({"spec": {"template": {"spec": {"containers": list}}}});
    let made = merged(&object, containers(json!([{"name": "two", "image": "z"}]))).expect("it merges");
    assert_eq!(
        made["spec"]["template"]["spec"]["containers"],
        json!([{"name": "one", "image": "x"}, {"name": "two", "image": "z"}])
    );
    let made = merged(&object, json!({"metadata": {"labels": {"a": "b"}}})).expect("it merges");
    assert_eq!(made["metadata"], json!({"labels": {"a": "b"}}));
    let atomic = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: ";
    assert_eq!(
        merged(&object, json!({"spec": {"selector": {"matchLabels": {"c": "d"}}}})),
        Err(format!("{atomic}.spec.selector"))
    );
    assert_eq!(
        merged(&object, containers(json!([{"name": "one", "command": ["sh"]}]))),
        Err(format!("{atomic}.spec.template.spec.containers[0].command"))
    );
    assert_eq!(
        merged(&object, json!({"spec": {"nonsense": 1}})),
        Err("failed to convert patch object to typed object: .spec.nonsense: field not declared in schema"
            .into())
    );
}

#[test]
fn patches_whose_tests_fail_change_nothing() {
    let object = json!({"a": 1});
    let patch = |operations: Value| {
        let Value::Array(operations) = operations else { panic!("a patch is a list") };
        patched(&object, operations)
    };
    assert_eq!(patch(json!([{"op": "add", "path": "/b", "value": 2}])), Ok(Some(json!({"a": 1, "b": 2}))));
    assert_eq!(
        patch(json!([{"op": "add", "path": "/b", "value": 2}, {"op": "test", "path": "/a", "value": 2}])),
        Ok(None)
    );
    assert_eq!(patch(json!([{"op": "bend", "path": "/a"}])), Err("JSONPath: Unexpected kind: bend".into()));
    let missing = patch(json!([{"op": "add", "path": "/metadata/labels", "value": 1}])).expect_err("no path");
    assert!(missing.starts_with("JSONPath: add operation does not apply"), "{missing}");
}
