//! `x-kubernetes-list-type`: sets and maps have no two equal items.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::structural::{Additional, ListKind, Structural};
use crate::status::Cause;
use crate::validation::shown;

/// The faults of every list in an object.
pub fn check(schema: &Structural, object: &Value) -> Vec<Cause> {
    let mut faults = Vec::new();
    value(schema, object, "", &mut faults);
    faults
}

fn value(schema: &Structural, at: &Value, path: &str, faults: &mut Vec<Cause>) {
    if faults.len() >= super::MAX_FAULTS {
        return;
    }
    match at {
        Value::Object(fields) => {
            for (key, field) in fields {
                let inner = match (schema.properties.get(key), &schema.additional) {
                    (Some(property), _) if path.is_empty() => (property, key.clone()),
                    (Some(property), _) => (property, format!("{path}.{key}")),
                    (None, Additional::Of(of)) => (&**of, format!("{path}[{key}]")),
                    (None, Additional::Absent | Additional::Flag(_)) => continue,
                };
                value(inner.0, field, &inner.1, faults);
            }
        }
        Value::Array(items) => {
            match &schema.list {
                Some(ListKind::Set) => {
                    for at in repeated(items) {
                        duplicate(&format!("{path}[{at}]"), &items[at], faults);
                    }
                }
                Some(ListKind::Map(keys)) => map(items, keys, path, faults),
                Some(ListKind::Atomic) | None => {}
            }
            let Some(of) = schema.items.as_deref() else { return };
            for (at, item) in items.iter().enumerate() {
                value(of, item, &format!("{path}[{at}]"), faults);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn map(items: &[Value], keys: &[String], path: &str, faults: &mut Vec<Cause>) {
    if let Some(at) = items.iter().position(|item| !item.is_null() && !item.is_object()) {
        faults.push(Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: format!(
                "Invalid value: {}: must be an object for an array of list-type map",
                shown(&items[at])
            ),
            field: format!("{path}[{at}]"),
        });
        return;
    }
    let key_of = |item: &Value| -> Value {
        let found = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
        Value::Object(found.collect::<Map<_, _>>())
    };
    let all: Vec<Value> = items.iter().map(key_of).collect();
    for at in repeated(&all) {
        duplicate(&format!("{path}[{at}]"), &all[at], faults);
    }
}

fn duplicate(path: &str, value: &Value, faults: &mut Vec<Cause>) {
    faults.push(Cause {
        reason: "FieldValueDuplicate".to_owned(),
        message: format!("Duplicate value: {}", shown(value)),
        field: path.to_owned(),
    });
}

/// The places where a value stands for the second time.
fn repeated(items: &[Value]) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(items.len());
    let mut places = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let times = seen.entry(item.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            places.push(at);
        }
    }
    places
}
