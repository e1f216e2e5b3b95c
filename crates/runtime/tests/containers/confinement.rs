//! What a container's processes see, may do, and cannot reach.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};
use oci_spec::runtime::{Mount, Spec};
use sampan_runtime::{ContainerConfig, ExecConfig, RequestError, SandboxConfig, Streams};
use serde_json::{Value, json};

use crate::pod::{Pod, output, text};

/// Changes parts of a spec: objects are merged, everything else is replaced.
fn change(config: &mut ContainerConfig, with: Value) {
    fn merge(into: &mut Value, with: Value) {
        match (into, with) {
            (Value::Object(into), Value::Object(with)) => {
                for (key, value) in with {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, with) => *into = with,
        }
    }
    let mut spec = serde_json::to_value(&config.spec).expect("is written");
    merge(&mut spec, with);
    config.spec = serde_json::from_value(spec).expect("is a spec");
}

fn add_mount(spec: &mut Spec, mount: Value) {
    let mount: Mount = serde_json::from_value(mount).expect("is a mount");
    spec.mounts_mut().as_mut().expect("has mounts").push(mount);
}

/// Runs a script to its end in a container that `prepare` changed, and returns what it wrote.
async fn output_of(pod: &mut Pod, id: &str, script: &str, with: Value) -> String {
    let mut config = pod.config(id, script);
    change(&mut config, with);
    pod.run_config(config).await;
    let exit = pod.exit(id).await;
    let lines = |stream| pod.log(id, stream).into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    assert_eq!(exit.exit_code, 0, "{}", lines("stderr"));
    lines("stdout")
}

async fn output_of_exec(pod: &Pod, id: &str, argv: &[&str]) -> String {
    let (mut out, stdout) = output();
    let config =
        ExecConfig { argv: argv.iter().map(|arg| arg.to_string()).collect(), ..ExecConfig::default() };
    let streams = Streams { stdout: Some(stdout), ..Streams::default() };
    let mut running = pod.supervisor.exec(id, config, streams).await.expect("runs");
    running.wait().await.expect("ends");
    text(&mut out)
}

fn refusal<T: std::fmt::Debug>(result: Result<T, RequestError>) -> String {
    match result {
        Err(RequestError::Refused(failure)) => failure.message,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn masked_and_read_only_paths_are_so() {
    let mut pod = Pod::launch("masks", SandboxConfig::default()).await;
    let dir = pod.root().join("etc/secret");
    std::fs::create_dir(&dir).expect("is made");
    std::fs::write(dir.join("key"), "x").expect("is written");
    let with = json!({
        "root": { "path": pod.root(), "readonly": true },
        "linux": {
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/etc/secret", "/no/such/path"],
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger", "/no/such/path"],
            "sysctl": { "net.ipv4.ip_unprivileged_port_start": "7" },
        },
    });
    let script = "ls /etc/secret; cat /proc/keys; cat /proc/sys/net/ipv4/ip_unprivileged_port_start
        for path in /etc/x /etc/secret/x /proc/sysrq-trigger /proc/sys/net/ipv4/ip_forward; do
            (echo 1 > $path) 2>/dev/null && echo wrote $path
        done; echo end";
    assert_eq!(output_of(&mut pod, "a", script, with).await, "7\nend");
    pod.end().await;
}

#[tokio::test]
async fn limits_are_the_process_s_and_every_exec_s() {
    let mut pod = Pod::launch("limits", SandboxConfig::default()).await;
    let mut config = pod.config("a", "echo ready; sleep 1000");
    change(
        &mut config,
        json!({ "process": {
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }],
            "noNewPrivileges": true,
            "oomScoreAdj": 500,
            "user": { "uid": 7, "gid": 8, "additionalGids": [9, 10], "umask": 0o077 },
            "capabilities": {
                "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"],
                "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
            },
        } }),
    );
    pod.run_config(config).await;
    pod.wait_for_output("a", "ready").await;
    let script = "ulimit -n; ulimit -Hn; umask; id -u; id -g; id -G; cat /proc/self/oom_score_adj
        grep -e ^Cap -e ^NoNewPrivs /proc/self/status";
    let expected = "100\n200\n0077\n7\n8\n8 9 10\n500\nCapInh:\t0000000000000020\nCapPrm:\t0000000000000020\n\
        CapEff:\t0000000000000020\nCapBnd:\t0000000000000020\nCapAmb:\t0000000000000020\nNoNewPrivs:\t1\n";
    assert_eq!(output_of_exec(&pod, "a", &["sh", "-c", script]).await, expected);
    pod.end().await;
}

#[tokio::test]
async fn nothing_of_the_supervisor_is_inherited() {
    let pod = Pod::launch("inherit", SandboxConfig::default()).await;
    // The third is the directory that is listed.
    let script = "ls /proc/self/fd; grep -e ^SigBlk -e ^SigIgn /proc/self/status; echo score $(cat /proc/self/oom_score_adj); sleep 1000";
    let config = pod.config("a", script);
    pod.supervisor.create(config).await.expect("is created");
    // While the process waits it still is the supervisor's program.
    let exe = format!("/proc/{}/exe", pod.pid("a").await);
    assert!(statvfs(exe.as_str()).expect("is there").flags().contains(FsFlags::ST_RDONLY));
    pod.supervisor.start("a").await.expect("starts");
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").expect("is there");
    pod.wait_for_output("a", &format!("score {}", own.trim())).await;
    let lines: Vec<String> = pod.log("a", "stdout").into_iter().map(|(_, line)| line).collect();
    let signals = ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"];
    assert_eq!(lines[..6], [&["0", "1", "2", "3"], &signals[..]].concat());
    assert_eq!(output_of_exec(&pod, "a", &["ls", "/proc/self/fd"]).await, "0\n1\n2\n3\n");
    let environment = output_of_exec(&pod, "a", &["busybox", "env"]).await;
    assert_eq!(environment, "PATH=/bin\nHOME=/\n");
    pod.end().await;
}

#[tokio::test]
async fn links_of_an_image_lead_nowhere_else() {
    let mut pod = Pod::launch("links", SandboxConfig::default()).await;
    let outside = tempfile::tempdir().expect("a directory");
    let volume = tempfile::tempdir().expect("a directory");
    std::fs::write(volume.path().join("file"), "volume").expect("is written");
    let root = pod.root();
    symlink(outside.path(), root.join("data")).expect("is made");
    symlink("/../../../../../../etc", root.join("up")).expect("is made");
    let mut config =
        pod.config("a", "cat /data/file; echo; cat /up/volume/file; echo; ls /dev/pts | grep ptmx");
    for destination in ["/data", "/up/volume"] {
        let source = volume.path();
        let mount = json!({ "destination": destination, "type": "bind", "source": source, "options": ["rbind", "rro"] });
        add_mount(&mut config.spec, mount);
    }
    pod.run_config(config).await;
    assert_eq!(pod.exit("a").await.exit_code, 0);
    let lines: Vec<String> = pod.log("a", "stdout").into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, ["volume", "volume", "ptmx"]);
    assert_eq!(std::fs::read_dir(outside.path()).expect("is there").count(), 0);
    assert!(!Path::new("/etc/volume").exists() && root.join("etc/volume").is_dir());
    pod.end().await;
}

#[tokio::test]
async fn only_the_usual_devices_can_be_opened() {
    let mut pod = Pod::launch("devices", SandboxConfig::default()).await;
    let with = json!({
        "process": { "capabilities": { "bounding": ["CAP_MKNOD"], "permitted": ["CAP_MKNOD"], "effective": ["CAP_MKNOD"] } },
        "linux": { "resources": { "devices": [] } },
    });
    let script = "echo x > /dev/null; busybox head -c 4 /dev/zero | busybox wc -c; busybox head -c 4 /dev/urandom | busybox wc -c
        busybox mknod /dev/memory c 1 1 && echo made; busybox head -c 1 /dev/memory 2>&1; readlink /dev/ptmx; readlink /dev/fd; true";
    let said = output_of(&mut pod, "a", script, with).await;
    assert_eq!(said, "4\n4\nmade\nhead: /dev/memory: Operation not permitted\npts/ptmx\n/proc/self/fd");
    pod.end().await;
}

#[tokio::test]
async fn users_can_be_mapped() {
    let mut pod = Pod::launch("users", SandboxConfig::default()).await;
    let mappings = json!([{ "containerID": 0, "hostID": 300_000, "size": 65_536 }]);
    let mut config = pod.config("a", "id -u; cat /proc/self/uid_map /proc/self/setgroups; echo x > /tmp/x; echo 1 > /dev/null; echo end; sleep 1000");
    let mut namespaces = serde_json::to_value(config.spec.linux().as_ref().expect("has linux").namespaces())
        .expect("is written");
    namespaces.as_array_mut().expect("is a list").push(json!({ "type": "user" }));
    change(
        &mut config,
        json!({ "linux": { "namespaces": namespaces, "uidMappings": mappings, "gidMappings": mappings } }),
    );
    pod.run_config(config).await;
    pod.wait_for_output("a", "end").await;
    let lines: Vec<String> = pod.log("a", "stdout").into_iter().map(|(_, line)| line).collect();
    let map: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(
        (lines[0].as_str(), &map[..], lines[2].as_str()),
        ("0", &["0", "300000", "65536"][..], "allow")
    );
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(pod.root().join("tmp/x")).expect("is there").uid(), 300_000);
    assert_eq!(output_of_exec(&pod, "a", &["id", "-u"]).await, "0\n");
    pod.end().await;
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_and_undone() {
    let pod = Pod::launch("refuse", SandboxConfig::default()).await;
    let hook = json!({ "path": "/bin/true" });
    let cases = [
        (json!({ "hooks": { "prestart": [hook] } }), "a hook is not supported"),
        (
            json!({ "linux": { "sysctl": { "kernel.panic": "1" } } }),
            "sysctl \"kernel.panic\" is not in a separate kernel namespace",
        ),
        (json!({ "process": { "selinuxLabel": "a:b" } }), "an SELinux label is not supported"),
        (
            json!({ "process": { "cwd": "/bin/busybox" } }),
            "entering working directory /bin/busybox: Not a directory",
        ),
        (json!({ "process": { "args": ["/etc"] } }), "exec: \"/etc\": permission denied"),
        (
            json!({ "linux": { "resources": { "memory": { "limit": 1 }, "network": { "classID": 7 } } } }),
            "network classes are not supported",
        ),
        (
            json!({ "mounts": [{ "destination": "/x", "type": "no-such-type", "source": "x" }] }),
            "mounting no-such-type at /x",
        ),
        (
            json!({ "mounts": [{ "destination": "/x", "type": "tmpfs", "source": "x", "options": ["size=much"] }] }),
            "mounting tmpfs at /x",
        ),
    ];
    for (number, (with, expected)) in cases.into_iter().enumerate() {
        let id = format!("c{number}");
        let mut config = pod.config(&id, "true");
        change(&mut config, with.clone());
        let message = refusal(pod.supervisor.create(config).await);
        assert!(message.contains(expected), "{with}: {message}");
        assert!(!pod.cgroup_exists(&id) && !pod.dir().join("containers").join(&id).exists(), "{with}");
    }
    pod.end().await;
}

#[tokio::test]
async fn a_home_is_found_where_none_is_given() {
    let mut pod = Pod::launch("home", SandboxConfig::default()).await;
    let passwd = "root:x:0:0:root:/root:/bin/sh\nmary:x:7:7::/home/mary:\n";
    std::fs::write(pod.root().join("etc/passwd"), passwd).expect("is written");
    std::fs::set_permissions(pod.root().join("etc/passwd"), std::fs::Permissions::from_mode(0o644))
        .expect("is ours");
    let with = json!({ "process": { "user": { "uid": 7, "gid": 7 } } });
    assert_eq!(output_of(&mut pod, "a", "echo $HOME", with).await, "/home/mary");
    pod.end().await;
}
