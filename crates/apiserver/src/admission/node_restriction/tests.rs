use sampan_api::{Gvr, Status};
use sampan_client::{Client, DeleteOptions, PatchKind, Target};
use serde_json::{Value, json};

use super::*;
use crate::identity::{MASTERS_GROUP, User};
use crate::testing::TestServer;

/// A server with the node `one` and its pod `n/p`, and the API as the node and as an administrator.
struct World {
    _server: TestServer,
    node: Client,
    admin: Client,
}

const ACCOUNTS: Gvr = Gvr::new("", "v1", "serviceaccounts");
const LEASE: Gvr = Gvr::new("coordination.k8s.io", "v1", "leases");

impl World {
    async fn new() -> World {
        let server = TestServer::start().await;
        let client = |user| server.server.client(user);
        let node = client(User::node("one"));
        let admin = client(User::component("admin", &[MASTERS_GROUP]));
        let world = World { node, admin, _server: server };
        for namespace in ["n", "kube-node-lease"] {
            let namespaces = Gvr::new("", "v1", "namespaces");
            world.made(&namespaces, None, json!({"metadata": {"name": namespace}})).await;
        }
        world.made(&ACCOUNTS, Some("n"), json!({"metadata": {"name": "default"}})).await;
        create(&world.node, &NODES, None, json!({"metadata": {"name": "one"}}))
            .await
            .expect("a node makes itself");
        for (name, node) in [("p", "one"), ("q", "two")] {
            let spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "i"}]});
            world.made(&PODS, Some("n"), json!({"metadata": {"name": name}, "spec": spec})).await;
        }
        world
    }

    async fn made(&self, gvr: &Gvr, namespace: Option<&str>, object: Value) {
        create(&self.admin, gvr, namespace, object).await.expect("an administrator may");
    }

    async fn uid(&self, gvr: &Gvr, namespace: Option<&str>, name: &str) -> String {
        let target = Target { gvr, namespace, name, subresource: None };
        self.admin.backend().get(target).await.expect("there").header.uid.to_string()
    }

    /// What the node is told when it asks for a token.
    async fn token(&self, account: &str, spec: Value) -> String {
        let target =
            Target { gvr: &ACCOUNTS, namespace: Some("n"), name: account, subresource: Some("token") };
        told(self.node.backend().create(target, json!({"spec": spec}).to_string().into()).await)
    }
}

async fn create(
    client: &Client,
    gvr: &Gvr,
    namespace: Option<&str>,
    object: Value,
) -> Result<sampan_api::object::ObjectRef, Status> {
    let target = Target { gvr, namespace, name: "", subresource: None };
    client.backend().create(target, object.to_string().into()).await
}

/// The reason of a refusal, empty for none.
fn told<T>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(_) => String::new(),
        Err(status) => {
            assert!(matches!(status.code, 403 | 404), "{status}");
            let message = status.message.clone();
            message.split_once("is forbidden: ").map_or(message.clone(), |(_, why)| why.to_owned())
        }
    }
}

#[tokio::test]
async fn a_node_writes_only_its_own_object() {
    let world = World::new().await;
    let other = create(&world.node, &NODES, None, json!({"metadata": {"name": "two"}})).await;
    assert_eq!(told(other), "node \"one\" is not allowed to modify node \"two\"");
    let patch = async |patch: Value, expected: &str| {
        let target = Target { gvr: &NODES, namespace: None, name: "one", subresource: None };
        let answer = world.node.backend().patch(target, PatchKind::Merge, patch.to_string().into()).await;
        assert_eq!(told(answer), expected, "{patch}");
    };
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    patch(
        labels(
            json!({"kubernetes.io/hostname": "h", "topology.kubernetes.io/zone": "z", "example.com/x": "y",
        "node.kubernetes.io/anything": "z", "a.kubelet.kubernetes.io/x": "y"}),
        ),
        "",
    )
    .await;
    let restricted = json!({"node-restriction.kubernetes.io/x": "y", "a.node-restriction.kubernetes.io/x": "y",
        "kubernetes.io/other": "z", "node-role.kubernetes.io/control-plane": "", "x.k8s.io/y": ""});
    patch(
        labels(restricted),
        "is not allowed to modify labels: a.node-restriction.kubernetes.io/x, kubernetes.io/other, \
         node-restriction.kubernetes.io/x, node-role.kubernetes.io/control-plane, x.k8s.io/y",
    )
    .await;
    patch(
        json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
        "node \"one\" is not allowed to modify taints",
    )
    .await;
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "x"}]);
    patch(
        json!({"metadata": {"ownerReferences": owner}}),
        "node \"one\" is not allowed to modify ownerReferences",
    )
    .await;
    let target = Target { gvr: &NODES, namespace: None, name: "one", subresource: Some("status") };
    let status = json!({"status": {"capacity": {"cpu": "1"}}}).to_string();
    assert_eq!(told(world.node.backend().patch(target, PatchKind::Merge, status.into()).await), "");
    let deleted = Target { subresource: None, ..target };
    let deleted = world.node.backend().delete(deleted, &DeleteOptions::default()).await;
    assert!(told(deleted).starts_with("User \"system:node:one\" cannot delete resource \"nodes\""));
}

#[tokio::test]
async fn a_node_writes_only_about_its_own_pods() {
    let world = World::new().await;
    let backend = world.node.backend();
    static GVR: Gvr = PODS;
    let target = |name, subresource| Target { gvr: &GVR, namespace: Some("n"), name, subresource };
    let status = async |name, patch: Value| {
        told(backend.patch(target(name, Some("status")), PatchKind::Merge, patch.to_string().into()).await)
    };
    let running = json!({"status": {"phase": "Running"}});
    assert_eq!(status("p", running.clone()).await, "");
    assert_eq!(
        status("q", running).await,
        "node \"one\" can only update pod status for pods with spec.nodeName set to itself"
    );
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(status("p", labels).await, "node \"one\" cannot update labels through pod status");
    let claims = json!({"status": {"resourceClaimStatuses": [{"name": "a", "resourceClaimName": "b"}]}});
    assert_eq!(status("p", claims).await, "node \"one\" cannot update resource claim statuses");
    let spec = backend.patch(target("p", None), PatchKind::Merge, "{\"spec\":{}}".into()).await;
    assert!(told(spec).starts_with("User \"system:node:one\" cannot patch resource \"pods\""));
    let evict = async |name: &'static str| {
        let eviction = json!({"metadata": {"name": name, "namespace": "n"}});
        told(backend.create(target(name, Some("eviction")), eviction.to_string().into()).await)
    };
    assert_eq!(evict("q").await, "node one can only evict pods with spec.nodeName set to itself");
    let delete = async |name| told(backend.delete(target(name, None), &DeleteOptions::default()).await);
    assert_eq!(delete("q").await, "node \"one\" can only delete pods with spec.nodeName set to itself");
    assert_eq!(delete("p").await, "");
}

#[tokio::test]
async fn a_node_makes_only_mirrors_that_refer_to_nothing() {
    let world = World::new().await;
    let uid = world.uid(&NODES, None, "one").await;
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "one", "uid": uid, "controller": true});
    let mirror = json!({"metadata": {"name": "m", "annotations": {MIRROR: "x"}, "ownerReferences": [owner]},
        "spec": {"nodeName": "one", "containers": [{"name": "c", "image": "i"}]}});
    let check = async |change: &dyn Fn(&mut Value), expected: &str| {
        let mut pod = mirror.clone();
        change(&mut pod);
        assert_eq!(told(create(&world.node, &PODS, Some("n"), pod.clone()).await), expected, "{pod}");
    };
    check(
        &|pod| pod["metadata"]["annotations"] = json!({}),
        "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"one\" can only create mirror pods",
    )
    .await;
    check(
        &|pod| pod["spec"]["nodeName"] = "two".into(),
        "node \"one\" can only create pods with spec.nodeName set to itself",
    )
    .await;
    check(
        &|pod| pod["metadata"]["ownerReferences"] = json!([]),
        "node \"one\" can only create pods with an owner reference set to itself",
    )
    .await;
    check(
        &|pod| pod["metadata"]["ownerReferences"][0]["name"] = "two".into(),
        "node \"one\" can only create pods with an owner reference set to itself",
    )
    .await;
    check(
        &|pod| pod["metadata"]["ownerReferences"][0]["controller"] = false.into(),
        "node \"one\" can only create pods with a controller owner reference set to itself",
    )
    .await;
    check(
        &|pod| pod["metadata"]["ownerReferences"][0]["uid"] = "x".into(),
        &format!("node one UID mismatch: expected x got {uid}"),
    )
    .await;
    let volumes = |volume: Value| move |pod: &mut Value| pod["spec"]["volumes"] = json!([volume.clone()]);
    check(
        &volumes(json!({"name": "v", "secret": {"secretName": "s"}})),
        "node \"one\" can not create pods that reference secrets",
    )
    .await;
    check(
        &volumes(json!({"name": "v", "configMap": {"name": "s"}})),
        "node \"one\" can not create pods that reference configmaps",
    )
    .await;
    check(
        &volumes(json!({"name": "v", "persistentVolumeClaim": {"claimName": "s"}})),
        "node \"one\" can not create pods that reference persistentvolumeclaims",
    )
    .await;
    check(&|_| {}, "").await;
}

#[tokio::test]
async fn tokens_are_for_pods_of_the_node() {
    let world = World::new().await;
    let uid = world.uid(&PODS, Some("n"), "p").await;
    let bound = |name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}});
    assert_eq!(world.token("default", bound("p", &uid)).await, "");
    assert_eq!(world.token("default", json!({})).await, "node requested token not bound to a pod");
    let nameless = "node requested token with a pod binding without a uid";
    assert_eq!(world.token("default", bound("p", "")).await, nameless);
    assert!(
        world
            .token("default", bound("p", "x"))
            .await
            .starts_with("the UID in the bound object reference (x)")
    );
    let other = world.uid(&PODS, Some("n"), "q").await;
    let elsewhere = "node requested token bound to a pod scheduled on a different node";
    assert_eq!(world.token("default", bound("q", &other)).await, elsewhere);
    let with = |audiences: Value| {
        let mut spec = bound("p", &uid);
        spec["audiences"] = audiences;
        spec
    };
    assert_eq!(
        world.token("default", with(json!(["vault"]))).await,
        "audience \"vault\" not found in pod spec volume, system:node:one is not authorized to request tokens for this \
         audience"
    );
    assert_eq!(
        world.token("default", with(json!(["a", "b"]))).await,
        "node may only request 0 or 1 audiences"
    );
    world.made(&ACCOUNTS, Some("n"), json!({"metadata": {"name": "other"}})).await;
    let unrelated = world.token("other", bound("p", &uid)).await;
    assert!(unrelated.ends_with(": no relationship found between node 'one' and this object"), "{unrelated}");
}

#[tokio::test]
async fn a_node_reads_only_what_its_pods_need() {
    let world = World::new().await;
    let secrets = Gvr::new("", "v1", "secrets");
    for name in ["mine", "other"] {
        world.made(&secrets, Some("n"), json!({"metadata": {"name": name}})).await;
    }
    let read = async |name| {
        let target = Target { gvr: &secrets, namespace: Some("n"), name, subresource: None };
        told(world.node.backend().get(target).await)
    };
    let unrelated = "User \"system:node:one\" cannot get resource \"secrets\" in API group \"\" in the namespace \"n\": \
                     no relationship found between node 'one' and this object";
    assert_eq!(read("mine").await, unrelated);
    let spec = json!({"nodeName": "one", "containers": [{"name": "c", "image": "i",
        "envFrom": [{"secretRef": {"name": "mine"}}]}]});
    world.made(&PODS, Some("n"), json!({"metadata": {"name": "r"}, "spec": spec})).await;
    // At once: nobody waits for a follower.
    assert_eq!(read("mine").await, "");
    assert_eq!(read("other").await, unrelated);
    let target = Target { gvr: &PODS, namespace: Some("n"), name: "r", subresource: None };
    let now = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
    world.admin.backend().delete(target, &now).await.expect("gone");
    // What was allowed is taken back by the follower, or by the next question that is refused.
    assert_eq!(read("other").await, unrelated);
    assert_eq!(read("mine").await, unrelated);
}

#[tokio::test]
async fn a_lease_has_the_name_of_its_node() {
    let world = World::new().await;
    let lease = async |name: &str| {
        told(create(&world.node, &LEASE, Some(LEASES), json!({"metadata": {"name": name}})).await)
    };
    assert_eq!(lease("one").await, "");
    assert_eq!(lease("two").await, "can only access node lease with the same name as the requesting node");
}
