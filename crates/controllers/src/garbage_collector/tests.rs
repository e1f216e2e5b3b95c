use sampan_api::object::Header;
use serde_json::{Value, json};

use super::collect::{Standing, Verdict, judge};
use super::*;
use crate::testing::Bench;

#[test]
fn verdicts() {
    use Standing::{Dangling, Solid, Waiting};
    let release = |uids: &[&str]| Verdict::Release(uids.iter().map(|uid| (*uid).into()).collect());
    for (finalizers, standings, has_dependents, expected) in [
        (&[][..], &[][..], false, Verdict::Keep),
        (&[], &[Solid], false, Verdict::Keep),
        (&[], &[Solid, Dangling, Waiting], true, release(&["1", "2"])),
        (&[], &[Dangling, Dangling], true, Verdict::Delete("Background")),
        (&[], &[Dangling, Waiting], false, Verdict::Delete("Background")),
        (&[], &[Dangling, Waiting], true, Verdict::Delete("Foreground")),
        (&[ORPHAN], &[Dangling], true, Verdict::Delete("Orphan")),
        (&[FOREGROUND], &[Dangling], false, Verdict::Delete("Foreground")),
    ] {
        let finalizers = finalizers.iter().map(|one: &&str| (*one).into()).collect();
        let header = Header { finalizers, ..Header::default() };
        let standings: Vec<(Box<str>, Standing)> =
            standings.iter().enumerate().map(|(at, standing)| (at.to_string().into(), *standing)).collect();
        assert_eq!(judge(&header, &standings, has_dependents), expected, "{header:?} {standings:?}");
    }
}

/// A config map that names owners.
fn map(name: &str, owners: &[&Value], finalizers: &[&str]) -> Value {
    let owners: Vec<Value> = owners
        .iter()
        .map(|owner| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true})
        })
        .collect();
    json!({"metadata": {"name": name, "ownerReferences": owners, "finalizers": finalizers}})
}

/// Waits until a watched config map is in a state.
async fn until(bench: &Bench, name: &str, wanted: impl Fn(Option<&Value>) -> bool) {
    use futures_util::StreamExt;
    use sampan_client::WatchEvent;
    let options =
        ListOptions { field_selector: Some(format!("metadata.name={name}")), ..ListOptions::default() };
    let maps = Gvr::new("", "v1", "configmaps");
    let mut stream = bench.shared.client.backend().watch(&maps, Some("n"), &options).await.expect("a watch");
    if wanted(bench.find("", "v1", "configmaps", "n", name).await.as_ref()) {
        return;
    }
    loop {
        match stream.next().await.expect("the watch goes on").expect("works") {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                if wanted(Some(&object.decode().expect("JSON"))) {
                    return;
                }
            }
            WatchEvent::Deleted(_) if wanted(None) => return,
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
        }
    }
}

async fn create(bench: &Bench, map: Value) -> Value {
    bench.create("", "v1", "configmaps", "n", map).await
}

#[tokio::test]
async fn dependents_go_when_the_last_owner_went() {
    let bench = Bench::start().await;
    let (first, second) =
        (create(&bench, map("first", &[], &[])).await, create(&bench, map("second", &[], &[])).await);
    create(&bench, map("child", &[&first, &second], &[])).await;
    create(&bench, map("stray", &[&json!({"metadata": {"name": "first", "uid": "another"}})], &[])).await;
    let collector = GarbageCollector::start(bench.shared.clone());
    until(&bench, "stray", |map| map.is_none()).await;
    bench.delete("", "v1", "configmaps", "n", "first").await;
    until(&bench, "child", |map| {
        map.is_some_and(|map| {
            map["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.len() == 1)
        })
    })
    .await;
    bench.delete("", "v1", "configmaps", "n", "second").await;
    until(&bench, "child", |map| map.is_none()).await;
    collector.stop().await;
}

#[tokio::test]
async fn in_the_foreground_dependents_go_first() {
    let bench = Bench::start().await;
    let collector = GarbageCollector::start(bench.shared.clone());
    let owner = create(&bench, map("owner", &[], &[FOREGROUND])).await;
    let child = create(&bench, map("child", &[&owner], &["test/hold"])).await;
    until(&bench, "child", |map| map.is_some()).await;
    bench.delete("", "v1", "configmaps", "n", "owner").await;
    until(&bench, "child", |map| map.is_some_and(|map| !map["metadata"]["deletionTimestamp"].is_null()))
        .await;
    bench.get("", "v1", "configmaps", "n", "owner").await;
    let mut free = child;
    free["metadata"]["finalizers"] = json!([]);
    free["metadata"]["resourceVersion"] = json!("");
    bench.update("", "v1", "configmaps", "n", "child", free).await;
    until(&bench, "owner", |map| map.is_none()).await;
    collector.stop().await;
}

#[tokio::test]
async fn orphans_are_set_free() {
    let bench = Bench::start().await;
    let owner = create(&bench, map("owner", &[], &[ORPHAN])).await;
    create(&bench, map("child", &[&owner], &[])).await;
    let collector = GarbageCollector::start(bench.shared.clone());
    bench.delete("", "v1", "configmaps", "n", "owner").await;
    until(&bench, "owner", |map| map.is_none()).await;
    let child = bench.get("", "v1", "configmaps", "n", "child").await;
    assert_eq!(child["metadata"]["ownerReferences"], json!([]));
    collector.stop().await;
}

#[tokio::test]
async fn custom_resources_are_followed_as_they_appear() {
    let bench = Bench::start().await;
    let collector = GarbageCollector::start(bench.shared.clone());
    let owner = create(&bench, map("owner", &[], &[])).await;
    bench.serve(Gvr::new("example.com", "v1", "widgets"), "Widget");
    let definition = json!({"metadata": {"name": "widgets.example.com"}});
    bench.create("apiextensions.k8s.io", "v1", "customresourcedefinitions", "", definition).await;
    let widget = bench.create("example.com", "v1", "widgets", "n", map("widget", &[&owner], &[])).await;
    let mut child = map("child", &[&widget], &[]);
    child["metadata"]["ownerReferences"][0]["kind"] = json!("Widget");
    child["metadata"]["ownerReferences"][0]["apiVersion"] = json!("example.com/v1");
    create(&bench, child).await;
    bench.delete("", "v1", "configmaps", "n", "owner").await;
    until(&bench, "child", |map| map.is_none()).await;
    assert!(bench.find("example.com", "v1", "widgets", "n", "widget").await.is_none());
    collector.stop().await;
}
