//! Defaults must themselves be what their schema asks for.

use super::super::field::{At, Faults};
use crate::custom::{Structural, embedded, prune, validate};

pub(super) fn root(schema: &At<'_, '_>, faults: &mut Faults) {
    node(schema, faults);
}

fn node(schema: &At<'_, '_>, faults: &mut Faults) {
    if !schema.value.is_object() {
        return;
    }
    default(schema, faults);
    node(&schema.get("items"), faults);
    let properties = schema.get("properties");
    for (name, _) in properties.entries() {
        node(&properties.key(name), faults);
    }
}

fn default(schema: &At<'_, '_>, faults: &mut Faults) {
    let default = schema.get("default");
    if !default.is_set() {
        return;
    }
    // The root of what is compiled counts as an object with metadata, so that it is put one level down.
    let holder = serde_json::json!({"type": "object", "properties": {"default": schema.value}});
    let Ok(compiled) = Structural::compile(&holder) else { return };
    let Some(own) = compiled.properties.get("default") else { return };
    let value = serde_json::json!({"default": default.value});
    let mut pruned = value.clone();
    if !prune(&compiled, &mut pruned).is_empty() {
        faults.invalid(&default, "must not have unknown fields");
    }
    let found = embedded::check(&compiled, &value).into_iter();
    let found = found.chain(validate::value(own, default.value, ""));
    for mut cause in found {
        let inner = cause.field.strip_prefix("default").unwrap_or(&cause.field);
        let inner = inner.trim_start_matches('.');
        cause.field = match inner {
            "" | "<nil>" => default.path(),
            inner => format!("{}.{inner}", default.path()),
        };
        faults.push(cause);
    }
}
