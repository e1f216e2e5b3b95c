//! Fills in the defaults of a schema.

use serde_json::Value;

use super::structural::{Additional, Structural};

/// Drops every `null` that a schema does not allow and that no default stands in for, then fills in
/// what is absent. Applied twice it is the same as once.
pub fn apply(schema: &Structural, value: &mut Value) {
    drop_nulls(Some(schema), value);
    fill(schema, value);
}

fn drop_nulls(schema: Option<&Structural>, value: &mut Value) {
    let Some(schema) = schema else { return };
    match value {
        Value::Object(fields) => fields.retain(|key, value| {
            let inner = schema.field(key);
            let drops =
                value.is_null() && inner.is_some_and(|inner| !inner.nullable && inner.default.is_none());
            if !drops {
                drop_nulls(inner, value);
            }
            !drops
        }),
        Value::Array(items) => {
            items.iter_mut().for_each(|item| drop_nulls(schema.items.as_deref(), item));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fill(schema: &Structural, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                let stays = match fields.get(name) {
                    None => false,
                    Some(Value::Null) => property.nullable,
                    Some(_) => true,
                };
                if !stays {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (key, value) in fields.iter_mut() {
                match (schema.properties.get(key), &schema.additional) {
                    (Some(property), _) => fill(property, value),
                    (None, Additional::Of(of)) => {
                        stand_in(of, value);
                        fill(of, value);
                    }
                    (None, Additional::Absent | Additional::Flag(_)) => {}
                }
            }
        }
        Value::Array(items) => {
            let Some(of) = schema.items.as_deref() else { return };
            for item in items {
                stand_in(of, item);
                fill(of, item);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An element that is null takes its schema's default.
fn stand_in(schema: &Structural, value: &mut Value) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
}
