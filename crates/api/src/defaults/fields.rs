//! Reading and filling fields of JSON objects, whatever stands in them.

use serde_json::{Map, Value};

/// The object in a field; `None` when it is absent or something else.
pub(super) fn object<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(key)?.as_object_mut()
}

/// The object in a field, made when it is absent or null; `None` when something else is there.
pub(super) fn ensure<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    set(map, key, Value::Object(Map::new()));
    object(map, key)
}

/// Sets a field that is absent or null.
pub(super) fn set(map: &mut Map<String, Value>, key: &str, value: Value) {
    match map.get(key) {
        None | Some(Value::Null) => {
            map.insert(key.to_owned(), value);
        }
        Some(_) => {}
    }
}

/// Sets a text that is absent, null or empty.
pub(super) fn set_text(map: &mut Map<String, Value>, key: &str, value: &str) {
    match map.get(key) {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(_) => return,
    }
    map.insert(key.to_owned(), Value::from(value));
}

/// Sets a number that is absent, null or zero.
pub(super) fn set_number(map: &mut Map<String, Value>, key: &str, value: i64) {
    match map.get(key) {
        None | Some(Value::Null) => {}
        Some(Value::Number(number)) if number.as_i64() == Some(0) => {}
        Some(_) => return,
    }
    map.insert(key.to_owned(), Value::from(value));
}

/// Visits the objects of a list.
pub(super) fn each(map: &mut Map<String, Value>, key: &str, mut visit: impl FnMut(&mut Map<String, Value>)) {
    let Some(Value::Array(list)) = map.get_mut(key) else { return };
    for item in list {
        if let Value::Object(item) = item {
            visit(item);
        }
    }
}

/// The text in a field; empty when it is absent or something else.
pub(super) fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a field is absent or null.
pub(super) fn absent(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_none_or(Value::is_null)
}

/// Whether a field is absent, null or an empty list or object.
pub(super) fn empty(map: &Map<String, Value>, key: &str) -> bool {
    match map.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => false,
    }
}
