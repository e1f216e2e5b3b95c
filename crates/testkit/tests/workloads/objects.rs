//! Where pods cannot go, and what goes with what when it is deleted.

use sampan_testkit::{Cluster, Namespace};

use crate::{pod, script};

pub fn unschedulable(cluster: &mut Cluster) {
    let namespace = cluster.namespace("unschedulable");
    let container = "  containers: [{name: main, image: 'example.com/test:1', command: [sleep, '1000']}]";
    namespace.apply(&pod("picky", &format!("  nodeSelector: {{disk: ssd}}\n{container}")));
    namespace.apply(&script("huge", "Always", "true", "resources: {requests: {memory: 1000Ti}}"));
    namespace.event(
        "picky",
        "FailedScheduling",
        r"0/1 nodes are available: 1 node\(s\) didn't match Pod's node affinity/selector\.",
    );
    namespace.event("huge", "FailedScheduling", r"0/1 nodes are available: 1 Insufficient memory\.");
    assert_eq!(namespace.get("pod/picky", ".status.phase"), "Pending");
    let node = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).ok().text();
    // What held it back goes away, and it runs.
    cluster.kubectl(&["label", "node", &node, "disk=ssd"]).ok();
    namespace.wait("pod/picky", "condition=Ready");
    cluster.kubectl(&["label", "node", &node, "disk-"]).ok();
    cluster.kubectl(&["taint", "node", &node, "only=special:NoSchedule"]).ok();
    namespace.apply(&pod("plain", container));
    let tolerations = "  tolerations: [{key: only, value: special, effect: NoSchedule}]";
    namespace.apply(&pod("special", &format!("{tolerations}\n{container}")));
    namespace.wait("pod/special", "condition=Ready");
    namespace.event(
        "plain",
        "FailedScheduling",
        r"0/1 nodes are available: 1 node\(s\) had untolerated taint",
    );
    cluster.kubectl(&["taint", "node", &node, "only-"]).ok();
    namespace.wait("pod/plain", "condition=Ready");
    // A taint that evicts.
    cluster.kubectl(&["taint", "node", &node, "out=now:NoExecute"]).ok();
    namespace.kubectl(&["wait", "pod/plain", "--for=delete", "--timeout=30s"]).ok();
    cluster.kubectl(&["taint", "node", &node, "out-"]).ok();
}

pub fn anti_affinity(cluster: &mut Cluster) {
    let namespace = cluster.namespace("apart");
    let alone = |name: &str| {
        pod(
            name,
            "  affinity:
    podAntiAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
      - {topologyKey: kubernetes.io/hostname, labelSelector: {matchExpressions: [{key: app, operator: In, values: [first, second]}]}}
  containers: [{name: main, image: 'example.com/test:1', command: [sleep, '1000']}]",
        )
    };
    namespace.apply(&alone("first"));
    namespace.wait("pod/first", "condition=Ready");
    namespace.apply(&alone("second"));
    let message = r"0/1 nodes are available: 1 node\(s\) didn't match pod anti-affinity rules\.";
    namespace.event("second", "FailedScheduling", message);
    namespace.kubectl(&["delete", "pod", "first"]).ok();
    namespace.wait("pod/second", "condition=Ready");
}

/// A deployment of one replica that is up.
fn deployment<'a>(cluster: &'a Cluster, namespace: &str) -> Namespace<'a> {
    let namespace = cluster.namespace(namespace);
    for name in ["background", "foreground", "orphan"] {
        namespace.apply(&format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: main, image: 'example.com/test:1', command: [sleep, '1000']}}]
"
        ));
    }
    for name in ["background", "foreground", "orphan"] {
        namespace.rolled_out(name);
    }
    namespace
}

pub fn cascade(cluster: &mut Cluster) {
    let namespace = deployment(cluster, "cascade");
    let of = |name: &str| {
        namespace.kubectl(&["get", "rs,pods", "-l", &format!("app={name}"), "-o", "name"]).ok().text()
    };
    let gone = |name: &str| {
        for kind in ["rs", "pods"] {
            namespace
                .kubectl(&["wait", kind, "-l", &format!("app={name}"), "--for=delete", "--timeout=30s"])
                .ok();
        }
        assert_eq!(of(name), "");
    };
    let orphans = of("orphan");
    assert_eq!(orphans.lines().count(), 2);
    namespace.kubectl(&["delete", "deployment", "background"]).ok();
    gone("background");
    // In foreground the owner is the last to go, so that nothing is left when kubectl returns.
    namespace.kubectl(&["delete", "deployment", "foreground", "--cascade=foreground"]).ok();
    assert_eq!(of("foreground"), "");
    namespace.kubectl(&["delete", "deployment", "orphan", "--cascade=orphan"]).ok();
    let set = orphans.lines().find(|name| name.starts_with("replicaset")).expect("one of two");
    namespace.wait_for(set, ".status.readyReplicas", "1");
    assert_eq!(of("orphan"), orphans);
    assert_eq!(namespace.get(set, ".metadata.ownerReferences"), "");
    namespace.kubectl(&["delete", set, "--cascade=orphan"]).ok();
    let pod = orphans.lines().find(|name| name.starts_with("pod/")).expect("one of two");
    assert_eq!(namespace.get(pod, ".metadata.ownerReferences"), "");
    assert_eq!(namespace.get(pod, ".status.phase"), "Running");
}

pub fn namespace(cluster: &mut Cluster) {
    {
        let namespace = deployment(cluster, "doomed");
        namespace.kubectl(&["create", "configmap", "held", "--from-literal=a=b"]).ok();
        let finalizer = "{\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}";
        namespace.kubectl(&["patch", "configmap", "held", "--type=merge", "-p", finalizer]).ok();
        namespace.kubectl(&["create", "service", "clusterip", "web", "--tcp=80"]).ok();
        cluster.kubectl(&["delete", "namespace", "doomed", "--wait=false"]).ok();
        cluster.kubectl(&["wait", "namespace/doomed", "--for=jsonpath={.status.phase}=Terminating"]).ok();
        namespace.kubectl(&["create", "configmap", "new"]).fails().says(&[
            "is forbidden: unable to create new content in namespace doomed because it is being terminated",
        ]);
        namespace.kubectl(&["wait", "pods", "--all", "--for=delete", "--timeout=40s"]).ok();
        let remaining = "--for=condition=NamespaceFinalizersRemaining";
        cluster.kubectl(&["wait", "namespace/doomed", remaining, "--timeout=40s"]).ok();
        namespace.kubectl(&["get", "all", "-o", "name"]).ok().is("");
        namespace
            .kubectl(&[
                "patch",
                "configmap",
                "held",
                "--type=merge",
                "-p",
                "{\"metadata\":{\"finalizers\":null}}",
            ])
            .ok();
        cluster.kubectl(&["wait", "namespace/doomed", "--for=delete", "--timeout=40s"]).ok();
    }
    cluster.kubectl(&["get", "namespace", "doomed"]).fails().says(&["namespaces \"doomed\" not found"]);
    // The name is free again, and what was there is not.
    let namespace = cluster.namespace("doomed");
    namespace.kubectl(&["get", "configmap", "held"]).fails().says(&["configmaps \"held\" not found"]);
}

pub fn conflicts(cluster: &mut Cluster) {
    let namespace = cluster.namespace("conflicts");
    namespace.kubectl(&["create", "configmap", "shared", "--from-literal=a=1"]).ok();
    let old = namespace.kubectl(&["get", "configmap", "shared", "-o", "json"]).ok().stdout;
    namespace.kubectl(&["patch", "configmap", "shared", "-p", "{\"data\":{\"a\":\"2\"}}"]).ok();
    namespace.kubectl_stdin(&["replace", "-f", "-"], &old).fails().says(&[
        "(Conflict)",
        "Operation cannot be fulfilled on configmaps \"shared\": the object has been modified; please apply your changes to the latest version and try again",
    ]);
    assert_eq!(namespace.get("configmap/shared", ".data.a"), "2");
    // A patch that names no version is made again when another came first.
    let mut proxy = cluster.spawn(&["kubectl", "proxy", "--port=8011"]);
    proxy.until("Starting to serve on 127.0.0.1:8011");
    let at_once = r#"
for key in $(seq 1 12); do
  curl -sSf -o /dev/null -X PATCH -H 'Content-Type: application/merge-patch+json' -d "{\"data\":{\"k$key\":\"v\"}}" \
    http://127.0.0.1:8011/api/v1/namespaces/conflicts/configmaps/shared & jobs="$jobs $!"
done
for job in $jobs; do wait $job || exit 1; done"#;
    cluster.run(&["sh", "-c", at_once]).ok();
    drop(proxy);
    let keys = namespace.kubectl(&["get", "configmap", "shared", "-o", "json"]).ok().json();
    assert_eq!(keys["data"].as_object().map(serde_json::Map::len), Some(13), "{keys}");
    let version = namespace.get("configmap/shared", ".metadata.resourceVersion");
    // A change that changes nothing keeps the version.
    namespace.kubectl(&["patch", "configmap", "shared", "-p", "{\"data\":{\"a\":\"2\"}}"]).ok();
    assert_eq!(namespace.get("configmap/shared", ".metadata.resourceVersion"), version);
    namespace
        .kubectl(&["annotate", "configmap", "shared", "--resource-version=1", "x=y"])
        .fails()
        .says(&["has been modified"]);
    namespace
        .kubectl(&["annotate", "configmap", "shared", &format!("--resource-version={version}"), "x=y"])
        .ok();
}
