//! The schema of a custom resource as OpenAPI documents show it.

use serde_json::{Map, Value, json};

/// What every object has beside what its definition says.
pub struct Common {
    pub api_version: Value,
    pub kind: Value,
    pub metadata: Value,
}

/// The type of the objects, for version 3, or simplified for version 2.
pub fn document(source: &Value, version2: bool, common: &Common) -> Value {
    // Clients of version 2 refuse what a type does not list: one that takes everything lists nothing.
    if version2 && source["x-kubernetes-preserve-unknown-fields"] == true {
        return json!({"type": "object"});
    }
    let mut schema = source.clone();
    walk(&mut schema, version2, common);
    if schema.get("type").is_none() {
        schema["type"] = "object".into();
    }
    add_metadata(&mut schema, common);
    schema
}

fn add_metadata(schema: &mut Value, common: &Common) {
    let Some(fields) = schema.as_object_mut() else { return };
    let properties = fields.entry("properties").or_insert_with(|| json!({}));
    let Some(properties) = properties.as_object_mut() else { return };
    properties.insert("apiVersion".into(), common.api_version.clone());
    properties.insert("kind".into(), common.kind.clone());
    properties.insert("metadata".into(), common.metadata.clone());
}

fn walk(schema: &mut Value, version2: bool, common: &Common) {
    let Some(fields) = schema.as_object_mut() else { return };
    let is = |fields: &Map<String, Value>, key: &str| fields.get(key) == Some(&Value::Bool(true));
    if version2 {
        simplify(fields);
    }
    for key in ["items", "additionalProperties", "not"] {
        if let Some(inner) = fields.get_mut(key) {
            walk(inner, version2, common);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(inner)) = fields.get_mut(key) {
            inner.iter_mut().for_each(|inner| walk(inner, version2, common));
        }
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(|inner| walk(inner, version2, common));
    }
    if is(fields, "x-kubernetes-embedded-resource") {
        add_metadata(schema, common);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: Value, version2: bool, expected: Value) {
        let common = Common { api_version: json!("a"), kind: json!("k"), metadata: json!("m") };
        assert_eq!(document(&source, version2, &common), expected, "{source} {version2}");
    }

    #[test]
    fn every_object_says_what_it_is() {
        let properties = json!({"spec": {"type": "string"}});
        let all = json!({"spec": {"type": "string"}, "apiVersion": "a", "kind": "k", "metadata": "m"});
        for version2 in [false, true] {
            let source = json!({"type": "object", "properties": properties});
            check(source, version2, json!({"type": "object", "properties": all}));
        }
    }

    #[test]
    fn version_2_lists_no_field_of_what_takes_every_field() {
        let source =
            json!({"description": "d", "type": "object", "x-kubernetes-preserve-unknown-fields": true});
        check(source.clone(), true, json!({"type": "object"}));
        let mut version3 = source.clone();
        version3["properties"] = json!({"apiVersion": "a", "kind": "k", "metadata": "m"});
        check(source, false, version3);
    }
}
