//! Rollouts under load: nobody who asks the service notices them.

use std::process::ExitCode;

use sampan_testkit::load::{Load, none_failed};
use sampan_testkit::{Cluster, Suite, web};

fn main() -> ExitCode {
    Suite::new("rollout")
        .test_image()
        .check("a rolling update and an undo fail no request", update_and_undo)
        .check("scaling down and up fails no request", scale)
        .check("deleting pods one by one fails no request", one_by_one)
        .run()
}

/// Versions that answered, in the order in which they were first seen.
fn versions(answers: &[sampan_testkit::load::Answer]) -> Vec<String> {
    let mut seen = Vec::new();
    for answer in answers {
        if let Ok(body) = &answer.result {
            let version = body.split(' ').next().unwrap_or_default().to_owned();
            if !seen.contains(&version) {
                seen.push(version);
            }
        }
    }
    seen
}

fn update_and_undo(cluster: &mut Cluster) {
    let namespace = cluster.namespace("update");
    namespace.deploy_web(3, "one");
    namespace.endpoints("web", 3);
    let mut load = Load::start(cluster.sandbox(), namespace.service_address("web"), 200);
    load.run_for(100);
    namespace.apply(&web::manifest(3, "two"));
    namespace.rolled_out("web");
    load.run_for(100);
    namespace.kubectl(&["rollout", "undo", "deployment/web"]).ok();
    namespace.rolled_out("web");
    load.run_for(100);
    let answers = load.finish();
    none_failed(&answers);
    assert_eq!(versions(&answers), ["one", "two"]);
    let last = answers.last().expect("there were requests").result.clone().expect("none failed");
    assert!(last.starts_with("one "), "undone: {last}");
    // The old set's pods go once they finished.
    namespace.wait_for("deployment/web", ".status.replicas", "3");
}

fn scale(cluster: &mut Cluster) {
    let namespace = cluster.namespace("scale");
    namespace.deploy_web(4, "one");
    namespace.endpoints("web", 4);
    let mut load = Load::start(cluster.sandbox(), namespace.service_address("web"), 200);
    load.run_for(100);
    namespace.kubectl(&["scale", "deployment/web", "--replicas=1"]).ok();
    namespace.endpoints("web", 1);
    load.run_for(200);
    namespace.kubectl(&["scale", "deployment/web", "--replicas=4"]).ok();
    namespace.endpoints("web", 4);
    load.run_for(100);
    none_failed(&load.finish());
}

fn one_by_one(cluster: &mut Cluster) {
    let namespace = cluster.namespace("one-by-one");
    namespace.deploy_web(3, "one");
    namespace.endpoints("web", 3);
    let pods = namespace.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).ok().text();
    let mut load = Load::start(cluster.sandbox(), namespace.service_address("web"), 200);
    load.run_for(50);
    for pod in pods.lines() {
        namespace.kubectl(&["delete", pod]).ok();
        namespace.rolled_out("web");
    }
    load.run_for(100);
    none_failed(&load.finish());
}
