use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn id(name: &str) -> TypeId {
    builtin().lookup(name).unwrap_or_else(|| panic!("{name} is a type"))
}

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const POD: &str = "io.k8s.api.core.v1.Pod";

#[test]
fn the_table_is_complete() {
    let schema = builtin();
    assert_eq!(schema.types().count(), 522);
    assert_eq!(schema.types().map(|(id, _)| schema.fields(id).len()).sum::<usize>(), 2204);
    let descriptions = descriptions();
    let pod = id(POD);
    assert!(descriptions.of_type(schema, pod).starts_with("Pod is a collection of containers"));
    let metadata = schema.fields(pod).iter().position(|field| field.name == "metadata").expect("a field");
    assert!(descriptions.of_field(schema, pod, metadata).starts_with("Standard object's metadata."));
    let (last, definition) = schema.types().last().expect("types");
    let lines = definition.description as usize + 1 + schema.fields(last).len();
    assert_eq!(descriptions.starts.len(), lines + 1, "one line of description per type and field");
}

#[test]
fn the_overlay_is_merged() {
    let containers =
        builtin().walk(id(DEPLOYMENT), &["spec", "template", "spec", "containers"]).expect("a field");
    let extra = builtin().extra(containers).expect("merging attributes");
    assert_eq!(extra.merge_key.as_deref(), Some("name"));
    assert_eq!(extra.list, Some(ListType::Map(vec!["name".into()])));
    let protocol = builtin().walk(id(POD), &["spec", "containers", "ports", "protocol"]).expect("a field");
    assert_eq!(builtin().extra(protocol).and_then(|extra| extra.default.as_deref()), Some("\"TCP\""));
    assert!(builtin().type_def(id("io.k8s.api.core.v1.ObjectReference")).atomic);
}

/// Checks a value; expects these unknown fields, this fault and this result.
fn check_value(of: &str, mut value: Value, unknown: &[&str], mistyped: Option<&str>, after: Option<Value>) {
    let report = check(builtin(), id(of), &mut value);
    assert_eq!(report.unknown, unknown);
    assert_eq!(report.mistyped.as_deref(), mistyped);
    if let Some(after) = after {
        assert_eq!(value, after);
    }
}

#[test]
fn unknown_fields_are_pruned() {
    let pod =
        json!({"spec": {"containers": [{"name": "a", "foo": {"x": 1}}, {"bar": 1}], "baz": 1}, "qux": null});
    let after = json!({"spec": {"containers": [{"name": "a"}, {}]}});
    let unknown = ["qux", "spec.baz", "spec.containers[0].foo", "spec.containers[1].bar"];
    let mut value = pod.clone();
    let mut found = check(builtin(), id(POD), &mut value).unknown;
    found.sort();
    assert_eq!(found, unknown);
    assert_eq!(value, after);
    check_value("io.k8s.api.core.v1.ConfigMap", json!({"data": {"a.b": "c"}}), &[], None, None);
}

#[test]
fn nulls_are_dropped() {
    let before = json!({
        "metadata": {"creationTimestamp": null, "labels": {"a": null}, "annotations": null},
        "spec": {"containers": [null], "tolerations": null}, "status": {},
    });
    let after = json!({"metadata": {"labels": {"a": ""}}, "spec": {"containers": [{}]}, "status": {}});
    check_value(POD, before, &[], None, Some(after));
}

#[test]
fn values_take_their_canonical_form() {
    let before = json!({
        "metadata": {"creationTimestamp": "2024-02-03T04:05:06.7+01:00"},
        "spec": {"containers": [{"resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "pods": 2}}}]},
    });
    let after = json!({
        "metadata": {"creationTimestamp": "2024-02-03T03:05:06Z"},
        "spec": {"containers": [{"resources": {"limits": {"cpu": "500m", "memory": "1Gi", "pods": "2"}}}]},
    });
    check_value(POD, before, &[], None, Some(after));
    let lease = json!({"spec": {"renewTime": "2024-02-03T04:05:06Z"}});
    let after = json!({"spec": {"renewTime": "2024-02-03T04:05:06.000000Z"}});
    check_value("io.k8s.api.coordination.v1.Lease", lease, &[], None, Some(after));
}

#[test]
fn wrong_types_are_told_in_the_words_of_the_decoder() {
    let cases = [
        (
            DEPLOYMENT,
            json!({"spec": {"replicas": "3"}}),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            json!({"spec": {"replicas": 1.5}}),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            json!({"spec": {"replicas": 3_000_000_000_u64}}),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            DEPLOYMENT,
            json!({"spec": []}),
            "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (DEPLOYMENT, json!([]), "json: cannot unmarshal array into Go value of type v1.Deployment"),
        (
            POD,
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            POD,
            json!({"metadata": {"labels": []}}),
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            POD,
            json!({"spec": {"containers": {}}}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            POD,
            json!({"spec": {"containers": [{"imagePullPolicy": true}]}}),
            "json: cannot unmarshal bool into Go struct field Container.spec.containers.imagePullPolicy of type v1.PullPolicy",
        ),
        (
            POD,
            json!({"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}}),
            "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            POD,
            json!({"metadata": {"creationTimestamp": 5}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            POD,
            json!({"metadata": {"creationTimestamp": "today"}}),
            "parsing time \"today\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"today\" as \"2006\"",
        ),
        (
            POD,
            json!({"metadata": {"creationTimestamp": "2024-13-01T00:00:00Z"}}),
            "parsing time \"2024-13-01T00:00:00Z\": month out of range",
        ),
        (
            POD,
            json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "much"}}}]}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            POD,
            json!({"spec": {"containers": [{"resources": {"limits": {"cpu": {}}}}]}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("io.k8s.api.core.v1.Secret", json!({"data": {"a": "!"}}), "illegal base64 data at input byte 0"),
        (
            "io.k8s.api.core.v1.Service",
            json!({"spec": {"ports": [{"targetPort": true}]}}),
            "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type int32",
        ),
    ];
    for (of, value, fault) in cases {
        check_value(of, value, &[], Some(fault), None);
    }
}

#[test]
fn base64_is_the_standard_one() {
    for text in ["", "YQ==", "YWI=", "YWJj", "YWJj\nYQ=="] {
        check_value("io.k8s.api.core.v1.Secret", json!({"data": {"a": text}}), &[], None, None);
    }
    for (text, at) in [("YQ", 0), ("YQ=", 0), ("YW=I", 3), ("=", 0), ("YWJj-", 4), ("YQ===", 4)] {
        let fault = format!("illegal base64 data at input byte {at}");
        check_value("io.k8s.api.core.v1.Secret", json!({"data": {"a": text}}), &[], Some(&fault), None);
    }
}

#[test]
fn verdicts_follow_the_mode() {
    let mut value = json!({"spec": {"foo": 1}});
    let report = check(builtin(), id(DEPLOYMENT), &mut value);
    let duplicates = ["spec.replicas".to_owned()];
    let verdict = |mode| {
        report
            .verdict(mode, "Deployment", "v1", &duplicates, None)
            .map_err(|status| (status.code, status.message))
    };
    assert_eq!(verdict(FieldValidation::Ignore), Ok(vec![]));
    let texts = vec!["duplicate field \"spec.replicas\"".to_owned(), "unknown field \"spec.foo\"".to_owned()];
    assert_eq!(verdict(FieldValidation::Warn), Ok(texts));
    let message = "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
                   duplicate field \"spec.replicas\", unknown field \"spec.foo\"";
    assert_eq!(verdict(FieldValidation::Strict), Err((400, message.to_owned())));
    let document: &[u8] = br#"{"spec": {"foo": 1, "replicas": 1, "replicas": 2}}"#;
    let ordered = report.verdict(FieldValidation::Warn, "Deployment", "v1", &duplicates, Some(document));
    let texts = ["unknown field \"spec.foo\"", "duplicate field \"spec.replicas\""].map(str::to_owned);
    assert_eq!(ordered.expect("warnings"), texts);
}

#[test]
fn decoding_is_bounded_and_sees_duplicates() {
    let decoded = decode(br#"{"a":1,"b":[{"c":1,"c":2}],"a":3}"#, 1000).expect("valid");
    assert_eq!(decoded.value, json!({"a": 3, "b": [{"c": 2}]}));
    assert_eq!(decoded.duplicates, ["b[0].c", "a"]);
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(decode(deep(100).as_bytes(), 1 << 20).is_ok());
    assert!(matches!(decode(deep(10_000).as_bytes(), 1 << 20), Err(DecodeError::Depth)));
    assert!(matches!(decode(b"[1]", 2), Err(DecodeError::TooLarge { limit: 2 })));
    for text in ["", "{", "{} x", "{\"a\":}", "\u{0}", "nul", "1e999"] {
        assert!(matches!(decode(text.as_bytes(), 100), Err(DecodeError::Syntax(_))), "{text:?}");
    }
}

#[test]
fn structural_schemas_check_custom_resources() {
    let definition = json!({"type": "object", "description": "A thing.", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "format": "int32"},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"a": {"type": "string"}}},
            "port": {"x-kubernetes-int-or-string": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "kept": {"type": "string", "nullable": true},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        }},
    }});
    let (schema, id) = Schema::from_structural("com.example.v1.Thing", &definition).expect("structural");
    let mut value = json!({
        "apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a", "bad": 1},
        "spec": {"size": 1, "any": {"b": [null]}, "open": {"a": "x", "c": null}, "port": "http", "labels": {"l": "m"},
            "kept": null, "parts": [{"name": "p", "q": 1}], "size2": 3},
        "status": {},
    });
    let mut report = check(&schema, id, &mut value);
    report.unknown.sort();
    assert_eq!(report.unknown, ["metadata.bad", "spec.parts[0].q", "spec.size2", "status"]);
    assert_eq!(report.mistyped, None);
    let after = json!({
        "apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"},
        "spec": {"size": 1, "any": {"b": [null]}, "open": {"a": "x", "c": null}, "port": "http", "labels": {"l": "m"},
            "kept": null, "parts": [{"name": "p"}]},
    });
    assert_eq!(value, after);
    let parts =
        schema.walk(id, &["spec", "parts"]).and_then(|field| schema.extra(field)).expect("a list type");
    assert_eq!(parts.list, Some(ListType::Map(vec!["name".into()])));
    let mut value = json!({"spec": {"size": "x"}});
    assert!(check(&schema, id, &mut value).mistyped.is_some());
}

#[test]
fn what_is_not_structural_is_refused() {
    let refuse =
        |definition: Value| Schema::from_structural("x.Y", &definition).map(|_| ()).expect_err("refused");
    let path = "openAPIV3Schema.properties[a]".to_owned();
    assert_eq!(refuse(json!({"properties": {"a": {}}})), StructuralError::NoType { path: path.clone() });
    let text = "int".to_owned();
    let unknown = StructuralError::UnknownType { path: path.clone(), text };
    assert_eq!(refuse(json!({"properties": {"a": {"type": "int"}}})), unknown);
    assert_eq!(refuse(json!({"properties": {"a": {"type": "array"}}})), StructuralError::NoItems { path });
}

/// Values whose keys often are fields of the types at hand.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,6}".prop_map(Value::from),
        Just(json!("2024-02-03T04:05:06.25Z")),
        Just(json!("1.50Gi")),
    ];
    let key = prop_oneof![
        Just("metadata"),
        Just("spec"),
        Just("containers"),
        Just("labels"),
        Just("template"),
        Just("resources"),
        Just("limits"),
        Just("env"),
        Just("ports"),
        Just("creationTimestamp"),
        Just("name"),
        Just("volumes"),
        Just("x"),
    ];
    leaf.prop_recursive(6, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn checking_is_idempotent(mut value in any_value()) {
        let first = check(builtin(), id(POD), &mut value);
        let once = value.clone();
        let second = check(builtin(), id(POD), &mut value);
        if first.mistyped.is_none() {
            prop_assert_eq!(second, Report::default());
            prop_assert_eq!(value, once);
        }
    }

    #[test]
    fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, 1000);
    }

    #[test]
    fn decoding_agrees_with_plain_parsing(value in any_value()) {
        let bytes = value.to_string();
        let plain: Value = serde_json::from_str(&bytes).expect("valid");
        prop_assert_eq!(decode(bytes.as_bytes(), 1 << 20).expect("valid").value, plain);
    }

    #[test]
    fn times_and_base64_never_panic(text in "\\PC{0,30}") {
        let mut value = json!({"metadata": {"creationTimestamp": text.clone()}, "data": {"a": text}});
        check(builtin(), id("io.k8s.api.core.v1.Secret"), &mut value);
    }
}
