//! Takes fields out of an object.

use serde_json::{Map, Value};

use super::path::Element;
use super::set::FieldSet;
use super::typed::{Shape, Typed};

/// The value without the members of a set. What loses all of its parts is left as `null`, which is
/// not the same as never having been there.
pub fn remove(typed: Typed<'_>, value: &Value, removed: &FieldSet) -> Value {
    let shape = typed.shape_of(Some(value));
    match (shape, value) {
        (Shape::Scalar(_), value) => value.clone(),
        (Shape::Map { atomic: false }, Value::Object(fields)) => {
            let mut kept = Map::new();
            for (key, value) in fields {
                let element = Element::field(key.as_str());
                if removed.contains(&element) {
                    continue;
                }
                let below = removed.below(&element);
                let value = match typed.field(key) {
                    Some(inner) if !below.is_empty() => remove(inner, value, below),
                    _ => value.clone(),
                };
                kept.insert(key.clone(), value);
            }
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        (Shape::Set(_) | Shape::Keyed(..), Value::Array(items)) => {
            let kept: Vec<Value> = items.iter().filter_map(|item| kept_item(shape, item, removed)).collect();
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        (Shape::Map { .. } | Shape::AtomicList(_) | Shape::Set(_) | Shape::Keyed(..) | Shape::Untyped, _) => {
            Value::Null
        }
    }
}

fn kept_item(shape: Shape<'_>, item: &Value, removed: &FieldSet) -> Option<Value> {
    let Ok(Some((element, typed))) = shape.identify(item) else { return Some(item.clone()) };
    if removed.contains(&element) {
        return None;
    }
    let below = removed.below(&element);
    if below.is_empty() {
        return Some(item.clone());
    }
    Some(match remove(typed, item, below) {
        // It stays an item, and may be told from others by its defaults. No list has a null.
        Value::Null if item.is_object() => Value::Object(Map::new()),
        kept => kept,
    })
}
