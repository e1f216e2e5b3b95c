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
