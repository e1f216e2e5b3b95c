//! Pods and nodes for tests, from the JSON that the API has.

use std::sync::Arc;

use sampan_api::Object;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::labels::Labels;
use crate::node::NodeSpec;
use crate::pod::{Classes, PodInfo};

/// Merges `more` into `value`, as RFC 7386 does.
pub fn with(mut value: Value, more: &Value) -> Value {
    fn merge(value: &mut Value, more: &Value) {
        match (value, more) {
            (Value::Object(value), Value::Object(more)) => {
                for (key, more) in more {
                    merge(value.entry(key).or_insert(Value::Null), more);
                }
            }
            (value, more) => *value = more.clone(),
        }
    }
    merge(&mut value, more);
    value
}

fn object(value: &Value) -> Object {
    Object::parse(serde_json::to_vec(value).expect("serialises").into()).expect("is an object")
}

pub fn node_json(name: &str, more: &Value) -> Value {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name } },
        "status": { "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" } },
    });
    with(node, more)
}

pub fn pod_json(name: &str, more: &Value) -> Value {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "schedulerName": "default-scheduler", "containers": [{ "name": "c", "image": "i" }] },
    });
    with(pod, more)
}

pub fn node(name: &str, more: Value) -> NodeSpec {
    NodeSpec::parse(&object(&node_json(name, &more))).expect("is a node")
}

pub fn pod(name: &str, more: Value) -> Arc<PodInfo> {
    Arc::new(PodInfo::parse(&object(&pod_json(name, &more)), &mut Classes::default()).expect("is a pod"))
}

/// A pod with one container that asks for this.
pub fn asking(name: &str, requests: Value) -> Arc<PodInfo> {
    pod(name, json!({ "spec": { "containers": [{ "name": "c", "resources": { "requests": requests } }] } }))
}

/// A cluster of nodes, with pods on them.
pub fn cluster(nodes: Vec<NodeSpec>, pods: Vec<(&str, Arc<PodInfo>)>) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.set_namespace("default", Labels::default());
    for node in nodes {
        cluster.set_node(node);
    }
    for (node, pod) in pods {
        place(&mut cluster, node, &pod);
    }
    cluster
}

/// Puts a pod on a node as the API would say it.
pub fn place(cluster: &mut Cluster, node: &str, pod: &Arc<PodInfo>) {
    let mut placed = PodInfo::clone(pod);
    placed.node = Some(node.into());
    cluster.set_pod(Arc::new(placed));
}
