//! `--subresource=resize`: other resources for containers that run (KEP-1287).

use sampan_testkit::{Cluster, Namespace};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: POD}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: example.com/test:1
    command: [sleep, '1000']
    resizePolicy:
    - {resourceName: cpu, restartPolicy: NotRequired}
    - {resourceName: memory, restartPolicy: RestartContainer}
    resources:
      requests: {cpu: 100m, memory: 32Mi}
      limits: {cpu: 200m, memory: 64Mi}
";

fn with_pod<'a>(cluster: &'a Cluster, name: &str) -> Namespace<'a> {
    let namespace = cluster.namespace(name);
    namespace.apply(&PODS.replace("POD", "subject"));
    namespace.wait("pod/subject", "condition=Ready");
    namespace
}

fn patch(pod: &str, resources: &str) -> Vec<String> {
    let patch = format!(r#"{{"spec": {{"containers": [{{"name": "main", "resources": {resources}}}]}}}}"#);
    let arguments = ["patch", "pod", pod, "--subresource=resize", "-p"];
    arguments.iter().map(|text| (*text).to_owned()).chain([patch]).collect()
}

fn ask(namespace: &Namespace<'_>, pod: &str, resources: &str) -> sampan_testkit::Output {
    let arguments = patch(pod, resources);
    namespace.kubectl(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

const CPU_MAX: &str = "cat /sys/fs/cgroup/cpu.max 2>/dev/null || \
    echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us) $(cat /sys/fs/cgroup/cpu/cpu.cfs_period_us)";
const MEMORY_MAX: &str = "cat /sys/fs/cgroup/memory.max 2>/dev/null || \
    cat /sys/fs/cgroup/memory/memory.limit_in_bytes";
const HAS: &str = ".status.containerStatuses[0].resources";

pub fn in_place(cluster: &mut Cluster) {
    let namespace = with_pod(cluster, "resize");
    namespace.sh("subject", CPU_MAX).ok().is("20000 100000");
    let cpu = r#"{"requests": {"cpu": "150m"}, "limits": {"cpu": "300m"}}"#;
    ask(&namespace, "subject", cpu).ok().is("pod/subject patched");
    namespace.wait_for("pod/subject", &format!("{HAS}.limits.cpu"), "300m");
    namespace.sh("subject", CPU_MAX).ok().is("30000 100000");
    let allotted = ".status.containerStatuses[0].allocatedResources.cpu";
    assert_eq!(namespace.get("pod/subject", allotted), "150m");
    assert_eq!(namespace.get("pod/subject", ".status.containerStatuses[0].restartCount"), "0");
    // Less again, below what the pod as a whole had at first.
    let cpu = r#"{"requests": {"cpu": "50m"}, "limits": {"cpu": "100m"}}"#;
    ask(&namespace, "subject", cpu).ok();
    namespace.wait_for("pod/subject", &format!("{HAS}.limits.cpu"), "100m");
    namespace.sh("subject", CPU_MAX).ok().is("10000 100000");
    // Memory is changed by a new start, as its policy says.
    ask(&namespace, "subject", r#"{"limits": {"memory": "96Mi"}}"#).ok();
    namespace.wait_for("pod/subject", ".status.containerStatuses[0].restartCount", "1");
    namespace.wait_for("pod/subject", &format!("{HAS}.limits.memory"), "96Mi");
    namespace.wait("pod/subject", "condition=Ready");
    namespace.sh("subject", MEMORY_MAX).ok().is("100663296");
    namespace.event("subject", "Killing", "Container main resize requires restart");
    namespace.event("subject", "ResizeCompleted", "Pod resize completed");
    // What is applied outlives the server, and what is asked meanwhile is done by the next one.
    let name = namespace.name.clone();
    namespace.keep();
    cluster.restart().expect("the server starts again");
    let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["--namespace", &name], arguments].concat());
    kubectl(&["exec", "subject", "--", "sh", "-c", MEMORY_MAX]).ok().is("100663296");
    kubectl(&["delete", "namespace", &name, "--wait=false"]).ok();
}

pub fn pending(cluster: &mut Cluster) {
    let namespace = with_pod(cluster, "resize-pending");
    let condition = |path: &str| format!(".status.conditions[?(@.type==\"PodResizePending\")].{path}");
    let much = r#"{"requests": {"cpu": "9000"}, "limits": {"cpu": "9000"}}"#;
    ask(&namespace, "subject", much).ok();
    namespace.wait_for("pod/subject", &condition("reason"), "Infeasible");
    let message = namespace.get("pod/subject", &condition("message"));
    assert!(message.starts_with("Node didn't have enough capacity: cpu, requested: 9000000"), "{message}");
    namespace.sh("subject", CPU_MAX).ok().is("20000 100000");
    // All that the node has is too much as long as another pod has some of it.
    let capacity = namespace.get("node", ".items[0].status.allocatable.cpu");
    namespace.apply(&PODS.replace("POD", "other"));
    namespace.wait("pod/other", "condition=Ready");
    let all = format!(r#"{{"requests": {{"cpu": "{capacity}"}}, "limits": {{"cpu": "{capacity}"}}}}"#);
    ask(&namespace, "subject", &all).ok();
    namespace.wait_for("pod/subject", &condition("reason"), "Deferred");
    namespace.kubectl(&["describe", "pod", "subject"]).ok().has(&["PodResizePending"]);
    namespace.kubectl(&["delete", "pod", "other"]).ok();
    namespace.wait_for("pod/subject", &format!("{HAS}.requests.cpu"), &capacity);
    namespace.wait("pod/subject", "jsonpath={.status.observedGeneration}");
    let kinds = namespace.get("pod/subject", ".status.conditions[*].type");
    assert!(!kinds.contains("Resize"), "{kinds}");
}

pub fn refused(cluster: &mut Cluster) {
    let namespace = with_pod(cluster, "resize-refused");
    let check = |resources: &str, message: &str| {
        ask(&namespace, "subject", resources).fails().says(&[message]);
    };
    check(
        r#"{"requests": {"cpu": "200m", "memory": "64Mi"}}"#,
        "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
    );
    check(
        r#"{"limits": {"cpu": null}}"#,
        "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
    );
    check(
        r#"{"limits": {"ephemeral-storage": "1Gi"}}"#,
        "spec: Forbidden: only cpu and memory resources are mutable",
    );
    check(
        r#"{"limits": {"cpu": "10m"}}"#,
        "spec.containers[0].resources.requests: Invalid value: \"100m\": must be less than or equal to cpu limit of 10m",
    );
    // By this way alone.
    let patch = r#"{"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": "1"}}}]}}"#;
    namespace
        .kubectl(&["patch", "pod", "subject", "-p", patch])
        .fails()
        .says(&["pod updates may not change fields other than"]);
}
