//! Definitions and their objects, in tables of cases.

use serde_json::{Value, json};

use super::*;
use crate::table::{SubresourceRole, Table, Verb};
use crate::validation;

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList",
                "shortNames": ["th"], "categories": ["all"]},
            "conversion": {"strategy": "None"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema()},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "selectableFields": [{"jsonPath": ".spec.mode"}],
                "additionalPrinterColumns": [{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}]}],
        },
        "status": {"storedVersions": ["v1"]},
    })
}

fn schema() -> Value {
    json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[a-z]+$"},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
            "ratio": {"type": "number", "exclusiveMaximum": true, "maximum": 1.5, "multipleOf": 0.5},
            "mode": {"type": "string", "enum": ["Fast", "Slow"]},
            "when": {"type": "string", "format": "date-time"},
            "port": {"x-kubernetes-int-or-string": true},
            "none": {"type": "string", "nullable": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}, "maxItems": 3},
            "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "size": {"type": "integer", "maximum": 3, "default": 1}}}},
            "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "not": {"required": ["c"]}},
            "embedded": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
    }})
}

fn version() -> Version {
    let mut definition = definition();
    let status = names::plan(&definition, &[], "2020-01-01T00:00:00Z").expect("it has no conditions yet");
    definition["status"] = status;
    let entries = entries(&definition).expect("a definition");
    Version::clone(entries[0].version.as_ref().expect("a custom resource"))
}

fn texts(faults: &[Cause]) -> Vec<String> {
    faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
}

#[test]
fn an_established_definition_becomes_entries_of_the_table() {
    let mut definition = definition();
    assert!(entries(&definition).expect("valid").is_empty(), "it is not established");
    definition["status"] = names::plan(&definition, &[], "2020-01-01T00:00:00Z").expect("a status");
    assert!(
        definition::is_true(&definition, "NamesAccepted") && definition::is_true(&definition, "Established")
    );
    assert_eq!(names::plan(&definition, &[], "2021-01-01T00:00:00Z"), None, "nothing is left to do");
    let entries = entries(&definition).expect("valid");
    let entry = &entries[0];
    assert_eq!((entry.kind.as_ref(), entry.namespaced), ("Thing", true));
    assert_eq!(entry.key("n", "a").as_deref(), Some("/registry/example.com/things/n/a"));
    assert!(matches!(&entry.subresource("scale").expect("scales").role,
        SubresourceRole::Scale { spec_replicas, .. } if spec_replicas == "spec.replicas"));
    assert_eq!(entry.fields[0].read(&json!({"spec": {"mode": "Fast"}})), "Fast");
    let added: Vec<_> = entries.iter().cloned().map(Arc::new).collect();
    let table = Table::builtin().change(&[], &added);
    assert_eq!(table.by_name("th").map(|entry| entry.gvr.clone()), Some(entry.gvr.clone()));
    assert!(
        !table
            .change(std::slice::from_ref(&entry.gvr), &[])
            .groups()
            .iter()
            .any(|group| group.name == "example.com")
    );
    definition["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
    let entries = super::entries(&definition).expect("valid");
    assert!(!entries[0].verbs.contains(Verb::Create) && entries[0].verbs.contains(Verb::Update));
}

#[test]
fn who_came_first_keeps_a_name() {
    let mut first = definition();
    first["status"] = names::plan(&first, &[], "2020-01-01T00:00:00Z").expect("a status");
    let check = |path: &str, value: Value, reason: &str, message: &str| {
        let mut second = definition();
        second["metadata"]["name"] = "others.example.com".into();
        second["spec"]["names"] = json!({"plural": "others", "singular": "other", "kind": "Other",
            "listKind": "OtherList", "shortNames": ["ot"]});
        second["spec"]["names"][path] = value;
        let status = names::plan(&second, &[first.clone()], "2020-01-01T00:00:00Z").expect("a status");
        let condition = &status["conditions"][0];
        assert_eq!(condition["reason"], reason);
        assert_eq!(condition["message"], message);
        assert_eq!(status["conditions"][1]["reason"], "NotAccepted");
    };
    check("kind", json!("Thing"), "KindConflict", "\"Thing\" is already in use");
    check("singular", json!("thing"), "SingularConflict", "\"thing\" is already in use");
    check("shortNames", json!(["x", "th"]), "ShortNamesConflict", "\"th\" is already in use");
    check("listKind", json!("ThingList"), "ListKindConflict", "\"ThingList\" is already in use");
}

#[test]
fn objects_are_pruned_and_defaulted() {
    let version = version();
    let check = |spec: Value, expected: Value, unknown: &[&str]| {
        let mut object =
            json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": spec});
        assert_eq!(version.normalise(&mut object), unknown, "{object}");
        assert_eq!(object["spec"], expected);
        let before = object.clone();
        assert!(version.normalise(&mut object).is_empty() && object == before, "twice is the same as once");
    };
    check(json!({"name": "ab", "x": 1}), json!({"name": "ab", "replicas": 1}), &["spec.x"]);
    check(
        json!({"items": [{"name": "a", "y": {}}], "free": {"z": {"z": 1}}}),
        json!({"items": [{"name": "a", "size": 1}], "free": {"z": {"z": 1}}, "replicas": 1}),
        &["spec.items[0].y"],
    );
    check(json!({"replicas": null, "none": null, "mode": null}), json!({"replicas": 1, "none": null}), &[]);
    check(
        json!({"embedded": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "x": 1}, "spec": {"y": 1}}}),
        json!({"embedded": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"y": 1}},
            "replicas": 1}),
        &["spec.embedded.metadata.x"],
    );
}

#[test]
fn faults_have_the_words_of_kubernetes() {
    let version = version();
    let check = |spec: Value, expected: &[&str]| {
        let mut object = json!({"spec": {"name": "abc"}});
        object["spec"]
            .as_object_mut()
            .expect("an object")
            .extend(spec.as_object().cloned().unwrap_or_default());
        assert_eq!(texts(&version.check_new(&object)), expected, "{spec}");
    };
    check(json!({}), &[]);
    check(
        json!({"replicas": 11}),
        &["spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10"],
    );
    check(
        json!({"replicas": "x"}),
        &[
            "spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"",
        ],
    );
    check(json!({"name": "abcdef"}), &["spec.name: Too long: may not be more than 5 bytes"]);
    check(
        json!({"name": "A1"}),
        &["spec.name: Invalid value: \"A1\": spec.name in body should match '^[a-z]+$'"],
    );
    check(
        json!({"name": "a"}),
        &["spec.name: Invalid value: \"a\": spec.name in body should be at least 2 chars long"],
    );
    check(
        json!({"mode": "Medium"}),
        &["spec.mode: Unsupported value: \"Medium\": supported values: \"Fast\", \"Slow\""],
    );
    check(
        json!({"ratio": 1.5}),
        &["spec.ratio: Invalid value: 1.5: spec.ratio in body should be less than 1.5"],
    );
    check(
        json!({"ratio": 0.7}),
        &["spec.ratio: Invalid value: 0.7: spec.ratio in body should be a multiple of 0.5"],
    );
    check(
        json!({"when": "now"}),
        &["spec.when: Invalid value: \"now\": spec.when in body must be of type date-time: \"now\""],
    );
    check(
        json!({"port": true}),
        &[
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
        ],
    );
    check(json!({"tags": ["a", "b", "a"]}), &["spec.tags[2]: Duplicate value: \"a\""]);
    check(json!({"tags": ["a", "b", "c", "d"]}), &["spec.tags: Too many: 4: must have at most 3 items"]);
    check(
        json!({"items": [{"name": "a"}, {"name": "a"}, {}]}),
        &["spec.items[2].name: Required value", "spec.items[1]: Duplicate value: {\"name\":\"a\"}"],
    );
    check(
        json!({"one": {"a": "", "b": ""}}),
        &[
            "<nil>: Invalid value: \"\": \"spec.one\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ],
    );
    check(
        json!({"one": {"a": "", "c": ""}}),
        &["<nil>: Invalid value: \"\": \"spec.one\" must not validate the schema (not)"],
    );
    check(
        json!({"embedded": {"metadata": {"labels": {"-": "b"}}}}),
        &[
            "spec.embedded.apiVersion: Required value: must not be empty",
            "spec.embedded.kind: Required value: must not be empty",
            "spec.embedded.metadata.labels: Invalid value: \"-\": name part must consist of alphanumeric characters, \
             '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  \
             or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ],
    );
    assert_eq!(texts(&version.check_new(&json!({}))), ["spec: Required value"]);
}

#[test]
fn unchanged_faults_are_tolerated() {
    let version = version();
    let old = json!({"spec": {"name": "TOO LONG", "replicas": 50,
        "items": [{"name": "a", "size": 9}, {"name": "b", "size": 1}], "tags": ["a", "b", "c", "d"]}});
    let check = |path: &str, value: Value, expected: &[&str]| {
        let mut new = old.clone();
        *new.pointer_mut(path).expect("a place") = value;
        assert_eq!(texts(&version.check_update(&new, &old)), expected, "{path}");
    };
    check("/spec/replicas", json!(5), &[]);
    check(
        "/spec/replicas",
        json!(51),
        &["spec.replicas: Invalid value: 51: spec.replicas in body should be less than or equal to 10"],
    );
    check("/spec/items/1/size", json!(2), &[]);
    check(
        "/spec/items/1/size",
        json!(7),
        &[
            "spec.items[1].size: Invalid value: 7: spec.items[1].size in body should be less than or equal to 3",
        ],
    );
    check("/spec/tags", json!(["a", "b", "c", "e"]), &["spec.tags: Too many: 4: must have at most 3 items"]);
}

#[test]
fn definitions_are_validated_as_kubernetes_does() {
    let check = |path: &str, value: Value, expected: &[&str]| {
        let mut definition = definition();
        let (parent, key) = path.rsplit_once('/').expect("a path");
        let parent = definition.pointer_mut(parent).expect("a place");
        match (parent, key.parse::<usize>()) {
            (Value::Array(items), Ok(at)) if at < items.len() => items[at] = value,
            (Value::Array(items), Ok(_)) => items.push(value),
            (parent, _) => parent[key] = value,
        }
        let faults = validation::create("apiextensions.k8s.io", "CustomResourceDefinition", &definition);
        assert_eq!(texts(&faults), expected, "{path}");
    };
    let root = "spec.validation.openAPIV3Schema";
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties";
    check("/spec/scope", json!("Namespaced"), &[]);
    check(
        "/spec/scope",
        json!("x"),
        &["spec.scope: Unsupported value: \"x\": supported values: \"Cluster\", \"Namespaced\""],
    );
    check(
        "/spec/names/plural",
        json!("other"),
        &["metadata.name: Invalid value: \"things.example.com\": must be spec.names.plural+\".\"+spec.group"],
    );
    check(
        "/spec/names/listKind",
        json!("Thing"),
        &["spec.names.listKind: Invalid value: \"Thing\": kind and listKind may not be the same"],
    );
    check(
        &format!("{properties}/new"),
        json!({}),
        &[&format!(
            "{root}.properties[new].type: Required value: must not be empty for specified object fields"
        )],
    );
    check(
        &format!("{properties}/new"),
        json!({"type": "array"}),
        &[&format!("{root}.properties[new].items: Required value: must be specified")],
    );
    check(
        &format!("{properties}/new"),
        json!({"type": "string", "default": 1}),
        &[&format!(
            "{root}.properties[new].default: Invalid value: \"integer\": must be of type string: \"integer\""
        )],
    );
    check(
        &format!("{properties}/new"),
        json!({"type": "object", "default": {"a": 1}}),
        &[&format!(
            "{root}.properties[new].default: Invalid value: {{\"a\":1}}: must not have unknown fields"
        )],
    );
    check(
        &format!("{properties}/new"),
        json!({"type": "string", "uniqueItems": true}),
        &[&format!(
            "{root}.properties[new].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        )],
    );
    check(
        &format!("{properties}/new"),
        json!({"type": "object", "anyOf": [{"properties": {"a": {"type": "string"}}}]}),
        &[&format!(
            "{root}.properties[new].anyOf[0].properties[a].type: Forbidden: must be empty to be structural"
        )],
    );
    let mut definition = definition();
    definition["spec"]["versions"][0]["storage"] = false.into();
    let faults = validation::create("apiextensions.k8s.io", "CustomResourceDefinition", &definition);
    let storage = texts(&faults);
    assert!(
        storage.len() == 1 && storage[0].ends_with("must have exactly one version marked as storage version")
    );
}
