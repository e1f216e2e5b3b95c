use serde_json::{Value, json};

use super::*;
use crate::testing::Bench;

fn node(ready: Option<&str>, spec: Value) -> Node {
    let conditions = ready.map(
        |status| json!([{"type": "Ready", "status": status}, {"type": "DiskPressure", "status": "False"}]),
    );
    serde_json::from_value(
        json!({"metadata": {"name": "a"}, "spec": spec, "status": {"conditions": conditions}}),
    )
    .expect("a node")
}

/// The last part of each taint's key, and its effect.
fn taints(changes: &Changes) -> Option<Vec<String>> {
    let short = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
    changes
        .taints
        .as_ref()
        .map(|taints| taints.iter().map(|taint| format!("{}:{}", short(&taint.key), taint.effect)).collect())
}

#[test]
fn taints_follow_conditions() {
    let born = json!({"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}, {"key": "own/one", "effect": "NoExecute"}]});
    let own = "one:NoExecute";
    for (ready, spec, silent, evicts, expected) in [
        (Some("True"), json!({}), false, true, None),
        (Some("True"), born.clone(), false, true, Some(vec![own])),
        (None, born.clone(), false, true, None),
        (None, born.clone(), true, true, Some(vec![own, "unreachable:NoSchedule", "unreachable:NoExecute"])),
        (Some("False"), born, false, true, Some(vec!["not-ready:NoSchedule", own, "not-ready:NoExecute"])),
        (Some("True"), json!({}), true, true, Some(vec!["unreachable:NoSchedule", "unreachable:NoExecute"])),
        (Some("True"), json!({}), true, false, Some(vec!["unreachable:NoSchedule"])),
        (Some("True"), json!({"unschedulable": true}), false, true, Some(vec!["unschedulable:NoSchedule"])),
    ] {
        let changes = plan(&node(ready, spec.clone()), silent, evicts, Timestamp::UNIX_EPOCH);
        let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(taints(&changes), expected, "{ready:?} {spec} {silent}");
        assert_eq!(changes.conditions.is_some(), silent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_lost_until_it_speaks() {
    let bench = Bench::start().await;
    let silent = json!({"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": "True",
        "lastHeartbeatTime": "2024-01-01T00:00:00Z"}]}});
    bench.create("", "v1", "nodes", "", silent).await;
    bench
        .create(
            "",
            "v1",
            "pods",
            "n",
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "a", "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}),
        )
        .await;
    bench.shown(Kind::Node, "a").await;
    bench.shown(Kind::Pod, "n/p").await;
    let nodes = Nodes::default();
    assert_eq!(nodes.reconcile(&bench.shared, "a").await.expect("works"), Some(GRACE));
    tokio::time::advance(GRACE).await;
    assert_eq!(nodes.reconcile(&bench.shared, "a").await.expect("works"), None);
    let lost = bench.get("", "v1", "nodes", "", "a").await;
    assert_eq!(lost["status"]["conditions"][0]["reason"], "NodeStatusUnknown");
    assert_eq!(lost["spec"]["taints"][0]["key"], "node.kubernetes.io/unreachable");
    assert_eq!(lost["spec"]["taints"].as_array().map(Vec::len), Some(1), "the only node is not emptied");
    let pod = bench.get("", "v1", "pods", "n", "p").await;
    assert_eq!(pod["status"]["conditions"][0]["status"], "False");
}
