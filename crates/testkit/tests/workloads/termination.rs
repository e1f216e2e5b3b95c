//! How containers end, and what is told about it.

use sampan_testkit::{Cluster, Namespace};

use crate::{script, status};

/// A pod whose object stays after its end, until [`release`], so that its last status can be read.
fn held(name: &str, grace: &str, body: &str) -> String {
    script(name, "Always", body, "")
        .replace("metadata: {", "metadata: {finalizers: [example.com/hold], ")
        .replace("terminationGracePeriodSeconds: 1", &format!("terminationGracePeriodSeconds: {grace}"))
}

fn release(namespace: &Namespace<'_>, pod: &str) {
    namespace
        .kubectl(&["patch", "pod", pod, "--type=merge", "-p", "{\"metadata\":{\"finalizers\":null}}"])
        .ok();
    namespace.kubectl(&["wait", &format!("pod/{pod}"), "--for=delete", "--timeout=30s"]).ok();
}

pub fn graceful(cluster: &mut Cluster) {
    let namespace = cluster.namespace("graceful");
    namespace.apply(&held(
        "polite",
        "30",
        "trap 'echo told; sleep 1; echo done; exit 7' TERM; echo up; while true; do sleep 0.1; done",
    ));
    namespace.wait("pod/polite", "condition=Ready");
    let mut logs = namespace.spawn(&["logs", "polite", "--follow"]);
    logs.until("^up$");
    namespace.kubectl(&["delete", "pod", "polite", "--wait=false"]).ok();
    namespace.wait_for("pod/polite", ".status.containerStatuses[0].state.terminated.exitCode", "7");
    assert_eq!(status(&namespace, "polite", "state.terminated.reason"), "Error");
    assert_eq!(status(&namespace, "polite", "restartCount"), "0");
    let (_, printed) = logs.end();
    assert_eq!(printed.lines().collect::<Vec<_>>(), ["up", "told", "done"]);
    namespace.event("polite", "Killing", "Stopping container main");
    release(&namespace, "polite");
}

pub fn killed(cluster: &mut Cluster) {
    let namespace = cluster.namespace("killed");
    namespace.apply(&held("deaf", "1", "trap '' TERM; echo up; while true; do sleep 0.1; done"));
    namespace.apply(&held("slow", "600", "trap '' TERM; echo up; while true; do sleep 0.1; done"));
    for name in ["deaf", "slow"] {
        namespace.wait(&format!("pod/{name}"), "condition=Ready");
        namespace.spawn(&["logs", name, "--follow"]).until("^up$");
    }
    namespace.kubectl(&["delete", "pod", "slow", "--wait=false"]).ok();
    namespace.wait_for("pod/slow", ".metadata.deletionGracePeriodSeconds", "600");
    namespace.kubectl(&["delete", "pod", "deaf", "--wait=false"]).ok();
    // A second deletion may shorten the grace of the first.
    namespace.kubectl(&["delete", "pod", "slow", "--wait=false", "--grace-period=1"]).ok();
    for name in ["deaf", "slow"] {
        let path = ".status.containerStatuses[0].state.terminated.exitCode";
        namespace.wait_for(&format!("pod/{name}"), path, "137");
        release(&namespace, name);
    }
}

pub fn messages(cluster: &mut Cluster) {
    let namespace = cluster.namespace("messages");
    namespace.apply(
        &[
            script("file", "Never", "echo for the log; echo -n sorry > /dev/termination-log; exit 1", ""),
            script(
                "path",
                "Never",
                "echo -n elsewhere > /tmp/message; exit 0",
                "terminationMessagePath: /tmp/message",
            ),
            script(
                "log",
                "Never",
                "echo first; echo last words >&2; exit 1",
                "terminationMessagePolicy: FallbackToLogsOnError",
            ),
            script("fine", "Never", "echo words", "terminationMessagePolicy: FallbackToLogsOnError"),
            script("long", "Never", "yes | head -c 10000 > /dev/termination-log", ""),
        ]
        .concat(),
    );
    for name in ["file", "path", "log", "fine", "long"] {
        namespace.wait(
            &format!("pod/{name}"),
            "jsonpath={.status.containerStatuses[0].state.terminated.finishedAt}",
        );
    }
    let message = |name: &str| status(&namespace, name, "state.terminated.message");
    assert_eq!(message("file"), "sorry");
    assert_eq!(message("path"), "elsewhere");
    assert_eq!(message("log"), "first\nlast words");
    assert_eq!(message("fine"), "");
    assert_eq!(message("long").len(), 4095, "4096 bytes, the last one a line's end");
}

pub fn out_of_memory(cluster: &mut Cluster) {
    let namespace = cluster.namespace("oom");
    namespace.apply(&script("hungry", "Never", "exec tail /dev/zero", "resources: {limits: {memory: 24Mi}}"));
    // A child that is killed ends its parent with what the parent makes of it.
    namespace.apply(&script("again", "Always", "exec tail /dev/zero", "resources: {limits: {memory: 24Mi}}"));
    namespace.wait_for("pod/hungry", ".status.phase", "Failed");
    assert_eq!(status(&namespace, "hungry", "state.terminated.reason"), "OOMKilled");
    assert_eq!(status(&namespace, "hungry", "state.terminated.exitCode"), "137");
    namespace.kubectl(&["get", "pod", "hungry"]).ok().matches(r"^hungry +0/1 +OOMKilled +0 ");
    namespace.wait_for("pod/again", ".status.containerStatuses[0].lastState.terminated.reason", "OOMKilled");
}
