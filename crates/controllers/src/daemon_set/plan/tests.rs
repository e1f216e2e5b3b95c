use serde_json::{Value, json};

use super::*;

fn set(strategy: Value) -> DaemonSet {
    let spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {"containers": []}},
        "updateStrategy": strategy});
    serde_json::from_value(json!({"metadata": {"name": "d", "uid": "d"}, "spec": spec})).expect("a set")
}

fn rolling(max_unavailable: Value, max_surge: Value) -> DaemonSet {
    set(json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": max_unavailable, "maxSurge": max_surge}}))
}

/// A pod as node, revision, and `!` for one that is not ready, `-` that goes, `x` that failed.
fn pod(text: &str) -> Pod {
    let mut parts = text.split(' ');
    let (node, hash) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let state = parts.next().unwrap_or_default();
    let phase = if state == "x" { "Failed" } else { "Running" };
    let ready = if state == "!" { "False" } else { "True" };
    let mut pod = json!({
        "metadata": {"name": text, "uid": text, "labels": {"controller-revision-hash": hash}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    });
    if state == "-" {
        pod["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
    }
    serde_json::from_value(pod).expect("a pod")
}

fn planned(set: &DaemonSet, nodes: &[&str], pods: &[&str]) -> (Vec<String>, DaemonSetStatus) {
    let template = nodes::with_tolerations(&set.spec.as_ref().expect("a spec").template);
    // A node that ends in `!` is tainted.
    let node = |text: &&str| {
        let taints = text.ends_with('!').then(|| json!([{"key": "x", "effect": "NoExecute"}]));
        let node = json!({"metadata": {"name": text.trim_end_matches('!')}, "spec": {"taints": taints}});
        serde_json::from_value(node).expect("a node")
    };
    let nodes: Vec<Node> = nodes.iter().map(node).collect();
    let pods: Vec<Pod> = pods.iter().map(|text| pod(text)).collect();
    let snapshot = Snapshot {
        set,
        template: &template,
        hash: "new",
        collisions: 0,
        nodes: &nodes,
        pods: &pods,
        settled: true,
        now: "2024-01-01T00:00:00Z".parse().expect("a time"),
    };
    let (plan, status) = plan(&snapshot);
    let mut steps: Vec<String> = plan.create.iter().map(|node| format!("+{node}")).collect();
    steps.extend(plan.delete.iter().map(|index| format!("-{}", name(&pods[*index].metadata))));
    (steps, status)
}

fn check(set: &DaemonSet, nodes: &[&str], pods: &[&str], expected: &[&str]) {
    assert_eq!(planned(set, nodes, pods).0, expected, "{nodes:?} {pods:?}");
}

#[test]
fn one_pod_on_every_node_that_lets_it() {
    let set = rolling(json!(1), json!(0));
    check(&set, &["a", "b", "c!"], &[], &["+a", "+b"]);
    check(&set, &["a", "b"], &["a new"], &["+b"]);
    check(&set, &["a", "b!"], &["a new", "b new"], &["-b new"]);
    check(&set, &["a"], &["a new", "a new !"], &["-a new !"]);
    check(&set, &["a"], &["a new x"], &["-a new x"]);
    check(&set, &["a"], &["a new -"], &[]);
}

#[test]
fn an_update_removes_what_may_be_missing() {
    let nodes = ["a", "b", "c"];
    let one = rolling(json!(1), json!(0));
    check(&one, &nodes, &["a old", "b old", "c old"], &["-a old"]);
    check(&one, &nodes, &["a new !", "b old", "c old"], &[]);
    check(&one, &nodes, &["a new", "b old", "c old"], &["-b old"]);
    check(&one, &nodes, &["a old -", "b old", "c old"], &[]);
    // What does not serve anyway may go at once.
    check(&one, &nodes, &["a old !", "b old !", "c old"], &["-a old !", "-b old !", "-c old"]);
    check(&rolling(json!("50%"), json!(0)), &nodes, &["a old", "b old", "c old"], &["-a old", "-b old"]);
    check(&set(json!({"type": "OnDelete"})), &nodes, &["a old", "b old", "c old"], &[]);
}

#[test]
fn or_adds_what_may_be_too_many() {
    let surge = rolling(json!(0), json!(1));
    let nodes = ["a", "b"];
    check(&surge, &nodes, &["a old", "b old"], &["+a"]);
    check(&surge, &nodes, &["a old", "a new !", "b old"], &[]);
    check(&surge, &nodes, &["a old", "a new", "b old"], &["-a old"]);
    check(&surge, &nodes, &["a new", "b old"], &["+b"]);
    check(&surge, &nodes, &["a old !", "a new !", "b new"], &["-a old !"]);
}

#[test]
fn the_status_counts_nodes() {
    let set = rolling(json!(1), json!(0));
    let (_, status) = planned(&set, &["a", "b", "c", "d!"], &["a new", "b old !", "d new"]);
    assert_eq!(status.desired_number_scheduled, 3);
    assert_eq!(status.current_number_scheduled, 2);
    assert_eq!(status.number_misscheduled, 1);
    assert_eq!(
        (status.number_ready, status.number_available, status.number_unavailable),
        (1, Some(1), Some(2))
    );
    assert_eq!(status.updated_number_scheduled, Some(1));
}
