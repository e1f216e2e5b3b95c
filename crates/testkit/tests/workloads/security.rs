//! What a container may do, and how much it may take, as seen from inside.

use sampan_testkit::Cluster;

use crate::{pod, script, status};

pub fn limits(cluster: &mut Cluster) {
    let namespace = cluster.namespace("limits");
    namespace.apply(&script(
        "limited",
        "Always",
        "exec sleep 1000",
        "resources: {requests: {cpu: 250m, memory: 32Mi}, limits: {cpu: 500m, memory: 64Mi}}",
    ));
    namespace.apply(&script("free", "Always", "exec sleep 1000", ""));
    namespace.wait("pod/limited", "condition=Ready");
    namespace.wait("pod/free", "condition=Ready");
    // The names of cgroup v1, then those of v2.
    let memory = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes 2>/dev/null || cat memory.max";
    let cpu = "cd /sys/fs/cgroup; if test -d cpu; then cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us; else tr ' ' '\\n' < cpu.max; fi";
    let shares = "cd /sys/fs/cgroup; cat cpu/cpu.shares 2>/dev/null || cat cpu.weight";
    namespace.sh("limited", memory).ok().is("67108864");
    namespace.sh("limited", cpu).ok().is("50000\n100000");
    namespace.sh("limited", shares).ok().matches("^(256|10)$");
    namespace.sh("free", memory).ok().matches("^(9223372036854771712|max)$");
    namespace.sh("free", cpu).ok().matches("^(-1|max)$");
    assert_eq!(namespace.get("pod/limited", ".status.qosClass"), "Burstable");
    assert_eq!(namespace.get("pod/free", ".status.qosClass"), "BestEffort");
    let adjustment = "cat /proc/1/oom_score_adj";
    namespace.sh("free", adjustment).ok().is("1000");
    let burstable: i32 = namespace.sh("limited", adjustment).ok().text().parse().expect("a number");
    assert!((2..=999).contains(&burstable), "{burstable}");
}

pub fn context(cluster: &mut Cluster) {
    let namespace = cluster.namespace("security");
    namespace.apply(
        &[
            script("plain", "Always", "exec sleep 1000", ""),
            pod(
                "hard",
                "  securityContext: {runAsUser: 1000, runAsGroup: 3000, supplementalGroups: [4000], fsGroup: 5000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: example.com/test:1
    command: [sleep, '1000']
    securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}",
            ),
            pod(
                "adds",
                "  containers:
  - name: main
    image: example.com/test:1
    command: [sleep, '1000']
    securityContext: {capabilities: {drop: [ALL], add: [NET_ADMIN]}, seccompProfile: {type: Unconfined}}",
            ),
            script("root", "Always", "exec sleep 1000", "securityContext: {runAsNonRoot: true}"),
        ]
        .concat(),
    );
    for name in ["plain", "hard", "adds"] {
        namespace.wait(&format!("pod/{name}"), "condition=Ready");
    }
    let field = |pod: &str, name: &str| {
        namespace.sh(pod, &format!("grep ^{name}: /proc/1/status | cut -f2-")).ok().text()
    };
    // The default set of fourteen capabilities, in numbers 0 to 31.
    assert_eq!(field("plain", "CapEff"), "00000000a80425fb");
    assert_eq!(field("plain", "CapBnd"), "00000000a80425fb");
    assert_eq!(field("hard", "CapEff"), "0000000000000000");
    assert_eq!(field("hard", "CapBnd"), "0000000000000000");
    assert_eq!(field("adds", "CapEff"), "0000000000001000");
    assert_eq!(field("hard", "NoNewPrivs"), "1");
    assert_eq!(field("plain", "NoNewPrivs"), "0");
    assert_eq!(field("hard", "Seccomp"), "2");
    assert_eq!(field("plain", "Seccomp"), "2");
    assert_eq!(field("adds", "Seccomp"), "0");
    namespace.sh("hard", "id -u; id -g; id -G").ok().is("1000\n3000\n3000 4000 5000");
    namespace.sh("plain", "id -u; id -g").ok().is("0\n0");
    namespace.sh("hard", "echo x > /tmp/x").fails().says(&["Read-only file system"]);
    namespace.sh("plain", "echo x > /tmp/x").ok();
    // What a filter or a missing capability must forbid.
    namespace.sh("plain", "mount -t tmpfs none /tmp").fails();
    namespace.sh("plain", "unshare -m true").fails();
    namespace.sh("plain", "mknod /dev/mem2 c 1 1 && head -c1 /dev/mem2").fails();
    namespace.sh("plain", "echo 1 > /proc/sys/kernel/panic").fails().says(&["Read-only file system"]);
    namespace.sh("plain", "cat /proc/kcore | head -c1 | wc -c").ok().is("0");
    let reason = ".status.containerStatuses[0].state.waiting.reason";
    namespace.wait_for("pod/root", reason, "CreateContainerConfigError");
    let message = status(&namespace, "root", "state.waiting.message");
    assert!(message.starts_with("container has runAsNonRoot and image will run as root"), "{message}");
}

pub fn privileged(cluster: &mut Cluster) {
    let namespace = cluster.namespace("privileged");
    namespace.apply(&script("all", "Always", "exec sleep 1000", "securityContext: {privileged: true}"));
    namespace.wait("pod/all", "condition=Ready");
    namespace.sh("all", "mkdir -p /mnt; mount -t tmpfs none /mnt && mount | grep -c ' /mnt '").ok().is("1");
    namespace.sh("all", "grep Seccomp: /proc/1/status | cut -f2; test -e /dev/fuse -o -e /dev/loop-control -o -e /dev/kmsg && echo devices")
        .ok()
        .is("0\ndevices");
}
