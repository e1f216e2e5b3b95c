//! What a schema may say at all: no references, no patterns of names, list and map types that fit.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::field::{At, Faults};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// Where a schema stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    is_root: bool,
    /// Below `metadata`, `kind` or `apiVersion` of a resource.
    in_meta: bool,
    /// Why there may be no default; None where there may be one.
    no_default: Option<&'a str>,
}

pub(super) fn root(schema: &At<'_, '_>, faults: &mut Faults) {
    node(schema, Place { is_root: true, in_meta: false, no_default: None }, faults);
}

fn node(schema: &At<'_, '_>, place: Place<'_>, faults: &mut Faults) {
    if !schema.is_set() {
        return;
    }
    standard(schema, place, faults);
    if schema.get("uniqueItems").is_true() {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        faults.forbidden(&schema.get("uniqueItems"), detail);
    }
    let below = Place { is_root: false, ..place };
    let additional = schema.get("additionalProperties");
    if additional.is_set() {
        if !schema.get("properties").is_empty() && additional.value != &Value::Bool(true) {
            faults.forbidden(&additional, "additionalProperties and properties are mutual exclusive");
        }
        let reason = "inside additionalProperties applying to object metadata";
        let no_default = if place.in_meta { Some(reason) } else { place.no_default };
        if additional.value.is_object() {
            node(&additional, Place { no_default, ..below }, faults);
        }
    }
    let is_resource = place.is_root || schema.get("x-kubernetes-embedded-resource").is_true();
    let properties = schema.get("properties");
    for (name, _) in properties.entries() {
        let is_meta = is_resource && matches!(name, "metadata" | "kind" | "apiVersion");
        let reason = format!("in top-level {name}");
        let no_default = if is_meta && place.is_root { Some(reason.as_str()) } else { place.no_default };
        let inner = Place { is_root: false, in_meta: place.in_meta || is_meta, no_default };
        node(&properties.key(name), inner, faults);
    }
    node(&schema.get("not"), below, faults);
    for junctor in ["allOf", "oneOf", "anyOf"] {
        for one in schema.get(junctor).items() {
            node(&one, below, faults);
        }
    }
    if schema.get("items").value.is_object() {
        node(&schema.get("items"), below, faults);
    }
    extensions(schema, faults);
    if schema.get("x-kubernetes-list-type").text() == "map" {
        map_list(schema, faults);
    }
    unnullable(schema, faults);
    rules(&schema.get("x-kubernetes-validations"), faults);
}

fn standard(schema: &At<'_, '_>, place: Place<'_>, faults: &mut Faults) {
    let kind = schema.get("type");
    if !kind.text().is_empty() && !TYPES.contains(&kind.text()) {
        faults.unsupported(&kind, &TYPES);
    }
    if let Some(reason) = place.no_default.filter(|_| schema.get("default").is_set()) {
        faults.forbidden(&schema.get("default"), &format!("must not be set {reason}"));
    }
    for field in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if schema.get(field).is_set() {
            faults.forbidden(&schema.get(field), &format!("{field} is not supported"));
        }
    }
    if kind.text() == "null" {
        faults.forbidden(&kind, "type cannot be set to null, use nullable as an alternative");
    }
    if schema.get("items").value.is_array() {
        faults.forbidden(&schema.get("items"), "items must be a schema object and not an array");
    }
    let embedded = schema.get("x-kubernetes-embedded-resource");
    if place.in_meta && embedded.is_true() {
        faults.forbidden(&embedded, "must not be used inside of resource meta");
    }
}

fn extensions(schema: &At<'_, '_>, faults: &mut Faults) {
    let preserve = schema.get("x-kubernetes-preserve-unknown-fields");
    if preserve.value == &Value::Bool(false) {
        faults.invalid(&preserve, "must be true or undefined");
    }
    let kind = schema.get("type");
    for (extension, expected) in [("x-kubernetes-map-type", "object"), ("x-kubernetes-list-type", "array")] {
        if schema.get(extension).is_set() && kind.text() != expected {
            let detail = format!("must be {expected} if {extension} is specified");
            if kind.text().is_empty() {
                faults.required(&kind, &detail);
            } else {
                faults.invalid(&kind, &detail);
            }
        }
    }
    faults.one_of_or_none(&schema.get("x-kubernetes-map-type"), &["atomic", "granular"]);
    let list = schema.get("x-kubernetes-list-type");
    if list.text() == "set" && kind.text() == "array" {
        let items = schema.get("items");
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let (inner_list, inner_map) =
            (items.get("x-kubernetes-list-type"), items.get("x-kubernetes-map-type"));
        match items.get("type").text() {
            "array" if inner_list.is_set() && inner_list.text() != "atomic" => {
                faults.invalid(&inner_list, detail);
            }
            "object" if inner_map.text() != "atomic" => faults.invalid(&inner_map, detail),
            _ => {}
        }
    }
    faults.one_of_or_none(&list, &["atomic", "set", "map"]);
    if !schema.get("x-kubernetes-list-map-keys").is_empty() && list.text() != "map" {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        if list.is_set() {
            faults.invalid(&list, detail);
        } else {
            faults.required(&list, detail);
        }
    }
}

fn map_list(schema: &At<'_, '_>, faults: &mut Faults) {
    let (keys, items) = (schema.get("x-kubernetes-list-map-keys"), schema.get("items"));
    if keys.is_empty() {
        faults.required(&keys, "must not be empty if x-kubernetes-list-type is map");
    }
    if !items.is_set() {
        faults.required(&items, "must have a schema if x-kubernetes-list-type is map");
        return;
    }
    let kind = items.get("type");
    if kind.text() != "object" {
        faults.invalid_text(
            &kind,
            kind.text(),
            "must be object if parent array's x-kubernetes-list-type is map",
        );
        return;
    }
    let mut seen = BTreeSet::new();
    let properties = items.get("properties");
    for key in keys.items() {
        let property = properties.key(key.text());
        if !property.is_set() {
            faults.invalid(&keys, "entries must all be names of item properties");
        } else if matches!(property.get("type").text(), "array" | "object") {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            faults.invalid(&property.get("type"), detail);
        }
        if !seen.insert(key.text()) {
            faults.invalid(&keys, "must not contain duplicate entries");
        }
    }
}

/// Items that are told apart may not be null, nor the keys that tell them apart, which must be there.
fn unnullable(schema: &At<'_, '_>, faults: &mut Faults) {
    let (list, items) = (schema.get("x-kubernetes-list-type"), schema.get("items"));
    if !matches!(list.text(), "set" | "map") || !items.value.is_object() {
        return;
    }
    if items.get("nullable").is_true() {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {}", list.text());
        faults.forbidden(&items.get("nullable"), &detail);
    }
    if list.text() != "map" {
        return;
    }
    let (properties, required) = (items.get("properties"), items.get("required"));
    for key in schema.get("x-kubernetes-list-map-keys").items() {
        let property = properties.key(key.text());
        if !property.is_set() {
            continue;
        }
        let is_required = required.items().any(|one| one.text() == key.text());
        if !is_required && !property.get("default").is_set() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a \
                          required property";
            faults.required(&property.get("default"), detail);
        }
        if property.get("nullable").is_true() {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            faults.forbidden(&property.get("nullable"), detail);
        }
    }
}

/// The form of rules; what they say is the compiler's business.
fn rules(rules: &At<'_, '_>, faults: &mut Faults) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    let breaks = |text: &str| text.contains(['\n', '\r']);
    for rule in rules.items() {
        let (text, message) = (rule.get("rule"), rule.get("message"));
        let trimmed = message.text().trim();
        if text.text().trim().is_empty() {
            faults.required(&text, "rule is not specified");
        } else if !message.text().is_empty() && trimmed.is_empty() {
            faults.invalid(&message, "message must be non-empty if specified");
        } else if breaks(trimmed) {
            faults.invalid(&message, "message must not contain line breaks");
        } else if breaks(text.text().trim()) && trimmed.is_empty() {
            faults.required(&message, "message must be specified if rule contains line breaks");
        }
        let expression = rule.get("messageExpression");
        if !expression.text().is_empty() && expression.text().trim().is_empty() {
            faults.required(&expression, "messageExpression must be non-empty if specified");
        }
        faults.one_of_or_none(&rule.get("reason"), &REASONS);
        let path = rule.get("fieldPath");
        if !path.text().is_empty() && path.text().trim().is_empty() {
            faults.invalid(&path, "fieldPath must be non-empty if specified");
        }
        if breaks(path.text()) {
            faults.invalid(&path, "fieldPath must not contain line breaks");
        }
    }
}
