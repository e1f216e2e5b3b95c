//! What survives which death: a container's process, a pod, the server itself.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sampan_api::Gvr;
use sampan_client::kubeconfig::Access;
use sampan_client::remote::RemoteBackend;
use sampan_client::{Backend as _, DeleteOptions, Target};
use sampan_testkit::image::TEST_IMAGE;
use sampan_testkit::load::{Load, none_failed};
use sampan_testkit::{Cluster, Suite, web};
use serde_json::json;

static PODS: Gvr = Gvr::new("", "v1", "pods");

fn main() -> ExitCode {
    Suite::new("killing")
        // Room for 29 pods.
        .argument("--node-cidr=10.42.0.0/27")
        .test_image()
        .check("pods that are deleted while they are made leave nothing", deleted_half_made)
        .check("a killed container is started again, and its pod stays", container)
        .check("a deleted pod is replaced", pod)
        .check("a killed server fails no request and adopts every container", server)
        .check("a rollout that the server's death interrupted completes", interrupted_rollout)
        .check("deaths while the server is down are noticed when it is back", deaths_while_down)
        .check("pods that were being made when the server died run when it is back", half_made)
        .check("a pod that was ending when the server died ends", ending)
        .check("a server ended in order leaves everything running", orderly)
        .run()
}

fn deleted_half_made(cluster: &mut Cluster) {
    let namespace = cluster.namespace("deleted");
    let kubeconfig = cluster.kubeconfig();
    cluster.sandbox().in_network(move || come_and_go(&kubeconfig)).join().expect("all of them came and went");
    // Nearly all for which there is an address, so that one which did not come back is missed.
    namespace.deploy_web(28, "one");
    namespace.kubectl(&["delete", "deployment/web", "--timeout=55s"]).ok();
    namespace.kubectl(&["wait", "pods", "-l", "app=web", "--for=delete", "--timeout=55s"]).ok();
}

/// Creates pods one after another and deletes each at another step of its making.
fn come_and_go(kubeconfig: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let access = Access::read(kubeconfig, None).expect("a kubeconfig");
        let backend = RemoteBackend::new(&access, "killing").expect("a client");
        for number in 0..50 {
            let name = format!("guest-{number}");
            let container = json!({"name": "main", "image": TEST_IMAGE, "command": ["sleep", "1000"]});
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"containers": [container]}});
            let target = |name| Target { gvr: &PODS, namespace: Some("deleted"), name, subresource: None };
            backend.create(target(""), pod.to_string().into()).await.expect("created");
            tokio::time::sleep(Duration::from_millis(2 * number)).await;
            let options = DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() };
            backend.delete(target(&name), &options).await.expect("deleted");
        }
    });
}

fn container(cluster: &mut Cluster) {
    let namespace = cluster.namespace("container");
    namespace.deploy_web(1, "one");
    let pod = namespace.kubectl(&["get", "pods", "-o", "name"]).ok().text();
    let address = namespace.get(&pod, ".status.podIP");
    let processes = namespace.processes();
    let [process] = processes.values().next().expect("one container")[..] else {
        panic!("one process: {processes:?}");
    };
    kill(Pid::from_raw(process), Signal::SIGKILL).expect("it runs");
    namespace.wait_for(&pod, ".status.containerStatuses[0].restartCount", "1");
    namespace.wait(&pod, "condition=Ready");
    assert_eq!(namespace.get(&pod, ".status.podIP"), address);
    assert_eq!(namespace.get(&pod, ".status.containerStatuses[0].lastState.terminated.exitCode"), "137");
    assert_ne!(namespace.processes(), processes);
}

fn pod(cluster: &mut Cluster) {
    let namespace = cluster.namespace("pod");
    namespace.deploy_web(3, "one");
    namespace.endpoints("web", 3);
    let mut load = Load::start(cluster.sandbox(), namespace.service_address("web"), 200);
    load.run_for(50);
    let pods = namespace.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).ok().text();
    let first = pods.lines().next().expect("three pods");
    namespace.kubectl(&["delete", first]).ok();
    namespace.rolled_out("web");
    namespace.wait_for("deployment/web", ".status.readyReplicas", "3");
    load.run_for(50);
    none_failed(&load.finish());
    namespace.kubectl(&["get", first]).fails();
}

fn server(cluster: &mut Cluster) {
    let (before, mut load) = {
        let namespace = cluster.namespace("server");
        namespace.deploy_web(3, "one");
        namespace.endpoints("web", 3);
        let mut load = Load::start(cluster.sandbox(), namespace.service_address("web"), 200);
        load.run_for(50);
        let before = namespace.processes();
        namespace.keep();
        (before, load)
    };
    cluster.kill_server(Signal::SIGKILL).expect("it ran");
    load.run_for(200);
    cluster.start_server().expect("it starts again");
    load.run_for(100);
    let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["--namespace=server"], arguments].concat());
    kubectl(&["wait", "pods", "-l", "app=web", "--for=condition=Ready", "--timeout=55s"]).ok();
    none_failed(&load.finish());
    let status =
        kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"]);
    status.ok().is("0 0 0");
    let after = cluster.processes_in("server");
    assert_eq!(after, before, "the same processes");
    assert!(before.values().all(|processes| processes.len() == 1), "{before:?}");
    // What was adopted can be used: streams, logs, and a graceful end.
    kubectl(&["exec", "deployment/web", "--", "echo", "alive"]).ok().is("alive");
    kubectl(&["logs", "deployment/web"]).ok().has(&["listening on 8080"]);
    kubectl(&["delete", "deployment/web", "--timeout=55s"]).ok();
    kubectl(&["wait", "pods", "-l", "app=web", "--for=delete", "--timeout=55s"]).ok();
}

fn interrupted_rollout(cluster: &mut Cluster) {
    let mut load = {
        let namespace = cluster.namespace("interrupted");
        namespace.deploy_web(3, "one");
        namespace.endpoints("web", 3);
        let load = Load::start(cluster.sandbox(), namespace.service_address("web"), 200);
        let mut watch = namespace.spawn(&["get", "pods", "--watch-only", "-o", "name"]);
        namespace.apply(&web::manifest(3, "two"));
        // The first new pod is there: the rollout is under way.
        watch.until("^pod/web-");
        namespace.keep();
        load
    };
    cluster.kill_server(Signal::SIGKILL).expect("it ran");
    load.run_for(100);
    cluster.start_server().expect("it starts again");
    let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["--namespace=interrupted"], arguments].concat());
    kubectl(&["rollout", "status", "deployment/web", "--timeout=55s"]).ok();
    load.run_for(100);
    let answers = load.finish();
    none_failed(&answers);
    let last = answers.last().expect("there were requests").result.clone().expect("none failed");
    assert!(last.starts_with("two "), "rolled out: {last}");
}

fn deaths_while_down(cluster: &mut Cluster) {
    let process = {
        let namespace = cluster.namespace("down");
        namespace.deploy_web(1, "one");
        let processes = namespace.processes();
        namespace.keep();
        processes.values().next().expect("one container")[0]
    };
    cluster.kill_server(Signal::SIGKILL).expect("it ran");
    kill(Pid::from_raw(process), Signal::SIGKILL).expect("it runs");
    cluster.start_server().expect("it starts again");
    let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["--namespace=down"], arguments].concat());
    let restarted = "--for=jsonpath={.status.containerStatuses[0].restartCount}=1";
    kubectl(&["wait", "pods", "-l", "app=web", restarted, "--timeout=55s"]).ok();
    kubectl(&["wait", "pods", "-l", "app=web", "--for=condition=Ready", "--timeout=55s"]).ok();
}

fn half_made(cluster: &mut Cluster) {
    {
        let namespace = cluster.namespace("half-made");
        namespace.deploy_web(1, "one");
        namespace.keep();
    }
    // Each death finds the pods at another step of their making.
    for round in 1..=8 {
        let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["--namespace=half-made"], arguments].concat());
        kubectl(&["scale", "deployment/web", &format!("--replicas={}", 1 + 2 * round)]).ok();
        std::thread::sleep(Duration::from_millis(12 * round));
        cluster.kill_server(Signal::SIGKILL).expect("it ran");
        cluster.start_server().expect("it starts again");
        let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["--namespace=half-made"], arguments].concat());
        kubectl(&["rollout", "status", "deployment/web", "--timeout=55s"]).ok();
    }
    let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["--namespace=half-made"], arguments].concat());
    let addresses = kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.podIP}"]).ok().text();
    let addresses: BTreeSet<&str> = addresses.split(' ').collect();
    assert_eq!(addresses.len(), 17, "an address for each: {addresses:?}");
    kubectl(&["delete", "deployment/web", "--timeout=55s"]).ok();
    kubectl(&["wait", "pods", "-l", "app=web", "--for=delete", "--timeout=55s"]).ok();
}

fn ending(cluster: &mut Cluster) {
    let namespace = cluster.namespace("ending");
    // The first process of a container ends at no signal that it does not handle.
    let run =
        ["run", "deaf", "--image=example.com/test:1", "--restart=Never", "--", "sh", "-c", "sleep 1000"];
    namespace.kubectl(&run).ok();
    namespace.wait("pod/deaf", "condition=Ready");
    namespace.kubectl(&["delete", "pod", "deaf", "--grace-period=8", "--wait=false"]).ok();
    namespace.keep();
    cluster.kill_server(Signal::SIGKILL).expect("it ran");
    cluster.start_server().expect("it starts again");
    cluster.kubectl(&["--namespace=ending", "wait", "pod/deaf", "--for=delete", "--timeout=55s"]).ok();
}

fn orderly(cluster: &mut Cluster) {
    let before = {
        let namespace = cluster.namespace("orderly");
        namespace.deploy_web(2, "one");
        let processes = namespace.processes();
        namespace.keep();
        processes
    };
    cluster.restart().expect("it ends with success, and starts again");
    assert_eq!(cluster.processes_in("orderly"), before);
    cluster.kubectl(&["--namespace=orderly", "rollout", "status", "deployment/web", "--timeout=55s"]).ok();
}
