//! Declarations out of a structural schema (`openAPIV3Schema`).
//!
//! What a schema leaves open is not visible to expressions: unknown fields that are preserved, and
//! fields whose names cannot be escaped.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::parser::is_reserved;
use crate::types::{Decl, Format, ListKind, ObjectField, ObjectType, Shape, Type};

/// Largest request, from which sizes that a schema does not limit are estimated.
pub const MAX_REQUEST: u64 = 3 * 1024 * 1024;
/// Deepest schema that is looked at.
const MAX_DEPTH: u32 = 128;

/// The declaration of a schema; none for what expressions cannot see. `resource` adds what every
/// object has.
pub fn declaration(schema: &Json, resource: bool) -> Option<Decl> {
    declared(schema, resource, MAX_DEPTH)
}

/// A property's name as an identifier; none when it has none.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_reserved(name) {
        return Some(format!("__{name}__"));
    }
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        let (replacement, length) = match c {
            '_' if rest.starts_with("__") => ("__underscores__", 2),
            '.' => ("__dot__", 1),
            '-' => ("__dash__", 1),
            '/' => ("__slash__", 1),
            c if c.is_ascii_alphanumeric() || c == '_' => (&rest[..1], 1),
            _ => return None,
        };
        out.push_str(replacement);
        rest = &rest[length..];
    }
    Some(out)
}

fn declared(schema: &Json, resource: bool, left: u32) -> Option<Decl> {
    let left = left.checked_sub(1)?;
    if flag(schema, "x-kubernetes-int-or-string") {
        return Some(Decl { max_elements: MAX_REQUEST - 2, ..Decl::scalar(Type::Dyn, MAX_REQUEST - 2, 1) });
    }
    if schema["type"] == "object" && resource {
        return object(schema, true, left);
    }
    match schema["type"].as_str().unwrap_or_default() {
        "array" => {
            let of = declared(&schema["items"], embedded(&schema["items"]), left)?;
            let max = limit(schema, "maxItems").unwrap_or((MAX_REQUEST - 2) / (of.min_size + 1));
            Some(Decl::list(Arc::new(of), list_kind(schema), max))
        }
        "object" => match schema.get("additionalProperties") {
            Some(values @ Json::Object(_)) => {
                let of = declared(values, embedded(values), left)?;
                let max = limit(schema, "maxProperties").unwrap_or((MAX_REQUEST - 2) / (of.min_size + 6));
                Some(Decl::map(Arc::new(of), max))
            }
            _ => object(schema, embedded(schema), left),
        },
        "string" => Some(string(schema)),
        "boolean" => Some(Decl::scalar(Type::Bool, 0, 4)),
        "number" => Some(Decl { shape: Shape::Format(Format::Double), ..Decl::scalar(Type::Double, 0, 1) }),
        "integer" => Some(Decl::scalar(Type::Int, 0, 1)),
        _ => None,
    }
}

fn object(schema: &Json, resource: bool, left: u32) -> Option<Decl> {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let mut fields = BTreeMap::new();
    let mut min_size = 2;
    let text = || Decl::scalar(Type::String, MAX_REQUEST - 2, 2);
    if resource {
        let metadata = Decl::structure("metadata", [("name", text()), ("generateName", text())]);
        for (name, decl) in [("apiVersion", text()), ("kind", text()), ("metadata", metadata)] {
            fields.insert(name.to_owned(), ObjectField { decl: Arc::new(decl), json: name.into() });
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
            continue;
        }
        let Some(decl) = declared(property, embedded(property), left) else { continue };
        if required.contains(&name.as_str()) && property.get("default").is_none() {
            min_size += name.len() as u64 + decl.min_size + 4;
        }
        if let Some(escaped) = escape(name) {
            fields.insert(escaped, ObjectField { decl: Arc::new(decl), json: name.as_str().into() });
        }
    }
    let object = ObjectType { name: "object".into(), fields, open: false };
    Some(Decl::object(Arc::new(object), min_size))
}

fn string(schema: &Json) -> Decl {
    let (format, ty, max, min) = match schema["format"].as_str().unwrap_or_default() {
        "byte" => (Format::Bytes, Type::Bytes, limit(schema, "maxLength").unwrap_or(MAX_REQUEST - 2), 2),
        "duration" => (Format::Duration, Type::Duration, 32, 3),
        "date" => (Format::Date, Type::Timestamp, 12, 12),
        "date-time" => (Format::DateTime, Type::Timestamp, 32, 21),
        _ => {
            let longest = schema["enum"]
                .as_array()
                .map(|values| values.iter().filter_map(Json::as_str).map(str::len).max().unwrap_or(0) as u64);
            // Lengths count code points, of up to four bytes each.
            let max = limit(schema, "maxLength").map(|limit| limit.saturating_mul(4));
            return Decl::scalar(Type::String, max.or(longest).unwrap_or(MAX_REQUEST - 2), 2);
        }
    };
    Decl { shape: Shape::Format(format), ..Decl::scalar(ty, max, min) }
}

fn list_kind(schema: &Json) -> ListKind {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array();
            ListKind::Map(keys.into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect())
        }
        _ => ListKind::Atomic,
    }
}

fn flag(schema: &Json, name: &str) -> bool {
    schema.get(name).and_then(Json::as_bool).unwrap_or(false)
}

pub(crate) fn embedded(schema: &Json) -> bool {
    flag(schema, "x-kubernetes-embedded-resource")
}

fn limit(schema: &Json, name: &str) -> Option<u64> {
    let limit = schema.get(name)?;
    limit.as_u64().or_else(|| limit.as_i64().map(|_| 0))
}
