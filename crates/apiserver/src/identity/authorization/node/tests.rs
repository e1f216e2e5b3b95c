use sampan_api::selector::FieldSelector;
use serde_json::{Value, json};

use super::*;
use crate::identity::User;

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["nodeName"] = node.into();
    json!({"metadata": {"name": name, "namespace": "a"}, "spec": spec})
}

/// A pod that refers to one thing of every kind, in every place.
fn greedy(name: &str, node: &str) -> Value {
    let container = json!({"env": [{"name": "x"}, {"name": "y", "valueFrom": {"secretKeyRef": {"name": "env-secret"}}},
            {"name": "z", "valueFrom": {"configMapKeyRef": {"name": "env-map"}}}],
        "envFrom": [{"secretRef": {"name": "from-secret"}}, {"configMapRef": {"name": "from-map"}}]});
    let debug = json!({"env": [{"name": "d", "valueFrom": {"secretKeyRef": {"name": "debug-secret"}}}]});
    let volumes = json!([
        {"name": "s", "secret": {"secretName": "volume-secret"}},
        {"name": "m", "configMap": {"name": "volume-map"}},
        {"name": "p", "projected": {"sources": [{"secret": {"name": "projected-secret"}},
            {"configMap": {"name": "projected-map"}}, {"serviceAccountToken": {"path": "t"}}]}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
        {"name": "e", "ephemeral": {"volumeClaimTemplate": {}}},
        {"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi-secret"}}},
        {"name": "f", "azureFile": {"secretName": "azure-secret"}},
        {"name": "r", "rbd": {"secretRef": {"name": "rbd-secret"}}},
        {"name": "n", "emptyDir": {}},
    ]);
    let mut pod = pod(
        name,
        node,
        json!({"serviceAccountName": "account", "imagePullSecrets": [{"name": "pull-secret"}],
            "containers": [container], "initContainers": null, "ephemeralContainers": [debug], "volumes": volumes,
            "resourceClaims": [{"name": "own", "resourceClaimName": "device"},
                {"name": "made", "resourceClaimTemplateName": "t"}]}),
    );
    pod["status"] = json!({"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "made-device"}]});
    pod
}

fn links(pod: &Value) -> PodLinks {
    of_pod(pod.to_string().as_bytes()).expect("it has a node")
}

/// `verb group:resource[/sub] namespace name [selector]`, with `-` for what is empty.
fn answer(authorizer: &NodeAuthorizer, node: &str, request: &str) -> NodeDecision {
    let user = User::node(node);
    let words: Vec<&str> = request.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
    let [verb, resource, namespace, name, selector @ ..] = words.as_slice() else { panic!("{request}") };
    let (group, resource) = resource.split_once(':').expect("a group");
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let selector: FieldSelector = selector.first().unwrap_or(&"").parse().expect("a selector");
    let path = Attributes::path(&user, verb, "");
    let attributes = Attributes { group, version: "v1", resource, subresource, namespace, name, ..path };
    let attributes = Attributes { field_selector: Some(&selector), ..attributes };
    authorizer.authorize(user.node_name().expect("a node"), &attributes)
}

fn check(authorizer: &NodeAuthorizer, node: &str, allowed: bool, requests: &[&str]) {
    for request in requests {
        let answer = answer(authorizer, node, request);
        assert_eq!(answer == NodeDecision::Allow, allowed, "{node}: {request}: {answer:?}");
    }
}

#[test]
fn a_node_reads_what_its_pods_refer_to() {
    let mut authorizer = NodeAuthorizer::default();
    let pod = greedy("p", "one");
    let mut requests: Vec<String> =
        ["env", "from", "debug", "volume", "projected", "csi", "azure", "rbd", "pull"]
            .iter()
            .flat_map(|name| ["get", "list", "watch"].map(|verb| format!("{verb} :secrets a {name}-secret")))
            .collect();
    requests
        .extend(["env", "from", "volume", "projected"].map(|name| format!("get :configmaps a {name}-map")));
    requests.extend(
        [
            "get :persistentvolumeclaims a claim",
            "get :persistentvolumeclaims a p-e",
            "patch :persistentvolumeclaims/status a claim",
            "create :serviceaccounts/token a account",
            "get :serviceaccounts a account",
            "get resource.k8s.io:resourceclaims a device",
            "get resource.k8s.io:resourceclaims a made-device",
            "get :pods a p",
            "watch :pods a p",
        ]
        .map(str::to_owned),
    );
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    check(&authorizer, "one", false, &requests);
    authorizer.graph.add_pod(&links(&pod));
    check(&authorizer, "one", true, &requests);
    check(&authorizer, "two", false, &requests);
    // The same names elsewhere, other verbs, and whole collections.
    check(
        &authorizer,
        "one",
        false,
        &[
            "get :secrets b env-secret",
            "get :secrets - env-secret",
            "list :secrets a -",
            "list :secrets - -",
            "update :secrets a env-secret",
            "get :secrets/x a env-secret",
            "list :persistentvolumeclaims a claim",
            "update :persistentvolumeclaims a claim",
            "create :serviceaccounts/token a other",
            "create :serviceaccounts a account",
            "get :pods a q",
        ],
    );
    // A second pod keeps what both refer to.
    authorizer.graph.add_pod(&links(&greedy("q", "one")));
    authorizer.graph.remove_pod(&links(&pod));
    check(&authorizer, "one", true, &["get :secrets a env-secret", "get :persistentvolumeclaims a claim"]);
    check(&authorizer, "one", false, &["get :persistentvolumeclaims a p-e", "get :pods a p"]);
    authorizer.graph.remove_pod(&links(&greedy("q", "one")));
    assert!(authorizer.graph.is_empty());
}

#[test]
fn a_volume_is_read_by_the_nodes_of_its_claim() {
    let mut authorizer = NodeAuthorizer::default();
    let volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"namespace": "a", "name": "claim"},
        "csi": {"nodeStageSecretRef": {"name": "stage", "namespace": "s"},
            "controllerPublishSecretRef": {"name": "control", "namespace": "s"}},
        "iscsi": {"secretRef": {"name": "in-the-claims-namespace"}}}});
    let asked =
        ["get :persistentvolumes - v", "get :secrets s stage", "get :secrets a in-the-claims-namespace"];
    let pod = links(&greedy("p", "one"));
    // In either order.
    authorizer.graph.set_volume("v", of_volume(&volume));
    check(&authorizer, "one", false, &asked);
    authorizer.graph.add_pod(&pod);
    check(&authorizer, "one", true, &asked);
    check(&authorizer, "one", false, &["get :secrets s control", "list :persistentvolumes - -"]);
    authorizer.graph.set_volume("v", None);
    check(&authorizer, "one", false, &asked);
    authorizer.graph.set_volume("v", of_volume(&volume));
    check(&authorizer, "one", true, &asked);
    // Bound anew, it belongs to the nodes of another claim.
    let mut other = volume.clone();
    other["spec"]["claimRef"]["name"] = "another".into();
    authorizer.graph.set_volume("v", of_volume(&other));
    check(&authorizer, "one", false, &asked);
    authorizer.graph.set_volume("v", of_volume(&volume));
    authorizer.graph.remove_pod(&pod);
    check(&authorizer, "one", false, &asked);
    authorizer.graph.set_volume("v", None);
    assert!(authorizer.graph.is_empty());
    assert_eq!(of_volume(&json!({"spec": {}})), None);
}

#[test]
fn a_pod_that_a_node_makes_gives_it_nothing() {
    let mut pod = greedy("p", "one");
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(links(&pod).objects, [(Vertex::Pod, "a/p".into())]);
    pod["spec"]["nodeName"] = "".into();
    assert_eq!(of_pod(pod.to_string().as_bytes()), None);
    assert_eq!(of_pod(b"{"), None);
}

#[test]
fn what_is_a_nodes_own_is_told_by_name() {
    let mut authorizer = NodeAuthorizer::default();
    authorizer.graph.set_node(Vertex::VolumeAttachment, "va", "one");
    authorizer.graph.set_node(Vertex::ResourceSlice, "slice", "one");
    let allowed = [
        "create :nodes - -",
        "get :nodes - one",
        "watch :nodes - one metadata.name=one",
        "patch :nodes/status - one",
        "update :nodes - one",
        "list :pods - - spec.nodeName=one",
        "watch :pods a - spec.nodeName=one",
        "create :pods a -",
        "delete :pods a x",
        "patch :pods/status a x",
        "create :pods/eviction a x",
        "create coordination.k8s.io:leases kube-node-lease -",
        "patch coordination.k8s.io:leases kube-node-lease one",
        "get storage.k8s.io:csinodes - one",
        "get storage.k8s.io:volumeattachments - va",
        "get resource.k8s.io:resourceslices - slice",
        "create resource.k8s.io:resourceslices - -",
        "list resource.k8s.io:resourceslices - - spec.nodeName=one",
        "list :services - -",
        "watch node.k8s.io:runtimeclasses - -",
        "create :events a -",
        "create certificates.k8s.io:certificatesigningrequests - -",
        "create authentication.k8s.io:tokenreviews - -",
    ];
    check(&authorizer, "one", true, &allowed);
    let refused = [
        "get :nodes - two",
        "list :nodes - -",
        "delete :nodes - one",
        "get :nodes/proxy - one",
        "list :pods - -",
        "list :pods - - spec.nodeName=two",
        "list :pods - - spec.nodeName!=one",
        "deletecollection :pods a - spec.nodeName=one",
        "update :pods a x",
        "create :pods/exec a x",
        "create :pods/binding a x",
        "patch coordination.k8s.io:leases kube-node-lease two",
        "list coordination.k8s.io:leases kube-node-lease one",
        "get coordination.k8s.io:leases kube-system one",
        "get storage.k8s.io:csinodes - two",
        "get storage.k8s.io:volumeattachments - other",
        "get resource.k8s.io:resourceslices - other",
        "list resource.k8s.io:resourceslices - -",
        "list discovery.k8s.io:endpointslices - -",
        "list apps:deployments a -",
        "create rbac.authorization.k8s.io:clusterrolebindings - -",
    ];
    check(&authorizer, "one", false, &refused);
    authorizer.graph.set_node(Vertex::VolumeAttachment, "va", "two");
    check(&authorizer, "one", false, &["get storage.k8s.io:volumeattachments - va"]);
    check(&authorizer, "two", true, &["get storage.k8s.io:volumeattachments - va"]);
}

#[test]
fn reasons_are_upstreams() {
    let authorizer = NodeAuthorizer::default();
    let check = |node: &str, request: &str, why: &str| {
        assert_eq!(answer(&authorizer, node, request), NodeDecision::NoOpinion(why.to_owned()), "{request}");
    };
    check("", "get :pods a p", "unknown node for user \"system:node:\"");
    check("one", "get :secrets a s", "no relationship found between node 'one' and this object");
    check("one", "list :secrets a -", "No Object name found");
    check("one", "list :secrets - -", "can only read namespaced object of this type");
    check("one", "delete :secrets a s", "can only read resources of this type");
    check("one", "list :nodes - -", "node 'one' cannot read all nodes, only its own Node object");
    check("one", "get :nodes - two", "node 'one' cannot read 'two', only its own Node object");
    check("one", "list :pods - -", "can only list/watch pods with spec.nodeName field selector");
    check(
        "one",
        "get coordination.k8s.io:leases kube-node-lease two",
        "can only access node lease with the same name as the requesting node",
    );
    check("one", "list apps:deployments a -", "");
}

#[test]
fn only_members_of_the_group_are_nodes() {
    let check = |name: &str, groups: &[&str], node: Option<&str>| {
        assert_eq!(User::component(name, groups).node_name(), node, "{name} {groups:?}");
    };
    check("system:node:a", &["system:nodes"], Some("a"));
    check("system:node:", &["system:nodes"], Some(""));
    check("system:node:a", &[], None);
    check("a", &["system:nodes"], None);
}
