//! Decisions per second: `cargo run --release -p sampan-scheduler --example schedule_rate`.
//!
//! The deciding part alone, on 5,000 nodes in three zones that start half full, for pods of one
//! service (which are spread by default), for pods that each are different, for pods that must be
//! spread over the zones, and for pods that must be apart.

use std::sync::Arc;
use std::time::Instant;

use sampan_api::Object;
use sampan_scheduler::algorithm::{Algorithm, Decision};
use sampan_scheduler::cluster::{Cluster, WorkloadKind};
use sampan_scheduler::node::NodeSpec;
use sampan_scheduler::pod::{Classes, PodInfo};
use serde_json::{Value, json};

const NODES: usize = 5000;
const PRESENT: usize = 50_000;
const PODS: usize = 10_000;

fn object(value: &Value) -> Object {
    Object::parse(serde_json::to_vec(value).expect("serialises").into()).expect("is an object")
}

fn pod(name: &str, app: &str, more: &Value) -> Arc<PodInfo> {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name, "labels": { "app": app } },
        "spec": { "containers": [{ "name": "c", "image": "registry.example.com/app:1",
            "resources": { "requests": { "cpu": "100m", "memory": "128Mi" } } }] },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    Arc::new(PodInfo::parse(&object(&pod), &mut Classes::default()).expect("is a pod"))
}

fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for at in 0..NODES {
        let name = format!("node-{at}");
        let labels =
            json!({ "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("z{}", at % 3) });
        let node = json!({
            "metadata": { "name": name, "labels": labels },
            "status": { "allocatable": { "cpu": "4", "memory": "16Gi", "pods": "110" } },
        });
        cluster.set_node(NodeSpec::parse(&object(&node)).expect("is a node"));
    }
    for at in 0..PRESENT {
        let present = pod(&format!("present-{at}"), &format!("app-{}", at % 500), &json!({}));
        cluster.assume(present, &format!("node-{}", at % NODES));
    }
    let selector = sampan_scheduler::labels::selector(&json!({ "matchLabels": { "app": "web" } }));
    cluster.set_workload((WorkloadKind::Service, "default".into(), "web".into()), selector);
    cluster
}

fn measure(title: &str, pods: Vec<Arc<PodInfo>>) {
    let mut cluster = cluster();
    let mut algorithm = Algorithm::default();
    let count = pods.len();
    let start = Instant::now();
    for pod in pods {
        match algorithm.schedule(&cluster, &pod) {
            Decision::Assign { node } => cluster.assume(pod, &node),
            Decision::Refuse(refusal) => panic!("{}", refusal.message),
        }
    }
    println!("{title}: {:.0} pods/s", count as f64 / start.elapsed().as_secs_f64());
}

fn main() {
    let name = |at: usize| format!("pod-{at}");
    measure("one service", (0..PODS).map(|at| pod(&name(at), "web", &json!({}))).collect());
    measure("each different", (0..PODS / 10).map(|at| pod(&name(at), &name(at), &json!({}))).collect());
    let spread = json!({ "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "web" } } }] });
    measure("spread over zones", (0..PODS / 10).map(|at| pod(&name(at), "web", &spread)).collect());
    let apart = json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "web" } } }] } } });
    measure("apart from each other", (0..PODS / 10).map(|at| pod(&name(at), "web", &apart)).collect());
}
