//! Patches that make an object as its manifest says, and take back what an earlier one said.
//!
//! The patch holds all of the manifest, which also takes back what others changed of it, and a
//! deletion for each thing that the last manifest had and this one has not.

use sampan_api::strategic::{MergeField, MergeSchema};
use serde_json::{Map, Value, json};

/// A strategic merge patch.
pub fn strategic<S: MergeSchema>(
    last: &Map<String, Value>,
    wanted: &Map<String, Value>,
    schema: &S,
) -> Map<String, Value> {
    map(last, wanted, Some(schema))
}

/// A JSON merge patch (RFC 7386), for kinds without a schema.
pub fn merge(last: &Map<String, Value>, wanted: &Map<String, Value>) -> Map<String, Value> {
    map::<sampan_api::strategic::NoSchema>(last, wanted, None)
}

fn map<S: MergeSchema>(
    last: &Map<String, Value>,
    wanted: &Map<String, Value>,
    schema: Option<&S>,
) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, value) in wanted {
        let field = schema.and_then(|schema| schema.field(key));
        let replace = field.as_ref().is_some_and(|field| field.replace);
        match (value, last.get(key)) {
            (Value::Object(new), Some(Value::Object(old))) if !replace => {
                let inner = field.and_then(|field| field.schema);
                patch.insert(key.clone(), Value::Object(map(old, new, inner.as_ref())));
            }
            (Value::Array(new), old) if field.as_ref().is_some_and(|field| field.merge) => {
                let empty = Vec::new();
                let old = old.and_then(Value::as_array).unwrap_or(&empty);
                list(&mut patch, key, old, new, field.as_ref());
            }
            (value, _) => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for (key, _) in last.iter().filter(|(key, value)| !value.is_null() && !wanted.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    patch
}

/// A list that merges: by key, or as a set of scalars.
fn list<S: MergeSchema>(
    patch: &mut Map<String, Value>,
    name: &str,
    old: &[Value],
    new: &[Value],
    field: Option<&MergeField<S>>,
) {
    let schema = field.and_then(|field| field.schema.as_ref());
    let order = format!("$setElementOrder/{name}");
    let Some(key) = field.and_then(|field| field.merge_key.as_deref()) else {
        let gone: Vec<Value> = old.iter().filter(|value| !new.contains(value)).cloned().collect();
        if !gone.is_empty() {
            patch.insert(format!("$deleteFromPrimitiveList/{name}"), Value::Array(gone));
        }
        patch.insert(order, Value::Array(new.to_vec()));
        patch.insert(name.to_owned(), Value::Array(new.to_vec()));
        return;
    };
    let same = |one: &Value, other: &Value| one.get(key).is_some() && one.get(key) == other.get(key);
    let mut elements: Vec<Value> = new
        .iter()
        .map(|element| {
            let before = old.iter().find(|before| same(before, element)).and_then(Value::as_object);
            match (element, before) {
                (Value::Object(element), Some(before)) => Value::Object(map(before, element, schema)),
                (element, _) => element.clone(),
            }
        })
        .collect();
    let gone = old.iter().filter(|before| !new.iter().any(|element| same(before, element)));
    for before in gone.filter(|before| before.get(key).is_some()) {
        elements.push(json!({"$patch": "delete", key: before[key]}));
    }
    if new.iter().all(|element| element.get(key).is_some()) {
        let keys = new.iter().map(|element| json!({key: element[key]})).collect();
        patch.insert(order, Value::Array(keys));
    }
    patch.insert(name.to_owned(), Value::Array(elements));
}

#[cfg(test)]
mod tests {
    use sampan_api::strategic::SchemaMerge;
    use sampan_api::table::Table;
    use sampan_api::{Gvr, patch};

    use super::*;

    /// Applies `wanted` after `last` to what `current` became; answers the object then.
    fn applied(gvr: &Gvr, last: &Value, wanted: &Value, current: &Value) -> Value {
        let table = Table::builtin();
        let (schema, at) = table.get_gvr(gvr).and_then(|entry| entry.schema()).expect("built in");
        let schema = SchemaMerge::new(schema, at);
        let object = |value: &Value| value.as_object().cloned().expect("an object");
        let made = Value::Object(strategic(&object(last), &object(wanted), &schema));
        patch::strategic(current.clone(), made.to_string().as_bytes(), &schema).expect("a valid patch")
    }

    #[test]
    fn what_a_manifest_dropped_goes_and_what_others_added_stays() {
        let pods = Gvr::new("", "v1", "pods");
        let check = |last: Value, wanted: Value, current: Value, expected: Value| {
            assert_eq!(applied(&pods, &last, &wanted, &current), expected);
        };
        check(
            json!({"metadata": {"labels": {"a": "1", "b": "1"}}}),
            json!({"metadata": {"labels": {"a": "2"}}}),
            json!({"metadata": {"labels": {"a": "1", "b": "1", "theirs": "1"}}}),
            json!({"metadata": {"labels": {"a": "2", "theirs": "1"}}}),
        );
        let containers = |list: Value| json!({"spec": {"containers": list}});
        check(
            containers(json!([{"name": "a", "image": "1", "tty": true}, {"name": "b", "image": "1"}])),
            containers(json!([{"name": "c", "image": "1"}, {"name": "a", "image": "2"}])),
            containers(
                json!([{"name": "a", "image": "1", "tty": true, "stdin": true}, {"name": "b"}, {"name": "x"}]),
            ),
            containers(
                json!([{"name": "c", "image": "1"}, {"name": "a", "image": "2", "stdin": true}, {"name": "x"}]),
            ),
        );
        check(
            json!({"metadata": {"finalizers": ["a/x", "a/y"]}}),
            json!({"metadata": {"finalizers": ["a/y", "a/z"]}}),
            json!({"metadata": {"finalizers": ["a/x", "a/y"]}}),
            json!({"metadata": {"finalizers": ["a/y", "a/z"]}}),
        );
        check(
            containers(json!([{"name": "a", "command": ["x", "y"]}])),
            containers(json!([{"name": "a", "command": ["z"]}])),
            containers(json!([{"name": "a", "command": ["x", "y"]}])),
            containers(json!([{"name": "a", "command": ["z"]}])),
        );
    }

    #[test]
    fn kinds_without_a_schema_merge_maps_only() {
        let object = |value: Value| value.as_object().cloned().expect("an object");
        let last = object(json!({"a": {"b": 1, "c": 1}, "l": [1, 2]}));
        let wanted = object(json!({"a": {"b": 2}, "l": [3]}));
        assert_eq!(Value::Object(merge(&last, &wanted)), json!({"a": {"b": 2, "c": null}, "l": [3]}));
    }
}
