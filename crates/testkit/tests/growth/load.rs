//! The load: what clients and pods do.

use std::path::Path;
use std::time::Duration;

use sampan_api::{Gvr, Status};
use sampan_client::kubeconfig::Access;
use sampan_client::remote::RemoteBackend;
use sampan_client::{Backend as _, DeleteOptions, PatchKind, Target};
use sampan_testkit::workers::{Control, Workers};
use sampan_testkit::{Cluster, image::TEST_IMAGE};
use serde_json::{Value, json};

static CONFIG_MAPS: Gvr = Gvr::new("", "v1", "configmaps");
static EVENTS: Gvr = Gvr::new("", "v1", "events");
static LEASES: Gvr = Gvr::new("coordination.k8s.io", "v1", "leases");
static PODS_RESOURCE: Gvr = Gvr::new("", "v1", "pods");

/// By which the load's events are known.
pub const EVENT_REASON: &str = "Load";
/// Events that are made in a second.
pub const EVENTS_A_SECOND: u64 = 40;
/// Clients that renew leases, and that rewrite objects, and how many each.
const CLIENTS: usize = 4;
const NODES: u64 = 50;
const OBJECTS: u64 = 20;
/// Bytes of a large object, and of a line that a pod logs, with what the log's format adds.
const OBJECT_BYTES: usize = 100_000;
pub const LINE_BYTES: u64 = 50;
/// Pods that are there at once of those that come and go.
const GUESTS: u64 = 3;

/// One that logs without a pause, 2 MB a second, and one that is restarted whenever it has logged a little.
pub const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: talks}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: example.com/test:1
    command: [sh, -c, 'i=100000000; while :; do seq $i $((i+3999)); i=$((i+4000)); usleep 100000; done']
---
apiVersion: v1
kind: Pod
metadata: {name: restarts}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: 'example.com/test:1', command: [seq, '100000000', '100050000']}
";

pub fn start(cluster: &Cluster, workers: &mut Workers) {
    let path = cluster.kubeconfig();
    workers.start(cluster, "events", async move |control| events(control, &path).await);
    for client in 0..CLIENTS {
        let path = cluster.kubeconfig();
        workers.start(cluster, "renewals", async move |control| leases(control, &path, client).await);
        let path = cluster.kubeconfig();
        workers.start(cluster, "rewrites", async move |control| objects(control, &path, client).await);
    }
    let path = cluster.kubeconfig();
    workers.start(cluster, "pods that came and went", async move |control| guests(control, &path).await);
}

fn connect(kubeconfig: &Path) -> Result<RemoteBackend, String> {
    let access = Access::read(kubeconfig, None).map_err(|error| error.to_string())?;
    RemoteBackend::new(&access, "growth").map_err(|error| error.to_string())
}

fn told(status: Status) -> String {
    status.to_string()
}

fn at<'a>(gvr: &'static Gvr, namespace: &'a str, name: &'a str) -> Target<'a> {
    Target { gvr, namespace: Some(namespace), name, subresource: None }
}

async fn create(backend: &RemoteBackend, gvr: &'static Gvr, object: &Value) -> Result<(), String> {
    let namespace = object["metadata"]["namespace"].as_str().expect("has one");
    backend.create(at(gvr, namespace, ""), object.to_string().into()).await.map_err(told)?;
    Ok(())
}

async fn events(control: Control, kubeconfig: &Path) -> Result<(), String> {
    let backend = connect(kubeconfig)?;
    // The pace of the load.
    let mut pace = tokio::time::interval(Duration::from_secs(1) / EVENTS_A_SECOND as u32);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for number in 0.. {
        if !control.goes_on() {
            break;
        }
        pace.tick().await;
        let event = json!({"apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("load-{number}"), "namespace": "load"},
            "involvedObject": {"kind": "Pod", "namespace": "load", "name": "talks"},
            "reason": EVENT_REASON, "message": "x".repeat(300), "type": "Normal"});
        create(&backend, &EVENTS, &event).await?;
        control.count();
    }
    Ok(())
}

async fn leases(control: Control, kubeconfig: &Path, client: usize) -> Result<(), String> {
    let backend = connect(kubeconfig)?;
    let name = |number: u64| format!("node-{client}-{number}");
    for number in 0..NODES {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name(number), "namespace": "load"}, "spec": {"holderIdentity": name(number)}});
        create(&backend, &LEASES, &lease).await?;
        control.count();
    }
    for number in 0.. {
        if !control.goes_on() {
            break;
        }
        let renewal = json!({"spec": {"leaseTransitions": number / NODES}}).to_string();
        let name = name(number % NODES);
        backend.patch(at(&LEASES, "load", &name), PatchKind::Merge, renewal.into()).await.map_err(told)?;
        control.count();
    }
    Ok(())
}

async fn objects(control: Control, kubeconfig: &Path, client: usize) -> Result<(), String> {
    let backend = connect(kubeconfig)?;
    let object = |number: u64| {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("large-{client}-{}", number % OBJECTS), "namespace": "load"},
            "data": {"number": number.to_string(), "text": "x".repeat(OBJECT_BYTES)}})
    };
    for number in 0..OBJECTS {
        create(&backend, &CONFIG_MAPS, &object(number)).await?;
        control.count();
    }
    for number in OBJECTS.. {
        if !control.goes_on() {
            break;
        }
        let object = object(number);
        let name = object["metadata"]["name"].as_str().expect("has one");
        backend.update(at(&CONFIG_MAPS, "load", name), object.to_string().into()).await.map_err(told)?;
        control.count();
    }
    Ok(())
}

/// Each logs as much as fills its files, and is deleted when others have come.
async fn guests(control: Control, kubeconfig: &Path) -> Result<(), String> {
    let backend = connect(kubeconfig)?;
    let name = |number: u64| format!("guest-{number}");
    // The pace of the load.
    let mut pace = tokio::time::interval(Duration::from_secs(2));
    for number in 0.. {
        pace.tick().await;
        if !control.goes_on() {
            break;
        }
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name(number), "namespace": "load"},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [{"name": "main",
                "image": TEST_IMAGE, "command": ["seq", "100000000", "100030000"]}]}});
        create(&backend, &PODS_RESOURCE, &pod).await?;
        if let Some(gone) = number.checked_sub(GUESTS) {
            let gone = name(gone);
            let options = DeleteOptions::default();
            backend.delete(at(&PODS_RESOURCE, "load", &gone), &options).await.map_err(told)?;
            control.count();
        }
    }
    Ok(())
}
