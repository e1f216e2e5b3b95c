use std::collections::HashSet;

use super::*;

fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// Calls `visit` with every reference in a document.
fn references<'a>(value: &'a Value, visit: &mut impl FnMut(&'a str)) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                visit(target);
            }
            map.values().for_each(|value| references(value, visit));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every reference resolves and no two operations share an id.
fn check_document(document: &Value, prefix: &str, types: &Value) -> usize {
    let types = types.as_object().expect("types");
    references(document, &mut |target| {
        let name = target.strip_prefix(prefix).unwrap_or_else(|| panic!("{target}"));
        assert!(types.contains_key(name), "{target}");
    });
    let mut ids = HashSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path") {
            if method != "parameters" {
                assert!(ids.insert(operation["operationId"].to_string()), "{method} {path}");
            }
        }
    }
    ids.len()
}

#[test]
fn every_version_has_a_document() {
    let table = Table::builtin();
    let root = parse(&v3_root(&table));
    let listed = root["paths"].as_object().expect("paths");
    assert_eq!(listed.len(), 23);
    for group in table.groups() {
        for version in &group.versions {
            let document = parse(&v3(&table, &group.name, version).expect("a document"));
            let operations =
                check_document(&document, "#/components/schemas/", &document["components"]["schemas"]);
            assert!(operations > 1, "{}/{version}", group.name);
            let address = &listed[&version_path(&group.name, version)]["serverRelativeURL"];
            assert!(address.as_str().is_some_and(|text| text.contains("?hash=")), "{address}");
        }
    }
    assert!(v3(&table, "apps", "v2").is_none());
}

#[test]
fn version_2_is_whole() {
    let document = parse(&v2(&Table::builtin()));
    check_document(&document, "#/definitions/", &document["definitions"]);
    let containers = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
}

/// Reads the fields of a protobuf message: number and content, or None where it is malformed.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, &[u8])>> {
    fn varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first()?;
            *bytes = rest;
            number |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let length = varint(&mut bytes)?;
        match key & 7 {
            0 => out.push((key >> 3, &[][..])),
            2 => {
                let (content, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
                out.push((key >> 3, content));
                bytes = rest;
            }
            _ => return None,
        }
    }
    Some(out)
}

#[test]
fn the_form_of_version_2_is_negotiated() {
    let old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    for (accept, wanted) in [
        ("", false),
        ("*/*", false),
        (old, true),
        (V2_PROTOBUF, true),
        ("application/json, */*", false),
        (&format!("{old}, */*"), true),
    ] {
        assert_eq!(v2_wants_protobuf(accept), wanted, "{accept}");
    }
}

#[test]
fn the_protobuf_form_holds_the_same() {
    let table = Table::builtin();
    let json = parse(&v2(&table));
    let bytes = v2_to_protobuf(&v2_document(&table));
    let document = fields(&bytes).expect("a message");
    assert_eq!(document[0], (1, &b"2.0"[..]));
    let of = |number: u64| document.iter().find(|(one, _)| *one == number).expect("a field").1;
    for (number, key) in [(8, "paths"), (9, "definitions")] {
        let names: Vec<String> = fields(of(number))
            .expect("a map")
            .into_iter()
            .map(|(_, entry)| {
                let entry = fields(entry).expect("an entry");
                assert_eq!(entry.len(), 2);
                fields(entry[1].1).expect("a value");
                String::from_utf8(entry[0].1.to_vec()).expect("a name")
            })
            .collect();
        let expected: Vec<&String> = json[key].as_object().expect("a map").keys().collect();
        assert_eq!(names.iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn patches_tell_what_they_can_do() {
    let document = parse(&v3(&Table::builtin(), "apps", "v1").expect("a document"));
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert_eq!(patch["x-kubernetes-group-version-kind"], kind);
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"));
    let deployment = &document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([kind]));
    assert!(deployment["description"].as_str().is_some_and(|text| text.starts_with("Deployment enables")));
}

#[test]
fn hashes_follow_the_table() {
    let table = Table::builtin();
    let mut entry = (**table.get("apps", "v1", "deployments").expect("deployments")).clone();
    entry.short_names.clear();
    let other = table.with(entry);
    assert_ne!(v3_hash(&table, "apps", "v1"), v3_hash(&other, "apps", "v1"));
    assert_eq!(v3_hash(&table, "", "v1"), v3_hash(&other, "", "v1"));
}

#[test]
fn custom_resources_are_described() {
    let definition = json!({"type": "object", "properties": {"spec": {"type": "object", "description": "What is wanted.",
        "properties": {"size": {"type": "integer"}}}}});
    let (schema, id) =
        crate::schema::Schema::from_structural("com.example.v1.Thing", &definition).expect("structural");
    let table = Table::builtin();
    let mut entry = (**table.get("", "v1", "configmaps").expect("configmaps")).clone();
    entry.gvr = crate::Gvr::new("example.com", "v1", "things");
    entry.kind = "Thing".into();
    entry.list_kind = "ThingList".into();
    entry.schema = SchemaRef::Custom(std::sync::Arc::new(schema), id);
    let document = parse(&v3(&table.with(entry), "example.com", "v1").expect("a document"));
    check_document(&document, "#/components/schemas/", &document["components"]["schemas"]);
    let thing = &document["components"]["schemas"]["com.example.v1.Thing"];
    assert_eq!(thing["properties"]["spec"]["description"], "What is wanted.");
    assert_eq!(thing["properties"]["spec"]["properties"]["size"]["type"], "integer");
    let metadata = &document["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"];
    assert!(metadata["description"].is_string(), "types that were imported keep their descriptions");
    let patch = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/things/{name}"]["patch"];
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_none());
}
