use serde_json::json;

use super::*;
use crate::testing::Bench;

fn remains(objects: &[(&str, usize)], finalizers: &[(&str, usize)]) -> Remains {
    let counts = |of: &[(&str, usize)]| of.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect();
    Remains { objects: counts(objects), finalizers: counts(finalizers), ..Remains::default() }
}

#[test]
fn conditions_tell_what_remains() {
    let now = Timestamp::UNIX_EPOCH;
    let left = remains(&[("pods.", 2), ("widgets.example.com", 1)], &[("example.com/hold", 3)]);
    let first = status(None, &left, now).expect("a change");
    assert_eq!(first.phase.as_deref(), Some("Terminating"));
    let messages: Vec<_> = first
        .conditions
        .iter()
        .flatten()
        .filter(|one| one.status == "True")
        .map(|one| one.message.clone().unwrap_or_default())
        .collect();
    assert_eq!(
        messages,
        [
            "Some resources are remaining: pods. has 2 resource instances, widgets.example.com has 1 resource instances",
            "Some content in the namespace has finalizers remaining: example.com/hold in 3 resource instances",
        ]
    );
    assert_eq!(status(Some(first.clone()), &left, now + Duration::from_secs(5)), None, "nothing changed");
    let later =
        status(Some(first), &remains(&[("pods.", 1)], &[]), now + Duration::from_secs(5)).expect("a change");
    let changed: Vec<_> = later
        .conditions
        .iter()
        .flatten()
        .filter(|one| one.last_transition_time != Some(Time(now)))
        .map(|one| one.type_.clone())
        .collect();
    assert_eq!(changed, ["NamespaceFinalizersRemaining"]);
}

#[test]
fn waits_longer_the_longer_it_takes() {
    let since = Timestamp::UNIX_EPOCH;
    for (age, wait) in [(0, RECHECK_FROM), (8, Duration::from_secs(1)), (3600, RECHECK_TO)] {
        assert_eq!(recheck(since, since + Duration::from_secs(age)), wait);
    }
}

#[tokio::test]
async fn what_is_inside_goes_before_the_namespace() {
    let bench = Bench::start().await;
    let namespace = json!({"metadata": {"name": "n", "finalizers": ["test/kept"]}, "spec": {"finalizers": ["kubernetes"]}});
    bench.create("", "v1", "namespaces", "", namespace).await;
    bench.create("", "v1", "configmaps", "n", json!({"metadata": {"name": "a"}})).await;
    bench
        .create(
            "apps",
            "v1",
            "deployments",
            "n",
            json!({"metadata": {"name": "b", "finalizers": ["test/hold"]}}),
        )
        .await;
    bench.create("", "v1", "configmaps", "other", json!({"metadata": {"name": "c"}})).await;
    bench.delete("", "v1", "namespaces", "", "n").await;
    let again = Namespaces.reconcile(&bench.shared, "n").await.expect("works");
    assert!(again.is_some(), "the deployment is held");
    let stored = bench.get("", "v1", "namespaces", "", "n").await;
    assert_eq!(stored["spec"]["finalizers"], json!(["kubernetes"]));
    assert!(stored["status"].to_string().contains("deployments.apps has 1 resource instances"));
    let deployment = bench.get("apps", "v1", "deployments", "n", "b").await;
    let mut free = deployment.clone();
    free["metadata"]["finalizers"] = json!([]);
    bench.update("apps", "v1", "deployments", "n", "b", free).await;
    assert_eq!(Namespaces.reconcile(&bench.shared, "n").await.expect("works"), None);
    let stored = bench.get("", "v1", "namespaces", "", "n").await;
    assert_eq!(stored["spec"]["finalizers"], json!([]));
    bench.get("", "v1", "configmaps", "other", "c").await;
}

#[tokio::test]
async fn pods_go_before_all_else() {
    let bench = Bench::start().await;
    let namespace = json!({"metadata": {"name": "n", "finalizers": ["test/kept"]}, "spec": {"finalizers": ["kubernetes"]}});
    bench.create("", "v1", "namespaces", "", namespace).await;
    bench.create("", "v1", "configmaps", "n", json!({"metadata": {"name": "a"}})).await;
    let pod = json!({
        "metadata": {"name": "p", "finalizers": ["test/hold"]},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    bench.create("", "v1", "pods", "n", pod).await;
    bench.delete("", "v1", "namespaces", "", "n").await;
    assert!(Namespaces.reconcile(&bench.shared, "n").await.expect("works").is_some(), "the pod is held");
    let mut pod = bench.get("", "v1", "pods", "n", "p").await;
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let map = bench.get("", "v1", "configmaps", "n", "a").await;
    assert_eq!(map["metadata"].get("deletionTimestamp"), None);
    pod["metadata"]["finalizers"] = json!([]);
    bench.update("", "v1", "pods", "n", "p", pod).await;
    assert_eq!(Namespaces.reconcile(&bench.shared, "n").await.expect("works"), None);
}
