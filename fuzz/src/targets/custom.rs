//! Custom resources: schemas as definitions bring them, objects held against them, JSON paths.

use sampan_api::custom::json_path::JsonPath;
use sampan_api::custom::{Structural, defaulting, embedded, list_type, pattern, prune, validate};
use sampan_api::schema::{self, Schema};
use sampan_api::{apply, validation};
use serde_json::{Value, json};

use crate::input;

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    let Some((first, second)) = input::halves(rest) else { return };
    let decode = |bytes: &[u8]| schema::decode(bytes, bytes.len()).map(|decoded| decoded.value);
    match choice % 4 {
        0 => {
            if let (Some(path), Ok(value)) = (input::text(first), decode(second)) {
                json_path(path, &value);
            }
        }
        1 => {
            if let (Some(text), Some(subject)) = (input::text(first), input::text(second))
                && let Ok(compiled) = pattern::compile(text)
            {
                let _ = compiled.is_match(subject);
            }
        }
        _ => {
            if let (Ok(schema), Ok(object)) = (decode(first), decode(second)) {
                objects(&schema, object);
            }
        }
    }
}

fn json_path(text: &str, value: &Value) {
    let Ok(path) = JsonPath::parse(text) else { return };
    let braced = JsonPath::parse(&format!("{{{text}}}"));
    let found = path.find(value);
    if !text.trim().starts_with('{')
        && let Ok(braced) = braced
    {
        assert_eq!(braced.find(value), found, "{text} in braces");
    }
}

fn objects(source: &Value, object: Value) {
    // The API server compiles only what it has validated.
    let definition = definition(source);
    let faults = validation::create("apiextensions.k8s.io", "CustomResourceDefinition", &definition);
    let compiled = Structural::compile(source);
    let typed = Schema::from_structural("io.x.v1.A", source);
    if !faults.is_empty() {
        return;
    }
    let structural = compiled.expect("what was validated compiles");
    let (types, id) = typed.expect("what was validated has types");
    let mut value = object;
    prune(&structural, &mut value);
    let _ = embedded::coerce(&structural, &mut value);
    let mut again = value.clone();
    assert!(prune(&structural, &mut again).is_empty(), "pruned once, nothing is left to prune");
    assert_eq!(again, value);
    defaulting::apply(&structural, &mut value);
    let once = value.clone();
    defaulting::apply(&structural, &mut value);
    assert_eq!(value, once, "defaults are filled in once");
    let faults = validate::create(&structural, &value);
    let _ = embedded::check(&structural, &value);
    let _ = list_type::check(&structural, &value);
    // What did not change is tolerated.
    let left = validate::update(&structural, &value, &value);
    assert!(left.len() <= faults.len(), "{left:?} of {faults:?}");
    if let Ok(fields) = apply::field_set(apply::Typed::new(&types, id), &value) {
        assert_eq!(apply::FieldSet::from_json(&fields.to_json()).as_ref(), Ok(&fields));
    }
}

fn definition(schema: &Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "as.x.example.com"},
        "spec": {"group": "x.example.com", "scope": "Namespaced", "conversion": {"strategy": "None"},
            "names": {"plural": "as", "singular": "a", "kind": "A", "listKind": "AList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}
