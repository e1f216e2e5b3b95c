use serde_json::Value;

use super::*;
use crate::controller::Fleet;
use crate::testing::{Bench, until};

fn job(completions: i32) -> Value {
    json!({"metadata": {"name": "j"}, "spec": {"completions": completions, "parallelism": completions, "completionMode": "Indexed",
        "selector": {"matchLabels": {"job": "j"}},
        "template": {"metadata": {"labels": {"job": "j"}}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}}})
}

#[test]
fn a_pod_knows_its_index() {
    let job: Job = serde_json::from_value(job(2)).expect("a job");
    let pod =
        serde_json::to_value(pod(&job, &Creation { index: Some(1), failures: Some((2, 0)) })).expect("JSON");
    assert_eq!(pod["metadata"]["generateName"], "j-1-");
    assert_eq!(pod["metadata"]["annotations"], json!({INDEX: "1", FAILURES: "2"}));
    assert_eq!(pod["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(pod["spec"]["hostname"], "j-1");
    assert_eq!(pod["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
}

#[tokio::test]
async fn a_job_runs_to_its_end() {
    let mut bench = Bench::start().await;
    let mut fleet = Fleet::default();
    fleet.add_with(bench.shared.clone(), Jobs::default());
    let running = fleet.start(bench.take_feed());
    bench.create("batch", "v1", "jobs", "n", job(2)).await;
    for index in ["0", "1"] {
        let pod = until(&bench, ("", "pods"), |pod| pod["metadata"]["annotations"][INDEX] == index).await;
        let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
        let ended = json!({"status": {"phase": "Succeeded"}});
        let pods = bench.shared.client.namespaced::<Pod>("n");
        pods.patch_status(&name, PatchKind::Merge, &ended).await.expect("patched");
        let freed = until(&bench, ("", "pods"), |pod| {
            pod["metadata"]["name"] == name && pod["metadata"]["finalizers"] == json!([])
        })
        .await;
        assert_eq!(freed["status"]["phase"], "Succeeded");
    }
    let done = until(&bench, ("batch", "jobs"), |job| {
        job["status"]["conditions"].to_string().contains("\"Complete\"")
    })
    .await;
    assert_eq!(done["status"]["succeeded"], 2);
    assert_eq!(done["status"]["completedIndexes"], "0,1");
    assert_eq!(done["status"]["uncountedTerminatedPods"], json!({}));
    running.stop().await;
}

#[tokio::test]
async fn a_job_that_fails_takes_its_pods_along() {
    let mut bench = Bench::start().await;
    let mut fleet = Fleet::default();
    fleet.add_with(bench.shared.clone(), Jobs::default());
    let running = fleet.start(bench.take_feed());
    let mut failing = job(2);
    failing["spec"]["completionMode"] = json!("NonIndexed");
    failing["spec"]["backoffLimit"] = json!(0);
    bench.create("batch", "v1", "jobs", "n", failing).await;
    let first = until(&bench, ("", "pods"), |_| true).await["metadata"]["name"].clone();
    until(&bench, ("", "pods"), |pod| pod["metadata"]["name"] != first).await;
    let failed = json!({"status": {"phase": "Failed"}});
    let pods = bench.shared.client.namespaced::<Pod>("n");
    pods.patch_status(first.as_str().expect("a name"), PatchKind::Merge, &failed).await.expect("patched");
    let over = until(&bench, ("batch", "jobs"), |job| {
        job["status"]["conditions"].to_string().contains("\"Failed\"")
    })
    .await;
    assert_eq!(over["status"]["failed"], 2, "what was still active has failed as well");
    assert!(over["status"]["conditions"].to_string().contains("BackoffLimitExceeded"));
    let left = pods.list(&sampan_client::ListOptions::default()).await.expect("works");
    assert_eq!(left.len(), 1, "the failed pod stays to be looked at");
    running.stop().await;
}
