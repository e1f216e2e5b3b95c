//! What pods are given: environment and volumes.

use sampan_testkit::Cluster;

use crate::{pod, script, status};

const SOURCES: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {colour: green, 'not-a-name': x, size: '3'}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {password: hunter2}
---
";

pub fn environment(cluster: &mut Cluster) {
    let namespace = cluster.namespace("environment");
    namespace.apply(SOURCES);
    namespace.apply(&script(
        "env",
        "Never",
        "tr '\\0' '\\n' < /proc/1/environ; echo 'args $(GREETING) $$(GREETING)'",
        "resources: {requests: {cpu: 100m}, limits: {memory: 64Mi}}
    envFrom: [{configMapRef: {name: config}, prefix: C_}, {secretRef: {name: absent, optional: true}}]
    env:
    - {name: NAME, value: world}
    - {name: GREETING, value: 'hello $(NAME) $(NOBODY) $$(NAME)'}
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: config, key: colour}}}
    - {name: PASSWORD, valueFrom: {secretKeyRef: {name: secret, key: password}}}
    - {name: MAYBE, valueFrom: {secretKeyRef: {name: secret, key: none, optional: true}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}",
    ));
    namespace.wait_for("pod/env", ".status.phase", "Succeeded");
    let (ip, node) = (namespace.get("pod/env", ".status.podIP"), namespace.get("pod/env", ".spec.nodeName"));
    let logs = namespace.kubectl(&["logs", "env"]).ok();
    let lines: Vec<&str> = logs.stdout.lines().collect();
    let expected = [
        "C_colour=green",
        "C_size=3",
        "C_not-a-name=x",
        "GREETING=hello world $(NOBODY) $(NAME)",
        "COLOUR=green",
        "PASSWORD=hunter2",
        "POD=env",
        "LABEL=env",
        &format!("IP={ip}"),
        &format!("NODE={node}"),
        "MEMORY=64",
        "CPU=100",
        "KUBERNETES_SERVICE_HOST=10.43.0.1",
        "KUBERNETES_SERVICE_PORT=443",
        "HOSTNAME=env",
        "args hello world $(NOBODY) $(NAME) $(GREETING)",
    ];
    for line in expected {
        assert!(lines.contains(&line), "{line}\n{logs}");
    }
    assert!(!lines.iter().any(|line| line.starts_with("MAYBE=")), "{logs}");
}

pub fn updates(cluster: &mut Cluster) {
    let namespace = cluster.namespace("updates");
    namespace.apply(SOURCES);
    namespace.apply(&pod(
        "reader",
        "  volumes:
  - {name: config, configMap: {name: config}}
  - {name: chosen, configMap: {name: config, items: [{key: colour, path: deep/er, mode: 0400}]}}
  - {name: secret, secret: {secretName: secret, defaultMode: 0440}}
  containers:
  - name: main
    image: example.com/test:1
    command: [sh, -c, 'while true; do cat /c/colour /s/password; echo; sleep 0.2; done']
    volumeMounts:
    - {name: config, mountPath: /c}
    - {name: chosen, mountPath: /chosen}
    - {name: secret, mountPath: /s, readOnly: true}
    - {name: config, mountPath: /one, subPath: colour}",
    ));
    namespace.wait("pod/reader", "condition=Ready");
    namespace.sh("reader", "ls /c").ok().is("colour\nnot-a-name\nsize");
    namespace
        .sh("reader", "ls /chosen; cat /chosen/deep/er; stat -L -c %a /chosen/deep/er")
        .ok()
        .is("deep\ngreen400");
    namespace
        .sh("reader", "stat -L -c %a /s/password; mount | grep ' /s ' | grep -o tmpfs | head -1")
        .ok()
        .is("440\ntmpfs");
    namespace.sh("reader", "echo x > /c/colour").fails().says(&["Read-only file system"]);
    let mut logs = namespace.spawn(&["logs", "reader", "--follow"]);
    logs.until("^greenhunter2$");
    namespace
        .kubectl(&["patch", "configmap", "config", "-p", "{\"data\":{\"colour\":\"blue\",\"size\":null}}"])
        .ok();
    namespace
        .kubectl(&["patch", "secret", "secret", "-p", "{\"stringData\":{\"password\":\"changed\"}}"])
        .ok();
    logs.until("^bluechanged$");
    namespace.sh("reader", "ls /c; cat /chosen/deep/er /one").ok().is("colour\nnot-a-name\nbluegreen");
    assert_eq!(status(&namespace, "reader", "restartCount"), "0");
}

pub fn projected(cluster: &mut Cluster) {
    let namespace = cluster.namespace("projected");
    namespace.apply(SOURCES);
    namespace.apply(&pod(
        "all",
        "  volumes:
  - name: all
    projected:
      sources:
      - {configMap: {name: config, items: [{key: colour, path: colour}]}}
      - {secret: {name: secret}}
      - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
      - {serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}}
  - name: down
    downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}, {path: notes, fieldRef: {fieldPath: metadata.annotations}}, {path: cpu, resourceFieldRef: {containerName: main, resource: limits.cpu, divisor: 1m}}]}
  containers:
  - name: main
    image: example.com/test:1
    command: [sh, -c, 'while true; do cat /down/notes; sleep 0.2; done']
    resources: {limits: {cpu: 250m}}
    volumeMounts: [{name: all, mountPath: /all}, {name: down, mountPath: /down}]",
    ));
    namespace.wait("pod/all", "condition=Ready");
    namespace
        .sh("all", "ls /all; cat /all/colour /all/password; echo; cat /all/labels")
        .ok()
        .is("colour\nlabels\npassword\ntoken\ngreenhunter2\napp=\"all\"");
    namespace.sh("all", "cat /down/name; echo; cat /down/cpu").ok().is("all\n250");
    let payload = namespace.sh("all", "cut -d. -f2 /all/token | tr _- /+ | base64 -d 2>/dev/null; true").ok();
    payload.has(&["\"vault\"", "system:serviceaccount:projected:default"]);
    // The account's own token, authority and namespace are given without asking.
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    namespace
        .sh("all", &format!("cat {account}/namespace; echo; head -1 {account}/ca.crt; ls {account}"))
        .ok()
        .is("projected\n-----BEGIN CERTIFICATE-----\nca.crt\nnamespace\ntoken");
    let mut logs = namespace.spawn(&["logs", "all", "--follow"]);
    namespace.kubectl(&["annotate", "pod", "all", "note=new one"]).ok();
    logs.until("^note=\"new one\"");
}

pub fn empty_dir(cluster: &mut Cluster) {
    let namespace = cluster.namespace("empty-dir");
    namespace.apply(&pod(
        "two",
        "  restartPolicy: Always
  securityContext: {fsGroup: 2000}
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  containers:
  - name: writer
    image: example.com/test:1
    command: [sh, -c, 'echo shared > /d/file; echo shared > /m/file; exec sleep 1000']
    volumeMounts: [{name: disk, mountPath: /d}, {name: memory, mountPath: /m}]
  - name: reader
    image: example.com/test:1
    command: [sleep, '1000']
    volumeMounts: [{name: disk, mountPath: /x}, {name: memory, mountPath: /y, readOnly: true}]",
    ));
    namespace.wait("pod/two", "condition=Ready");
    let sh = |script: &str| namespace.kubectl(&["exec", "two", "-c", "reader", "--", "sh", "-c", script]);
    sh("until test -f /y/file; do sleep 0.05; done; cat /x/file /y/file").ok().is("shared\nshared");
    sh("mount | grep ' /y ' | cut -d' ' -f1,5").ok().is("tmpfs tmpfs");
    sh("echo > /y/file").fails().says(&["Read-only file system"]);
    sh("stat -c %g /x /x/file").ok().is("2000\n2000");
    namespace.sh("two", "head -c 2000000 /dev/zero > /m/big").fails();
    // It outlives a container, not the pod.
    namespace.kubectl(&["exec", "two", "-c", "reader", "--", "sh", "-c", "echo kept > /x/kept"]).ok();
    let pids = cluster.processes_in("empty-dir");
    for pid in &pids["two/reader"] {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL)
            .expect("it runs");
    }
    namespace.wait_for("pod/two", ".status.containerStatuses[?(@.name==\"reader\")].restartCount", "1");
    namespace.wait("pod/two", "condition=Ready");
    sh("cat /x/kept").ok().is("kept");
}

pub fn host_path(cluster: &mut Cluster) {
    let namespace = cluster.namespace("host-path");
    let directory = cluster.scratch().join("host");
    std::fs::create_dir_all(directory.join("sub/deep")).expect("a directory of the test's own");
    std::fs::write(directory.join("sub/deep/file"), "from the host\n").expect("writable");
    let path = directory.display();
    namespace.apply(&pod(
        "host",
        &format!(
            "  volumes:
  - {{name: host, hostPath: {{path: {path}, type: Directory}}}}
  - {{name: new, hostPath: {{path: {path}/made, type: DirectoryOrCreate}}}}
  - {{name: empty, emptyDir: {{}}}}
  containers:
  - name: main
    image: example.com/test:1
    command: [sleep, '1000']
    env: [{{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
    volumeMounts:
    - {{name: host, mountPath: /host}}
    - {{name: host, mountPath: /deep, subPath: sub/deep, readOnly: true}}
    - {{name: host, mountPath: /etc/one, subPath: sub/deep/file}}
    - {{name: new, mountPath: /new}}
    - {{name: empty, mountPath: /own, subPathExpr: for-$(POD)}}
    - {{name: empty, mountPath: /empty}}"
        ),
    ));
    namespace.wait("pod/host", "condition=Ready");
    namespace
        .sh("host", "cat /deep/file /etc/one; ls -d /empty/*")
        .ok()
        .is("from the host\nfrom the host\n/empty/for-host");
    namespace.sh("host", "echo x > /deep/file").fails().says(&["Read-only file system"]);
    namespace.sh("host", "echo back > /host/written; echo made > /new/file").ok();
    assert_eq!(std::fs::read_to_string(directory.join("written")).expect("written"), "back\n");
    assert_eq!(std::fs::read_to_string(directory.join("made/file")).expect("written"), "made\n");
    // A link inside a volume does not lead out of it.
    std::os::unix::fs::symlink("/etc", directory.join("escape")).expect("writable");
    namespace.apply(&pod(
        "escape",
        &format!(
            "  volumes: [{{name: host, hostPath: {{path: {path}}}}}]
  containers:
  - {{name: main, image: 'example.com/test:1', command: [sleep, '1'], volumeMounts: [{{name: host, mountPath: /v, subPath: escape/passwd}}]}}"
        ),
    ));
    namespace.wait_for(
        "pod/escape",
        ".status.containerStatuses[0].state.waiting.reason",
        "CreateContainerConfigError",
    );
    let wrong = pod(
        "file",
        &format!(
            "  volumes: [{{name: host, hostPath: {{path: {path}/sub, type: File}}}}]
  containers:
  - {{name: main, image: 'example.com/test:1', command: [sleep, '1'], volumeMounts: [{{name: host, mountPath: /v}}]}}"
        ),
    );
    namespace.apply(&wrong);
    namespace.event(
        "file",
        "FailedMount",
        "MountVolume.SetUp failed for volume \"host\" : hostPath type check failed: .*is not a file",
    );
}

pub fn missing(cluster: &mut Cluster) {
    let namespace = cluster.namespace("missing");
    namespace.apply(SOURCES);
    let waiting = ".status.containerStatuses[0].state.waiting";
    let cases = [
        (
            "key",
            "configMapKeyRef: {name: config, key: nope}",
            "couldn't find key nope in ConfigMap missing/config",
        ),
        ("map", "configMapKeyRef: {name: late, key: k}", "configmap \"late\" not found"),
        ("secret", "secretKeyRef: {name: late, key: k}", "secret \"late\" not found"),
    ];
    for (name, source, _) in cases {
        namespace.apply(&script(
            name,
            "Never",
            "echo $V",
            &format!("env: [{{name: V, valueFrom: {{{source}}}}}]"),
        ));
    }
    namespace.apply(&pod(
        "volume",
        "  restartPolicy: Never
  volumes: [{name: v, configMap: {name: late}}]
  containers:
  - {name: main, image: 'example.com/test:1', command: [cat, /v/k], volumeMounts: [{name: v, mountPath: /v}]}",
    ));
    for (name, _, message) in cases {
        namespace.wait_for(
            &format!("pod/{name}"),
            &format!("{waiting}.reason"),
            "CreateContainerConfigError",
        );
        assert_eq!(namespace.get(&format!("pod/{name}"), &format!("{waiting}.message")), message);
    }
    namespace.event(
        "volume",
        "FailedMount",
        "MountVolume.SetUp failed for volume \"v\" : configmap \"late\" not found",
    );
    assert_eq!(status(&namespace, "volume", "state.waiting.reason"), "ContainerCreating");
    namespace.kubectl(&["create", "configmap", "late", "--from-literal=k=now"]).ok();
    for name in ["volume", "map"] {
        namespace.wait_for(&format!("pod/{name}"), ".status.phase", "Succeeded");
        namespace.kubectl(&["logs", name]).ok().is("now");
    }
}
