use serde_json::{Value, json};

use super::*;

const NOW: &str = "2024-01-01T01:00:00Z";

fn job(spec: Value, status: Value) -> Job {
    let mut spec = spec;
    spec["template"] = json!({"spec": {"containers": [], "restartPolicy": "Never"}});
    serde_json::from_value(
        json!({"metadata": {"name": "j", "namespace": "n", "uid": "u"}, "spec": spec, "status": status}),
    )
    .expect("a job")
}

/// `state` is a phase, optionally with `-` (no finalizer any more) or `!` (being deleted) behind it.
fn pod(name: &str, index: Option<i32>, state: &str) -> Pod {
    let phase = state.trim_end_matches(['-', '!']);
    let finalizers = if state.contains('-') { json!([]) } else { json!([FINALIZER]) };
    let deleted = state.contains('!').then_some("2024-01-01T00:00:30Z");
    let annotations = index.map(|index| json!({INDEX: index.to_string()}));
    serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "finalizers": finalizers, "deletionTimestamp": deleted,
            "annotations": annotations, "creationTimestamp": "2024-01-01T00:00:00Z"},
        "status": {"phase": phase}}))
    .expect("a pod")
}

fn planned(job: &Job, pods: &[Pod]) -> Plan {
    let now = NOW.parse().expect("a time");
    plan(Snapshot { job, pods, backoff: Backoff::default(), settled: true, now })
}

/// The conditions that hold, with their reasons.
fn holding(status: &JobStatus) -> Vec<(&str, &str)> {
    let conditions = status.conditions.iter().flatten().filter(|one| one.status == "True");
    conditions.map(|one| (one.type_.as_str(), one.reason.as_deref().unwrap_or_default())).collect()
}

#[test]
fn as_many_pods_as_are_still_needed() {
    let pods = |states: &[&str]| -> Vec<Pod> {
        states.iter().enumerate().map(|(at, state)| pod(&format!("p{at}"), None, state)).collect()
    };
    for (spec, status, states, create, discard) in [
        (json!({"completions": 3, "parallelism": 2}), json!({}), &[][..], 2, 0),
        (json!({"completions": 3, "parallelism": 2}), json!({"succeeded": 2}), &[], 1, 0),
        (json!({"completions": 3, "parallelism": 2}), json!({}), &["Running", "Pending", "Pending"], 0, 1),
        (json!({"completions": 3, "parallelism": 5}), json!({}), &["Succeeded", "Running"], 1, 0),
        (json!({"parallelism": 3}), json!({}), &["Running"], 2, 0),
        (json!({"parallelism": 3}), json!({"succeeded": 1}), &["Running"], 0, 0),
        (json!({"parallelism": 2, "completions": 2, "suspend": true}), json!({}), &["Running"], 0, 1),
        // What is being deleted is replaced at once, or only when it has ended.
        (json!({"parallelism": 1, "completions": 1}), json!({}), &["Running!"], 1, 0),
        (
            json!({"parallelism": 1, "completions": 1, "podReplacementPolicy": "Failed"}),
            json!({}),
            &["Running!"],
            0,
            0,
        ),
    ] {
        let job = job(spec.clone(), status);
        let plan = planned(&job, &pods(states));
        assert_eq!((plan.create.len(), plan.discard.len()), (create, discard), "{spec} {states:?}");
    }
}

#[test]
fn a_pod_is_counted_in_steps_and_once() {
    let spec = json!({"completions": 1, "parallelism": 1});
    let first = planned(&job(spec.clone(), json!({})), &[pod("a", None, "Succeeded")]);
    assert_eq!(first.release, [0]);
    assert_eq!(first.status.succeeded, None);
    let uncounted = first.status.uncounted_terminated_pods.clone().expect("some");
    assert_eq!(uncounted.succeeded.as_deref(), Some(&["a".to_owned()][..]));
    assert_eq!(holding(&first.status), [("SuccessCriteriaMet", "CompletionsReached")]);
    // The finalizer could not be removed: the same again, and nothing is counted.
    let noted = job(spec, serde_json::to_value(&first.status).expect("JSON"));
    let again = planned(&noted, &[pod("a", None, "Succeeded")]);
    assert_eq!((again.release.as_slice(), &again.status), (&[0][..], &first.status));
    // It was removed, whether the pod is still there or not.
    for pods in [vec![pod("a", None, "Succeeded-")], vec![]] {
        let last = planned(&noted, &pods);
        assert_eq!(last.status.succeeded, Some(1));
        assert_eq!(
            holding(&last.status),
            [("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached")]
        );
        assert!(last.status.completion_time.is_some() && last.create.is_empty());
        assert_eq!(last.events[0].1, "Completed");
    }
}

#[test]
fn a_job_fails_for_a_reason_and_after_its_pods() {
    for (spec, status, reason) in [
        (json!({"backoffLimit": 1}), json!({"failed": 2}), "BackoffLimitExceeded"),
        (
            json!({"activeDeadlineSeconds": 60}),
            json!({"startTime": "2024-01-01T00:00:00Z"}),
            "DeadlineExceeded",
        ),
    ] {
        let first = planned(&job(spec.clone(), status), &[pod("a", None, "Running")]);
        assert_eq!(first.end, [0]);
        assert_eq!(first.create, []);
        assert_eq!(holding(&first.status), [("FailureTarget", reason)]);
        assert!(first.release.is_empty());
        let next = job(spec, serde_json::to_value(&first.status).expect("JSON"));
        let leaving = planned(&next, &[pod("a", None, "Running!")]);
        assert_eq!(leaving.release, [0]);
        let uncounted = leaving.status.uncounted_terminated_pods.expect("there");
        assert_eq!(uncounted.failed.as_deref(), Some(&["a".to_owned()][..]));
        let waiting = planned(&next, &[pod("a", None, "Running!-")]);
        assert_eq!(holding(&waiting.status), [("FailureTarget", reason)], "the pod still runs");
        let last = planned(&next, &[]);
        assert_eq!(holding(&last.status), [("FailureTarget", reason), ("Failed", reason)]);
        assert_eq!(last.events[0].1, reason);
    }
    let early = planned(
        &job(json!({"activeDeadlineSeconds": 4000}), json!({"startTime": "2024-01-01T00:00:00Z"})),
        &[],
    );
    assert_eq!(early.again, Some(Duration::from_secs(400)));
}

#[test]
fn a_replacement_waits_after_a_failure() {
    let job = job(json!({"completions": 1}), json!({}));
    let mut failed = pod("a", None, "Failed");
    failed.metadata.creation_timestamp = Some(Time("2024-01-01T00:59:57Z".parse().expect("a time")));
    let plan = planned(&job, &[failed]);
    assert_eq!((plan.create.len(), plan.again), (0, Some(Duration::from_secs(7))));
    assert_eq!(plan.release, [0]);
}

#[test]
fn indexes_are_completed_one_by_one() {
    let spec = json!({"completionMode": "Indexed", "completions": 4, "parallelism": 4});
    let indexed = job(spec, json!({"completedIndexes": "0"}));
    let pods = [
        pod("a", Some(1), "Succeeded"),
        pod("b", Some(2), "Running"),
        pod("c", Some(2), "Pending"),
        pod("d", Some(9), "Running"),
    ];
    let plan = planned(&indexed, &pods);
    assert_eq!(plan.discard.len(), 2, "the repeated and the illegal index go");
    assert!(plan.discard.contains(&2) && plan.discard.contains(&3) && plan.create.is_empty());
    assert_eq!(plan.status.completed_indexes.as_deref(), Some("0,1"));
    let next = planned(&indexed, &pods[..2]);
    assert_eq!(next.create, [Creation { index: Some(3), failures: None }]);
}

#[test]
fn failures_are_limited_per_index() {
    let spec =
        json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimitPerIndex": 1});
    let limited = job(spec, json!({}));
    let first = [pod("a", Some(0), "Failed"), pod("b", Some(1), "Succeeded")];
    let plan = planned(&limited, &first);
    assert_eq!(plan.create, [Creation { index: Some(0), failures: Some((1, 0)) }]);
    assert_eq!(plan.release, [1], "the failed one is kept until its replacement is there");
    let mut second = pod("c", Some(0), "Failed");
    second.metadata.annotations.get_or_insert_default().insert(FAILURES.to_owned(), "1".to_owned());
    let [failed, succeeded] = first;
    let plan = planned(&limited, &[failed, succeeded, second]);
    assert_eq!(plan.status.failed_indexes.as_deref(), Some("0"));
    assert_eq!(holding(&plan.status), [("FailureTarget", "FailedIndexes")]);
}

#[test]
fn success_may_need_less_than_everything() {
    let spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3,
        "successPolicy": {"rules": [{"succeededIndexes": "0-1", "succeededCount": 1}]}});
    let pods = [pod("a", Some(1), "Succeeded"), pod("b", Some(2), "Running")];
    let plan = planned(&job(spec, json!({})), &pods);
    assert_eq!(holding(&plan.status), [("SuccessCriteriaMet", "SuccessPolicy")]);
    assert_eq!(plan.end, [1]);
    let uncounted = plan.status.uncounted_terminated_pods.expect("there");
    assert_eq!(uncounted.failed, None, "what is no longer needed has not failed");
}

#[test]
fn suspension_is_told() {
    let spec = |suspend: bool| json!({"completions": 1, "suspend": suspend});
    let suspended = planned(&job(spec(true), json!({})), &[]);
    assert_eq!(holding(&suspended.status), [("Suspended", "JobSuspended")]);
    assert!(suspended.status.start_time.is_none());
    let status = serde_json::to_value(&suspended.status).expect("JSON");
    let resumed = planned(&job(spec(false), status), &[]);
    assert_eq!(holding(&resumed.status), []);
    assert_eq!(resumed.create.len(), 1);
    let events: Vec<&str> =
        suspended.events.iter().chain(&resumed.events).map(|event| event.1.as_str()).collect();
    assert_eq!(events, ["Suspended", "Resumed"]);
}
