use serde_json::{Value, json};

use super::*;
use crate::worker::apply::{Event, apply};
use crate::worker::decide::decide;
use crate::worker::state::{Phase, Running};
use jiff::Timestamp;

const ROOM: Room = Room { cpu_millis: 4000, memory: 1 << 30, used_cpu_millis: 1000, used_memory: 0 };

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("in range")
}

fn pod(containers: &Value) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": containers}});
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn container(cpu: &str, policy: &str) -> Value {
    json!({"name": "a", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}},
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}]})
}

/// A pod whose one container runs with what it asks for.
fn running(container: Value) -> PodState {
    let mut state = PodState::new(pod(&json!([container])), now());
    state.sandbox_ready = true;
    state.containers[0].phase = Phase::Running(Running {
        id: "x".into(),
        pid: 1,
        started_at: now(),
        hooked: true,
        started: true,
        ready: true,
        resources: Some(state.allotted["a"].clone()),
    });
    state.containers[0].was_started = true;
    state
}

fn words(actions: Vec<Action>) -> Vec<String> {
    let word = |action| match action {
        Action::Resize { limits, containers } => {
            format!("resize {containers:?} in {}", limits.cpu_quota_us.unwrap_or(0))
        }
        Action::Stop { container, why, .. } => format!("stop {container} {why:?}"),
        Action::Start { container } => format!("start {container}"),
        Action::Record { reason, .. } => reason.to_owned(),
        Action::CancelStarts | Action::TearDown | Action::Remove => "other".to_owned(),
    };
    actions.into_iter().map(word).collect()
}

fn next(state: &mut PodState) -> Vec<String> {
    words(decide(state, now()).0)
}

fn ask(state: &mut PodState, container: Value) -> Vec<String> {
    apply(state, Event::Pod(pod(&json!([container]))), now());
    words(consider(state, ROOM))
}

fn resized(state: &mut PodState, result: Result<(), &str>) -> Vec<String> {
    let limits = limits(state);
    let result = result.map(|()| state.allotted["a"].clone()).map_err(str::to_owned);
    let containers = vec![("x".to_owned(), result)];
    words(apply(state, Event::Resized { limits: Ok(limits), containers }, now()))
}

#[test]
fn what_fits_is_applied_in_place() {
    let mut state = running(container("1", "NotRequired"));
    assert_eq!(next(&mut state), [""; 0]);
    assert_eq!(ask(&mut state, container("2", "NotRequired")), ["ResizeStarted"]);
    assert_eq!(next(&mut state), ["resize [0] in 200000"]);
    assert_eq!(next(&mut state), [""; 0]);
    assert_eq!(resized(&mut state, Ok(())), [""; 0]);
    assert_eq!(next(&mut state), ["ResizeCompleted"]);
    assert_eq!(state.containers[0].restart_count, 0);
    // Less: the container first, then the pod.
    assert_eq!(ask(&mut state, container("500m", "NotRequired")), ["ResizeStarted"]);
    assert_eq!(next(&mut state), ["resize [0] in 200000"]);
    resized(&mut state, Ok(()));
    assert_eq!(next(&mut state), ["resize [] in 50000"]);
}

#[test]
fn what_needs_a_new_start_gets_one() {
    let mut state = running(container("1", "RestartContainer"));
    assert_eq!(ask(&mut state, container("2", "RestartContainer")), ["ResizeStarted"]);
    assert_eq!(next(&mut state), ["resize [] in 200000"]);
    let limits = limits(&state);
    apply(&mut state, Event::Resized { limits: Ok(limits), containers: Vec::new() }, now());
    assert_eq!(next(&mut state), ["stop 0 Resized", "Killing"]);
    let ended = crate::worker::state::Terminated {
        id: "x".into(),
        exit_code: 0,
        signal: None,
        reason: "Completed".into(),
        message: None,
        started_at: None,
        finished_at: now(),
    };
    apply(&mut state, Event::Exited { ended }, now());
    assert_eq!(next(&mut state)[0], "ResizeCompleted");
    assert!(matches!(state.containers[0].phase, Phase::Starting(_)));
    assert_eq!(state.containers[0].restart_count, 1);
}

#[test]
fn what_does_not_fit_waits_or_never_comes() {
    let check = |cpu: &str, reason: PendingReason, event: &str, message: &str| {
        let mut state = running(container("1", "NotRequired"));
        assert_eq!(ask(&mut state, container(cpu, "NotRequired")), [event]);
        assert_eq!(ask(&mut state, container(cpu, "NotRequired")), [""; 0]);
        let pending = state.resize.pending.clone().expect("it waits");
        assert_eq!((pending.reason, pending.message.as_str()), (reason, message));
        assert_eq!(next(&mut state), [""; 0]);
        assert_eq!(state.allotted["a"].requests["cpu"], "1");
        assert_eq!(ask(&mut state, container("1", "NotRequired")), [""; 0]);
        assert_eq!(state.resize.pending, None);
    };
    check(
        "3500m",
        PendingReason::Deferred,
        "ResizeDeferred",
        "Node didn't have enough resource: cpu, requested: 3500, used: 1000, capacity: 4000",
    );
    check(
        "5",
        PendingReason::Infeasible,
        "ResizeInfeasible",
        "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000",
    );
}

#[test]
fn a_failure_is_told_and_tried_again() {
    let mut state = running(container("1", "NotRequired"));
    ask(&mut state, container("2", "NotRequired"));
    next(&mut state);
    assert_eq!(resized(&mut state, Err("no")), ["ResizeError"]);
    let (actions, wake) = decide(&mut state, now());
    assert_eq!((words(actions), wake), (Vec::new(), state.resize.retry_at));
    assert!(wake.is_some());
    assert_eq!(words(decide(&mut state, wake.unwrap_or_default()).0), ["resize [0] in 200000"]);
}
