use serde_json::json;

use super::*;
use crate::testing::{Bench, until};

async fn used(bench: &Bench, wanted: Value) {
    until(bench, ("", "resourcequotas"), |quota| quota["status"]["used"] == wanted).await;
}

#[tokio::test]
async fn quotas_count_what_there_is() {
    let bench = Bench::start().await;
    bench.serve(Gvr::new("example.com", "v1", "widgets"), "Widget");
    let running = ResourceQuotas::start(bench.shared.clone());
    bench.create("", "v1", "secrets", "n", json!({"metadata": {"name": "s"}})).await;
    let hard = json!({"secrets": "3", "pods": "2", "count/widgets.example.com": "1", "count/unknown": "1"});
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    bench.create("", "v1", "resourcequotas", "n", quota).await;
    used(&bench, json!({"secrets": "1", "pods": "0", "count/widgets.example.com": "0"})).await;

    // A pod that ends no longer counts; here nobody charged it, so that the end alone is seen.
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
    bench.create("", "v1", "pods", "n", pod).await;
    bench.delete("", "v1", "secrets", "n", "s").await;
    used(&bench, json!({"secrets": "0", "pods": "1", "count/widgets.example.com": "0"})).await;
    let mut pod = bench.get("", "v1", "pods", "n", "p").await;
    pod["status"] = json!({"phase": "Succeeded"});
    let gvr = Gvr::new("", "v1", "pods");
    let target = Target { gvr: &gvr, namespace: Some("n"), name: "p", subresource: Some("status") };
    bench.backend().update(target, pod.to_string().into()).await.expect("updated");
    used(&bench, json!({"secrets": "0", "pods": "0", "count/widgets.example.com": "0"})).await;

    let mut quota = bench.get("", "v1", "resourcequotas", "n", "q").await;
    quota["spec"]["hard"] = json!({"secrets": "1"});
    bench.update("", "v1", "resourcequotas", "n", "q", quota).await;
    let quota =
        until(&bench, ("", "resourcequotas"), |quota| quota["status"]["hard"] == json!({"secrets": "1"}))
            .await;
    assert_eq!(quota["status"]["used"], json!({"secrets": "0"}));
    running.stop().await;
}
