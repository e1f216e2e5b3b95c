use std::collections::HashMap;

use serde_json::json;

use super::*;

#[test]
fn every_resource_has_a_schema_and_a_place() {
    let table = Table::builtin();
    assert_eq!(table.entries().len(), 68);
    let mut places: HashMap<String, Gvr> = HashMap::new();
    for entry in table.entries() {
        let (schema, id) = entry.schema().unwrap_or_else(|| panic!("{} has a schema", entry.gvr));
        let is_object =
            ["apiVersion", "kind", "metadata"].iter().all(|field| schema.field(id, field).is_some());
        assert!(is_object, "{}", entry.gvr);
        assert!(table.by_kind(&entry.gvr.api_version(), &entry.kind).is_some());
        if let Some(storage) = &entry.storage {
            assert!(table.get_gvr(&storage.stored_as).is_some(), "{} is served as it is stored", entry.gvr);
            let known = places.entry(storage.prefix.to_string()).or_insert_with(|| storage.stored_as.clone());
            assert_eq!(*known, storage.stored_as, "one version is stored below {}", storage.prefix);
        }
    }
    // No prefix may hide another's keys.
    for a in places.keys() {
        assert!(!places.keys().any(|b| b.starts_with(&format!("{a}/"))), "{a} holds another prefix");
    }
}

#[test]
fn resources_sharing_a_storage_have_the_same_fields() {
    let table = Table::builtin();
    for entry in table.entries() {
        let Some(storage) = &entry.storage else { continue };
        let stored = table.get_gvr(&storage.stored_as).expect("tested above");
        for (own, theirs) in entry.fields.iter().zip(&stored.fields) {
            assert_eq!(own.path, theirs.path);
        }
        assert!(entry.fields.len() <= stored.fields.len());
    }
}

#[test]
fn look_ups() {
    let table = Table::builtin();
    for (name, gvr) in [
        ("po", "pods.v1/"),
        ("Deployment", "deployments.v1/apps"),
        ("deploy.apps", "deployments.v1/apps"),
        ("hpa", "horizontalpodautoscalers.v2/autoscaling"),
        ("hpa.v1.autoscaling", "horizontalpodautoscalers.v1/autoscaling"),
        ("events", "events.v1/"),
        ("events.events.k8s.io", "events.v1/events.k8s.io"),
        ("pods.v1", "pods.v1/"),
    ] {
        assert_eq!(table.by_name(name).map(|entry| entry.gvr.to_string()).as_deref(), Some(gvr), "{name}");
    }
    assert!(table.by_name("deploy.batch").is_none());
    assert!(table.get("apps", "v1", "pods").is_none());
    let nodes = table.get("", "v1", "nodes").expect("nodes");
    assert_eq!(nodes.key("", "a").as_deref(), Some("/registry/minions/a"));
    let pods = table.get("", "v1", "pods").expect("pods");
    assert_eq!(pods.key("n", "a").as_deref(), Some("/registry/pods/n/a"));
    assert_eq!(table.group("autoscaling").expect("a group").versions, ["v2", "v1"]);
}

#[test]
fn entries_come_and_go_without_changing_a_snapshot() {
    let table = Table::builtin();
    let mut entry = (**table.get("", "v1", "configmaps").expect("configmaps")).clone();
    entry.gvr = Gvr::new("example.com", "v1", "things");
    let more = table.with(entry.clone()).with(entry.clone());
    assert_eq!(more.entries().len(), table.entries().len() + 1);
    assert!(table.get_gvr(&entry.gvr).is_none());
    assert_eq!(more.groups().last().expect("groups").name, "example.com");
    assert_eq!(more.without(&entry.gvr).entries().len(), table.entries().len());
}

#[test]
fn fields_are_read_as_selectors_compare_them() {
    let table = Table::builtin();
    let read = |resource: &str, field: &str, object: serde_json::Value| {
        let entry = table.get("", "v1", resource).expect("a resource");
        entry.fields.iter().find(|one| one.name == field).expect("a field").read(&object)
    };
    assert_eq!(read("pods", "spec.hostNetwork", json!({})), "false");
    assert_eq!(read("pods", "status.podIP", json!({"status": {"podIPs": [{"ip": "1.2.3.4"}]}})), "1.2.3.4");
    assert_eq!(read("events", "source", json!({"source": {}, "reportingComponent": "x"})), "x");
    assert_eq!(read("nodes", "spec.unschedulable", json!({"spec": {"unschedulable": true}})), "true");
}

#[test]
fn versions_rank_as_kubernetes_ranks_them() {
    let mut versions = ["v1alpha1", "v1", "v2beta1", "foo", "v10", "v2", "v1beta2", "v1beta1", "v2x"];
    versions.sort_by(|a, b| verbs::version_priority(b).cmp(&verbs::version_priority(a)).then(a.cmp(b)));
    assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1beta1", "v1alpha1", "foo", "v2x"]);
}
