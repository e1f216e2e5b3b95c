use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cluster::{Cluster, WorkloadKind};
use crate::fixtures::{asking, cluster, node, place, pod};
use crate::framework::{Cycle, Scorer};
use crate::labels::{Labels, selector};
use crate::pod::PodInfo;

/// What the filters say of a pod on each node: the reasons, joined, or nothing.
#[track_caller]
fn check(cluster: &Cluster, pod: &PodInfo, expected: &[(&str, &str)]) {
    let cycle = Cycle::new(cluster, pod);
    for (name, reasons) in expected {
        let said = match cycle.filter(cluster.node(name).expect("is there")) {
            Ok(()) => String::new(),
            Err(rejection) => {
                rejection.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
        };
        assert_eq!(said, *reasons, "{} on {name}", pod.name);
    }
}

/// The names of the nodes, best first, and whether each is better than the next.
#[track_caller]
fn ranks(cluster: &Cluster, pod: &PodInfo, expected: &[&str]) {
    let feasible: Vec<usize> = (0..cluster.nodes().len()).collect();
    let scorer = Scorer::new(cluster, pod, &feasible);
    let mut scores: Vec<(i64, &str)> =
        cluster.nodes().iter().map(|node| (scorer.score(cluster, pod, node), node.name())).collect();
    scores.sort_by(|a, b| b.cmp(a));
    let names: Vec<&str> = scores.iter().map(|(_, name)| *name).collect();
    assert_eq!(names, expected, "{scores:?}");
    assert!(scores.windows(2).all(|pair| pair[0].0 > pair[1].0), "{scores:?}");
}

fn tainted(name: &str, key: &str, value: &str, effect: &str) -> crate::node::NodeSpec {
    node(name, json!({ "spec": { "taints": [{ "key": key, "value": value, "effect": effect }] } }))
}

fn tolerating(toleration: Value) -> Arc<PodInfo> {
    pod("p", json!({ "spec": { "tolerations": [toleration] } }))
}

#[test]
fn unschedulable_nodes_need_a_toleration() {
    let cluster =
        cluster(vec![node("a", json!({ "spec": { "unschedulable": true } })), node("b", json!({}))], vec![]);
    check(&cluster, &pod("p", json!({})), &[("a", "node(s) were unschedulable"), ("b", "")]);
    let key = "node.kubernetes.io/unschedulable";
    check(&cluster, &tolerating(json!({ "key": key, "operator": "Exists" })), &[("a", "")]);
    check(
        &cluster,
        &tolerating(json!({ "key": key, "operator": "Exists", "effect": "NoExecute" })),
        &[("a", "node(s) were unschedulable")],
    );
}

#[test]
fn taints_need_tolerations() {
    let cluster = cluster(
        vec![
            tainted("a", "k", "v", "NoSchedule"),
            tainted("b", "k", "", "NoExecute"),
            tainted("c", "k", "v", "PreferNoSchedule"),
        ],
        vec![],
    );
    let (a, b) = ("node(s) had untolerated taint {k: v}", "node(s) had untolerated taint {k: }");
    check(&cluster, &pod("p", json!({})), &[("a", a), ("b", b), ("c", "")]);
    for (toleration, on_a, on_b) in [
        (json!({ "key": "k", "value": "v" }), "", b),
        (json!({ "key": "k", "operator": "Equal", "value": "w" }), a, b),
        (json!({ "key": "k", "operator": "Exists" }), "", ""),
        (json!({ "key": "k", "operator": "Exists", "effect": "NoSchedule" }), "", b),
        (json!({ "operator": "Exists" }), "", ""),
        (json!({ "key": "l", "operator": "Exists" }), a, b),
    ] {
        check(&cluster, &tolerating(toleration), &[("a", on_a), ("b", on_b)]);
    }
}

#[test]
fn preferred_taints_make_a_node_worse() {
    let cluster = cluster(vec![tainted("a", "k", "v", "PreferNoSchedule"), node("b", json!({}))], vec![]);
    ranks(&cluster, &pod("p", json!({})), &["b", "a"]);
}

fn wanting(expressions: Value) -> Arc<PodInfo> {
    let terms = json!([{ "matchExpressions": expressions }]);
    let required =
        json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
    pod("p", json!({ "spec": { "affinity": { "nodeAffinity": required } } }))
}

#[test]
fn node_affinity_knows_every_operator() {
    let labelled = |name: &str, labels: Value| node(name, json!({ "metadata": { "labels": labels } }));
    let cluster =
        cluster(vec![labelled("a", json!({ "k": "5" })), labelled("b", json!({ "z": "x" }))], vec![]);
    let no = "node(s) didn't match Pod's node affinity/selector";
    for (operator, values, on_a, on_b) in [
        ("In", json!(["4", "5"]), "", no),
        ("NotIn", json!(["5"]), no, ""),
        ("Exists", json!([]), "", no),
        ("DoesNotExist", json!([]), no, ""),
        ("Gt", json!(["4"]), "", no),
        ("Gt", json!(["5"]), no, no),
        ("Lt", json!(["6"]), "", no),
        ("Near", json!(["5"]), no, no),
    ] {
        let pod = wanting(json!([{ "key": "k", "operator": operator, "values": values }]));
        check(&cluster, &pod, &[("a", on_a), ("b", on_b)]);
    }
    check(&cluster, &wanting(json!([])), &[("a", no), ("b", no)]);
    check(&cluster, &pod("p", json!({ "spec": { "nodeSelector": { "k": "5" } } })), &[("a", ""), ("b", no)]);
    let field = json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["b"] }] }]);
    let required =
        json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": field } });
    let named = pod("p", json!({ "spec": { "affinity": { "nodeAffinity": required } } }));
    check(&cluster, &named, &[("a", no), ("b", "")]);
    assert_eq!(node_affinity::names(&named), Some(vec!["b"]));
}

#[test]
fn preferred_nodes_are_better_by_weight() {
    let cluster = cluster(
        vec![
            node("a", json!({})),
            node("b", json!({ "metadata": { "labels": { "k": "1" } } })),
            node("c", json!({ "metadata": { "labels": { "k": "2" } } })),
        ],
        vec![],
    );
    let term = |weight: i64, value: &str| {
        let expressions = json!([{ "key": "k", "operator": "In", "values": [value] }]);
        json!({ "weight": weight, "preference": { "matchExpressions": expressions } })
    };
    let preferred =
        json!({ "preferredDuringSchedulingIgnoredDuringExecution": [term(10, "1"), term(90, "2")] });
    ranks(
        &cluster,
        &pod("p", json!({ "spec": { "affinity": { "nodeAffinity": preferred } } })),
        &["c", "b", "a"],
    );
}

#[test]
fn a_port_of_a_node_is_had_once() {
    let with_port = |name: &str, ip: &str, protocol: &str| {
        let port = json!({ "containerPort": 80, "hostPort": 80, "hostIP": ip, "protocol": protocol });
        pod(name, json!({ "spec": { "containers": [{ "name": "c", "ports": [port] }] } }))
    };
    let cluster = cluster(
        vec![node("a", json!({})), node("b", json!({}))],
        vec![("a", with_port("x", "", "TCP")), ("b", with_port("y", "10.0.0.1", "TCP"))],
    );
    let no = "node(s) didn't have free ports for the requested pod ports";
    for (ip, protocol, on_a, on_b) in
        [("", "TCP", no, no), ("10.0.0.2", "TCP", no, ""), ("10.0.0.1", "TCP", no, no), ("", "UDP", "", "")]
    {
        check(&cluster, &with_port("p", ip, protocol), &[("a", on_a), ("b", on_b)]);
    }
    let own = pod(
        "p",
        json!({ "spec": { "hostNetwork": true,
        "containers": [{ "name": "c", "ports": [{ "containerPort": 80 }] }] } }),
    );
    check(&cluster, &own, &[("a", no), ("b", no)]);
}

#[test]
fn resources_must_fit() {
    let gpu = json!({ "status": { "allocatable": { "example.com/gpu": "2", "ephemeral-storage": "1Gi" } } });
    let small = json!({ "status": { "allocatable": { "cpu": "1", "pods": "1" } } });
    let cluster = cluster(
        vec![node("a", gpu), node("b", small)],
        vec![
            ("a", asking("x", json!({ "cpu": "3", "example.com/gpu": "1" }))),
            ("b", asking("y", json!({}))),
        ],
    );
    for (requests, on_a, on_b) in [
        (json!({}), "", "Too many pods"),
        (json!({ "cpu": "1" }), "", "Too many pods"),
        (json!({ "cpu": "1001m" }), "Insufficient cpu", "Too many pods, Insufficient cpu"),
        (
            json!({ "memory": "9Gi", "cpu": "2" }),
            "Insufficient cpu, Insufficient memory",
            "Too many pods, Insufficient cpu, Insufficient memory",
        ),
        (
            json!({ "example.com/gpu": "2" }),
            "Insufficient example.com/gpu",
            "Too many pods, Insufficient example.com/gpu",
        ),
        (
            json!({ "ephemeral-storage": "2Gi" }),
            "Insufficient ephemeral-storage",
            "Too many pods, Insufficient ephemeral-storage",
        ),
    ] {
        check(&cluster, &asking("p", requests), &[("a", on_a), ("b", on_b)]);
    }
}

#[test]
fn a_pod_needs_what_its_hungriest_moment_needs() {
    let cpu = |amount: &str| json!({ "requests": { "cpu": amount } });
    let app = |amount: &str| json!({ "name": "c", "resources": cpu(amount) });
    let sidecar = |amount: &str| json!({ "name": "s", "restartPolicy": "Always", "resources": cpu(amount) });
    for (containers, init, more, expected) in [
        (json!([app("1"), app("2")]), json!([]), json!({}), 3000),
        (json!([app("1"), app("2")]), json!([app("5")]), json!({}), 5000),
        (json!([app("1")]), json!([sidecar("1"), app("3")]), json!({}), 4000),
        (json!([app("1")]), json!([app("3"), sidecar("1")]), json!({}), 3000),
        (json!([app("4")]), json!([sidecar("1"), app("3")]), json!({}), 5000),
        (json!([app("1")]), json!([]), json!({ "overhead": { "cpu": "250m" } }), 1250),
        (json!([app("1")]), json!([]), json!({ "resources": cpu("2"), "overhead": { "cpu": "1" } }), 3000),
        (json!([{ "name": "c", "resources": { "limits": { "cpu": "2" } } }]), json!([]), json!({}), 2000),
    ] {
        let mut spec = json!({ "containers": containers, "initContainers": init });
        spec = crate::fixtures::with(spec, &more);
        let pod = pod("p", json!({ "spec": spec }));
        assert_eq!(pod.requests.milli_cpu, expected, "{spec}");
    }
}

#[test]
fn the_emptier_and_the_more_balanced_node_is_better() {
    let nodes = || vec![node("a", json!({})), node("b", json!({}))];
    let busy = asking("x", json!({ "cpu": "2", "memory": "4Gi" }));
    ranks(&cluster(nodes(), vec![("a", busy)]), &asking("p", json!({ "cpu": "1" })), &["b", "a"]);
    let cpu = asking("x", json!({ "cpu": "2", "memory": "1Gi" }));
    let memory = asking("y", json!({ "cpu": "500m", "memory": "4Gi" }));
    let cluster = cluster(nodes(), vec![("a", cpu), ("b", memory)]);
    let hungry_for_cpu = asking("p", json!({ "cpu": "2", "memory": "200Mi" }));
    ranks(&cluster, &hungry_for_cpu, &["b", "a"]);
}

#[test]
fn images_that_are_there_make_a_node_better() {
    let image = json!({ "status": { "images": [{ "names": ["i:latest"], "sizeBytes": 900 << 20 }] } });
    let nodes = vec![node("b", image), node("a", json!({}))];
    ranks(&cluster(nodes, vec![]), &pod("p", json!({})), &["b", "a"]);
}

fn zone(name: &str, zone: &str) -> crate::node::NodeSpec {
    node(name, json!({ "metadata": { "labels": { "zone": zone } } }))
}

fn app(name: &str, more: Value) -> Arc<PodInfo> {
    pod(name, crate::fixtures::with(json!({ "metadata": { "labels": { "app": "x" } } }), &more))
}

fn spread(skew: i64, key: &str, when: &str, more: Value) -> Value {
    let constraint = json!({
        "maxSkew": skew, "topologyKey": key, "whenUnsatisfiable": when,
        "labelSelector": { "matchLabels": { "app": "x" } },
    });
    json!({ "spec": { "topologySpreadConstraints": [crate::fixtures::with(constraint, &more)] } })
}

#[test]
fn hard_constraints_spread_pods() {
    let terminating = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    let cluster = cluster(
        vec![zone("a", "1"), zone("b", "1"), zone("c", "2"), node("d", json!({}))],
        vec![("a", app("x", json!({}))), ("c", app("y", terminating))],
    );
    let (no, unlabelled) = (
        "node(s) didn't match pod topology spread constraints",
        "node(s) didn't match pod topology spread constraints (missing required label)",
    );
    let hard = |skew, more| app("p", spread(skew, "zone", "DoNotSchedule", more));
    check(&cluster, &hard(1, json!({})), &[("a", no), ("b", no), ("c", ""), ("d", unlabelled)]);
    check(&cluster, &hard(2, json!({})), &[("a", ""), ("c", "")]);
    let stranger = pod("p", spread(1, "zone", "DoNotSchedule", json!({})));
    check(&cluster, &stranger, &[("a", ""), ("c", "")]);
    check(&cluster, &hard(1, json!({ "minDomains": 3 })), &[("a", no), ("c", "")]);
    let only_one = crate::fixtures::with(
        spread(1, "zone", "DoNotSchedule", json!({})),
        &json!({ "spec": { "nodeSelector": { "zone": "1" } } }),
    );
    check(&cluster, &app("p", only_one), &[("a", "")]);
    let keys = json!({ "matchLabelKeys": ["app"], "labelSelector": {} });
    check(&cluster, &hard(1, keys), &[("a", no), ("c", "")]);
}

#[test]
fn soft_constraints_prefer_emptier_places() {
    let full = cluster(vec![zone("a", "1"), zone("b", "2")], vec![("a", app("x", json!({})))]);
    ranks(&full, &app("p", spread(1, "zone", "ScheduleAnyway", json!({}))), &["b", "a"]);
    let host = spread(1, "kubernetes.io/hostname", "ScheduleAnyway", json!({}));
    ranks(&full, &app("p", host), &["b", "a"]);
}

#[test]
fn pods_of_a_service_are_spread_by_default() {
    // Equal in resources, so that only the spreading tells them apart.
    let mut cluster = cluster(
        vec![node("a", json!({})), node("b", json!({}))],
        vec![("a", app("x", json!({}))), ("b", pod("y", json!({})))],
    );
    let key = (WorkloadKind::Service, "default".into(), "s".into());
    cluster.set_workload(key, selector(&json!({ "matchLabels": { "app": "x" } })));
    ranks(&cluster, &app("p", json!({})), &["b", "a"]);
}

fn terms(kind: &str, term: Value) -> Value {
    let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] });
    json!({ "spec": { "affinity": { kind: required } } })
}

fn near_x(more: Value) -> Value {
    let term = json!({ "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": "x" } } });
    crate::fixtures::with(term, &more)
}

#[test]
fn required_affinity_keeps_pods_together() {
    let nodes = || vec![zone("a", "1"), zone("b", "1"), zone("c", "2"), node("d", json!({}))];
    let no = "node(s) didn't match pod affinity rules";
    let together = pod("p", terms("podAffinity", near_x(json!({}))));
    let full = cluster(nodes(), vec![("a", app("x", json!({})))]);
    check(&full, &together, &[("a", ""), ("b", ""), ("c", no), ("d", no)]);
    let empty = cluster(nodes(), vec![]);
    check(&empty, &together, &[("a", no)]);
    // The first of its kind may start anywhere with the label.
    let first = app("p", terms("podAffinity", near_x(json!({}))));
    check(&empty, &first, &[("a", ""), ("c", ""), ("d", no)]);
    check(&full, &first, &[("a", ""), ("c", no)]);
    let elsewhere = pod("p", terms("podAffinity", near_x(json!({ "namespaces": ["other"] }))));
    check(&full, &elsewhere, &[("a", no)]);
    let selected = pod(
        "p",
        terms("podAffinity", near_x(json!({ "namespaceSelector": { "matchLabels": { "t": "1" } } }))),
    );
    check(&full, &selected, &[("a", no)]);
    let mut labelled = cluster(nodes(), vec![("a", app("x", json!({})))]);
    labelled.set_namespace(
        "default",
        Labels::from([("t".into(), "1".into())].into_iter().collect::<std::collections::BTreeMap<_, _>>()),
    );
    check(&labelled, &selected, &[("a", ""), ("c", no)]);
}

#[test]
fn anti_affinity_keeps_pods_apart_both_ways() {
    let nodes = || vec![zone("a", "1"), zone("b", "1"), zone("c", "2")];
    let apart = terms("podAntiAffinity", near_x(json!({})));
    let own = "node(s) didn't match pod anti-affinity rules";
    let full = cluster(nodes(), vec![("a", app("x", json!({})))]);
    check(&full, &pod("p", apart.clone()), &[("a", own), ("b", own), ("c", "")]);
    let theirs = "node(s) didn't satisfy existing pods anti-affinity rules";
    let guarded = cluster(nodes(), vec![("a", pod("x", apart))]);
    check(&guarded, &app("p", json!({})), &[("a", theirs), ("b", theirs), ("c", "")]);
    check(&guarded, &pod("p", json!({})), &[("a", "")]);
}

#[test]
fn preferred_pods_draw_and_push() {
    let nodes = || vec![zone("a", "1"), zone("b", "2")];
    let preferred = |kind: &str| {
        let term = json!([{ "weight": 100, "podAffinityTerm": near_x(json!({})) }]);
        json!({ "spec": { "affinity": { kind: { "preferredDuringSchedulingIgnoredDuringExecution": term } } } })
    };
    let full = || cluster(nodes(), vec![("a", app("x", json!({})))]);
    ranks(&full(), &pod("p", preferred("podAffinity")), &["a", "b"]);
    ranks(&full(), &pod("p", preferred("podAntiAffinity")), &["b", "a"]);
    let drawing = cluster(nodes(), vec![("a", pod("x", preferred("podAffinity")))]);
    ranks(&drawing, &app("p", json!({})), &["a", "b"]);
    let required = cluster(nodes(), vec![("a", pod("x", terms("podAffinity", near_x(json!({})))))]);
    ranks(&required, &app("p", json!({})), &["a", "b"]);
}

#[test]
fn rooms_that_are_made_for_others_are_theirs() {
    let mut cluster = cluster(vec![node("a", json!({}))], vec![]);
    let important = json!({ "spec": { "priority": 10, "containers": [
        { "name": "c", "resources": { "requests": { "cpu": "3" } } }] } });
    let nominee = pod("n", important.clone());
    cluster.nominate(&nominee, Some("a"));
    check(&cluster, &asking("p", json!({ "cpu": "2" })), &[("a", "Insufficient cpu")]);
    check(&cluster, &asking("p", json!({ "cpu": "1" })), &[("a", "")]);
    check(&cluster, &nominee, &[("a", "")]);
    let higher = crate::fixtures::with(important, &json!({ "spec": { "priority": 11 } }));
    check(&cluster, &pod("p", higher), &[("a", "")]);
    place(&mut cluster, "a", &nominee);
    cluster.forget_nomination("n");
    check(&cluster, &asking("p", json!({ "cpu": "2" })), &[("a", "Insufficient cpu")]);
}

#[test]
fn normalised_scores_stay_in_range() {
    for (score, largest, reverse, expected) in
        [(0, 0, true, 100), (0, 0, false, 0), (3, 4, false, 75), (3, 4, true, 25), (4, 4, true, 0)]
    {
        assert_eq!(normalize(score, largest, reverse), expected);
    }
}
