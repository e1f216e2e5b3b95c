//! The order in which a pod's containers run, and when they run again.

use sampan_testkit::Cluster;

use crate::{pod, script, status};

pub fn init_order(cluster: &mut Cluster) {
    let namespace = cluster.namespace("init-order");
    namespace.apply(&pod(
        "pod",
        "  restartPolicy: Never
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - {name: one, image: 'example.com/test:1', command: [sh, -c, 'echo one >> /s/order'], volumeMounts: [{name: shared, mountPath: /s}]}
  - name: side
    image: example.com/test:1
    restartPolicy: Always
    command: [sh, -c, 'trap \"echo side ended; exit 0\" TERM; sleep 1; echo side >> /s/order; touch /s/up; while true; do sleep 1; done']
    startupProbe: {exec: {command: [test, -f, /s/up]}, periodSeconds: 1, failureThreshold: 20}
    volumeMounts: [{name: shared, mountPath: /s}]
  - {name: two, image: 'example.com/test:1', command: [sh, -c, 'echo two >> /s/order'], volumeMounts: [{name: shared, mountPath: /s}]}
  containers:
  - {name: main, image: 'example.com/test:1', command: [cat, /s/order], volumeMounts: [{name: shared, mountPath: /s}]}
  - {name: other, image: 'example.com/test:1', command: ['true']}",
    ).replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 10"));
    namespace.wait_for("pod/pod", ".status.phase", "Succeeded");
    namespace.kubectl(&["logs", "pod", "-c", "main"]).ok().is("one\nside\ntwo");
    // A sidecar does not keep its pod from ending, and ends in order.
    namespace.kubectl(&["logs", "pod", "-c", "side"]).ok().has(&["side ended"]);
    let reasons = namespace.get("pod/pod", ".status.initContainerStatuses[*].state.terminated.reason");
    assert_eq!(reasons, "Completed Completed Completed");
    namespace.kubectl(&["get", "pod", "pod"]).ok().matches(r"^pod +0/3 +Completed +0 ");
    let initialized = "{.status.conditions[?(@.type=='Initialized')].status}";
    namespace.kubectl(&["get", "pod", "pod", "-o", &format!("jsonpath={initialized}")]).ok().is("True");
}

pub fn init_failure(cluster: &mut Cluster) {
    let namespace = cluster.namespace("init-failure");
    let spec = |policy: &str| {
        format!(
            "  restartPolicy: {policy}
  initContainers:
  - {{name: bad, image: 'example.com/test:1', command: [sh, -c, 'echo cannot start; exit 4']}}
  containers:
  - {{name: main, image: 'example.com/test:1', command: [sleep, '1000']}}"
        )
    };
    namespace.apply(&(pod("again", &spec("Always")) + &pod("never", &spec("Never"))));
    namespace.wait_for("pod/never", ".status.phase", "Failed");
    namespace.kubectl(&["get", "pod", "never"]).ok().matches(r"^never +0/1 +Init:Error +0 ");
    let waiting = ".status.initContainerStatuses[0].state.waiting.reason";
    namespace.wait_for("pod/again", waiting, "CrashLoopBackOff");
    namespace.kubectl(&["get", "pod", "again"]).ok().matches(r"^again +0/1 +Init:CrashLoopBackOff ");
    assert_eq!(namespace.get("pod/again", ".status.phase"), "Pending");
    assert_eq!(status(&namespace, "again", "state.waiting.reason"), "PodInitializing");
    assert_eq!(status(&namespace, "again", "started"), "false");
    let last = ".status.initContainerStatuses[0].lastState.terminated.exitCode";
    assert_eq!(namespace.get("pod/again", last), "4");
    let message = "containers with incomplete status: [bad]";
    namespace
        .kubectl(&["get", "pod", "again", "-o", "yaml"])
        .ok()
        .has(&[message, "ContainersNotInitialized"]);
    namespace.kubectl(&["logs", "again", "-c", "bad"]).ok().is("cannot start");
    namespace.event(
        "again",
        "BackOff",
        r"Back-off restarting failed container bad in pod again_init-failure\(",
    );
}

pub fn restart_policies(cluster: &mut Cluster) {
    let namespace = cluster.namespace("policies");
    namespace.apply(
        &[
            script("always", "Always", "exit 0", ""),
            script("done", "OnFailure", "exit 0", ""),
            script("never", "Never", "exit 2", ""),
            pod(
                "second",
                "  restartPolicy: OnFailure
  volumes: [{name: v, emptyDir: {}}]
  containers:
  - name: main
    image: example.com/test:1
    command: [sh, -c, 'test -f /v/first && exit 0; touch /v/first; exit 1']
    volumeMounts: [{name: v, mountPath: /v}]",
            ),
        ]
        .concat(),
    );
    namespace.wait_for("pod/done", ".status.phase", "Succeeded");
    namespace.wait_for("pod/never", ".status.phase", "Failed");
    namespace.wait_for("pod/second", ".status.phase", "Succeeded");
    namespace.wait_for("pod/always", ".status.containerStatuses[0].restartCount", "1");
    assert_eq!(status(&namespace, "always", "lastState.terminated.reason"), "Completed");
    assert_eq!(status(&namespace, "done", "restartCount"), "0");
    assert_eq!(status(&namespace, "never", "restartCount"), "0");
    assert_eq!(status(&namespace, "never", "state.terminated.exitCode"), "2");
    assert_eq!(status(&namespace, "second", "restartCount"), "1");
    assert_eq!(status(&namespace, "second", "lastState.terminated.exitCode"), "1");
    namespace.kubectl(&["get", "pod", "second"]).ok().matches(r"^second +0/1 +Completed +1 \(");
    assert_eq!(namespace.get("pod/always", ".status.phase"), "Running");
}

pub fn crash_loop(cluster: &mut Cluster) {
    let namespace = cluster.namespace("crash-loop");
    namespace.apply(&script("crash", "Always", "echo run of $HOSTNAME; exit 1", ""));
    namespace.wait_for("pod/crash", ".status.containerStatuses[0].restartCount", "1");
    namespace.wait_for("pod/crash", ".status.containerStatuses[0].state.waiting.reason", "CrashLoopBackOff");
    let message = status(&namespace, "crash", "state.waiting.message");
    assert!(message.contains("restarting failed container=main pod=crash_crash-loop("), "{message}");
    assert!(message.starts_with("back-off "), "{message}");
    namespace.kubectl(&["logs", "crash", "--previous"]).ok().is("run of crash");
    namespace.kubectl(&["get", "pod", "crash"]).ok().matches(r"^crash +0/1 +CrashLoopBackOff +[12] \(");
    namespace.event(
        "crash",
        "BackOff",
        r"Back-off restarting failed container main in pod crash_crash-loop\(",
    );
    assert_eq!(namespace.get("pod/crash", ".status.phase"), "Running");
    let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].reason}";
    namespace.kubectl(&["get", "pod", "crash", "-o", ready]).ok().is("ContainersNotReady");
}

pub fn hooks(cluster: &mut Cluster) {
    let namespace = cluster.namespace("hooks");
    let manifest = pod(
        "hooked",
        "  containers:
  - name: main
    image: example.com/test:1
    command: [sh, -c, 'trap \"echo terminated; exit 0\" TERM; while true; do sleep 0.1; done']
    lifecycle:
      postStart: {exec: {command: [sh, -c, 'echo started > /proc/1/fd/1; touch /tmp/started']}}
      preStop: {exec: {command: [sh, -c, 'echo stopping > /proc/1/fd/1; sleep 1; echo stopped > /proc/1/fd/1']}}",
    );
    namespace
        .apply(&manifest.replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 20"));
    namespace.wait("pod/hooked", "condition=Ready");
    namespace.sh("hooked", "ls /tmp").ok().is("started");
    let mut logs = namespace.spawn(&["logs", "hooked", "--follow"]);
    logs.until("^started$");
    namespace.kubectl(&["delete", "pod", "hooked"]).ok();
    let (_, printed) = logs.end();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines, ["started", "stopping", "stopped", "terminated"]);
}

pub fn failing_hook(cluster: &mut Cluster) {
    let namespace = cluster.namespace("failing-hook");
    namespace.apply(&script(
        "bad",
        "Always",
        "exec sleep 1000",
        "lifecycle: {postStart: {exec: {command: [sh, -c, 'echo no luck; exit 9']}}}",
    ));
    namespace.event("bad", "FailedPostStartHook", "PostStartHook failed");
    namespace.event("bad", "Killing", "FailedPostStartHook");
    namespace.wait_for("pod/bad", ".status.containerStatuses[0].lastState.terminated.exitCode", "137");
}

pub fn no_command(cluster: &mut Cluster) {
    let namespace = cluster.namespace("no-command");
    let spec = |policy: &str| {
        format!(
            "  restartPolicy: {policy}
  containers: [{{name: main, image: 'example.com/test:1', command: [/no/such/file]}}]"
        )
    };
    namespace.apply(&(pod("never", &spec("Never")) + &pod("always", &spec("Always"))));
    namespace.wait_for("pod/never", ".status.phase", "Failed");
    assert_eq!(status(&namespace, "never", "state.terminated.reason"), "StartError");
    assert_eq!(status(&namespace, "never", "state.terminated.exitCode"), "128");
    let message = status(&namespace, "never", "state.terminated.message");
    assert!(message.contains("/no/such/file") && message.contains("no such file or directory"), "{message}");
    namespace.event("never", "Failed", "Error: .*no such file or directory");
    let reason = ".status.containerStatuses[0].state.waiting.reason";
    namespace.wait_for("pod/always", reason, "CrashLoopBackOff");
    assert_eq!(status(&namespace, "always", "lastState.terminated.reason"), "StartError");
}

pub fn shared_namespaces(cluster: &mut Cluster) {
    let namespace = cluster.namespace("shared");
    let container = "  containers:
  - {name: main, image: 'example.com/test:1', command: [sleep, '1001']}
  - {name: other, image: 'example.com/test:1', command: [sleep, '1002']}";
    namespace.apply(
        &[
            pod("apart", container),
            pod("together", &format!("  shareProcessNamespace: true\n{container}")),
            pod("host", &format!("  hostNetwork: true\n  hostPID: true\n{container}")),
        ]
        .concat(),
    );
    for name in ["apart", "together", "host"] {
        namespace.wait(&format!("pod/{name}"), "condition=Ready");
    }
    let processes = "ps -o args | grep -o 'sleep 100[12]' | sort | uniq";
    namespace.sh("apart", processes).ok().is("sleep 1001");
    namespace.sh("together", processes).ok().is("sleep 1001\nsleep 1002");
    namespace.sh("together", "cat /proc/1/cmdline").ok().lacks(&["sleep"]);
    namespace.sh("host", "ps -o args").ok().has(&["server --data-dir", "sleep 1002"]);
    namespace.sh("apart", "ls /sys/class/net").ok().is("eth0\nlo");
    namespace.sh("host", "ls /sys/class/net").ok().lacks(&["eth0"]);
    assert_eq!(namespace.get("pod/host", ".status.podIP"), namespace.get("pod/host", ".status.hostIP"));
    assert_ne!(namespace.get("pod/apart", ".status.podIP"), namespace.get("pod/apart", ".status.hostIP"));
    namespace.sh("apart", "hostname").ok().is("apart");
    let node = namespace.get("pod/host", ".spec.nodeName");
    namespace.sh("host", "hostname").ok().is(&node);
}

pub fn deadline(cluster: &mut Cluster) {
    let namespace = cluster.namespace("deadline");
    namespace.apply(
        &script("late", "Always", "exec sleep 1000", "")
            .replace("spec:", "spec:\n  activeDeadlineSeconds: 2"),
    );
    namespace.wait_for("pod/late", ".status.phase", "Failed");
    assert_eq!(namespace.get("pod/late", ".status.reason"), "DeadlineExceeded");
    let message = namespace.get("pod/late", ".status.message");
    assert_eq!(message, "Pod was active on the node longer than the specified deadline");
}
