//! `kubectl debug`: containers that are added to a pod that runs, copies of pods, pods on the node.

use sampan_testkit::{Cluster, Namespace};

const IMAGE: &str = "--image=example.com/test:1";

/// Two containers, one of which has a volume, and a third that nobody mounts.
const SUBJECT: &str = "
apiVersion: v1
kind: Pod
metadata: {name: subject, labels: {app: subject}}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: data, emptyDir: {}}, {name: spare, emptyDir: {}}]
  containers:
  - name: first
    image: example.com/test:1
    command: [sh, -c, 'echo kept > /data/file; exec sleep 1001']
    volumeMounts: [{name: data, mountPath: /data}]
  - {name: second, image: 'example.com/test:1', command: [sleep, '1002']}
";

const STATUS: &str = ".status.ephemeralContainerStatuses[0]";

fn with_subject<'a>(cluster: &'a Cluster, name: &str) -> Namespace<'a> {
    let namespace = cluster.namespace(name);
    namespace.apply(SUBJECT);
    namespace.wait("pod/subject", "condition=Ready");
    namespace
}

pub fn target(cluster: &mut Cluster) {
    let namespace = with_subject(cluster, "debug");
    let mut terminal = namespace.terminal(&[
        "debug",
        "-it",
        "subject",
        IMAGE,
        "--target=first",
        "--container=look",
        "--profile=general",
        "--env=WORD=hello",
        "--",
        "sh",
    ]);
    terminal.until("# ");
    // The target's processes, whose first one is number 1, and with it its files.
    terminal.types("echo \"<$(tr '\\0' ' ' < /proc/1/cmdline)>\" $WORD; cat /proc/1/root/data/file\n");
    terminal.until("<sleep 1001 > hello");
    terminal.until("kept");
    terminal.types("exit 3\n");
    terminal.end();
    namespace.wait_for("pod/subject", &format!("{STATUS}.state.terminated.exitCode"), "3");
    assert_eq!(namespace.get("pod/subject", &format!("{STATUS}.restartCount")), "0");
    assert_eq!(namespace.get("pod/subject", ".status.phase"), "Running");
    namespace.kubectl(&["logs", "subject", "-c", "look"]).ok().has(&["<sleep 1001 > hello"]);
    namespace
        .kubectl(&["describe", "pod", "subject"])
        .ok()
        .matches(r"^Ephemeral Containers:$")
        .matches(r"^  look:$")
        .matches(r"^      Exit Code: +3$")
        .matches(r"^  Normal +Started .*look");
    namespace.kubectl(&["debug", "missing", IMAGE]).fails().says(&["pods \"missing\" not found"]);
    namespace
        .kubectl(&["debug", "subject", IMAGE, "--target=nobody", "--container=lost"])
        .fails()
        .says(&["spec.ephemeralContainers[1].targetContainerName: Not found: \"nobody\""]);
    namespace
        .kubectl(&["debug", "subject", IMAGE, "--container=first"])
        .fails()
        .says(&["spec.ephemeralContainers[1].name: Duplicate value: \"first\""]);
}

/// What was added is as good as any other container: streams, volumes, and the server's death.
pub fn lives_on(cluster: &mut Cluster) {
    let namespace = cluster.namespace("debug-lives");
    // A pod that gets some time to end is gone when its deletion is told of.
    namespace.apply(&SUBJECT.replace("PeriodSeconds: 0", "PeriodSeconds: 1"));
    namespace.wait("pod/subject", "condition=Ready");
    let added = serde_json::json!({"spec": {"ephemeralContainers": [{
        "name": "added", "image": "example.com/test:1",
        "command": ["sh", "-c", "echo up > /spare/state; echo started; exec sleep 1003"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "spare", "mountPath": "/spare"}],
    }]}});
    namespace
        .kubectl(&["patch", "pod", "subject", "--subresource=ephemeralcontainers", "-p", &added.to_string()])
        .ok()
        .is("pod/subject patched");
    namespace.wait("pod/subject", &format!("jsonpath={{{STATUS}.state.running.startedAt}}"));
    let id = namespace.get("pod/subject", &format!("{STATUS}.containerID"));
    let name = namespace.name.clone();
    namespace.keep();
    cluster.restart().expect("the server starts again");
    let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["--namespace", &name], arguments].concat());
    let exec = kubectl(&["exec", "subject", "-c", "added", "--", "cat", "/data/file", "/spare/state"]);
    exec.ok().is("kept\nup");
    kubectl(&["logs", "subject", "-c", "added"]).ok().is("started");
    let path = format!("jsonpath={{{STATUS}.containerID}}");
    kubectl(&["get", "pod", "subject", "-o", &path]).ok().is(&id);
    // It stays what it is, and nothing else of the pod can be changed by this way.
    let refused = |patch: &str, messages: &[&str]| {
        let arguments = ["patch", "pod", "subject", "--subresource=ephemeralcontainers", "--type=json", "-p"];
        kubectl(&[&arguments[..], &[patch]].concat()).fails().says(messages);
    };
    refused(
        r#"[{"op": "replace", "path": "/spec/ephemeralContainers/0/image", "value": "example.com/test:2"}]"#,
        &["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"added\" may not be changed"],
    );
    refused(
        r#"[{"op": "remove", "path": "/spec/ephemeralContainers/0"}]"#,
        &["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"added\" may not be removed"],
    );
    let other = r#"{"metadata": {"labels": {"app": "other"}}}"#;
    kubectl(&["patch", "pod", "subject", "--subresource=ephemeralcontainers", "-p", other])
        .ok()
        .is("pod/subject patched (no change)");
    kubectl(&["delete", "pod", "subject"]).ok();
    kubectl(&["delete", "namespace", &name, "--wait=false"]).ok();
    let processes = cluster.container_processes(id.trim_start_matches("sampan://"));
    assert!(processes.is_empty(), "{processes:?}");
}

pub fn profiles(cluster: &mut Cluster) {
    let namespace = with_subject(cluster, "debug-profiles");
    let script = "grep -E 'CapEff|NoNewPrivs' /proc/self/status";
    let profiles = [
        // SYS_PTRACE is bit 19, NET_ADMIN 12 and NET_RAW 13.
        ("general", r"CapEff:\s+[0-9a-f]+a80c25fb"),
        ("baseline", r"CapEff:\s+[0-9a-f]+a80425fb"),
        ("netadmin", r"CapEff:\s+[0-9a-f]+a80435fb"),
        ("sysadmin", r"CapEff:\s+0000[0-9a-f]*1ff[0-9a-f]*ffffff"),
    ];
    for (at, (profile, expected)) in profiles.into_iter().enumerate() {
        let with = format!("--profile={profile}");
        let arguments = ["debug", "subject", IMAGE, "--container", profile, &with, "--", "sh", "-c", script];
        namespace.kubectl(&arguments).ok();
        let ended = format!(".status.ephemeralContainerStatuses[{at}].state.terminated.exitCode");
        namespace.wait_for("pod/subject", &ended, "0");
        namespace.kubectl(&["logs", "subject", "-c", profile]).ok().matches(expected);
    }
    let arguments = ["debug", "subject", IMAGE, "--container=strict", "--profile=restricted", "--", "true"];
    namespace.kubectl(&arguments).ok();
    let reason = ".status.ephemeralContainerStatuses[4].state.waiting.reason";
    namespace.wait_for("pod/subject", reason, "CreateContainerConfigError");
    let message = namespace.get("pod/subject", ".status.ephemeralContainerStatuses[4].state.waiting.message");
    assert!(message.contains("container has runAsNonRoot and image will run as root"), "{message}");
}

pub fn copy(cluster: &mut Cluster) {
    let namespace = with_subject(cluster, "debug-copy");
    let arguments = ["debug", "subject", "--copy-to=twin", IMAGE, "--container=look", "--share-processes"];
    namespace.kubectl(&[&arguments[..], &["--", "sleep", "1004"]].concat()).ok();
    namespace.wait("pod/twin", "condition=Ready");
    assert_eq!(namespace.get("pod/twin", ".spec.containers[*].name"), "first second look");
    namespace.kubectl(&["exec", "twin", "-c", "look", "--", "ps", "-o", "args"]).ok().has(&[
        "sleep 1001",
        "sleep 1002",
        "sleep 1004",
    ]);
    let arguments = ["debug", "subject", "--copy-to=changed", "--set-image=*=example.com/other:1"];
    namespace.kubectl(&arguments).ok();
    assert_eq!(
        namespace.get("pod/changed", ".spec.containers[*].image"),
        "example.com/other:1 example.com/other:1"
    );
}

pub fn node(cluster: &mut Cluster) {
    let namespace = cluster.namespace("debug-node");
    let node = cluster.kubectl(&["get", "nodes", "-o", "name"]).ok().text();
    let profile = "--profile=sysadmin";
    let mut terminal = namespace.terminal(&["debug", &node, "-it", IMAGE, profile, "--", "sh"]);
    terminal.until(r"Creating debugging pod node-debugger-\S+ with container debugger on node ");
    terminal.until("# ");
    terminal.types("P=$(ps -o pid,args | awk '/[s]erver --data-dir/ {print $1; exit}'); echo \"<$(cat /proc/$P/comm) $(hostname)>\"\n");
    terminal.until(&format!("<sampan {}>", node.trim_start_matches("node/")));
    terminal.types(
        "for n in net ipc uts pid; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/$P/ns/$n) ] && echo \"<$n>\"; done\n",
    );
    for namespace in ["net", "ipc", "uts", "pid"] {
        terminal.until(&format!("<{namespace}>"));
    }
    let file = cluster.kubeconfig();
    terminal.types(&format!("test -f /host{} && echo \"<$((6 * 7))>\"\n", file.display()));
    terminal.until("<42>");
    terminal.types("exit\n");
    terminal.end();
    let pod = namespace.kubectl(&["get", "pods", "-o", "name"]).ok().text();
    namespace.wait_for(&pod, ".status.phase", "Succeeded");
}
