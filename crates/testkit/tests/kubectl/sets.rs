//! Commands about stateful sets, daemon sets and cron jobs.

use sampan_testkit::Cluster;

const STATEFUL: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: example.com/test:1
        command: [web, '8080', one]
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
";

pub fn stateful_set(cluster: &mut Cluster) {
    let namespace = cluster.namespace("stateful");
    namespace.apply(STATEFUL);
    let rolled_out = |set: &str| {
        namespace
            .kubectl(&["rollout", "status", set, "--timeout=55s"])
            .ok()
            .has(&["partitioned roll out complete: 2 new pods have been updated..."]);
    };
    namespace.kubectl(&["rollout", "status", "statefulset/db", "--timeout=55s"]).ok();
    namespace
        .kubectl(&["get", "statefulsets"])
        .ok()
        .matches(r"^NAME +READY +AGE$")
        .matches(r"^db +2/2 +\d+s$");
    namespace.kubectl(&["get", "pods", "-l", "app=db", "-o", "name"]).ok().is("pod/db-0\npod/db-1");
    // Each pod has a name of its own that the others know.
    namespace.sh("db-0", "hostname").ok().is("db-0");
    let url = format!("http://db-1.db.{}.svc.cluster.local:8080/", namespace.name);
    namespace.sh("db-0", &format!("timeout 10 wget -q -O - {url}")).ok().has(&["one db-1"]);
    let uid = namespace.get("pod/db-1", ".metadata.uid");
    namespace.kubectl(&["delete", "pod", "db-1"]).ok();
    namespace.kubectl(&["wait", "pod/db-1", "--for=create", "--timeout=55s"]).ok();
    namespace.wait_for("statefulset/db", ".status.readyReplicas", "2");
    namespace.wait("pod/db-1", "condition=Ready");
    assert_ne!(namespace.get("pod/db-1", ".metadata.uid"), uid);
    // Out and back, by revisions.
    namespace.kubectl(&["set", "env", "statefulset/db", "VERSION=2"]).ok();
    rolled_out("statefulset/db");
    namespace.sh("db-0", "echo $VERSION").ok().is("2");
    namespace
        .kubectl(&["rollout", "history", "statefulset/db"])
        .ok()
        .matches(r"^REVISION +CHANGE-CAUSE$")
        .matches(r"^1 +<none>$")
        .matches(r"^2 +<none>$");
    namespace.kubectl(&["rollout", "undo", "statefulset/db"]).ok().is("statefulset.apps/db rolled back");
    rolled_out("statefulset/db");
    namespace.sh("db-1", "echo v$VERSION").ok().is("v");
    namespace.kubectl(&["rollout", "restart", "statefulset/db"]).ok().is("statefulset.apps/db restarted");
    rolled_out("statefulset/db");
    namespace.kubectl(&["scale", "statefulset/db", "--replicas=1"]).ok();
    namespace.kubectl(&["wait", "pod/db-1", "--for=delete", "--timeout=55s"]).ok();
    namespace.wait_for("statefulset/db", ".status.replicas", "1");
    namespace
        .kubectl(&["describe", "statefulset", "db"])
        .ok()
        .matches(r"^Replicas: +1 desired \| 1 total$")
        .has(&[
            "create Pod db-0 in StatefulSet db successful",
            "delete Pod db-1 in StatefulSet db successful",
        ]);
    namespace.kubectl(&["delete", "statefulset", "db"]).ok();
    namespace.kubectl(&["wait", "pod/db-0", "--for=delete", "--timeout=55s"]).ok();
}

pub fn daemon_set(cluster: &mut Cluster) {
    let namespace = cluster.namespace("daemons");
    namespace.apply(
        "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: 'example.com/test:1', command: [sleep, '1000']}]
",
    );
    let rolled_out = || {
        namespace
            .kubectl(&["rollout", "status", "daemonset/agent", "--timeout=55s"])
            .ok()
            .has(&["daemon set \"agent\" successfully rolled out"]);
    };
    rolled_out();
    namespace
        .kubectl(&["get", "daemonsets"])
        .ok()
        .matches(r"^NAME +DESIRED +CURRENT +READY +UP-TO-DATE +AVAILABLE +NODE SELECTOR +AGE$")
        .matches(r"^agent +1 +1 +1 +1 +1 +<none> +\d+s$");
    let node = namespace.get("pods", ".items[0].spec.nodeName");
    // A node that is cordoned has its daemons all the same.
    cluster.kubectl(&["cordon", &node]).ok();
    namespace.kubectl(&["set", "env", "daemonset/agent", "VERSION=2"]).ok();
    rolled_out();
    cluster.kubectl(&["uncordon", &node]).ok();
    let env = || namespace.get("pods", ".items[0].spec.containers[0].env[0].value");
    assert_eq!(env(), "2");
    namespace
        .kubectl(&["rollout", "history", "daemonset/agent"])
        .ok()
        .matches(r"^1 +<none>$")
        .matches(r"^2 +<none>$");
    namespace.kubectl(&["rollout", "undo", "daemonset/agent"]).ok().is("daemonset.apps/agent rolled back");
    rolled_out();
    assert_eq!(env(), "");
    // Where it does not belong any more it goes, and where it belongs again it comes back.
    let selector =
        |value: &str| format!(r#"{{"spec": {{"template": {{"spec": {{"nodeSelector": {value}}}}}}}}}"#);
    namespace.kubectl(&["patch", "daemonset", "agent", "-p", &selector(r#"{"kind": "other"}"#)]).ok();
    namespace.kubectl(&["wait", "pods", "-l", "app=agent", "--for=delete", "--timeout=55s"]).ok();
    namespace.wait_for("daemonset/agent", ".status.desiredNumberScheduled", "0");
    cluster.kubectl(&["label", "node", &node, "kind=other"]).ok();
    namespace.wait_for("daemonset/agent", ".status.numberReady", "1");
    cluster.kubectl(&["label", "node", &node, "kind-"]).ok();
    namespace.wait_for("daemonset/agent", ".status.desiredNumberScheduled", "0");
    namespace.kubectl(&["delete", "daemonset", "agent"]).ok();
}

pub fn cron_job(cluster: &mut Cluster) {
    let namespace = cluster.namespace("cron");
    namespace
        .kubectl(&[
            "create",
            "cronjob",
            "yearly",
            "--schedule=0 0 1 1 *",
            "--image=example.com/test:1",
            "--",
            "sh",
            "-c",
            "echo $((6*7))",
        ])
        .ok()
        .is("cronjob.batch/yearly created");
    namespace
        .kubectl(&["get", "cronjobs"])
        .ok()
        .matches(r"^NAME +SCHEDULE +TIMEZONE +SUSPEND +ACTIVE +LAST SCHEDULE +AGE$")
        .matches(r"^yearly +0 0 1 1 \* +<none> +False +0 +<none> +\d+s$");
    namespace.kubectl(&["create", "job", "now", "--from=cronjob/yearly"]).ok().is("job.batch/now created");
    namespace.wait("job/now", "condition=Complete");
    namespace.kubectl(&["logs", "job/now"]).ok().is("42");
    // What is due comes by itself, and the next one when that is over.
    namespace.apply(
        "
apiVersion: batch/v1
kind: CronJob
metadata: {name: often}
spec:
  schedule: '@every 2s'
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 1
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: main, image: 'example.com/test:1', command: ['true']}]
",
    );
    namespace.wait("cronjob/often", "jsonpath={.status.lastSuccessfulTime}");
    namespace.kubectl(&["patch", "cronjob", "often", "-p", r#"{"spec": {"suspend": true}}"#]).ok();
    namespace.kubectl(&["get", "cronjob", "often"]).ok().matches(r"^often +@every 2s +<none> +True +");
    namespace.event("often", "SawCompletedJob", "Saw completed job: often-");
    namespace
        .kubectl(&["describe", "cronjob", "often"])
        .ok()
        .has(&["Created job often-", "Saw completed job: often-"]);
    namespace.kubectl(&["delete", "cronjob", "often", "yearly"]).ok();
    namespace.kubectl(&["wait", "jobs", "--all", "--for=delete", "--timeout=55s"]).ok();
}
