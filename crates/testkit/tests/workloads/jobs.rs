//! Jobs, from their first pod to their last trace.

use sampan_testkit::Cluster;

fn job(name: &str, spec: &str, script: &str, policy: &str) -> String {
    format!(
        "
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  {spec}
  template:
    spec:
      restartPolicy: {policy}
      terminationGracePeriodSeconds: 1
      containers: [{{name: main, image: 'example.com/test:1', command: [sh, -c, '{script}']}}]
---
"
    )
}

pub fn completions(cluster: &mut Cluster) {
    let namespace = cluster.namespace("jobs");
    namespace.apply(&job("three", "completions: 3\n  parallelism: 2", "echo done", "Never"));
    namespace.wait("job/three", "condition=Complete");
    assert_eq!(namespace.get("job/three", ".status.succeeded"), "3");
    namespace.kubectl(&["get", "job", "three"]).ok().matches(r"^three +Complete +3/3 +");
    namespace.kubectl(&["logs", "-l", "job-name=three"]).ok().is("done\ndone\ndone");
    namespace.event("three", "Completed", "Job completed");
    // Suspended, it runs nothing; resumed, it does.
    namespace.apply(&job("held", "suspend: true", "echo ran", "Never"));
    namespace.wait("job/held", "condition=Suspended");
    namespace.kubectl(&["get", "pods", "-l", "job-name=held", "-o", "name"]).ok().is("");
    namespace.kubectl(&["patch", "job", "held", "-p", "{\"spec\":{\"suspend\":false}}"]).ok();
    namespace.wait("job/held", "condition=Complete");
}

pub fn failure(cluster: &mut Cluster) {
    let namespace = cluster.namespace("failing-jobs");
    namespace.apply(&job("once", "backoffLimit: 0", "exit 3", "Never"));
    namespace.apply(&job("twice", "backoffLimit: 1", "exit 3", "OnFailure"));
    namespace.apply(&job("late", "activeDeadlineSeconds: 1", "exec sleep 1000", "Never"));
    let condition = |name: &str| {
        let reason = "jsonpath={.status.conditions[?(@.type=='Failed')].reason}";
        namespace.kubectl(&["get", "job", name, "-o", reason]).ok().text()
    };
    for (name, reason) in
        [("once", "BackoffLimitExceeded"), ("late", "DeadlineExceeded"), ("twice", "BackoffLimitExceeded")]
    {
        namespace.wait(&format!("job/{name}"), "condition=Failed");
        assert_eq!(condition(name), reason, "{name}");
        assert_eq!(namespace.get(&format!("job/{name}"), ".status.succeeded"), "", "{name}");
    }
    assert_eq!(namespace.get("job/once", ".status.failed"), "1");
    namespace.event("once", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    namespace.kubectl(&["get", "job", "once"]).ok().matches(r"^once +Failed +0/1 +");
    // A failed pod stays to be looked at; one that was still running goes.
    namespace.kubectl(&["get", "pods", "-l", "job-name=once"]).ok().matches("^once-.* 0/1 +Error +0 ");
    namespace.kubectl(&["wait", "pods", "-l", "job-name=late", "--for=delete", "--timeout=20s"]).ok();
}

pub fn indexed(cluster: &mut Cluster) {
    let namespace = cluster.namespace("indexed");
    namespace.apply(&job(
        "indexed",
        "completions: 3\n  parallelism: 3\n  completionMode: Indexed",
        "echo index $JOB_COMPLETION_INDEX of $HOSTNAME",
        "Never",
    ));
    namespace.apply(&job("short", "ttlSecondsAfterFinished: 1", "exit 0", "Never"));
    namespace.wait("job/indexed", "condition=Complete");
    assert_eq!(namespace.get("job/indexed", ".status.completedIndexes"), "0-2");
    let logs = namespace.kubectl(&["logs", "-l", "job-name=indexed"]).ok();
    logs.has(&["index 0 of indexed-0\n", "index 1 of indexed-1\n", "index 2 of indexed-2\n"]);
    namespace.kubectl(&["wait", "job/short", "--for=delete", "--timeout=30s"]).ok();
    namespace.kubectl(&["wait", "pods", "-l", "job-name=short", "--for=delete", "--timeout=30s"]).ok();
}
