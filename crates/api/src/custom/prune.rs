//! Drops fields that a schema does not have.

use serde_json::{Map, Value};

use super::structural::{Additional, Structural};

/// Fields that an embedded resource keeps whatever its schema says.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes unknown fields in place; answers their paths, sorted, as `spec.list[0].field`.
///
/// The root is an object: its type and metadata stay.
pub fn prune(schema: &Structural, value: &mut Value) -> Vec<String> {
    let mut pruner = Pruner { path: Vec::new(), unknown: Vec::new() };
    pruner.value(value, Some(schema), true);
    pruner.unknown.sort_unstable();
    pruner.unknown
}

struct Pruner {
    path: Vec<String>,
    unknown: Vec<String>,
}

impl Pruner {
    /// `prunes` is whether unknown fields of this very value go; below fields that are known they
    /// always do.
    fn value(&mut self, value: &mut Value, schema: Option<&Structural>, prunes: bool) {
        let prunes = prunes && !schema.is_some_and(|schema| schema.preserve_unknown);
        match value {
            Value::Object(fields) => self.object(fields, schema, prunes),
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.path.push(format!("[{at}]"));
                    let inner = schema.and_then(|schema| schema.items.as_deref());
                    // Without a schema of its own an item below a preserved list is preserved, too.
                    if prunes || inner.is_some() {
                        self.value(item, inner, prunes);
                    }
                    self.path.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn object(&mut self, fields: &mut Map<String, Value>, schema: Option<&Structural>, prunes: bool) {
        fields.retain(|key, value| {
            let embedded = schema.is_some_and(|schema| schema.embedded);
            if embedded && META.contains(&key.as_str()) {
                return true;
            }
            let known = schema.and_then(|schema| schema.properties.get(key));
            let inner = match (known, schema.map(|schema| &schema.additional)) {
                (Some(known), _) => Some(Some(known)),
                (None, Some(Additional::Of(of))) => Some(Some(&**of)),
                (None, Some(Additional::Flag(_))) => Some(None),
                (None, Some(Additional::Absent) | None) => None,
            };
            let step = if self.path.is_empty() { key.clone() } else { format!(".{key}") };
            match inner {
                Some(inner) => {
                    self.path.push(step);
                    self.value(value, inner, true);
                    self.path.pop();
                    true
                }
                None if !prunes => true,
                None => {
                    if self.unknown.len() < super::MAX_FAULTS {
                        self.unknown.push(format!("{}{step}", self.path.concat()));
                    }
                    false
                }
            }
        });
    }
}
