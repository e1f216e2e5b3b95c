//! What pods ask of the node that runs them.

use std::process::ExitCode;

use sampan_testkit::{Cluster, Namespace, Suite};

fn main() -> ExitCode {
    Suite::new("workloads")
        .test_image()
        .check("init containers run one after another, before the others", init_containers)
        .check("restart policies and back-off", restart_policies)
        .check("probes", probes)
        .check("life-cycle hooks and graceful ends", lifecycle)
        .check("environment", environment)
        .check("config map and secret volumes follow their objects", volumes_follow)
        .check("downward and projected volumes", downward)
        .check("empty-dir and host-path volumes", directories)
        .check("security contexts", security)
        .check("limits, OOMKilled", limits)
        .check("termination messages", termination_messages)
        .check("jobs", jobs)
        .check("images that are not there", missing_images)
        .check("pods that cannot be placed say why", unschedulable)
        .check("affinity places pods", affinity)
        .check("deadlines", deadlines)
        .run()
}

/// A pod `name` with the given further lines of its spec, and one container `main` that runs a script.
fn pod(name: &str, spec: &str, container: &str, script: &str) -> String {
    let script = script.replace('\'', "''");
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
{spec}
  containers:
  - name: main
    image: example.com/test:1
    command: [sh, -c, '{script}']
{container}
"
    )
}

fn run_to_end(namespace: &Namespace<'_>, name: &str, spec: &str, container: &str, script: &str) -> String {
    namespace.apply(&pod(name, &format!("  restartPolicy: Never\n{spec}"), container, script));
    let object = format!("pod/{name}");
    namespace.wait_for(&object, ".status.phase", "Succeeded");
    namespace.kubectl(&["logs", name]).ok().text()
}

fn init_containers(cluster: &mut Cluster) {
    let namespace = cluster.namespace("init");
    let spec = "
  restartPolicy: Never
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - {name: one, image: 'example.com/test:1', command: [sh, -c, 'echo one >> /shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]}
  - {name: two, image: 'example.com/test:1', command: [sh, -c, 'echo two >> /shared/order'], volumeMounts: [{name: shared, mountPath: /shared}]}";
    let mounts = "    volumeMounts: [{name: shared, mountPath: /shared}]";
    namespace.apply(&pod("ordered", spec, mounts, "cat /shared/order"));
    namespace.wait_for("pod/ordered", ".status.phase", "Succeeded");
    namespace.kubectl(&["logs", "ordered"]).ok().is("one\ntwo");
    assert_eq!(
        namespace.get("pod/ordered", ".status.initContainerStatuses[*].state.terminated.reason"),
        "Completed Completed"
    );
    // One that fails for good fails the pod; the others never start.
    let failing = spec.replace("echo two >> /shared/order", "exit 9");
    namespace.apply(&pod("failing", &failing, mounts, "echo never"));
    namespace.wait_for("pod/failing", ".status.phase", "Failed");
    namespace.kubectl(&["get", "pod", "failing"]).ok().matches(r"^failing +0/1 +Init:Error +0 ");
    // A side-car (KEP-753) starts before the others, and ends after them.
    let sidecar = "
  restartPolicy: Never
  initContainers:
  - {name: side, image: 'example.com/test:1', restartPolicy: Always, command: [web, '8080', side], startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}";
    namespace.apply(&pod("sidecar", sidecar, "", "wget -q -O - 127.0.0.1:8080"));
    namespace.wait_for("pod/sidecar", ".status.phase", "Succeeded");
    namespace.kubectl(&["logs", "sidecar", "-c", "main"]).ok().is("side sidecar");
}

fn restart_policies(cluster: &mut Cluster) {
    let namespace = cluster.namespace("restarts");
    namespace.apply(&pod("never", "  restartPolicy: Never", "", "exit 1"));
    namespace.apply(&pod(
        "on-failure",
        "  restartPolicy: OnFailure\n  volumes: [{name: state, emptyDir: {}}]",
        "    volumeMounts: [{name: state, mountPath: /state}]",
        "[ -e /state/ran ] && exit 0; touch /state/ran; exit 1",
    ));
    namespace.apply(&pod("always", "  restartPolicy: Always", "", "exit 0"));
    namespace.wait_for("pod/never", ".status.phase", "Failed");
    namespace.wait_for("pod/on-failure", ".status.phase", "Succeeded");
    assert_eq!(namespace.get("pod/never", ".status.containerStatuses[0].restartCount"), "0");
    assert_eq!(namespace.get("pod/on-failure", ".status.containerStatuses[0].restartCount"), "1");
    namespace.wait_for("pod/always", ".status.containerStatuses[0].state.waiting.reason", "CrashLoopBackOff");
    namespace.kubectl(&["get", "pod", "always"]).ok().matches(r"^always +0/1 +CrashLoopBackOff +\d+ ");
    namespace
        .kubectl(&["describe", "pod", "always"])
        .ok()
        .matches(r"^  Warning +BackOff .*Back-off restarting failed container");
}

fn probes(cluster: &mut Cluster) {
    let namespace = cluster.namespace("probes");
    let readiness =
        "    readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}";
    namespace.apply(&pod("ready", "", readiness, "exec sleep 1000"));
    namespace.wait_for("pod/ready", ".status.phase", "Running");
    namespace.kubectl(&["wait", "pod/ready", "--for=condition=Ready", "--timeout=2s"]).fails();
    namespace.sh("ready", "touch /tmp/ready").ok();
    namespace.wait("pod/ready", "condition=Ready");
    namespace.sh("ready", "rm /tmp/ready").ok();
    namespace.wait("pod/ready", "condition=Ready=False");
    namespace.kubectl(&["get", "pod", "ready"]).ok().matches(r"^ready +0/1 +Running +0 ");
    namespace
        .kubectl(&["describe", "pod", "ready"])
        .ok()
        .matches(r"^  Warning +Unhealthy .*Readiness probe failed: cat: can't open '/tmp/ready'");
    let liveness = "    livenessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, failureThreshold: 1}\n    startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 30}";
    namespace.apply(&pod("alive", "", liveness, "web 8080 one & echo $! > /tmp/pid; wait; exec sleep 1000"));
    namespace.wait("pod/alive", "condition=Ready");
    namespace.sh("alive", "kill -9 $(cat /tmp/pid)").ok();
    namespace.wait_for("pod/alive", ".status.containerStatuses[0].restartCount", "1");
    namespace.kubectl(&["describe", "pod", "alive"]).ok().has(&[
        "Liveness probe failed: Get \"http://10.42.",
        "Container main failed liveness probe, will be restarted",
    ]);
    namespace.wait("pod/alive", "condition=Ready");
}

fn lifecycle(cluster: &mut Cluster) {
    let namespace = cluster.namespace("lifecycle");
    let hooks = "    lifecycle:\n      postStart: {exec: {command: [sh, -c, 'echo started > /tmp/hook']}}\n      preStop: {exec: {command: [sh, -c, 'echo stopping > /proc/1/fd/1']}}";
    let script = "trap 'echo terminated; exit 0' TERM; until [ -e /tmp/hook ]; do sleep 0.05; done; cat /tmp/hook; while true; do sleep 0.1; done";
    namespace.apply(
        &pod("hooks", "", hooks, script)
            .replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 30"),
    );
    namespace.wait("pod/hooks", "condition=Ready");
    let mut logs = namespace.spawn(&["logs", "-f", "hooks"]);
    logs.until("^started$");
    namespace.kubectl(&["delete", "pod", "hooks"]).ok();
    let (_, printed) = logs.end();
    assert_eq!(printed, "started\nstopping\nterminated\n");
}

fn environment(cluster: &mut Cluster) {
    let namespace = cluster.namespace("environment");
    namespace
        .kubectl(&[
            "create",
            "configmap",
            "settings",
            "--from-literal=COLOUR=red",
            "--from-literal=SIZE=large",
        ])
        .ok();
    namespace.kubectl(&["create", "secret", "generic", "keys", "--from-literal=password=hidden"]).ok();
    let env = "
    resources: {limits: {cpu: 500m, memory: 64Mi}}
    envFrom: [{prefix: S_, configMapRef: {name: settings}}]
    env:
    - {name: PLAIN, value: text}
    - {name: MIXED, value: '$(PLAIN)-$(MISSING)-$$(PLAIN)'}
    - {name: ONE, valueFrom: {configMapKeyRef: {name: settings, key: COLOUR}}}
    - {name: SECRET, valueFrom: {secretKeyRef: {name: keys, key: password}}}
    - {name: ABSENT, valueFrom: {secretKeyRef: {name: keys, key: nothing, optional: true}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}";
    let printed = run_to_end(&namespace, "shows", "", env, "env | sort");
    for line in [
        "S_COLOUR=red",
        "S_SIZE=large",
        "PLAIN=text",
        "MIXED=text-$(MISSING)-$(PLAIN)",
        "ONE=red",
        "SECRET=hidden",
        "POD=shows",
        "MEMORY=64",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in {printed}");
    }
    assert!(!printed.contains("ABSENT"), "{printed}");
    assert!(printed.contains(&format!("IP={}", namespace.get("pod/shows", ".status.podIP"))), "{printed}");
    namespace.apply(&pod("waits", "", "    envFrom: [{configMapRef: {name: later}}]", "exec sleep 1000"));
    namespace.wait_for(
        "pod/waits",
        ".status.containerStatuses[0].state.waiting.reason",
        "CreateContainerConfigError",
    );
    assert_eq!(
        namespace.get("pod/waits", ".status.containerStatuses[0].state.waiting.message"),
        "configmap \"later\" not found"
    );
    namespace.kubectl(&["create", "configmap", "later", "--from-literal=A=b"]).ok();
    namespace.wait("pod/waits", "condition=Ready");
}

fn volumes_follow(cluster: &mut Cluster) {
    let namespace = cluster.namespace("volumes");
    namespace.kubectl(&["create", "configmap", "settings", "--from-literal=colour=red"]).ok();
    namespace.kubectl(&["create", "secret", "generic", "keys", "--from-literal=password=hidden"]).ok();
    let spec = "
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: keys, secret: {secretName: keys, defaultMode: 256}}
  - {name: items, configMap: {name: settings, items: [{key: colour, path: deep/er}]}}
  - {name: absent, configMap: {name: absent, optional: true}}";
    let mounts = "    volumeMounts: [{name: settings, mountPath: /settings}, {name: keys, mountPath: /keys}, {name: items, mountPath: /items}, {name: absent, mountPath: /absent}, {name: settings, mountPath: /one, subPath: colour}]";
    let script = "cat /settings/colour; until grep -q blue /settings/colour; do sleep 0.1; done; cat /settings/colour; exec sleep 1000";
    namespace.apply(&pod("reads", spec, mounts, script));
    namespace.wait("pod/reads", "condition=Ready");
    let mut logs = namespace.spawn(&["logs", "-f", "reads"]);
    logs.until("red");
    namespace.sh("reads", "cat /keys/password; stat -Lc %a /keys/password; cat /items/deep/er; ls /absent | wc -l; cat /one").ok().is("hidden400\nred0\nred");
    namespace.sh("reads", "echo x > /settings/new").fails().says(&["Read-only file system"]);
    namespace.kubectl(&["patch", "configmap", "settings", "-p", r#"{"data":{"colour":"blue"}}"#]).ok();
    logs.until("redblue");
    // A single file by sub-path stays what it was.
    namespace.sh("reads", "cat /one").ok().is("red");
}

fn downward(cluster: &mut Cluster) {
    let namespace = cluster.namespace("downward");
    let spec = "
  volumes:
  - name: all
    projected:
      sources:
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: cpu, resourceFieldRef: {containerName: main, resource: requests.cpu, divisor: 1m}}]}
      - serviceAccountToken: {path: token, audience: somebody, expirationSeconds: 3600}
      - configMap: {name: kube-root-ca.crt}";
    let container =
        "    resources: {requests: {cpu: 150m}}\n    volumeMounts: [{name: all, mountPath: /all}]";
    namespace.apply(&pod("info", spec, container, "exec sleep 1000"));
    namespace.wait("pod/info", "condition=Ready");
    namespace.kubectl(&["label", "pod", "info", "tier=front"]).ok();
    namespace.sh("info", "until grep -q tier /all/labels; do sleep 0.1; done; cat /all/labels; echo; cat /all/cpu; echo; cut -d. -f2 /all/token | base64 -d 2>/dev/null | grep -o somebody; ls /all").ok().has(&["tier=\"front\"\n", "\n150\n", "somebody\n", "ca.crt\n"]);
}

fn directories(cluster: &mut Cluster) {
    let namespace = cluster.namespace("directories");
    let host = cluster.scratch().join("host-path");
    std::fs::create_dir_all(&host).expect("the scratch directory can be written");
    std::fs::write(host.join("from-host"), "hello").expect("the scratch directory can be written");
    let spec = format!(
        "
  volumes:
  - {{name: memory, emptyDir: {{medium: Memory, sizeLimit: 1Mi}}}}
  - {{name: disk, emptyDir: {{}}}}
  - {{name: host, hostPath: {{path: {}, type: Directory}}}}",
        host.display()
    );
    let mounts = "    volumeMounts: [{name: memory, mountPath: /memory}, {name: disk, mountPath: /disk}, {name: host, mountPath: /host}, {name: disk, mountPath: /read, readOnly: true}]";
    let script = "grep -c ' /memory tmpfs' /proc/mounts; cat /host/from-host; echo; echo out > /host/to-host; dd if=/dev/zero of=/memory/f bs=1M count=2 2>&1 | grep -o 'No space'; echo x > /disk/x; cat /read/x; touch /read/y || echo no";
    let printed = run_to_end(&namespace, "mounts", &spec, mounts, script);
    assert!(printed.starts_with("1\nhello\nNo space\nx\n") && printed.ends_with("no"), "{printed}");
    assert_eq!(std::fs::read_to_string(host.join("to-host")).expect("written by the pod"), "out\n");
    let wrong = "\n  volumes: [{name: host, hostPath: {path: /nonsense/path, type: Directory}}]";
    namespace.apply(&pod("wrong", wrong, "    volumeMounts: [{name: host, mountPath: /host}]", "true"));
    namespace
        .spawn(&["get", "events", "--watch"])
        .until("FailedMount .*hostPath type check failed: /nonsense/path is not a directory");
}

fn security(cluster: &mut Cluster) {
    let namespace = cluster.namespace("security");
    let spec = "  securityContext: {runAsUser: 1000, runAsGroup: 2000, fsGroup: 3000, supplementalGroups: [4000]}\n  volumes: [{name: data, emptyDir: {}}]";
    let container = "    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}\n    volumeMounts: [{name: data, mountPath: /data}]";
    let script = "id -u; id -g; id -G; stat -c %g /data; touch /x 2>/dev/null || echo ro; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t '";
    let printed = run_to_end(&namespace, "user", spec, container, script);
    assert_eq!(
        printed,
        "1000\n2000\n2000 3000 4000\n3000\nro\nCapEff:0000000000000000\nNoNewPrivs:1\nSeccomp:2"
    );
    let spec = "  securityContext: {runAsNonRoot: true}";
    namespace.apply(&pod("root", spec, "", "true"));
    namespace.wait_for(
        "pod/root",
        ".status.containerStatuses[0].state.waiting.reason",
        "CreateContainerConfigError",
    );
    // What a container may not do by default.
    let printed = run_to_end(
        &namespace,
        "plain",
        "",
        "",
        "mount -t tmpfs x /tmp 2>/dev/null || echo no mount; hostname x 2>/dev/null || echo no hostname; cat /proc/kcore 2>/dev/null | head -c 1 | wc -c; ls /dev | wc -l",
    );
    assert!(printed.starts_with("no mount\nno hostname\n0\n"), "{printed}");
}

fn limits(cluster: &mut Cluster) {
    let namespace = cluster.namespace("limits");
    let container = "    resources: {limits: {memory: 32Mi, cpu: 500m}}";
    namespace.apply(&pod("hungry", "  restartPolicy: Never", container, "tail /dev/zero"));
    namespace.wait_for("pod/hungry", ".status.phase", "Failed");
    assert_eq!(
        namespace.get("pod/hungry", ".status.containerStatuses[0].state.terminated.reason"),
        "OOMKilled"
    );
    assert_eq!(namespace.get("pod/hungry", ".status.containerStatuses[0].state.terminated.exitCode"), "137");
    namespace.kubectl(&["get", "pod", "hungry"]).ok().matches(r"^hungry +0/1 +OOMKilled +0 ");
    assert_eq!(namespace.get("pod/hungry", ".status.qosClass"), "Guaranteed");
    let container = "    resources: {limits: {cpu: 1}, requests: {cpu: 1500m}}";
    let refused =
        namespace.kubectl_stdin(&["apply", "-f", "-"], &pod("too-much", "", container, "true")).fails();
    refused.says(&["spec.containers[0].resources.requests: Invalid value: \"1500m\": must be less than or equal to cpu limit of 1"]);
}

fn termination_messages(cluster: &mut Cluster) {
    let namespace = cluster.namespace("messages");
    namespace.apply(&pod("file", "  restartPolicy: Never", "", "echo reason > /dev/termination-log; exit 3"));
    namespace.apply(&pod(
        "logs",
        "  restartPolicy: Never",
        "    terminationMessagePolicy: FallbackToLogsOnError",
        "echo from the log; exit 3",
    ));
    let message = ".status.containerStatuses[0].state.terminated.message";
    namespace.wait_for("pod/file", ".status.phase", "Failed");
    assert_eq!(namespace.get("pod/file", message), "reason");
    namespace.wait_for("pod/logs", ".status.phase", "Failed");
    assert_eq!(namespace.get("pod/logs", message), "from the log");
    namespace.apply(
        &pod("nothing", "  restartPolicy: Never", "", "true").replace("[sh, -c, 'true']", "[/no/such/file]"),
    );
    namespace.wait_for("pod/nothing", ".status.phase", "Failed");
    assert_eq!(
        namespace.get("pod/nothing", ".status.containerStatuses[0].state.terminated.reason"),
        "StartError"
    );
}

fn jobs(cluster: &mut Cluster) {
    let namespace = cluster.namespace("jobs");
    namespace.apply(
        "
apiVersion: batch/v1
kind: Job
metadata: {name: indexed}
spec:
  completions: 4
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: 'example.com/test:1', command: [sh, -c, 'echo index $JOB_COMPLETION_INDEX']}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: failing}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: main, image: 'example.com/test:1', command: [sh, -c, 'exit 1']}]
",
    );
    namespace.wait("job/indexed", "condition=Complete");
    assert_eq!(namespace.get("job/indexed", ".status.completedIndexes"), "0-3");
    let logs = namespace.kubectl(&["logs", "-l", "job-name=indexed"]).ok();
    logs.has(&["index 0", "index 1", "index 2", "index 3"]);
    namespace.wait("job/failing", "condition=Failed");
    assert_eq!(
        namespace.get("job/failing", ".status.conditions[?(@.type==\"Failed\")].reason"),
        "BackoffLimitExceeded"
    );
}

fn missing_images(cluster: &mut Cluster) {
    let namespace = cluster.namespace("images");
    namespace.kubectl(&["run", "never", "--image=example.com/none:1", "--image-pull-policy=Never"]).ok();
    namespace.wait_for("pod/never", ".status.containerStatuses[0].state.waiting.reason", "ErrImageNeverPull");
    namespace.kubectl(&["run", "pull", "--image=127.0.0.1:9/none:1"]).ok();
    let mut watch = namespace.spawn(&["get", "pod", "pull", "--watch"]);
    watch.until(r"^pull +0/1 +(ErrImagePull|ImagePullBackOff) ");
    namespace
        .kubectl(&["describe", "pod", "pull"])
        .ok()
        .matches(r"^  Warning +Failed .*Failed to pull image .127\.0\.0\.1:9/none:1.");
    namespace.kubectl(&["run", "wrong", "--image=Not/Valid::"]).ok();
    namespace.wait_for("pod/wrong", ".status.containerStatuses[0].state.waiting.reason", "InvalidImageName");
}

fn unschedulable(cluster: &mut Cluster) {
    let namespace = cluster.namespace("pending");
    let pending = |name: &str, message: &str| {
        let object = format!("pod/{name}");
        namespace.wait(&object, "condition=PodScheduled=False");
        let text = namespace.get(&object, ".status.conditions[?(@.type==\"PodScheduled\")].message");
        assert!(text.starts_with(message), "{text}");
        namespace
            .spawn(&["get", "events", "--watch", "--field-selector", &format!("involvedObject.name={name}")])
            .until("FailedScheduling");
        namespace.kubectl(&["describe", "pod", name]).ok().has(&["FailedScheduling", message]);
    };
    namespace.apply(&pod("selector", "  nodeSelector: {disk: ssd}", "", "true"));
    pending("selector", "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.");
    namespace.apply(&pod("large", "", "    resources: {requests: {cpu: 1000}}", "exec sleep 1000"));
    pending("large", "0/1 nodes are available: 1 Insufficient cpu.");
    let node = cluster.kubectl(&["get", "nodes", "-o", "name"]).ok().text();
    cluster.kubectl(&["taint", &node, "only=special:NoSchedule"]).ok();
    namespace.apply(&pod("tainted", "", "", "exec sleep 1000"));
    pending("tainted", "0/1 nodes are available: 1 node(s) had untolerated taint");
    namespace.apply(&pod(
        "tolerates",
        "  tolerations: [{key: only, operator: Exists}]",
        "",
        "exec sleep 1000",
    ));
    namespace.wait("pod/tolerates", "condition=Ready");
    cluster.kubectl(&["taint", &node, "only-"]).ok();
    // What stood in the way is gone: it is placed without being asked about again.
    namespace.wait("pod/tainted", "condition=Ready");
    cluster.kubectl(&["label", &node, "disk=ssd"]).ok();
    namespace.wait("pod/selector", "condition=PodScheduled");
    cluster.kubectl(&["label", &node, "disk-"]).ok();
}

fn affinity(cluster: &mut Cluster) {
    let namespace = cluster.namespace("affinity");
    let anti = "
  affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: alone}}}]}}";
    let alone = |name: &str| {
        pod(name, anti, "", "exec sleep 1000")
            .replace(&format!("{{name: {name}}}"), &format!("{{name: {name}, labels: {{app: alone}}}}"))
    };
    namespace.apply(&alone("first"));
    namespace.wait("pod/first", "condition=Ready");
    namespace.apply(&alone("second"));
    namespace.wait("pod/second", "condition=PodScheduled=False");
    let message = namespace.get("pod/second", ".status.conditions[?(@.type==\"PodScheduled\")].message");
    assert!(
        message.starts_with("0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."),
        "{message}"
    );
    namespace.kubectl(&["delete", "pod", "first"]).ok();
    namespace.wait("pod/second", "condition=Ready");
}

fn deadlines(cluster: &mut Cluster) {
    let namespace = cluster.namespace("deadlines");
    namespace.apply(&pod("late", "  activeDeadlineSeconds: 1", "", "exec sleep 1000"));
    namespace.wait_for("pod/late", ".status.phase", "Failed");
    assert_eq!(namespace.get("pod/late", ".status.reason"), "DeadlineExceeded");
}
