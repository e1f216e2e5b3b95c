//! Structural schemas: every value has a type outside of junctors, and junctors only validate values.

use serde_json::{Map, Value, json};

use super::super::field::{At, Faults};
use crate::custom::pattern;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

pub(super) fn root(schema: &At<'_, '_>, faults: &mut Faults) {
    invariants(schema, Level::Root, faults);
    completeness(schema, schema, faults);
}

fn invariants(schema: &At<'_, '_>, level: Level, faults: &mut Faults) {
    if !schema.value.is_object() {
        return;
    }
    let (kind, items) = (schema.get("type"), schema.get("items"));
    if kind.text() == "array" && !items.is_set() {
        faults.required(&items, "must be specified");
    }
    invariants(&items, Level::Item, faults);
    let properties = schema.get("properties");
    for (name, _) in properties.entries() {
        invariants(&properties.key(name), Level::Field, faults);
    }
    let additional = schema.get("additionalProperties");
    if additional.is_set() && level == Level::Root {
        faults.forbidden(&additional, "must not be used at the root");
    }
    invariants(&additional, Level::Field, faults);
    let is = |extension: &str| schema.get(extension).is_true();
    let int_or_string = is("x-kubernetes-int-or-string");
    let embedded = is("x-kubernetes-embedded-resource");
    let preserve = is("x-kubernetes-preserve-unknown-fields");
    for (extension, set) in
        [("x-kubernetes-preserve-unknown-fields", preserve), ("x-kubernetes-embedded-resource", embedded)]
    {
        if int_or_string && set {
            faults.invalid(&schema.get(extension), "must be false if x-kubernetes-int-or-string is true");
        }
    }
    validation(schema, int_or_string_pattern(schema.value), faults);
    self::kind(schema, level, embedded, int_or_string || preserve, faults);
    if embedded && additional.is_set() {
        faults.forbidden(&additional, "must not be used if x-kubernetes-embedded-resource is set");
    }
    metadata(&properties, level == Level::Root || embedded, level, faults);
    if embedded && !preserve && properties.is_empty() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        faults.required(&properties, detail);
    }
}

fn kind(schema: &At<'_, '_>, level: Level, embedded: bool, is_free: bool, faults: &mut Faults) {
    let kind = schema.get("type");
    if embedded && kind.text() != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        if kind.text().is_empty() {
            faults.required(&kind, detail);
        } else {
            faults.invalid(&kind, detail);
        }
    } else if kind.text().is_empty() && !is_free {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        faults.required(&kind, detail);
    }
    if level == Level::Root && !kind.text().is_empty() && kind.text() != "object" {
        faults.invalid(&kind, "must be object at the root");
    }
}

/// A schema may restrict the names of its resource, and no other metadata.
fn metadata(properties: &At<'_, '_>, is_resource: bool, level: Level, faults: &mut Faults) {
    for name in ["kind", "apiVersion"] {
        let property = properties.key(name);
        let kind = property.get("type");
        if is_resource && property.is_set() && kind.text() != "string" {
            faults.invalid_text(&kind, kind.text(), "must be string");
        }
    }
    let metadata = properties.key("metadata");
    if !metadata.is_set() {
        return;
    }
    let kind = metadata.get("type");
    if is_resource && kind.text() != "object" {
        faults.invalid_text(&kind, kind.text(), "must be object");
    }
    if level != Level::Root {
        return;
    }
    let names_only =
        metadata.get("properties").entries().all(|(name, _)| matches!(name, "name" | "generateName"));
    let others = metadata.entries().any(|(key, _)| !matches!(key, "type" | "properties" | "default"));
    if !names_only || others {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly \
                      specified";
        faults.forbidden(&metadata, detail);
    }
}

/// How a schema says that a value is an integer or a string, which may be said although it is a type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IntOrString {
    No,
    AnyOf,
    FirstAllOf,
}

fn int_or_string_pattern(schema: &Value) -> IntOrString {
    let pattern = json!([{"type": "integer"}, {"type": "string"}]);
    if schema.get("anyOf") == Some(&pattern) {
        IntOrString::AnyOf
    } else if schema.pointer("/allOf/0/anyOf") == Some(&pattern) {
        IntOrString::FirstAllOf
    } else {
        IntOrString::No
    }
}

fn validation(schema: &At<'_, '_>, skip: IntOrString, faults: &mut Faults) {
    if skip != IntOrString::AnyOf {
        for one in schema.get("anyOf").items() {
            nested(&one, IntOrString::No, faults);
        }
    }
    for (at, one) in schema.get("allOf").items().enumerate() {
        let skip =
            if at == 0 && skip == IntOrString::FirstAllOf { IntOrString::AnyOf } else { IntOrString::No };
        nested(&one, skip, faults);
    }
    for one in schema.get("oneOf").items() {
        nested(&one, IntOrString::No, faults);
    }
    nested(&schema.get("not"), IntOrString::No, faults);
    let text = schema.get("pattern");
    if !text.text().is_empty()
        && let Err(error) = pattern::compile(text.text())
    {
        let error = error.to_string();
        let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        faults.invalid(&text, &format!("must be a valid regular expression, but isn't: {why}"));
    }
}

/// A schema below a junctor.
fn nested(schema: &At<'_, '_>, skip: IntOrString, faults: &mut Faults) {
    const FORBIDDEN: [(&str, &str); 13] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    if !schema.value.is_object() {
        return;
    }
    validation(schema, skip, faults);
    nested(&schema.get("items"), IntOrString::No, faults);
    let properties = schema.get("properties");
    for (name, _) in properties.entries() {
        nested(&properties.key(name), IntOrString::No, faults);
    }
    for (field, detail) in FORBIDDEN {
        let value = schema.get(field);
        let is_zero = match value.value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Bool(true) | Value::Number(_) | Value::Object(_) => false,
        };
        if !is_zero {
            faults.forbidden(&value, detail);
        }
    }
    if properties.key("metadata").is_set() {
        faults.forbidden(&properties.key("metadata"), "must not be specified in a nested context");
    }
}

/// Whatever a junctor speaks of must be specified outside of it.
fn completeness(validation: &At<'_, '_>, schema: &At<'_, '_>, faults: &mut Faults) {
    if !validation.value.is_object() {
        return;
    }
    nested_completeness(&validation.get("not"), schema, faults);
    for junctor in ["allOf", "anyOf", "oneOf"] {
        for one in validation.get(junctor).items() {
            nested_completeness(&one, schema, faults);
        }
    }
}

fn nested_completeness(validation: &At<'_, '_>, schema: &At<'_, '_>, faults: &mut Faults) {
    if !validation.value.is_object() {
        return;
    }
    if !schema.is_set() {
        faults.required(schema, &format!("because it is defined in {}", validation.path()));
        return;
    }
    completeness(validation, schema, faults);
    nested_completeness(&validation.get("items"), &schema.get("items"), faults);
    let (properties, specified) = (validation.get("properties"), schema.get("properties"));
    let names = properties.value.as_object().into_iter().flat_map(Map::keys);
    for name in names {
        nested_completeness(&properties.key(name), &specified.key(name), faults);
    }
}
