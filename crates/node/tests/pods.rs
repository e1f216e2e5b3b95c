//! Real pods on a real node, in a network and mount namespace of their own, against an API in
//! memory. Needs root, and `/bin/busybox` linked statically.
//!
//! This program is its own supervisor: see `main`.

mod world;

use std::path::Path;
use std::process::ExitCode;

use futures_util::StreamExt;
use sampan_client::node_streams::{LogOptions, NodeStreams, StreamFlags};
use serde_json::json;
use tokio::io::AsyncReadExt;
use world::World;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, flag, dir] = arguments.as_slice()
        && command == "supervisor"
        && flag == "--dir"
    {
        return sampan_runtime::supervisor::main(Path::new(dir));
    }
    world::isolate();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut world = World::start().await;
        let result = tokio::spawn(async move {
            a_pod_runs_to_its_end(&mut world).await;
            a_container_that_fails_is_started_again(&mut world).await;
            a_pod_is_adopted_and_deleted(&mut world).await;
            world
        });
        match result.await {
            Ok(world) => {
                world.end().await;
                println!("3 passed");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("failed: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

async fn logs(world: &World, name: &str, options: LogOptions) -> String {
    let stream = world.node().logs(&world.pod_ref(name), "c", options).await.expect("a log");
    let chunks: Vec<_> = stream.map(|chunk| chunk.expect("a chunk")).collect().await;
    String::from_utf8(chunks.concat()).expect("text")
}

async fn a_pod_runs_to_its_end(world: &mut World) {
    world
        .create("configmaps", json!({"metadata": {"name": "m", "namespace": "n"}, "data": {"key": "value"}}))
        .await;
    let script =
        "cat /config/key; echo; echo $GREETING $POD_IP; hostname; id -u; echo bye > /dev/termination-log";
    world
        .create_pod(
            "once",
            json!({"restartPolicy": "Never",
                "volumes": [{"name": "config", "configMap": {"name": "m"}}, {"name": "scratch", "emptyDir": {}}],
                "initContainers": [{"name": "i", "image": "test:1", "command": ["sh", "-c", "echo 1 > /scratch/x"],
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}],
                "containers": [{"name": "c", "image": "test:1", "command": ["sh", "-c", script],
                    "securityContext": {"runAsUser": 1000},
                    "env": [{"name": "GREETING", "value": "hello"},
                        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                    "volumeMounts": [{"name": "config", "mountPath": "/config"},
                        {"name": "scratch", "mountPath": "/scratch"}]}]}),
        )
        .await;
    let pod = world.wait("once", |pod| pod["status"]["phase"] == "Succeeded").await;
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["message"]), (&json!("Completed"), &json!("bye\n")), "{pod}");
    let ip = pod["status"]["podIP"].as_str().expect("an address");
    let log = logs(world, "once", LogOptions::default()).await;
    assert_eq!(log, format!("value\nhello {ip}\nonce\n1000\n"));
    world.delete("once", None).await;
    world.wait_gone("once").await;
}

async fn a_container_that_fails_is_started_again(world: &mut World) {
    world
        .create_pod("loop", json!({"containers": [{"name": "c", "image": "test:1", "command": ["sh", "-c", "echo run; exit 3"]}]}))
        .await;
    let pod = world
        .wait("loop", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 1, "{pod}");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3, "{pod}");
    assert_eq!(logs(world, "loop", LogOptions { previous: true, ..LogOptions::default() }).await, "run\n");
    world.delete("loop", None).await;
    world.wait_gone("loop").await;
}

async fn a_pod_is_adopted_and_deleted(world: &mut World) {
    let script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done";
    world
        .create_pod(
            "stays",
            json!({"containers": [{"name": "c", "image": "test:1", "command": ["sh", "-c", script],
                "readinessProbe": {"periodSeconds": 1, "exec": {"command": ["true"]}}}]}),
        )
        .await;
    let ready = |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["ready"] == true;
    let before = world.wait("stays", ready).await;
    let pids = world.processes("sleep 0.05; done");
    assert_eq!(pids.len(), 1);
    world.restart().await;
    let after = world.wait("stays", ready).await;
    let of = |pod: &serde_json::Value, field: &str| pod["status"]["containerStatuses"][0][field].clone();
    assert_eq!(of(&before, "containerID"), of(&after, "containerID"));
    assert_eq!(of(&after, "restartCount"), 0);
    assert_eq!(world.processes("sleep 0.05; done"), pids);

    let flags = StreamFlags { stdout: true, ..StreamFlags::default() };
    let command = vec!["sh".into(), "-c".into(), "cat /etc/hostname; exit 5".into()];
    let mut session = world.node().exec(&world.pod_ref("stays"), "c", command, flags).await.expect("runs");
    let mut text = String::new();
    session.stdout.take().expect("output").read_to_string(&mut text).await.expect("reads");
    assert_eq!((text.as_str(), session.exit.await.expect("ends").code), ("stays\n", 5));

    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let followed = world.node().logs(&world.pod_ref("stays"), "c", follow).await.expect("a log");
    world.delete("stays", Some(30)).await;
    world.wait_gone("stays").await;
    let chunks: Vec<_> = followed.map(|chunk| chunk.expect("a chunk")).collect().await;
    assert_eq!(chunks.concat(), b"up\n");
    assert!(world.processes("sleep 0.05; done").is_empty());
}
