use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::worker::state::{Running, Terminated, Waiting};

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("in range")
}

fn state(spec: Value) -> PodState {
    let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3}, "spec": spec});
    PodState::new(Arc::new(serde_json::from_value(pod).expect("a pod")), now())
}

fn running(ready: bool) -> crate::worker::state::Phase {
    crate::worker::state::Phase::Running(Running {
        id: "x".into(),
        pid: 1,
        started_at: now(),
        hooked: true,
        started: true,
        ready,
        resources: None,
    })
}

fn exited(exit_code: i32) -> Terminated {
    Terminated {
        id: "x".into(),
        exit_code,
        signal: None,
        reason: if exit_code == 0 { "Completed".into() } else { "Error".into() },
        message: None,
        started_at: None,
        finished_at: now(),
    }
}

fn of(state: &PodState) -> PodStatus {
    status(state, None, [10, 0, 0, 9].into(), now())
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a PodCondition {
    status
        .conditions
        .as_ref()
        .expect("conditions")
        .iter()
        .find(|condition| condition.type_ == kind)
        .expect(kind)
}

#[test]
fn phases_follow_from_the_containers() {
    use crate::worker::state::Phase;
    let check = |policy: &str, phases: [Phase; 2], expected: PodPhase| {
        let mut state = state(json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]}));
        for (record, phase) in state.containers.iter_mut().zip(phases.clone()) {
            record.was_started = true;
            record.phase = phase;
        }
        assert_eq!(phase(&state), expected, "{policy} {phases:?}");
    };
    let waiting = || Phase::Waiting(Waiting::new("ContainerCreating"));
    check("Always", [waiting(), waiting()], PodPhase::Pending);
    check("Always", [running(true), waiting()], PodPhase::Pending);
    check("Always", [running(true), running(false)], PodPhase::Running);
    check("Always", [Phase::Exited(exited(0)), Phase::Exited(exited(0))], PodPhase::Running);
    check("Never", [Phase::Exited(exited(0)), Phase::Exited(exited(0))], PodPhase::Succeeded);
    check("Never", [Phase::Exited(exited(0)), Phase::Exited(exited(1))], PodPhase::Failed);
    check("OnFailure", [Phase::Exited(exited(0)), Phase::Exited(exited(1))], PodPhase::Running);
    check("Never", [Phase::Exited(exited(1)), running(true)], PodPhase::Running);
}

#[test]
fn a_new_pod_waits_for_its_containers() {
    let status =
        of(&state(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a", "image": "x"}]})));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(status.observed_generation, Some(3));
    let first = &status.container_statuses.as_ref().expect("statuses")[0];
    let waiting = first.state.as_ref().and_then(|state| state.waiting.as_ref()).expect("it waits");
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
    assert_eq!((first.image.as_str(), first.started, first.restart_count), ("x", Some(false), 0));
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized.status, "False");
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i]"));
    let ready = condition(&status, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a]"));
    assert_eq!(condition(&status, "PodReadyToStartContainers").status, "False");
}

#[test]
fn readiness_needs_the_gates_too() {
    let mut state = state(json!({"readinessGates": [{"conditionType": "g"}], "containers": [{"name": "a"}]}));
    state.containers[0].phase = running(true);
    let status = of(&state);
    assert_eq!(condition(&status, "ContainersReady").status, "True");
    let ready = condition(&status, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ReadinessGatesNotReady"));
    let mut pod = (*state.pod).clone();
    pod.status = serde_json::from_value(json!({"conditions": [{"type": "g", "status": "True"}]})).ok();
    state.pod = Arc::new(pod);
    assert_eq!(condition(&of(&state), "Ready").status, "True");
}

#[test]
fn a_condition_keeps_the_time_of_its_change() {
    let mut state = state(json!({"containers": [{"name": "a"}]}));
    let first = of(&state);
    let later = now().saturating_add(jiff::SignedDuration::from_secs(60)).expect("in range");
    let second = status(&state, Some(&first), [10, 0, 0, 9].into(), later);
    assert_eq!(condition(&second, "Ready").last_transition_time, Some(Time(now())));
    assert!(same(&first, &second));
    state.containers[0].phase = running(true);
    let third = status(&state, Some(&second), [10, 0, 0, 9].into(), later);
    assert_eq!(condition(&third, "Ready").last_transition_time, Some(Time(later)));
    assert!(!same(&second, &third));
}

#[test]
fn a_crash_loop_shows_how_it_ended_last() {
    use crate::worker::state::Phase;
    let mut state = state(json!({"containers": [{"name": "a"}]}));
    state.containers[0].last = Some(exited(1));
    state.containers[0].phase = Phase::Waiting(Waiting::new("CrashLoopBackOff"));
    state.containers[0].restart_count = 2;
    let status = of(&state);
    assert_eq!(status.phase.as_deref(), Some("Running"));
    let first = &status.container_statuses.as_ref().expect("statuses")[0];
    assert_eq!(first.restart_count, 2);
    let last = first.last_state.as_ref().and_then(|state| state.terminated.as_ref()).expect("it ended");
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    assert_eq!(last.container_id.as_deref(), Some("sampan://x"));
}

#[test]
fn a_patch_takes_back_what_is_no_longer_so() {
    let patch = patch("u", &of(&state(json!({"containers": [{"name": "a"}]}))), None);
    assert_eq!(patch["metadata"]["uid"], "u");
    assert!(patch["status"].as_object().expect("an object").contains_key("message"));
    assert_eq!(patch["status"]["conditions"][4]["message"], Value::Null);
}

#[test]
fn ephemeral_containers_have_statuses_of_their_own() {
    let mut state = state(json!({"containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]}));
    state.containers[0].phase = running(true);
    state.containers[1].phase = running(true);
    let status = of(&state);
    assert_eq!(status.container_statuses.as_ref().expect("statuses").len(), 1);
    let ephemeral = &status.ephemeral_container_statuses.as_ref().expect("statuses")[0];
    assert_eq!((ephemeral.name.as_str(), ephemeral.ready, ephemeral.started), ("e", false, None));
    assert!(ephemeral.state.as_ref().is_some_and(|state| state.running.is_some()));
    assert_eq!(condition(&status, "Ready").status, "True");
}
