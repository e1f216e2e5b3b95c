use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::worker::apply::{Event, ProbeKind, apply};
use crate::worker::state::Running;

/// A pod under a clock that only the test moves.
struct World {
    state: PodState,
    now: Timestamp,
    wake: Option<Timestamp>,
    ids: u32,
}

impl World {
    fn new(spec: serde_json::Value) -> Self {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec});
        let now = Timestamp::from_second(1_700_000_000).expect("in range");
        let pod = Arc::new(serde_json::from_value(pod).expect("a pod"));
        let mut state = PodState::new(pod, now);
        // Its sandbox is there, with the limits that it asks for.
        state.sandbox_ready = true;
        state.resize.limits = Some(resize::limits(&state));
        World { state, now, wake: None, ids: 0 }
    }

    /// Decides and returns the actions as words; records of events are left out.
    fn decide(&mut self) -> Vec<String> {
        let (actions, wake) = decide(&mut self.state, self.now);
        self.wake = wake;
        self.words(actions)
    }

    fn words(&self, actions: Vec<Action>) -> Vec<String> {
        let name = |index: usize| self.state.containers[index].name.clone();
        let word = |action| match action {
            Action::Start { container } => Some(format!("start {}", name(container))),
            Action::Stop { container, grace_seconds, .. } => {
                Some(format!("stop {} {grace_seconds}", name(container)))
            }
            Action::Resize { containers, .. } => {
                let names: Vec<String> = containers.into_iter().map(name).collect();
                Some(format!("resize {}", names.join(" ")).trim_end().to_owned())
            }
            Action::CancelStarts => None,
            Action::TearDown => Some("tear down".to_owned()),
            Action::Remove => Some("remove".to_owned()),
            Action::Record { .. } => None,
        };
        actions.into_iter().filter_map(word).collect()
    }

    fn event(&mut self, event: Event) -> Vec<String> {
        let first = apply(&mut self.state, event, self.now);
        let mut words = self.words(first);
        words.extend(self.decide());
        words
    }

    fn started(&mut self, name: &str) -> Vec<String> {
        self.started_with(name, true)
    }

    fn started_with(&mut self, name: &str, started: bool) -> Vec<String> {
        self.ids += 1;
        let running = Running {
            id: format!("{name}{}", self.ids),
            pid: 1,
            started_at: self.now,
            hooked: true,
            started,
            ready: false,
            resources: None,
        };
        let container = self.state.index_of(name).expect("a container");
        self.event(Event::Started { container, running })
    }

    fn id(&self, name: &str) -> String {
        let index = self.state.index_of(name).expect("a container");
        self.state.containers[index].running().expect("it runs").id.clone()
    }

    fn exited(&mut self, name: &str, exit_code: i32) -> Vec<String> {
        let ended = Terminated {
            id: self.id(name),
            exit_code,
            signal: None,
            reason: "Error".into(),
            message: None,
            started_at: None,
            finished_at: self.now,
        };
        self.event(Event::Exited { ended })
    }

    fn delete(&mut self, grace: i64) -> Vec<String> {
        let mut pod = (*self.state.pod).clone();
        pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.event(Event::Pod(Arc::new(pod)))
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.saturating_add(SignedDuration::from_secs(seconds)).expect("in range");
    }
}

const NONE: [&str; 0] = [];

#[test]
fn init_containers_go_first_and_one_by_one() {
    let mut world = World::new(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}, {"name": "b"}]}));
    assert_eq!(world.decide(), ["start i"]);
    assert_eq!(world.decide(), NONE);
    assert_eq!(world.started("i"), NONE);
    assert_eq!(world.exited("i", 0), ["start j"]);
    world.started("j");
    assert_eq!(world.exited("j", 0), ["start a", "start b"]);
    world.started("a");
    world.started("b");
    assert_eq!(world.exited("a", 0), NONE);
    assert_eq!(world.exited("b", 0), ["tear down"]);
    assert_eq!(world.event(Event::TornDown), NONE);
    assert_eq!(world.state.stage, Stage::Finished(Termination::Completed));
    assert_eq!(world.delete(0), ["remove"]);
}

#[test]
fn a_failed_init_container_ends_the_pod_unless_it_is_restarted() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    let mut world = World::new(spec("Never"));
    world.decide();
    world.started("i");
    assert_eq!(world.exited("i", 1), ["tear down"]);
    let mut world = World::new(spec("Always"));
    world.decide();
    world.started("i");
    assert_eq!(world.exited("i", 1), ["start i"]);
}

#[test]
fn sidecars_start_in_order_stay_and_leave_last() {
    let mut world = World::new(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "t", "restartPolicy": "Always"},
            {"name": "i"}],
        "containers": [{"name": "a"}]}));
    assert_eq!(world.decide(), ["start s"]);
    assert_eq!(world.started_with("s", false), NONE);
    let id = world.id("s");
    let ready = Event::Probe { id, probe: ProbeKind::Startup, success: true, grace_seconds: None };
    assert_eq!(world.event(ready), ["start t"]);
    assert_eq!(world.started("t"), ["start i"]);
    world.started("i");
    assert_eq!(world.exited("i", 0), ["start a"]);
    world.started("a");
    // It is started again although the pod's policy is Never.
    assert_eq!(world.exited("s", 0), ["start s"]);
    world.started("s");
    assert_eq!(world.exited("a", 0), ["stop t 30"]);
    assert_eq!(world.exited("t", 0), ["stop s 30"]);
    assert_eq!(world.exited("s", 0), ["tear down"]);
}

#[test]
fn a_container_that_fails_again_waits_longer_each_time() {
    let mut world = World::new(json!({"containers": [{"name": "a"}]}));
    world.decide();
    world.started("a");
    assert_eq!(world.exited("a", 1), ["start a"]);
    for (restarts, delay) in [(1, 10), (2, 20), (3, 40)] {
        world.started("a");
        world.pass(1);
        assert_eq!(world.exited("a", 1), NONE);
        assert_eq!(world.state.containers[0].restart_count, restarts);
        let Phase::Waiting(waiting) = &world.state.containers[0].phase else { panic!("it waits") };
        assert_eq!(waiting.reason, "CrashLoopBackOff");
        let expected = format!("back-off {delay}s restarting failed container=a pod=p_n(u)");
        assert_eq!(waiting.message.as_deref(), Some(expected.as_str()));
        world.pass(delay - 1);
        assert_eq!(world.decide(), NONE);
        assert!(world.wake.is_some_and(|wake| wake > world.now));
        world.pass(1);
        assert_eq!(world.decide(), ["start a"]);
    }
}

#[test]
fn policies_decide_about_restarts() {
    let check = |policy: &str, own: serde_json::Value, code: i32, restarted: bool| {
        let mut container = own.clone();
        container["name"] = "a".into();
        let mut world = World::new(json!({"restartPolicy": policy, "containers": [container]}));
        world.decide();
        world.started("a");
        let expected = if restarted { ["start a"] } else { ["tear down"] };
        assert_eq!(world.exited("a", code), expected, "{policy} {own} {code}");
    };
    check("Always", json!({}), 0, true);
    check("OnFailure", json!({}), 0, false);
    check("OnFailure", json!({}), 1, true);
    check("Never", json!({}), 1, false);
    check("Never", json!({"restartPolicy": "Always"}), 1, true);
    let rules = json!({"restartPolicy": "Never", "restartPolicyRules":
        [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]});
    check("Never", rules.clone(), 42, true);
    check("Never", rules, 1, false);
}

#[test]
fn deletion_stops_what_runs_and_waits_for_what_starts() {
    let mut world = World::new(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    world.decide();
    world.started("a");
    assert_eq!(world.delete(7), ["stop a 7"]);
    assert_eq!(world.exited("a", 0), NONE);
    // The start was past the point where it can be given up.
    assert_eq!(world.started("b"), ["stop b 7"]);
    assert_eq!(world.exited("b", 137), ["tear down"]);
    assert_eq!(world.event(Event::TornDown), ["remove"]);
}

#[test]
fn what_an_earlier_process_left_is_stopped_when_its_sandbox_is_found() {
    let mut world = World::new(json!({"containers": [{"name": "a"}]}));
    world.decide();
    world.started("a");
    world.state.sandbox_ready = false;
    assert_eq!(world.delete(7), NONE);
    let ips = vec!["10.42.0.2".parse().expect("an address")];
    assert_eq!(world.event(Event::SandboxReady { ips }), ["stop a 7"]);
    assert_eq!(world.exited("a", 137), ["tear down"]);
}

#[test]
fn a_start_that_is_given_up_leaves_nothing_to_stop() {
    let mut world = World::new(json!({"containers": [{"name": "a"}]}));
    world.decide();
    assert_eq!(world.delete(7), NONE);
    assert_eq!(world.event(Event::StartCancelled { container: 0 }), ["tear down"]);
}

#[test]
fn the_deadline_ends_the_pod() {
    let mut world = World::new(json!({"activeDeadlineSeconds": 5, "containers": [{"name": "a"}]}));
    assert_eq!(world.decide(), ["start a"]);
    world.started("a");
    assert_eq!(world.wake, Some(world.now.saturating_add(SignedDuration::from_secs(5)).expect("in range")));
    world.pass(5);
    assert_eq!(world.decide(), ["stop a 30"]);
    assert_eq!(world.exited("a", 143), ["tear down"]);
    assert_eq!(world.state.termination(), Some(&Termination::DeadlineExceeded));
}

#[test]
fn a_failed_liveness_probe_restarts_the_container_only() {
    let mut world = World::new(json!({"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 3}));
    world.decide();
    world.started("a");
    let probe = |world: &World, grace_seconds| Event::Probe {
        id: world.id("a"),
        probe: ProbeKind::Liveness,
        success: false,
        grace_seconds,
    };
    let event = probe(&world, None);
    assert_eq!(world.event(event), ["stop a 3"]);
    let event = probe(&world, Some(1));
    assert_eq!(world.event(event), NONE);
    assert_eq!(world.exited("a", 137), ["start a"]);
}

#[test]
fn a_lost_supervisor_starts_the_containers_again() {
    let mut world = World::new(json!({"containers": [{"name": "a"}]}));
    world.decide();
    world.started("a");
    assert_eq!(world.event(Event::SandboxLost), ["start a"]);
}

#[test]
fn a_pull_that_failed_backs_off() {
    let mut world = World::new(json!({"containers": [{"name": "a", "image": "x"}]}));
    world.decide();
    let waiting = Waiting {
        reason: "ErrImagePull".into(),
        message: Some("why".into()),
        until: Some(world.now.saturating_add(SignedDuration::from_secs(2)).expect("in range")),
    };
    assert_eq!(world.event(Event::StartFailed { container: 0, waiting, image: true }), NONE);
    world.pass(2);
    assert_eq!(world.decide(), NONE);
    let Phase::Waiting(waiting) = &world.state.containers[0].phase else { panic!("it waits") };
    assert_eq!(waiting.reason, "ImagePullBackOff");
    assert_eq!(waiting.message.as_deref(), Some("Back-off pulling image \"x\": ErrImagePull: why"));
    world.pass(8);
    assert_eq!(world.decide(), ["start a"]);
    assert_eq!(world.state.containers[0].restart_count, 0);
}

#[test]
fn an_ephemeral_container_runs_once_and_holds_nothing_up() {
    let mut world = World::new(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}));
    assert_eq!(world.decide(), ["start i"]);
    let mut pod = (*world.state.pod).clone();
    let added = json!([{"name": "e"}, {"name": "t", "targetContainerName": "a"}]);
    let spec = pod.spec.as_mut().expect("a spec");
    spec.ephemeral_containers = serde_json::from_value(added).expect("containers");
    let pod = Arc::new(pod);
    // It need not wait for the others; only for the container that it is to look into.
    assert_eq!(world.event(Event::Pod(pod.clone())), ["start e"]);
    assert_eq!(world.event(Event::Pod(pod)), [""; 0]);
    world.started("i");
    assert_eq!(world.exited("i", 0), ["start a"]);
    assert_eq!(world.started("a"), ["start t"]);
    world.started("e");
    world.started("t");
    assert_eq!(world.exited("e", 1), [""; 0]);
    assert_eq!(crate::status::phase(&world.state), crate::status::PodPhase::Running);
    assert_eq!(world.delete(5), ["stop a 5", "stop t 5"]);
}
