//! What a node's own certificate is good for, and that everything in the server has the rights it needs.

use sampan_testkit::Cluster;

use crate::requests::{Holder, KUBELET_CLIENT, request};

pub fn stolen_key(cluster: &mut Cluster) {
    let namespace = cluster.namespace("stolen");
    let node = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).ok().text();
    namespace.kubectl(&["create", "secret", "generic", "used", "--from-literal=key=value"]).ok();
    namespace.kubectl(&["create", "secret", "generic", "unused", "--from-literal=key=value"]).ok();
    namespace.apply(
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: user}, spec: {containers: [{name: c, image: example.com/test:1, command: [web, '8080', one],
          envFrom: [{secretRef: {name: used}}]}]}}",
    );
    namespace.wait_for("pod/user", ".spec.nodeName", &node);
    let (object, key) = request(
        "stolen",
        KUBELET_CLIENT,
        &format!("system:node:{node}/system:nodes"),
        &["digital signature", "client auth"],
    );
    cluster.kubectl_stdin(&["create", "-f", "-"], &object).ok();
    let thief = Holder::of(cluster, "stolen", &key);
    let fine: [&[&str]; 6] = [
        &["get", "secret/used", "--namespace=stolen"],
        &["get", "pods", "--all-namespaces", &format!("--field-selector=spec.nodeName={node}")],
        &["get", "pod/user", "--namespace=stolen"],
        &["get", "node", &node],
        &["get", "services", "--all-namespaces"],
        &["get", "configmap/kube-root-ca.crt", "--namespace=stolen"],
    ];
    for arguments in fine {
        thief.kubectl(arguments).ok();
    }
    let related = "no relationship found between node";
    thief.kubectl(&["get", "secret/unused", "--namespace=stolen"]).fails().says(&[related]);
    let refused: [&[&str]; 10] = [
        &["get", "secrets", "--namespace=stolen"],
        &["get", "secrets", "--all-namespaces"],
        &["get", "configmaps", "--all-namespaces"],
        &["get", "pods", "--all-namespaces"],
        &["get", "nodes"],
        &["get", "deployments", "--all-namespaces"],
        &["get", "clusterrolebindings"],
        &["exec", "user", "--namespace=stolen", "--", "id"],
        &["taint", "node", &node, "a=b:NoSchedule"],
        &["create", "token", "default", "--namespace=stolen"],
    ];
    for arguments in refused {
        thief.kubectl(arguments).fails().says(&["orbidden"]);
    }
    let label = ["label", "node", &node, "node-restriction.kubernetes.io/trusted=yes"];
    thief.kubectl(&label).fails().says(&["is not allowed to modify labels"]);
    let pod = "---\n{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: stolen}, spec: {containers: [{name: c, image: i}]}}";
    thief.kubectl_stdin(&["create", "-f", "-"], pod).fails().says(&["can only create mirror pods"]);
    cluster.kubectl(&["delete", "csr/stolen"]).ok();
}

/// What the checks before made every controller do, it could do with its own rights.
pub fn nobody_was_refused(cluster: &mut Cluster) {
    {
        let namespace = cluster.namespace("everything");
        namespace.deploy_web(2, "one");
        namespace.endpoints("web", 2);
        namespace.apply(
            "---\n{apiVersion: batch/v1, kind: CronJob, metadata: {name: c}, spec: {schedule: '0 0 1 1 *', jobTemplate: {spec:
              {template: {spec: {restartPolicy: Never, containers: [{name: c, image: example.com/test:1, command: ['true']}]}}}}}}",
        );
        namespace.kubectl(&["create", "job", "j", "--from=cronjob/c"]).ok();
        namespace.apply(
            "---\n{apiVersion: v1, kind: ResourceQuota, metadata: {name: q}, spec: {hard: {pods: '20', secrets: '20'}}}",
        );
        namespace.wait_for("resourcequota/q", ".status.hard.pods", "20");
        namespace.apply(
            "---\n{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: d}, spec: {selector: {matchLabels: {app: d}}, template:
              {metadata: {labels: {app: d}}, spec: {containers: [{name: c, image: example.com/test:1, command: [web, '8080', one]}]}}}}",
        );
        namespace.wait_for("daemonset/d", ".status.numberReady", "1");
        namespace.apply(
            "---\n{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: s}, spec: {serviceName: s, selector: {matchLabels:
              {app: s}}, template: {metadata: {labels: {app: s}}, spec: {containers: [{name: c, image: example.com/test:1, command: [web, '8080', one]}]}}}}",
        );
        namespace.wait_for("statefulset/s", ".status.readyReplicas", "1");
        namespace.kubectl(&["delete", "daemonset/d", "statefulset/s", "--timeout=55s"]).ok();
        cluster.kubectl(&["delete", "namespace", "everything", "--timeout=55s"]).ok();
        namespace.keep();
    }
    let log = cluster.log();
    let refused: Vec<&str> =
        log.lines().filter(|line| line.contains("cannot") && line.contains("forbidden")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}
