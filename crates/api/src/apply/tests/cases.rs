//! What applying and updating do to objects and their owners.

use super::*;

#[test]
fn an_apply_owns_what_it_mentions() {
    let kind = One::config_map();
    let live = kind.apply(None, "a", &config_map(json!({"k": "v"})));
    assert_eq!(live["data"], json!({"k": "v"}));
    assert_eq!(applied(&live, "a"), json!({"f:data": {"f:k": {}}}));
    assert_eq!(live["metadata"]["managedFields"][0]["time"], "2026-01-01T00:00:00Z");
    // Another manager joins with a field of its own and one of the same value.
    let live = kind.apply(Some(&live), "b", &config_map(json!({"k": "v", "other": "w"})));
    assert_eq!(live["data"], json!({"k": "v", "other": "w"}));
    assert_eq!(applied(&live, "b"), json!({"f:data": {"f:k": {}, "f:other": {}}}));
    assert_eq!(applied(&live, "a"), json!({"f:data": {"f:k": {}}}));
}

#[test]
fn a_conflict_names_manager_and_field() {
    let kind = One::deployment();
    let live = kind.apply(None, "a", &deployment(json!({"replicas": 1, "paused": true})));
    let status = kind.conflict(&live, "b", &deployment(json!({"replicas": 2})));
    assert_eq!(status.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let causes = status.details.expect("details").causes;
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(causes[0].message, "conflict with \"a\"");
    assert_eq!(causes[0].field, ".spec.replicas");
    let scaled = {
        let mut new = live.clone();
        new["spec"]["replicas"] = 5.into();
        kind.update(Some(&live), "kubectl-edit", &new)
    };
    let status = kind.conflict(&scaled, "b", &deployment(json!({"replicas": 2, "paused": false})));
    assert_eq!(
        status.message,
        "Apply failed with 2 conflicts: conflicts with \"a\":\n- .spec.paused\nconflicts with \"kubectl-edit\" using apps/v1:\n- .spec.replicas"
    );
}

#[test]
fn force_takes_fields_over() {
    let kind = One::deployment();
    let live = kind.apply(None, "a", &deployment(json!({"replicas": 1, "paused": true})));
    let live = kind.force(&live, "b", &deployment(json!({"replicas": 2})));
    assert_eq!(live["spec"], json!({"replicas": 2, "paused": true}));
    assert_eq!(applied(&live, "a"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(applied(&live, "b"), json!({"f:spec": {"f:replicas": {}}}));
    // Who lost its last field is no manager any more.
    let live = kind.force(&live, "b", &deployment(json!({"replicas": 2, "paused": false})));
    assert_eq!(applied(&live, "a"), Value::Null);
}

#[test]
fn what_is_no_longer_applied_goes_unless_another_owns_it() {
    let kind = One::config_map();
    let live = kind.apply(None, "a", &config_map(json!({"mine": "1", "ours": "2"})));
    let live = kind.apply(Some(&live), "b", &config_map(json!({"ours": "2"})));
    let live = kind.apply(Some(&live), "a", &config_map(json!({})));
    assert_eq!(live["data"], json!({"ours": "2"}));
    let live = kind.apply(Some(&live), "b", &config_map(json!({})));
    assert!(live.get("data").is_none_or(|data| data == &json!({})), "{live}");
}

#[test]
fn metadata_that_nobody_owns_stays_when_all_of_it_that_was_applied_goes() {
    let kind = One::config_map();
    let config = |metadata: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    let live = config(json!({"name": "c", "uid": "u"}));
    let labelled = config(json!({"name": "c", "labels": {"a": "1"}}));
    for bare in [json!({"name": "c"}), json!({})] {
        let mut applied = kind.request("a").apply(Some(&live), &labelled, false).expect("no conflict");
        // By somebody who is not tracked.
        applied["metadata"]["finalizers"] = json!(["example.com/keep"]);
        let mut left = kind.request("a").apply(Some(&applied), &config(bare), false).expect("no conflict");
        let metadata = left["metadata"].as_object_mut().expect("it stays");
        metadata.retain(|_, value| !value.is_null());
        let expected = json!({"name": "c", "uid": "u", "finalizers": ["example.com/keep"]});
        assert_eq!(left["metadata"], expected);
    }
}

#[test]
fn items_of_keyed_lists_are_owned_one_by_one() {
    let kind = One::deployment();
    let containers =
        |containers: Value| deployment(json!({"template": {"spec": {"containers": containers}}}));
    let live = kind.apply(None, "a", &containers(json!([{"name": "one", "image": "i"}])));
    let live = kind.apply(Some(&live), "b", &containers(json!([{"name": "two", "image": "j"}])));
    let list = &live["spec"]["template"]["spec"]["containers"];
    assert_eq!(*list, json!([{"name": "one", "image": "i"}, {"name": "two", "image": "j"}]));
    let status = kind.conflict(&live, "b", &containers(json!([{"name": "one", "image": "k"}])));
    assert_eq!(
        status.message,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.template.spec.containers[name=\"one\"].image"
    );
    let live = kind.apply(Some(&live), "a", &containers(json!([])));
    assert_eq!(live["spec"]["template"]["spec"]["containers"], json!([{"name": "two", "image": "j"}]));
}

#[test]
fn keys_of_lists_have_defaults() {
    let kind = One::service();
    let ports = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}});
    let live = kind.apply(None, "a", &ports(json!([{"port": 80}])));
    let mut defaulted = live.clone();
    defaulted["spec"]["ports"][0]["protocol"] = "TCP".into();
    let live =
        kind.apply(Some(&defaulted), "a", &ports(json!([{"port": 80}, {"port": 80, "protocol": "UDP"}])));
    assert_eq!(
        live["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}])
    );
    let error = kind.request("a").apply(Some(&live), &ports(json!([{"port": 80}, {"port": 80}])), true);
    assert_eq!(
        error.expect_err("twice the same").to_string(),
        "failed to create typed patch object (/s; /v1, Kind=Service): \
         .spec.ports: duplicate entries for key [port=80,protocol=\"TCP\"]"
    );
}

#[test]
fn sets_are_owned_one_by_one() {
    let kind = One::config_map();
    let finalizers = |finalizers: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "finalizers": finalizers}});
    let live = kind.apply(None, "a", &finalizers(json!(["x/a"])));
    let live = kind.apply(Some(&live), "b", &finalizers(json!(["x/b"])));
    assert_eq!(live["metadata"]["finalizers"], json!(["x/a", "x/b"]));
    assert_eq!(applied(&live, "b"), json!({"f:metadata": {"f:finalizers": {"v:\"x/b\"": {}}}}));
    let live = kind.apply(Some(&live), "a", &finalizers(json!([])));
    assert_eq!(live["metadata"]["finalizers"], json!(["x/b"]));
}

#[test]
fn atomic_parts_are_owned_as_a_whole() {
    let kind = One::deployment();
    let selector = |labels: Value| deployment(json!({"selector": {"matchLabels": labels}}));
    let live = kind.apply(None, "a", &selector(json!({"a": "1", "b": "2"})));
    assert_eq!(applied(&live, "a"), json!({"f:spec": {"f:selector": {}}}));
    let status = kind.conflict(&live, "b", &selector(json!({"a": "1"})));
    assert!(status.message.ends_with(": .spec.selector"), "{}", status.message);
    let live = kind.force(&live, "b", &selector(json!({"c": "3"})));
    assert_eq!(live["spec"]["selector"]["matchLabels"], json!({"c": "3"}));
}

#[test]
fn an_update_takes_what_it_changes() {
    let kind = One::deployment();
    let created = kind.update(None, "kubectl-create", &deployment(json!({"replicas": 1, "paused": true})));
    assert_eq!(updated(&created, "kubectl-create"), json!({"f:spec": {"f:paused": {}, "f:replicas": {}}}));
    let mut new = created.clone();
    new["spec"]["replicas"] = 3.into();
    new["status"] = json!({"replicas": 1});
    let live = kind.update(Some(&created), "hpa", &new);
    assert_eq!(updated(&live, "hpa"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(updated(&live, "kubectl-create"), json!({"f:spec": {"f:paused": {}}}));
    // A removed field is nobody's.
    let mut new = live.clone();
    new["spec"].as_object_mut().expect("an object").remove("replicas");
    let live = kind.update(Some(&live), "x", &new);
    assert_eq!(updated(&live, "hpa"), Value::Null);
    assert_eq!(updated(&live, "x"), Value::Null);
}

#[test]
fn an_update_without_a_change_changes_no_owner() {
    let kind = One::deployment();
    let live = kind.apply(None, "a", &deployment(json!({"replicas": 1})));
    let mut new = live.clone();
    new["metadata"].as_object_mut().expect("an object").remove("managedFields");
    assert_eq!(kind.update(Some(&live), "b", &new), live);
}

#[test]
fn owners_can_be_reset_and_set() {
    let kind = One::config_map();
    let live = kind.apply(None, "a", &config_map(json!({"k": "v"})));
    for reset in [json!([]), json!([{}])] {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = reset;
        let live = kind.update(Some(&live), "b", &new);
        assert_eq!(live.pointer("/metadata/managedFields"), None);
        // From here on the first apply finds an owner of everything before it.
        let status = kind.conflict(&live, "c", &config_map(json!({"k": "w"})));
        assert_eq!(
            status.message,
            "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.k"
        );
    }
    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["manager"] = "renamed".into();
    assert_eq!(applied(&kind.update(Some(&live), "b", &new), "renamed"), json!({"f:data": {"f:k": {}}}));
    let mut new = live.clone();
    new["metadata"]["managedFields"][0]["operation"] = "nonsense".into();
    assert_eq!(applied(&kind.update(Some(&live), "b", &new), "a"), json!({"f:data": {"f:k": {}}}));
}

#[test]
fn what_was_never_tracked_stays_so_until_applied() {
    let kind = One::config_map();
    let live = kind.stored(config_map(json!({"k": "v"})));
    let mut new = live.clone();
    new["data"]["k"] = "w".into();
    assert_eq!(kind.update(Some(&live), "b", &new).pointer("/metadata/managedFields"), None);
    let live = kind.apply(Some(&live), "a", &config_map(json!({"other": "x"})));
    assert_eq!(updated(&live, "before-first-apply"), json!({"f:data": {".": {}, "f:k": {}}}));
}

#[test]
fn many_updaters_are_joined() {
    let kind = One::config_map();
    let mut live = kind.update(None, "m-00", &config_map(json!({"k": "0"})));
    for at in 1..15 {
        let mut new = live.clone();
        new["data"][format!("k{at}")] = "v".into();
        live = kind.update(Some(&live), &format!("m-{at:02}"), &new);
    }
    let entries = live["metadata"]["managedFields"].as_array().expect("entries");
    assert_eq!(entries.len(), 10);
    let ancient = updated(&live, "ancient-changes");
    assert_eq!(ancient["f:data"]["f:k1"], json!({}));
    assert_eq!(updated(&live, "m-14"), json!({"f:data": {"f:k14": {}}}));
}

#[test]
fn client_side_apply_may_become_server_side() {
    let kind = One::config_map();
    let last = config_map(json!({"k": "v"})).to_string();
    let mut object = config_map(json!({"k": "v"}));
    object["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    let live = kind.update(None, "kubectl-client-side-apply", &object);
    let changed = config_map(json!({"k": "w"}));
    // Only kubectl takes over what its client-side form set.
    assert_eq!(kind.conflict(&live, "other", &changed).code, 409);
    let live = kind.apply(Some(&live), "kubectl", &changed);
    assert_eq!(live["data"]["k"], "w");
    let annotation = &live["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    let text = annotation.as_str().expect("kept true");
    assert!(text.ends_with('\n'));
    assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), changed);
    // What somebody changed since is a conflict even so.
    let mut edited = live.clone();
    edited["data"]["k"] = "edited".into();
    let live = kind.update(Some(&live), "editor", &edited);
    assert_eq!(kind.conflict(&live, "kubectl", &changed).code, 409);
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let kind = One::deployment();
    let check = |config: Value, code: u16, message: &str| {
        let status = kind.request("a").apply(None, &config, false).expect_err("refused").status();
        assert_eq!((status.code, status.message.as_str()), (code, message));
    };
    check(json!({}), 400, "invalid object type: /, Kind=");
    check(json!({"apiVersion": "v1", "kind": "Pod"}), 400, "invalid object type: /v1, Kind=Pod");
    let typed = |spec: Value, fault: &str| {
        let message = format!("failed to create typed patch object (n/d; apps/v1, Kind=Deployment): {fault}");
        check(deployment(spec), 500, &message);
    };
    typed(json!({"foo": 1}), ".spec.foo: field not declared in schema");
    typed(json!({"replicas": "1"}), ".spec.replicas: expected numeric (int or float), got string");
    typed(json!({"template": []}), ".spec.template: expected map, got &{[]}");
    typed(
        json!({"paused": 1, "replicas": true}),
        "errors:\n  .spec.paused: expected boolean, got &{1}\n  .spec.replicas: expected numeric (int or float), got bool",
    );
    let containers = |list: Value| json!({"template": {"spec": {"containers": list}}});
    typed(
        containers(json!([{"name": "a"}, {"name": "a"}])),
        ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
    );
    typed(
        containers(json!([{"image": "a"}])),
        ".spec.template.spec.containers: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
    );
    let mut config = deployment(json!({}));
    config["metadata"]["managedFields"] = json!([]);
    check(config, 400, "metadata.managedFields must be nil");
}

#[test]
fn lists_merge_in_the_applied_order() {
    let kind = One::deployment();
    let names = |names: &[&str]| {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "i"})).collect();
        deployment(json!({"template": {"spec": {"containers": containers}}}))
    };
    let check = |live: &[&str], config: &[&str], expected: &[&str]| {
        let merged = merge(kind.typed(), &names(live), &names(config)).expect("merges");
        assert_eq!(merged, names(expected), "{live:?} and {config:?}");
    };
    check(&[], &["a", "b"], &["a", "b"]);
    check(&["a", "b"], &[], &["a", "b"]);
    check(&["a", "b"], &["c"], &["a", "b", "c"]);
    check(&["a", "b", "c"], &["c", "a"], &["b", "c", "a"]);
    check(&["a", "b", "c", "d"], &["d", "b"], &["a", "c", "d", "b"]);
    check(&["a", "b"], &["b", "c", "a"], &["b", "c", "a"]);
    check(&["x", "a", "y", "b", "z"], &["a", "n", "b"], &["x", "a", "y", "n", "b", "z"]);
}

#[test]
fn a_type_that_became_atomic_is_owned_as_a_whole() {
    let kind = One::deployment();
    let live =
        kind.apply(None, "a", &deployment(json!({"selector": {"matchLabels": {"a": "1"}}, "replicas": 1})));
    let mut old = live.clone();
    old["metadata"]["managedFields"][0]["fieldsV1"] =
        json!({"f:spec": {"f:replicas": {}, "f:selector": {"f:matchLabels": {"f:a": {}}}}});
    let live = kind.apply(Some(&old), "b", &deployment(json!({"replicas": 1})));
    assert_eq!(applied(&live, "a"), json!({"f:spec": {"f:replicas": {}, "f:selector": {}}}));
}

#[test]
fn custom_resources_merge_by_their_structural_schema() {
    let definition = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "list": {"type": "array", "items": {"type": "string"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
            "items": {"type": "object", "required": ["id"],
                "properties": {"id": {"type": "integer"}, "v": {"type": "string"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "open": {"type": "object", "additionalProperties": {"type": "string"}},
        "inner": {"type": "object", "additionalProperties":
            {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}},
    }}}});
    let (schema, id) = Schema::from_structural("com.example.v1.Thing", &definition).expect("structural");
    let kind = One {
        schema: Box::leak(Box::new(schema)),
        id,
        api_version: "example.com/v1",
        ignored: FieldSet::default(),
    };
    let thing = |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": spec});
    let spec = json!({"list": ["a"], "set": ["a"], "keyed": [{"id": 1, "v": "a"}], "free": {"x": {"y": [1]}},
        "whole": {"a": "b"}, "open": {"a": "b"}, "inner": {"k": ["a"]}});
    let live = kind.apply(None, "a", &thing(spec));
    assert_eq!(
        applied(&live, "a"),
        json!({"f:spec": {"f:list": {}, "f:set": {"v:\"a\"": {}},
            "f:keyed": {"k:{\"id\":1}": {".": {}, "f:id": {}, "f:v": {}}},
            "f:free": {"f:x": {".": {}, "f:y": {}}}, "f:whole": {}, "f:open": {"f:a": {}},
            "f:inner": {"f:k": {".": {}, "v:\"a\"": {}}}}})
    );
    let live = kind.apply(
        Some(&live),
        "b",
        &thing(json!({"set": ["b"], "keyed": [{"id": 2}], "free": {"x": {"z": 1}}, "open": {"c": "d"}, "inner": {"k": ["b"]}})),
    );
    assert_eq!(live["spec"]["inner"], json!({"k": ["a", "b"]}));
    assert_eq!(live["spec"]["set"], json!(["a", "b"]));
    assert_eq!(live["spec"]["keyed"], json!([{"id": 1, "v": "a"}, {"id": 2}]));
    assert_eq!(live["spec"]["free"], json!({"x": {"y": [1], "z": 1}}));
    assert_eq!(live["spec"]["open"], json!({"a": "b", "c": "d"}));
    assert_eq!(kind.conflict(&live, "b", &thing(json!({"list": ["b"]}))).code, 409);
    assert_eq!(kind.conflict(&live, "b", &thing(json!({"whole": {"c": "d"}}))).code, 409);
}

#[test]
fn what_is_applied_empty_stays_when_all_that_was_in_it_goes() {
    let kind = One::deployment();
    let finalizers = |finalizers: Value| {
        let mut object = deployment(json!({"paused": true}));
        object["metadata"]["finalizers"] = finalizers;
        object
    };
    let live = kind.update(None, "creator", &finalizers(json!([])));
    let live = kind.force(&live, "a", &finalizers(json!(["x/y"])));
    let once = kind.force(&live, "a", &finalizers(json!([])));
    assert_eq!(once["metadata"]["finalizers"], json!([]));
    // So that applying it once more changes nothing, and is no conflict with the creator.
    assert_eq!(kind.apply(Some(&once), "a", &finalizers(json!([]))), once);
}
