//! Sets of fields: their written form and their algebra.

use super::*;

#[test]
fn sets_survive_their_written_form() {
    let check = |written: Value, paths: &[&str]| {
        let set = FieldSet::from_json(&written).expect("readable");
        assert_eq!(set.to_json(), written);
        let texts: Vec<String> =
            set.paths().iter().map(|path| path.iter().map(Element::to_string).collect()).collect();
        assert_eq!(texts, paths, "{written}");
    };
    check(json!({}), &[]);
    check(json!({"f:spec": {"f:replicas": {}}}), &[".spec.replicas"]);
    check(json!({"f:spec": {".": {}, "f:replicas": {}}}), &[".spec", ".spec.replicas"]);
    check(
        json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}),
        &[".ports[port=80,protocol=\"TCP\"]", ".ports[port=80,protocol=\"TCP\"].port"],
    );
    check(
        json!({"f:finalizers": {"v:\"a/b\"": {}, "v:1": {}}}),
        &[".finalizers[=1]", ".finalizers[=\"a/b\"]"],
    );
    check(json!({"f:args": {"i:3": {}}}), &[".args[3]"]);
}

#[test]
fn what_is_no_set_is_refused() {
    let check = |written: Value, fault: &str| {
        assert_eq!(FieldSet::from_json(&written).expect_err("refused").to_string(), fault);
    };
    check(json!([]), "a set of fields must be an object");
    check(json!({"f:a": 1}), "a set of fields must be an object");
    check(json!({"f": {}}), "key must be 2 characters long:");
    check(json!({"field": {}}), "missing colon: field");
    check(json!({"v:nope": {}}), "\"v:nope\" does not carry what its prefix says");
    check(json!({"k:[]": {}}), "\"k:[]\" does not carry what its prefix says");
    check(json!({"i:x": {}}), "\"i:x\" does not carry what its prefix says");
    let mut deep = json!({});
    for _ in 0..200 {
        deep = json!({"f:a": deep});
    }
    check(deep, "a set of fields may nest at most 128 deep");
    // What a later version may add is no fault.
    assert!(FieldSet::from_json(&json!({"x:a": {}})).expect("readable").is_empty());
}

#[test]
fn differences_know_parents_from_children() {
    let set = |written: Value| FieldSet::from_json(&written).expect("readable");
    let parent = set(json!({"f:a": {}}));
    let child = set(json!({"f:a": {"f:b": {}}}));
    let both = set(json!({"f:a": {".": {}, "f:b": {}}}));
    assert_eq!(parent.union(&child), both);
    assert_eq!(both.difference(&child), parent);
    assert_eq!(both.difference(&parent), child);
    assert_eq!(child.difference(&parent), child);
    let mut left = child.clone();
    left.subtract_recursively(&parent);
    assert_eq!(left, FieldSet::default());
    assert_eq!(both.intersection(&child), child);
}

#[test]
fn owners_survive_their_written_form() {
    let written = json!([
        {"apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
            "manager": "b", "operation": "Apply", "time": "2026-01-02T00:00:00Z"},
        {"apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:paused": {}}},
            "manager": "a", "operation": "Update", "time": "2026-01-01T00:00:00Z"},
        {"apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:replicas": {}}},
            "manager": "a", "operation": "Update", "subresource": "status", "time": "2026-01-01T00:00:00Z"},
    ]);
    let managed = Managed::from_json(Some(&written)).expect("readable");
    assert_eq!(managed.to_json(), Some(written));
    let check = |entry: Value, fault: &str| {
        assert_eq!(Managed::from_json(Some(&json!([entry]))).expect_err("refused").to_string(), fault);
    };
    check(json!({"operation": "Delete"}), "operation must be `Apply` or `Update`");
    check(json!({"operation": "Apply"}), "apiVersion must not be empty");
    check(json!({"operation": "Apply", "apiVersion": "v1"}), "missing fieldsType in managed fields entry 0");
    check(
        json!({"operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV2"}),
        "invalid fieldsType \"FieldsV2\" in managed fields entry 0",
    );
}

#[test]
fn conflicts_name_managers_as_kubernetes_does() {
    let check = |operation: Operation, subresource: &str, text: &str| {
        assert_eq!(Manager::new("x", operation, "apps/v1", subresource).to_string(), text);
    };
    check(Operation::Apply, "", "\"x\"");
    check(Operation::Update, "", "\"x\" using apps/v1");
    check(Operation::Update, "status", "\"x\" with subresource \"status\" using apps/v1");
    assert_eq!(Manager::new("", Operation::Apply, "v1", "").name, "unknown");
}
