//! `x-kubernetes-embedded-resource`: objects inside of objects, with a type and metadata of their own.

use serde_json::Value;

use super::structural::{Additional, Structural};
use crate::names;
use crate::schema::{self, Report};
use crate::status::Cause;
use crate::validation::{self, shown};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Holds metadata against its type: unknown fields are dropped and reported.
pub fn check_metadata(metadata: &mut Value) -> Report {
    let schema = schema::builtin();
    let id = schema.lookup(OBJECT_META).expect("every object has metadata (tested)");
    schema::check(schema, id, metadata)
}

/// Drops unknown fields from the metadata of embedded objects; answers their paths.
pub fn coerce(schema: &Structural, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    walk_mut(schema, object, "", &mut |path, embedded| {
        let Some(metadata) = embedded.get_mut("metadata").filter(|_| !path.is_empty()) else { return };
        let mut checked = metadata.clone();
        let report = check_metadata(&mut checked);
        if report.mistyped.is_none() {
            unknown.extend(report.unknown.iter().map(|field| format!("{path}.metadata.{field}")));
            *metadata = checked;
        }
    });
    unknown
}

fn walk_mut(schema: &Structural, at: &mut Value, path: &str, visit: &mut dyn FnMut(&str, &mut Value)) {
    if schema.embedded && at.is_object() {
        visit(path, at);
    }
    match at {
        Value::Object(fields) => {
            for (key, field) in fields {
                if let Some((inner, path)) = step(schema, key, path) {
                    walk_mut(inner, field, &path, visit);
                }
            }
        }
        Value::Array(items) => {
            let Some(of) = schema.items.as_deref() else { return };
            for (index, item) in items.iter_mut().enumerate() {
                walk_mut(of, item, &format!("{path}[{index}]"), visit);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn step<'s>(schema: &'s Structural, key: &str, path: &str) -> Option<(&'s Structural, String)> {
    match (schema.properties.get(key), &schema.additional) {
        (Some(property), _) if path.is_empty() => Some((property, key.to_owned())),
        (Some(property), _) => Some((property, format!("{path}.{key}"))),
        (None, Additional::Of(of)) => Some((of, format!("{path}[{key}]"))),
        (None, Additional::Absent | Additional::Flag(_)) => None,
    }
}

/// The faults of embedded objects; those of the object itself are found with its metadata.
pub fn check(schema: &Structural, object: &Value) -> Vec<Cause> {
    let mut faults = Vec::new();
    walk(schema, object, "", &mut faults);
    faults
}

fn walk(schema: &Structural, at: &Value, path: &str, faults: &mut Vec<Cause>) {
    if schema.embedded && !path.is_empty() && at.is_object() {
        check_one(at, path, faults);
    }
    match at {
        Value::Object(fields) => {
            for (key, field) in fields {
                if let Some((inner, path)) = step(schema, key, path) {
                    walk(inner, field, &path, faults);
                }
            }
        }
        Value::Array(items) => {
            let Some(of) = schema.items.as_deref() else { return };
            for (index, item) in items.iter().enumerate() {
                walk(of, item, &format!("{path}[{index}]"), faults);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn check_one(object: &Value, path: &str, faults: &mut Vec<Cause>) {
    let mut fault = |field: &str, reason: &str, message: String| {
        faults.push(Cause { reason: reason.to_owned(), message, field: format!("{path}.{field}") });
    };
    for field in ["apiVersion", "kind"] {
        let invalid = |value: &Value, why: &str| format!("Invalid value: {}: {why}", shown(value));
        match object.get(field) {
            None => fault(field, "FieldValueRequired", "Required value: must not be empty".to_owned()),
            Some(Value::String(text)) if text.is_empty() => {
                fault(field, "FieldValueInvalid", "Invalid value: \"\": must not be empty".to_owned());
            }
            Some(value @ Value::String(text)) if field == "apiVersion" => {
                if text.matches('/').count() > 1 {
                    let why = format!("unexpected GroupVersion string: {text}");
                    fault(field, "FieldValueInvalid", invalid(value, &why));
                }
            }
            Some(value @ Value::String(text)) => {
                let why = names::dns1035_label(&text.to_lowercase());
                if !why.is_empty() {
                    let why = format!("may have mixed case, but should otherwise match: {}", why.join(","));
                    fault(field, "FieldValueInvalid", invalid(value, &why));
                }
            }
            Some(value) => fault(field, "FieldValueInvalid", invalid(value, "must be a string")),
        }
    }
    let Some(metadata) = object.get("metadata") else { return };
    match check_metadata(&mut metadata.clone()).mistyped {
        Some(why) => {
            fault("metadata", "FieldValueInvalid", format!("Invalid value: {}: {why}", shown(metadata)))
        }
        None => {
            let found = validation::embedded_metadata(metadata);
            faults.extend(found.into_iter().map(|mut cause| {
                cause.field = format!("{path}.{}", cause.field);
                cause
            }));
        }
    }
}
