//! The schema of a custom resource as OpenAPI documents show it.

use serde_json::{Map, Value, json};

const API_VERSION: &str = "The group and version of the schema that this object follows. Servers convert \
    known schemas to the latest internal one, and may refuse values that they do not know.";
const KIND: &str = "The REST resource that this object stands for, in CamelCase. Servers may infer it from \
    the endpoint that a client submits requests to. Cannot be updated.";
const METADATA: &str = "The standard metadata of objects.";

/// The type of the objects, for version 3, or simplified for version 2. `metadata` refers to the type of
/// object metadata.
pub fn document(source: &Value, version2: bool, metadata: &Value) -> Value {
    let mut schema = source.clone();
    walk(&mut schema, version2, metadata);
    if schema.get("type").is_none() {
        schema["type"] = "object".into();
    }
    if version2 && source["x-kubernetes-preserve-unknown-fields"] == true {
        schema["x-kubernetes-preserve-unknown-fields"] = true.into();
    }
    add_metadata(&mut schema, metadata);
    schema
}

fn add_metadata(schema: &mut Value, metadata: &Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    let properties = fields.entry("properties").or_insert_with(|| json!({}));
    let Some(properties) = properties.as_object_mut() else { return };
    properties.insert("apiVersion".into(), json!({"type": "string", "description": API_VERSION}));
    properties.insert("kind".into(), json!({"type": "string", "description": KIND}));
    let mut metadata = metadata.clone();
    metadata["description"] = METADATA.into();
    properties.insert("metadata".into(), metadata);
}

fn walk(schema: &mut Value, version2: bool, metadata: &Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    let is = |fields: &Map<String, Value>, key: &str| fields.get(key) == Some(&Value::Bool(true));
    if version2 {
        simplify(fields);
    }
    for key in ["items", "additionalProperties", "not"] {
        if let Some(inner) = fields.get_mut(key) {
            walk(inner, version2, metadata);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(inner)) = fields.get_mut(key) {
            inner.iter_mut().for_each(|inner| walk(inner, version2, metadata));
        }
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(|inner| walk(inner, version2, metadata));
    }
    if is(fields, "x-kubernetes-embedded-resource") {
        add_metadata(schema, metadata);
    }
}

/// Clients of version 2 know neither alternatives nor null: where those matter a value is of any type.
fn simplify(fields: &mut Map<String, Value>) {
    for key in ["anyOf", "oneOf", "not"] {
        fields.remove(key);
    }
    let nullable = fields.remove("nullable") == Some(Value::Bool(true));
    let preserves = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if nullable || preserves {
        for key in ["type", "items", "properties", "additionalProperties", "required"] {
            fields.remove(key);
        }
    }
    if fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        fields.remove("type");
    }
}
