//! Patches: RFC 6902, RFC 7386 and strategic merge.

use sampan_api::patch;
use sampan_api::schema;
use sampan_api::strategic::{NoSchema, SchemaMerge};
use serde_json::{Map, Value};

use crate::input;

/// An object, a line break, a patch.
pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    let Some((object, body)) = input::halves(rest) else { return };
    let Ok(object) = schema::decode(object, object.len()) else { return };
    match choice % 4 {
        0 => json(&object.value, body),
        1 => merge(&object.value, body),
        2 => strategic(&object.value, body),
        _ => strategic_without_schema(&object.value, body),
    }
}

fn json(object: &Value, body: &[u8]) {
    let Ok(patched) = patch::json(object.clone(), body) else { return };
    readable(&patched);
    // A test of the whole holds on what came out.
    let test = serde_json::json!([{"op": "test", "path": "", "value": patched}]);
    let tested = patch::json(patched.clone(), test.to_string().as_bytes());
    assert_eq!(tested.ok().as_ref(), Some(&patched), "what came out is itself");
}

fn merge(object: &Value, body: &[u8]) {
    let Ok(patched) = patch::merge(object.clone(), body) else { return };
    readable(&patched);
    let patch: Value = serde_json::from_slice(body).expect("it was applied");
    assert_eq!(patched, rfc_7386(object.clone(), &patch), "{patch} on {object}");
    assert_eq!(patch::merge(patched.clone(), body).expect("it was applied"), patched, "{patch} twice");
}

/// The pseudo code of RFC 7386, section 2.
fn rfc_7386(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut out = match target {
        Value::Object(target) => target,
        _ => Map::new(),
    };
    for (name, value) in patch {
        let before = out.remove(name);
        if !value.is_null() {
            out.insert(name.clone(), rfc_7386(before.unwrap_or(Value::Null), value));
        }
    }
    Value::Object(out)
}

fn strategic(object: &Value, body: &[u8]) {
    let schema = schema::builtin();
    let pod = schema.lookup("io.k8s.api.core.v1.Pod").expect("a built-in kind");
    let merge = SchemaMerge::new(schema, pod);
    let Ok(patched) = patch::strategic(object.clone(), body, &merge) else { return };
    readable(&patched);
    // An empty patch changes nothing.
    assert_eq!(patch::strategic(patched.clone(), b"{}", &merge).ok().as_ref(), Some(&patched));
}

/// Without directives, and where no schema knows better, a strategic merge patch is a merge patch.
fn strategic_without_schema(object: &Value, body: &[u8]) {
    let Ok(patched) = patch::strategic(object.clone(), body, &NoSchema) else { return };
    readable(&patched);
    let patch: Value = serde_json::from_slice(body).expect("it was applied");
    if !has_directive(&patch) && !has_null_in_list(&patch) {
        assert_eq!(patched, rfc_7386(object.clone(), &patch), "{patch} on {object}");
    }
}

fn has_directive(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| key.starts_with('$') || has_directive(value)),
        Value::Array(list) => list.iter().any(has_directive),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A strategic patch takes nulls out of what is new also inside of lists, a merge patch does not.
fn has_null_in_list(value: &Value) -> bool {
    fn has_null(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Array(list) => list.iter().any(has_null),
            Value::Object(map) => map.values().any(has_null),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }
    match value {
        Value::Array(list) => list.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null_in_list),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whatever a patch makes, every reader of the process can read.
fn readable(value: &Value) {
    let text = value.to_string();
    let read: Value = serde_json::from_str(&text).expect("what a patch made can be read again");
    assert_eq!(&read, value);
}
