//! What of a configuration would replace something as a whole.

use serde_json::Value;

use super::path::Element;
use super::typed::{Shape, Typed};

/// The paths of the lists, maps and structures of a configuration that are one piece. What stands in a map
/// with free keys is not looked at.
pub fn atomics(typed: Typed<'_>, configuration: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(typed, configuration, "", &mut found);
    found
}

fn walk(typed: Typed<'_>, value: &Value, path: &str, found: &mut Vec<String>) {
    let shape = typed.shape_of(Some(value));
    match value {
        Value::Object(fields) => {
            if matches!(shape, Shape::Map { atomic: true }) {
                found.push(path.to_owned());
            }
            for (name, value) in fields {
                if let Some(inner) = typed.field(name).filter(|_| typed.declares(name)) {
                    walk(inner, value, &format!("{path}{}", Element::field(name.as_str())), found);
                }
            }
        }
        Value::Array(items) => {
            let item = match shape {
                Shape::AtomicList(list) => {
                    found.push(path.to_owned());
                    typed.item().unwrap_or(list)
                }
                Shape::Set(item) | Shape::Keyed(_, item) => item,
                Shape::Scalar(_) | Shape::Map { .. } | Shape::Untyped => return,
            };
            for (at, value) in items.iter().enumerate() {
                walk(item, value, &format!("{path}[{at}]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
