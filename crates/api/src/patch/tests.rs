use super::*;
use crate::strategic::NoSchema;
use proptest::prelude::*;
use serde_json::json;

#[track_caller]
fn check(operations: Value, expected: Result<Value, &str>) {
    let object = json!({"metadata": {"name": "a", "labels": {"x": "1"}}, "list": [1, 2]});
    let result = json(object, operations.to_string().as_bytes());
    assert_eq!(result.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{operations}");
}

#[test]
fn json_patches_apply_or_say_why() {
    check(
        json!([{"op": "replace", "path": "/metadata/labels/x", "value": "2"}, {"op": "remove", "path": "/list"}]),
        Ok(json!({"metadata": {"name": "a", "labels": {"x": "2"}}})),
    );
    check(
        json!([{"op": "add", "path": "/list/-", "value": 3}, {"op": "remove", "path": "/metadata"}]),
        Ok(json!({"list": [1, 2, 3]})),
    );
    check(
        json!([{"op": "test", "path": "/metadata/annotations", "value": null}, {"op": "remove", "path": "/metadata"}]),
        Ok(json!({"list": [1, 2]})),
    );
    check(
        json!([{"op": "test", "path": "/metadata/name", "value": "b"}]),
        Err("testing value /metadata/name failed: test failed"),
    );
    check(
        json!([{"op": "add", "path": "/a/b", "value": 1}]),
        Err("add operation does not apply: doc is missing path: \"/a/b\": missing value"),
    );
    check(
        json!([{"op": "copy", "from": "/a", "path": "/b"}]),
        Err("copy operation does not apply: doc is missing from path: \"/a\": missing value"),
    );
    let many: Vec<Value> = (0..=MAX_OPERATIONS).map(|_| json!({"op": "remove", "path": "/a"})).collect();
    check(json!(many), Err("The allowed maximum operations in a JSON patch is 10000, got 10001"));
}

#[test]
fn copies_cannot_amplify() {
    let text = "x".repeat(1000);
    let doubling: Vec<Value> =
        (0..64).map(|at| json!({"op": "copy", "from": "", "path": format!("/c{at}")})).collect();
    let error =
        json(json!({"text": text}), json!(doubling).to_string().as_bytes()).expect_err("beyond the limit");
    assert!(matches!(error, PatchError::Copied { .. }), "{error}");
    assert_eq!(error.status().code, 422);
    assert_eq!(error.status().message, "the server rejected our request due to an error in our request");

    let mut operations = Vec::new();
    for level in 0..14 {
        operations
            .push(json!({"op": "copy", "from": "/a", "path": format!("/a{}", "/a".repeat(1 << level))}));
    }
    let error = json(json!({"a": {"a": 1}}), json!(operations).to_string().as_bytes()).expect_err("too deep");
    assert!(matches!(error, PatchError::TooDeep { .. }), "{error}");
}

#[test]
fn merge_patches_follow_rfc_7386() {
    let table = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (object, patch, expected) in table {
        let result = merge(object, patch.to_string().as_bytes()).expect("applies");
        assert_eq!(result, expected, "{patch}");
    }
}

#[test]
fn what_is_no_patch_is_a_bad_request() {
    for body in ["", "[", "[]", "1", "null", "\"x\"", &"[".repeat(100_000)] {
        assert_eq!(merge(json!({}), body.as_bytes()).expect_err(body).status().code, 400);
        assert_eq!(strategic(json!({}), body.as_bytes(), &NoSchema).expect_err(body).status().code, 400);
    }
    for body in ["", "{}", "[1]", "[{\"op\":\"x\",\"path\":\"/a\"}]", "[{\"op\":\"remove\",\"path\":\"a\"}]"]
    {
        assert_eq!(json(json!({}), body.as_bytes()).expect_err(body).status().code, 400);
    }
}

proptest! {
    #[test]
    fn merge_patches_are_idempotent(object in any_value(), patch in any_value()) {
        let body = patch.to_string();
        if let Ok(once) = merge(object, body.as_bytes()) {
            prop_assert_eq!(merge(once.clone(), body.as_bytes()).expect("applied before"), once);
        }
    }

    #[test]
    fn merge_patches_do_what_the_rfc_says(object in any_value(), patch in any_value()) {
        match merge(object.clone(), patch.to_string().as_bytes()) {
            Ok(merged) => prop_assert_eq!(merged, by_the_rfc(object, &patch)),
            Err(error) => prop_assert!(!patch.is_object(), "{error}"),
        }
    }

    #[test]
    fn a_difference_applied_makes_the_other(a in any_value(), b in any_value()) {
        let operations = serde_json::to_vec(&difference(&a, &b, "")).expect("JSON");
        prop_assert_eq!(json(a.clone(), &operations).expect("it applies"), b.clone());
        // What a merge patch makes can be said by operations as well.
        if let Ok(merged) = merge(a.clone(), b.to_string().as_bytes()) {
            let operations = serde_json::to_vec(&difference(&a, &merged, "")).expect("JSON");
            prop_assert_eq!(json(a, &operations).expect("it applies"), merged);
        }
    }

    #[test]
    fn operations_undo_one_another(object in any_value(), key in "[a-c]", value in any_value()) {
        let object = json!({"o": object, "list": [1, 2, 3]});
        let patch = |operations: Value| json(object.clone(), operations.to_string().as_bytes());
        let path = format!("/new-{key}");
        let there_and_back = json!([
            {"op": "add", "path": path, "value": value},
            {"op": "test", "path": path, "value": value},
            {"op": "move", "from": path, "path": "/list/1"},
            {"op": "move", "from": "/list/1", "path": path},
            {"op": "remove", "path": path},
        ]);
        prop_assert_eq!(patch(there_and_back).expect("it applies"), object.clone());
        let copied = json!([
            {"op": "copy", "from": "/o", "path": "/list/-"},
            {"op": "test", "path": "/list/3", "value": object["o"]},
            {"op": "remove", "path": "/list/3"},
        ]);
        prop_assert_eq!(patch(copied).expect("it applies"), object.clone());
    }

    #[test]
    fn any_operation_is_answered(object in any_value(), op in "(add|remove|replace|move|copy|test)", path in "(/[a-c0-2-]){0,3}", from in "(/[a-c0-2]){0,3}", value in any_value()) {
        let operations = json!([{"op": op, "path": path, "from": from, "value": value}]);
        let _ = json(object, operations.to_string().as_bytes());
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), any::<u8>().prop_map(Value::from), "[ab]".prop_map(Value::from)];
    leaf.prop_recursive(3, 20, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The pseudo code of RFC 7386, section 2.
fn by_the_rfc(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut out = match target {
        Value::Object(target) => target,
        _ => Map::new(),
    };
    for (name, value) in patch {
        let before = out.remove(name).unwrap_or(Value::Null);
        if !value.is_null() {
            out.insert(name.clone(), by_the_rfc(before, value));
        }
    }
    Value::Object(out)
}

/// Operations that make `b` of `a`.
fn difference(a: &Value, b: &Value, path: &str) -> Vec<Value> {
    if a == b {
        return Vec::new();
    }
    let (Value::Object(old), Value::Object(new)) = (a, b) else {
        return vec![json!({"op": "replace", "path": path, "value": b})];
    };
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let mut operations: Vec<Value> =
        gone.map(|key| json!({"op": "remove", "path": format!("{path}/{key}")})).collect();
    for (key, value) in new {
        let path = format!("{path}/{key}");
        match old.get(key) {
            Some(before) => operations.extend(difference(before, value, &path)),
            None => operations.push(json!({"op": "add", "path": path, "value": value})),
        }
    }
    operations
}
