use sampan_api::Gvr;
use serde_json::{Value, json};

use crate::conversion;
use crate::testing::{TestServer, bytes_of, request};

#[tokio::test]
async fn a_write_is_answered_with_what_it_stored_also_when_another_one_came_after() {
    let test = TestServer::start().await;
    let map = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"by": value}});
    test.create(
        "/api/v1/namespaces",
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}),
    )
    .await;
    test.create("/api/v1/namespaces/n/configmaps", &map("first")).await;
    let registry = &test.server.registry;
    let gvr = Gvr::new("", "v1", "configmaps");
    let resource = registry.resource(&gvr).expect("config maps are served");
    let first = registry.get(&gvr, Some("n"), "shared").expect("the config map");
    let revision = first.header.revision;
    let value: Value = first.decode().expect("JSON");
    let stored = conversion::encode(&resource.def, &conversion::without_revision(value)).expect("JSON");

    let (target, headers) =
        ("/api/v1/namespaces/n/configmaps/shared", [("content-type", "application/json")]);
    let answer = test.send(request("PUT", target, &headers, map("second").to_string())).await;
    assert_eq!(answer.status(), 200);
    let second: Value = serde_json::from_slice(&bytes_of(answer).await).expect("JSON");
    assert_eq!(second["data"]["by"], "second");

    let answered = registry.written(&resource, "n/shared", &stored, revision).await.expect("an object");
    assert_eq!(answered.header.revision, revision);
    assert_eq!(answered.bytes(), first.bytes());
}

#[tokio::test]
async fn pods_of_jobs_and_replication_controllers_outlive_them_unless_something_else_is_said() {
    let test = TestServer::start().await;
    test.create(
        "/api/v1/namespaces",
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}),
    )
    .await;
    let check = async |resource: (&str, &str, &str), options: Value, orphans: bool, warns: bool| {
        let (version, kind, list) = resource;
        let template = json!({"metadata": {"labels": {"a": "b"}},
            "spec": {"restartPolicy": if kind == "Job" { "Never" } else { "Always" }, "containers": [{"name": "c", "image": "i"}]}});
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "o"}, "spec": {"template": template}});
        if kind == "ReplicaSet" {
            object["spec"]["selector"] = json!({"matchLabels": {"a": "b"}});
        }
        test.create(list, &object).await;
        let target = format!("{list}/o");
        let headers = [("content-type", "application/json")];
        let answer = test.send(request("DELETE", &target, &headers, options.to_string())).await;
        assert_eq!(answer.headers().contains_key("warning"), warns, "{kind} {options}");
        let left: Value =
            serde_json::from_slice(&bytes_of(test.send(request("GET", &target, &[], "")).await).await)
                .expect("JSON");
        let expected = if orphans { json!(["orphan"]) } else { Value::Null };
        assert_eq!(left["metadata"]["finalizers"], expected, "{kind} {options}: {left}");
        let freed = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
        let headers = [("content-type", "application/json-patch+json")];
        if orphans {
            test.send(request("PATCH", &target, &headers, freed.to_string())).await;
        }
    };
    let job = ("batch/v1", "Job", "/apis/batch/v1/namespaces/n/jobs");
    let controller = ("v1", "ReplicationController", "/api/v1/namespaces/n/replicationcontrollers");
    let set = ("apps/v1", "ReplicaSet", "/apis/apps/v1/namespaces/n/replicasets");
    check(job, json!({}), true, true).await;
    check(job, json!({"propagationPolicy": "Orphan"}), true, false).await;
    check(job, json!({"propagationPolicy": "Background"}), false, false).await;
    check(job, json!({"orphanDependents": false}), false, false).await;
    check(controller, json!({}), true, false).await;
    check(set, json!({}), false, false).await;
}
