//! The fields that an object mentions.

use std::collections::BTreeSet;

use serde_json::Value;

use super::path::Element;
use super::set::FieldSet;
use super::typed::{ItemError, Shape, Typed};

/// Every leaf and every list item of a value.
pub fn field_set(typed: Typed<'_>, value: &Value) -> Result<FieldSet, ItemError> {
    let mut set = FieldSet::default();
    extract(typed, value, &mut Vec::new(), &mut set)?;
    Ok(set)
}

fn extract(
    typed: Typed<'_>,
    value: &Value,
    path: &mut Vec<Element>,
    set: &mut FieldSet,
) -> Result<(), ItemError> {
    let shape = typed.shape_of(Some(value));
    match (shape, value) {
        (Shape::Scalar(_) | Shape::AtomicList(_) | Shape::Map { atomic: true }, _) => set.insert(path),
        (Shape::Map { atomic: false }, Value::Object(fields)) => {
            for (key, value) in fields {
                let Some(inner) = typed.field(key) else { continue };
                path.push(Element::field(key.as_str()));
                extract(inner, value, path, set)?;
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                if empty || !typed.declares(key) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        (Shape::Set(_) | Shape::Keyed(..), Value::Array(items)) => items_of(shape, items, path, set)?,
        (Shape::Map { .. } | Shape::Set(_) | Shape::Keyed(..) | Shape::Untyped, _) => {}
    }
    Ok(())
}

/// Items that occur more than once are owned as one, without what is inside of them.
fn items_of(
    shape: Shape<'_>,
    items: &[Value],
    path: &mut Vec<Element>,
    set: &mut FieldSet,
) -> Result<(), ItemError> {
    let mut identified = Vec::with_capacity(items.len());
    for item in items {
        identified.extend(shape.identify(item)?.map(|(element, typed)| (element, typed, item)));
    }
    let (mut seen, mut duplicates) = (BTreeSet::new(), BTreeSet::new());
    for (element, _, _) in &identified {
        if !seen.insert(element) {
            duplicates.insert(element);
        }
    }
    for (element, typed, item) in &identified {
        path.push(element.clone());
        if !duplicates.contains(element) {
            extract(*typed, item, path, set)?;
        }
        set.insert(path);
        path.pop();
    }
    Ok(())
}
