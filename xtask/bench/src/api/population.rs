//! What a large cluster holds: nodes with their leases, and pods that run on them.
//!
//! The first of each kind goes through the API, so that the server itself says what the stored form
//! is; the others are its copies under other names, written into the store while no server runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use http::Method;
use sampan_client::RemoteBackend;
use sampan_client::remote::Call;
use sampan_storage::{Options, RedbStore, Store as _, Write};
use serde_json::{Value, json};

use crate::client::{get, post, put};

pub const NODES: usize = 5_000;
pub const PODS: usize = 150_000;
pub const NAMESPACES: usize = 100;
/// Writes of one commit.
const BATCH: usize = 500;
/// Part of every name of the first of a kind, and replaced in its copies.
const FIRST_NODE: &str = "node-nnnnn";
const FIRST_NAMESPACE: &str = "space-sss";
const FIRST_POD: &str = "app-ppp-5d4f8c7b9-iiiiii";

pub fn namespace(number: usize) -> String {
    format!("space-{:03}", number % NAMESPACES)
}

pub fn pod(number: usize) -> String {
    format!("app-{:03}-5d4f8c7b9-{number:06}", number % 1000)
}

pub fn node(number: usize) -> String {
    format!("node-{number:05}")
}

/// The stored forms of the first of each kind.
pub struct Models {
    namespace: String,
    account: String,
    node: String,
    lease: String,
    pod: String,
}

impl Models {
    /// Creates the first of each kind and reads what became of it.
    pub async fn make(client: &RemoteBackend) -> Result<Models> {
        post(client, "/api/v1/namespaces", named("v1", "Namespace", FIRST_NAMESPACE).to_string()).await?;
        let space = format!("/api/v1/namespaces/{FIRST_NAMESPACE}");
        let account = named("v1", "ServiceAccount", "app").to_string();
        post(client, &format!("{space}/serviceaccounts"), account).await?;
        post(client, "/api/v1/nodes", first_node().to_string()).await?;
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        post(client, leases, first_lease().to_string()).await?;
        let owner = stored(client, &format!("{space}/serviceaccounts/app")).await?;
        let uid = owner["metadata"]["uid"].as_str().context("what is stored has a uid")?.to_owned();
        let created = post(client, &format!("{space}/pods"), first_pod(&uid).to_string()).await?;
        let mut pod: Value = serde_json::from_slice(&created)?;
        pod["status"] = running();
        put(client, &format!("{space}/pods/{FIRST_POD}/status"), pod.to_string()).await?;
        Ok(Models {
            namespace: stored(client, &space).await?.to_string(),
            account: owner.to_string(),
            node: stored(client, &format!("/api/v1/nodes/{FIRST_NODE}")).await?.to_string(),
            lease: stored(client, &format!("{leases}/{FIRST_NODE}")).await?.to_string(),
            pod: stored(client, &format!("{space}/pods/{FIRST_POD}")).await?.to_string(),
        })
    }

    /// The bytes of one pod as it is stored.
    pub fn pod_bytes(&self) -> usize {
        self.pod.len()
    }

    /// Removes the first of each kind again.
    pub async fn unmake(client: &RemoteBackend) -> Result<()> {
        let space = format!("/api/v1/namespaces/{FIRST_NAMESPACE}");
        for path in [
            format!("{space}/pods/{FIRST_POD}?gracePeriodSeconds=0"),
            format!("/api/v1/nodes/{FIRST_NODE}"),
            format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{FIRST_NODE}"),
            space,
        ] {
            let call = Call { method: Method::DELETE, ..Call::get(path) };
            client.bytes(call, 1 << 20).await.map_err(|status| anyhow::anyhow!("{status}"))?;
        }
        Ok(())
    }

    /// Writes everything into the store of a server that does not run.
    pub async fn populate(&self, store: &Path) -> Result<()> {
        let store = Arc::new(RedbStore::open(store, Options::default())?);
        let spaces = (0..NAMESPACES).map(|number| {
            let value = self.namespace.replace(FIRST_NAMESPACE, &namespace(number));
            (format!("/registry/namespaces/{}", namespace(number)), value, 1_000_000 + number)
        });
        let accounts = (0..NAMESPACES).map(|number| {
            let value = self.account.replace(FIRST_NAMESPACE, &namespace(number));
            (format!("/registry/serviceaccounts/{}/app", namespace(number)), value, OWNERS + number)
        });
        let nodes = (0..NODES).map(|number| {
            let value = self.node.replace(FIRST_NODE, &node(number));
            (format!("/registry/minions/{}", node(number)), value, 3_000_000 + number)
        });
        let leases = (0..NODES).map(|number| {
            let value = self.lease.replace(FIRST_NODE, &node(number));
            (format!("/registry/leases/kube-node-lease/{}", node(number)), value, 4_000_000 + number)
        });
        let pods = (0..PODS).map(|number| {
            let value = self
                .pod
                .replace(FIRST_NAMESPACE, &namespace(number))
                .replace(FIRST_POD, &pod(number))
                .replace(FIRST_NODE, &node(number % NODES))
                .replace("app-ppp", &format!("app-{:03}", number % 1000))
                .replace(
                    "10.99.0.1",
                    &format!("10.{}.{}.{}", 100 + (number >> 16), (number >> 8) & 255, number & 255),
                );
            (format!("/registry/pods/{}/{}", namespace(number), pod(number)), value, 5_000_000 + number)
        });
        let mut batch = Vec::with_capacity(BATCH);
        for (key, value, number) in spaces.chain(accounts).chain(nodes).chain(leases).chain(pods) {
            batch.push(Write::put(key, with_uids(value, number)?));
            if batch.len() == BATCH {
                store.commit_all(std::mem::take(&mut batch)).await?;
            }
        }
        store.commit_all(batch).await?;
        Arc::into_inner(store).context("nobody else uses the store")?.close().await;
        Ok(())
    }
}

/// Where the numbers of the uids of the pods' owners begin.
const OWNERS: usize = 2_000_000;

fn uid(number: usize) -> String {
    format!("5a3b1c0e-0000-4000-8000-{number:012}")
}

/// Gives a copy an identity of its own, and a pod the owner in its own namespace.
fn with_uids(text: String, number: usize) -> Result<String> {
    let mut object: Value = serde_json::from_str(&text)?;
    object["metadata"]["uid"] = uid(number).into();
    if number >= 5_000_000 {
        object["metadata"]["ownerReferences"][0]["uid"] =
            uid(OWNERS + number % 5_000_000 % NAMESPACES).into();
    }
    Ok(object.to_string())
}

/// An object as the store holds it.
async fn stored(client: &RemoteBackend, path: &str) -> Result<Value> {
    let mut object: Value = serde_json::from_slice(&get(client, path).await?)?;
    let metadata = object["metadata"].as_object_mut().context("an object has metadata")?;
    metadata.remove("resourceVersion");
    Ok(object)
}

fn named(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}})
}

fn first_lease() -> Value {
    let mut lease = named("coordination.k8s.io/v1", "Lease", FIRST_NODE);
    lease["spec"] = json!({"holderIdentity": FIRST_NODE, "leaseDurationSeconds": 40,
        "renewTime": "2026-01-01T00:00:00.000000Z"});
    lease
}

fn first_node() -> Value {
    let mut node = named("v1", "Node", FIRST_NODE);
    node["metadata"]["labels"] = json!({"kubernetes.io/hostname": FIRST_NODE, "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64", "topology.kubernetes.io/zone": "zone-a"});
    let capacity = json!({"cpu": "32", "memory": "256Gi", "pods": "110", "ephemeral-storage": "1Ti"});
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": "as reported by this node",
            "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    node["status"] = json!({
        "capacity": capacity, "allocatable": capacity,
        "addresses": [{"type": "InternalIP", "address": "10.99.0.1"}, {"type": "Hostname", "address": FIRST_NODE}],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "nodeInfo": {"machineID": "m", "systemUUID": "u", "bootID": "b", "kernelVersion": "6.12.0",
            "osImage": "Linux", "containerRuntimeVersion": "sampan://0.1.0", "kubeletVersion": "v1.35.0",
            "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64"},
    });
    node
}

/// A pod as a deployment makes it, with what its author, admission and the scheduler wrote.
fn first_pod(owner: &str) -> Value {
    let variables: Vec<_> = (0..8)
        .map(|index| json!({"name": format!("SETTING_{index}"), "value": "some value of a setting"}))
        .collect();
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": FIRST_POD,
            "labels": {"app": "app-ppp", "pod-template-hash": "5d4f8c7b9", "version": "v12"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "ServiceAccount", "name": "app", "uid": owner,
                "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {
            "nodeName": FIRST_NODE,
            "serviceAccountName": "app",
            "containers": [{
                "name": "app",
                "image": "images.example.com/team/app:1.2.3",
                "env": variables,
                "ports": [{"containerPort": 8080, "name": "http"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "livenessProbe": probe,
                "readinessProbe": probe,
            }],
        },
    })
}

fn running() -> Value {
    let at = "2026-01-01T00:00:00Z";
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": at});
    let conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .map(condition);
    json!({
        "phase": "Running", "hostIP": "10.98.0.1", "hostIPs": [{"ip": "10.98.0.1"}],
        "podIP": "10.99.0.1", "podIPs": [{"ip": "10.99.0.1"}], "startTime": at, "qosClass": "Burstable",
        "conditions": conditions,
        "containerStatuses": [{
            "name": "app", "ready": true, "started": true, "restartCount": 0,
            "image": "images.example.com/team/app:1.2.3",
            "imageID": "images.example.com/team/app@sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            "containerID": "sampan://fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9",
            "lastState": {}, "state": {"running": {"startedAt": at}},
        }],
    })
}
