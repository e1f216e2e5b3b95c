use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::Budget;
use crate::fixtures::{asking, cluster, node, place, pod};
use crate::labels::selector;

fn refusal(cluster: &Cluster, pod: &PodInfo) -> Refusal {
    match Algorithm::default().schedule(cluster, pod) {
        Decision::Refuse(refusal) => refusal,
        Decision::Assign { node } => panic!("{} goes to {node}", pod.name),
    }
}

fn with_priority(name: &str, priority: i32, cpu: &str, more: Value) -> Arc<PodInfo> {
    let pod_json = json!({ "spec": { "priority": priority,
        "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] } });
    pod(name, crate::fixtures::with(pod_json, &more))
}

#[test]
fn refusals_say_what_upstream_says() {
    let taint = json!({ "spec": { "taints": [{ "key": "k", "value": "v", "effect": "NoSchedule" }] } });
    let cluster = cluster(vec![node("a", taint), node("b", json!({})), node("c", json!({}))], vec![]);
    assert_eq!(
        refusal(&cluster, &asking("p", json!({ "cpu": "5" }))).message,
        "0/3 nodes are available: 1 node(s) had untolerated taint {k: v}, 2 Insufficient cpu. \
         preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    let full =
        crate::fixtures::cluster(vec![node("a", json!({}))], vec![("a", asking("x", json!({ "cpu": "4" })))]);
    assert_eq!(
        refusal(&full, &asking("p", json!({ "cpu": "1" }))).message,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
         1 No preemption victims found for incoming pod."
    );
    assert_eq!(
        refusal(
            &full,
            &pod(
                "p",
                json!({ "spec": { "preemptionPolicy": "Never",
            "nodeSelector": { "k": "v" } } })
            )
        )
        .message,
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. \
         preemption: not eligible due to preemptionPolicy=Never."
    );
    assert_eq!(
        refusal(&Cluster::default(), &pod("p", json!({}))).message,
        "no nodes available to schedule pods"
    );
}

#[test]
fn a_pod_that_names_its_node_is_asked_there_only() {
    let cluster = cluster(vec![node("a", json!({})), node("b", json!({}))], vec![]);
    let named = |name: &str, cpu: &str| {
        let term =
            json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [name] }] }]);
        let required =
            json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": term } });
        with_priority("p", 0, cpu, json!({ "spec": { "affinity": { "nodeAffinity": required } } }))
    };
    let decision = Algorithm::default().schedule(&cluster, &named("b", "1"));
    assert_eq!(decision, Decision::Assign { node: "b".into() });
    assert!(refusal(&cluster, &named("b", "9")).message.starts_with(
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    ));
}

#[test]
fn a_refusal_holds_until_something_is_freed() {
    let mut cluster = cluster(vec![node("a", json!({}))], vec![("a", asking("x", json!({ "cpu": "4" })))]);
    let mut algorithm = Algorithm::default();
    for name in ["p", "q"] {
        assert!(matches!(
            algorithm.schedule(&cluster, &asking(name, json!({ "cpu": "1" }))),
            Decision::Refuse(_)
        ));
    }
    cluster.remove_pod("x");
    let decision = algorithm.schedule(&cluster, &asking("p", json!({ "cpu": "1" })));
    assert_eq!(decision, Decision::Assign { node: "a".into() });
}

#[test]
fn preemption_takes_the_least() {
    let started = |text: &str| json!({ "status": { "startTime": text } });
    let nodes = || vec![node("a", json!({})), node("b", json!({}))];
    let early = started("2026-01-01T00:00:00Z");
    let late = started("2026-01-02T00:00:00Z");
    let p = |name, priority, cpu, more: &Value| with_priority(name, priority, cpu, more.clone());
    let none = json!({});
    for (on_a, on_b, expected) in [
        // The lower priority goes.
        (vec![p("x", 5, "4", &none)], vec![p("y", 4, "4", &none)], ("b", vec!["y"])),
        // Fewer go.
        (vec![p("x", 5, "4", &none)], vec![p("y", 5, "2", &none), p("z", 5, "2", &none)], ("a", vec!["x"])),
        // Who is not in the way stays.
        (
            vec![p("x", 9, "4", &none)],
            vec![p("y", 5, "1", &early), p("z", 5, "3", &late)],
            ("b", vec!["y", "z"]),
        ),
        // The younger goes.
        (vec![p("x", 5, "4", &early)], vec![p("y", 5, "4", &late)], ("b", vec!["y"])),
        // Nobody of the same priority goes.
        (vec![p("x", 10, "4", &none)], vec![p("y", 5, "4", &none)], ("b", vec!["y"])),
    ] {
        let pods = on_a.into_iter().map(|pod| ("a", pod)).chain(on_b.into_iter().map(|pod| ("b", pod)));
        let cluster = cluster(nodes(), pods.collect());
        let preemption = refusal(&cluster, &p("p", 10, "4", &none)).preemption.expect("helps");
        let victims: Vec<&str> = preemption.victims.iter().map(|pod| &*pod.name).collect();
        assert_eq!((&*preemption.node, victims), expected);
    }
}

#[test]
fn preemption_lets_back_who_fits() {
    let early = json!({ "status": { "startTime": "2026-01-01T00:00:00Z" } });
    let cluster = cluster(
        vec![node("a", json!({}))],
        vec![
            ("a", with_priority("x", 5, "1", early)),
            ("a", with_priority("y", 5, "1", json!({ "status": { "startTime": "2026-01-02T00:00:00Z" } }))),
            ("a", with_priority("z", 4, "2", json!({}))),
        ],
    );
    let refusal = refusal(&cluster, &with_priority("p", 10, "2", json!({})));
    let victims: Vec<_> =
        refusal.preemption.expect("helps").victims.iter().map(|pod| pod.name.clone()).collect();
    assert_eq!(victims, ["z".into()]);
    assert_eq!(refusal.message, "0/1 nodes are available: 1 Insufficient cpu.");
}

#[test]
fn preemption_spares_protected_pods() {
    let labelled = |name, priority| {
        with_priority(name, priority, "4", json!({ "metadata": { "labels": { "app": name } } }))
    };
    let mut cluster = cluster(
        vec![node("a", json!({})), node("b", json!({}))],
        vec![("a", labelled("x", 1)), ("b", labelled("y", 5))],
    );
    let budget = |allowed| Budget {
        namespace: "default".into(),
        selector: selector(&json!({ "matchLabels": { "app": "x" } })),
        allowed,
        disrupted: vec![],
    };
    for (allowed, expected) in [(0, "b"), (1, "a")] {
        cluster.set_budget("default/x".to_owned(), budget(allowed));
        let refusal = refusal(&cluster, &with_priority("p", 10, "4", json!({})));
        assert_eq!(&*refusal.preemption.expect("helps").node, expected);
    }
}

#[test]
fn a_pod_waits_for_the_victims_that_go() {
    let going = json!({
        "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" },
        "status": { "conditions": [
            { "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler" }] },
    });
    let cluster = cluster(vec![node("a", json!({}))], vec![("a", with_priority("x", 1, "4", going))]);
    let waiting = with_priority("p", 10, "4", json!({ "status": { "nominatedNodeName": "a" } }));
    let refusal = refusal(&cluster, &waiting);
    assert!(refusal.preemption.is_none() && refusal.keeps_nomination);
    assert!(
        refusal.message.ends_with("preemption: not eligible due to a terminating pod on the nominated node.")
    );
}

#[test]
fn large_clusters_spread_a_class_evenly() {
    let nodes = (0..1000).map(|at| node(&format!("n{at}"), json!({}))).collect();
    let mut cluster = cluster(nodes, vec![]);
    let mut algorithm = Algorithm::default();
    for at in 0..2000 {
        let pod = asking(&format!("p{at}"), json!({ "cpu": "1" }));
        match algorithm.schedule(&cluster, &pod) {
            Decision::Assign { node } => cluster.assume(pod, &node),
            Decision::Refuse(refusal) => panic!("{}", refusal.message),
        }
    }
    let most = cluster.nodes().iter().map(|node| node.pods.len()).max();
    assert!(most <= Some(3), "{most:?} pods on one node, of two on average");
}

#[test]
fn what_a_class_found_is_asked_again() {
    let nodes = (0..120).map(|at| node(&format!("n{at}"), json!({}))).collect();
    let mut cluster = cluster(nodes, vec![]);
    let mut algorithm = Algorithm::default();
    assert!(matches!(
        algorithm.schedule(&cluster, &asking("p", json!({ "cpu": "1" }))),
        Decision::Assign { .. }
    ));
    for at in 0..120 {
        cluster.assume(asking(&format!("filler-{at}"), json!({ "cpu": "4" })), &format!("n{at}"));
    }
    assert!(matches!(algorithm.schedule(&cluster, &asking("q", json!({ "cpu": "1" }))), Decision::Refuse(_)));
}

/// A pod of the property test: CPU in halves, whether it keeps to zone 1, whether it keeps apart
/// from its like, and its priority.
type Wish = (u8, bool, bool, u8);

fn wish() -> impl Strategy<Value = Wish> {
    (0..7u8, any::<bool>(), prop::bool::weighted(0.2), 0..3u8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_node_is_overcommitted_and_every_wish_is_kept(
        nodes in 1..140usize,
        wishes in prop::collection::vec(wish(), 1..60),
        removals in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let zone = |at: usize| json!({ "metadata": { "labels": { "zone": (at % 2).to_string() } } });
        let mut cluster = cluster((0..nodes).map(|at| node(&format!("n{at}"), zone(at))).collect(), vec![]);
        let mut algorithm = Algorithm::default();
        let mut assumed = Vec::new();
        for (at, wish) in wishes.iter().enumerate() {
            let pod = wishing(at, *wish);
            match algorithm.schedule(&cluster, &pod) {
                Decision::Assign { node } => {
                    if wish.0 % 2 == 0 { place(&mut cluster, &node, &pod) } else { cluster.assume(pod.clone(), &node) }
                    assumed.push(pod);
                }
                Decision::Refuse(_) => {
                    let takes = |node: &&crate::node::NodeInfo| Cycle::new(&cluster, &pod).filter(node).is_ok();
                    prop_assert!(!cluster.nodes().iter().any(|node| takes(&node)), "{} was refused", pod.name);
                }
            }
            if let Some(removal) = removals.get(at).filter(|_| !assumed.is_empty()) {
                let gone = assumed.swap_remove(removal.index(assumed.len()));
                cluster.remove_pod(&gone.uid);
            }
        }
        check_wishes(&cluster);
    }
}

fn wishing(at: usize, (cpu, zoned, apart, priority): Wish) -> Arc<PodInfo> {
    let mut more = json!({
        "metadata": { "labels": { "apart": apart.to_string() } },
        "spec": { "priority": priority },
    });
    if zoned {
        more["spec"]["nodeSelector"] = json!({ "zone": "1" });
    }
    if apart {
        let term = json!({ "topologyKey": "kubernetes.io/hostname",
            "labelSelector": { "matchLabels": { "apart": "true" } } });
        more["spec"]["affinity"]["podAntiAffinity"] =
            json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] });
    }
    with_priority(&format!("p{at}"), priority.into(), &format!("{}m", u32::from(cpu) * 500), more)
}

fn check_wishes(cluster: &Cluster) {
    for node in cluster.nodes() {
        let cpu: i64 = node.pods.iter().map(|pod| pod.requests.milli_cpu).sum();
        assert_eq!(cpu, node.requested.milli_cpu);
        assert!(cpu <= node.spec.allocatable.milli_cpu, "{} is overcommitted", node.name());
        let apart = node.pods.iter().filter(|pod| pod.labels.get("apart") == Some("true")).count();
        assert!(apart <= 1, "{} has {apart} that keep apart", node.name());
        let zoned: HashMap<_, _> = node.pods.iter().flat_map(|pod| pod.node_selector.iter()).collect();
        assert!(zoned.into_iter().all(|(key, value)| node.label(key) == Some(value)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn kept_counts_keep_the_skew(
        nodes in 2..12usize,
        steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..80),
    ) {
        let zone = |at: usize| json!({ "metadata": { "labels": { "zone": (at % 3).to_string() } } });
        let mut cluster = cluster((0..nodes).map(|at| node(&format!("n{at}"), zone(at))).collect(), vec![]);
        let mut algorithm = Algorithm::default();
        let mut placed: Vec<Arc<PodInfo>> = Vec::new();
        for (at, (remove, index)) in steps.into_iter().enumerate() {
            if remove && !placed.is_empty() {
                let gone = placed.swap_remove(index.index(placed.len()));
                cluster.remove_pod(&gone.uid);
                continue;
            }
            let constraint = json!({ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": { "matchLabels": { "app": "x" } } });
            let pod = pod(&format!("p{at}"), json!({ "metadata": { "labels": { "app": "x" } },
                "spec": { "topologySpreadConstraints": [constraint] } }));
            let fresh = Cycle::new(&cluster, &pod);
            match algorithm.schedule(&cluster, &pod) {
                Decision::Assign { node } => {
                    let node = cluster.node(&node).expect("is there").clone();
                    prop_assert!(fresh.filter(&node).is_ok(), "{} breaks the skew", node.name());
                    cluster.assume(pod.clone(), node.name());
                    placed.push(pod);
                }
                Decision::Refuse(_) => prop_assert!(!cluster.nodes().iter().any(|node| fresh.filter(node).is_ok())),
            }
        }
    }
}
