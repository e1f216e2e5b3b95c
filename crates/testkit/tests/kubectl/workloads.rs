//! Commands about what makes pods: deployments, jobs, and the node that they run on.

use sampan_testkit::{Cluster, Namespace};

fn web<'a>(cluster: &'a Cluster, name: &str, replicas: &str) -> Namespace<'a> {
    let namespace = cluster.namespace(name);
    let create = ["create", "deployment", "web", "--image=example.com/test:1", "--replicas", replicas];
    namespace
        .kubectl(&[&create[..], &["--", "web", "8080", "one"]].concat())
        .ok()
        .is("deployment.apps/web created");
    namespace
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"])
        .ok()
        .has(&["deployment \"web\" successfully rolled out"]);
    namespace
}

pub fn deployment(cluster: &mut Cluster) {
    let namespace = web(cluster, "deployment", "2");
    namespace
        .kubectl(&["get", "deployments"])
        .ok()
        .matches(r"^NAME +READY +UP-TO-DATE +AVAILABLE +AGE$")
        .matches(r"^web +2/2 +2 +2 ");
    namespace
        .kubectl(&["get", "rs", "-o", "wide"])
        .ok()
        .matches(r"^web-[0-9a-z]+ +2 +2 +2 +\S+ +test +example.com/test:1 +app=web,pod-template-hash=");
    namespace.kubectl(&["scale", "deployment/web", "--replicas=3"]).ok().is("deployment.apps/web scaled");
    namespace.wait_for("deployment/web", ".status.readyReplicas", "3");
    namespace
        .kubectl(&["scale", "deployment/web", "--current-replicas=2", "--replicas=1"])
        .fails()
        .says(&["Expected replicas to be 2, was 3"]);
    namespace.kubectl(&["scale", "deployment/web", "--replicas=1"]).ok();
    namespace.wait_for("deployment/web", ".status.replicas", "1");
    namespace
        .kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=8080"])
        .ok()
        .is("service/web exposed");
    namespace
        .kubectl(&["get", "service", "web"])
        .ok()
        .matches(r"^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE$")
        .matches(r"^web +ClusterIP +10\.43\.\S+ +<none> +80/TCP ");
    namespace.spawn(&["get", "endpointslices", "--watch"]).until(r"^web-\S+ +IPv4 +8080 +10\.42\.");
    namespace
        .kubectl(&["describe", "deployment", "web"])
        .ok()
        .matches(r"^Replicas: +1 desired \| 1 updated \| 1 total \| 1 available \| 0 unavailable$")
        .has(&["ScalingReplicaSet", "Scaled up replica set web-", "from 0 to 2", "NewReplicaSetAvailable"]);
    namespace.kubectl(&["logs", "deployment/web"]).ok().has(&["listening on 8080 as one"]);
    namespace.kubectl(&["exec", "deployment/web", "--", "cat", "/etc/hostname"]).ok().has(&["web-"]);
    // A pod that goes away comes back.
    namespace.kubectl(&["delete", "pods", "-l", "app=web"]).ok();
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    namespace.kubectl(&["delete", "deployment", "web"]).ok().has(&["deployment.apps \"web\" deleted"]);
    namespace.kubectl(&["wait", "pods", "-l", "app=web", "--for=delete", "--timeout=50s"]).ok();
}

pub fn autoscale(cluster: &mut Cluster) {
    let namespace = web(cluster, "autoscale", "1");
    namespace
        .kubectl(&["autoscale", "deployment", "nothing", "--max=2"])
        .fails()
        .says(&["deployments.apps \"nothing\" not found"]);
    namespace
        .kubectl(&["autoscale", "deployment", "web", "--min=5", "--max=2"])
        .fails()
        .says(&["--max=MAXPODS must be larger or equal to --min=MINPODS"]);
    namespace.kubectl(&["autoscale", "deployment", "web"]).fails().says(&["max"]);
}

pub fn rollout_undo(cluster: &mut Cluster) {
    let namespace = web(cluster, "undo", "2");
    let command = |version: &str| {
        format!(
            r#"[{{"op":"replace","path":"/spec/template/spec/containers/0/command","value":["web","8080","{version}"]}}]"#
        )
    };
    for version in ["two", "three"] {
        namespace.kubectl(&["patch", "deployment", "web", "--type=json", "-p", &command(version)]).ok();
        namespace
            .kubectl(&[
                "annotate",
                "deployment",
                "web",
                &format!("kubernetes.io/change-cause=to {version}"),
                "--overwrite",
            ])
            .ok();
        namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    }
    namespace
        .kubectl(&["rollout", "history", "deployment/web"])
        .ok()
        .matches(r"^REVISION +CHANGE-CAUSE$")
        .matches(r"^1 +<none>$")
        .matches(r"^2 +to two$")
        .matches(r"^3 +to three$");
    namespace
        .kubectl(&["rollout", "history", "deployment/web", "--revision=2"])
        .ok()
        .has(&["deployment.apps/web with revision #2", "two"])
        .lacks(&["three"]);
    let version = || namespace.get("deployment/web", ".spec.template.spec.containers[0].command[2]");
    namespace.kubectl(&["rollout", "undo", "deployment/web"]).ok().is("deployment.apps/web rolled back");
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    assert_eq!(version(), "two");
    namespace.kubectl(&["rollout", "undo", "deployment/web", "--to-revision=1"]).ok();
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    assert_eq!(version(), "one");
    namespace
        .kubectl(&["rollout", "history", "deployment/web"])
        .ok()
        .matches(r"^5 +<none>$")
        .lacks(&["\n1 ", "\n2 "])
        .matches("^4 ");
    namespace
        .kubectl(&["rollout", "undo", "deployment/web", "--to-revision=99"])
        .fails()
        .says(&["unable to find specified revision 99 in history"]);
}

pub fn rollout_restart(cluster: &mut Cluster) {
    let namespace = web(cluster, "restart", "2");
    let pods = || {
        namespace
            .kubectl(&["get", "pods", "-l", "app=web", "--field-selector=status.phase=Running", "-o", "name"])
            .ok()
            .text()
    };
    let before = pods();
    namespace.kubectl(&["rollout", "restart", "deployment/web"]).ok().is("deployment.apps/web restarted");
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    let after = pods();
    assert!(
        after.lines().all(|pod| !before.contains(pod) || pod.is_empty()) || after.lines().count() > 2,
        "{before} -> {after}"
    );
    namespace.kubectl(&["rollout", "pause", "deployment/web"]).ok().is("deployment.apps/web paused");
    namespace
        .kubectl(&["rollout", "restart", "deployment/web"])
        .fails()
        .says(&["can't restart paused deployment"]);
    namespace.kubectl(&["set", "env", "deployment/web", "A=b"]).ok();
    namespace.wait_for(
        "deployment/web",
        ".status.conditions[?(@.type==\"Progressing\")].reason",
        "DeploymentPaused",
    );
    assert_eq!(namespace.kubectl(&["get", "rs", "-o", "name"]).text().lines().count(), 2);
    namespace.kubectl(&["rollout", "resume", "deployment/web"]).ok().is("deployment.apps/web resumed");
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    assert_eq!(namespace.kubectl(&["get", "rs", "-o", "name"]).text().lines().count(), 3);
}

pub fn set(cluster: &mut Cluster) {
    let namespace = web(cluster, "set", "1");
    namespace
        .kubectl(&["set", "env", "deployment/web", "COLOUR=red"])
        .ok()
        .is("deployment.apps/web env updated");
    namespace.kubectl(&["set", "env", "deployment/web", "--list"]).ok().has(&["COLOUR=red"]);
    namespace
        .kubectl(&["set", "resources", "deployment/web", "--limits=cpu=500m,memory=64Mi"])
        .ok()
        .is("deployment.apps/web resource requirements updated");
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    namespace
        .kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.qosClass}"])
        .ok()
        .has(&["Guaranteed"]);
    namespace
        .kubectl(&["set", "image", "deployment/web", "test=example.com/none:1"])
        .ok()
        .is("deployment.apps/web image updated");
    // It cannot be pulled: the old pod stays, and the new one says why.
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=1s"]).fails();
    namespace.wait_for("deployment/web", ".status.availableReplicas", "1");
    let waiting = "jsonpath={.status.containerStatuses[0].state.waiting.message}";
    namespace.kubectl(&["wait", "pods", "-l", "app=web", "--for", waiting, "--timeout=3s"]);
    namespace.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
}

pub fn delete_cascade(cluster: &mut Cluster) {
    let namespace = web(cluster, "cascade", "1");
    namespace.kubectl(&["delete", "deployment", "web", "--cascade=orphan"]).ok();
    let set = namespace.kubectl(&["get", "rs", "-o", "name"]).ok().text();
    assert!(set.starts_with("replicaset.apps/web-"), "{set}");
    namespace.wait_for(&set, ".status.readyReplicas", "1");
    namespace.kubectl(&["wait", &set, "--for=jsonpath={.metadata.ownerReferences}", "--timeout=1s"]).fails();
    // Foreground: the owner goes after its pods.
    namespace.kubectl(&["delete", &set, "--cascade=foreground"]).ok();
    namespace.kubectl(&["get", "pods", "-o", "name"]).ok().is("");
    let second = web(cluster, "cascade-background", "1");
    let set = second.kubectl(&["get", "rs", "-o", "name"]).ok().text();
    second.kubectl(&["delete", "deployment", "web", "--cascade=background", "--wait=false"]).ok();
    second.kubectl(&["wait", &set, "--for=delete", "--timeout=50s"]).ok();
    second.kubectl(&["wait", "pods", "-l", "app=web", "--for=delete", "--timeout=50s"]).ok();
}

pub fn job(cluster: &mut Cluster) {
    let namespace = cluster.namespace("job");
    namespace
        .kubectl(&["create", "job", "sum", "--image=example.com/test:1", "--", "sh", "-c", "echo $((6*7))"])
        .ok()
        .is("job.batch/sum created");
    namespace.wait("job/sum", "condition=Complete");
    namespace
        .kubectl(&["get", "job", "sum"])
        .ok()
        .matches(r"^NAME +STATUS +COMPLETIONS +DURATION +AGE$")
        .matches(r"^sum +Complete +1/1 ");
    namespace.kubectl(&["logs", "job/sum"]).ok().is("42");
    namespace.kubectl(&["delete", "job", "sum"]).ok();
    namespace.kubectl(&["wait", "pods", "-l", "job-name=sum", "--for=delete", "--timeout=50s"]).ok();
}

pub fn drain(cluster: &mut Cluster) {
    let namespace = web(cluster, "drain", "1");
    let node = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).ok().text();
    cluster.kubectl(&["cordon", &node]).ok().has(&[&format!("node/{node} cordoned")]);
    cluster.kubectl(&["get", "node", &node]).ok().has(&["Ready,SchedulingDisabled"]);
    cluster
        .kubectl(&[
            "drain",
            &node,
            "--ignore-daemonsets",
            "--force",
            "--timeout=50s",
            "--delete-emptydir-data",
        ])
        .ok()
        .has(&["evicting pod drain/web-", &format!("node/{node} drained")]);
    namespace.kubectl(&["get", "pods"]).ok().matches(r"^web-\S+ +0/1 +Pending ");
    cluster.kubectl(&["uncordon", &node]).ok();
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=50s"]).ok();
    cluster.kubectl(&["taint", "node", &node, "key=value:NoSchedule"]).ok().has(&["tainted"]);
    cluster.kubectl(&["describe", "node", &node]).ok().matches(r"^Taints: +key=value:NoSchedule$");
    cluster.kubectl(&["taint", "node", &node, "key-"]).ok().has(&["untainted"]);
}
