use serde_json::json;

use super::*;
use crate::fixtures::pod;

fn waiting(name: &str, priority: i32, created: &str) -> Arc<PodInfo> {
    pod(name, json!({ "metadata": { "creationTimestamp": created }, "spec": { "priority": priority } }))
}

fn names(queue: &mut Queue, now: Instant) -> Vec<Box<str>> {
    std::iter::from_fn(|| queue.next(now)).map(|pod| pod.name.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn priority_comes_first_and_then_age() {
    let mut queue = Queue::default();
    queue.set(waiting("young", 0, "2026-01-02T00:00:00Z"));
    queue.set(waiting("old", 0, "2026-01-01T00:00:00Z"));
    queue.set(waiting("urgent", 9, "2026-01-03T00:00:00Z"));
    queue.set(pod("gated", json!({ "spec": { "schedulingGates": [{ "name": "g" }] } })));
    let now = Instant::now();
    assert_eq!(names(&mut queue, now), ["urgent".into(), "old".into(), Box::from("young")]);
    queue.set(pod("gated", json!({})));
    assert_eq!(names(&mut queue, now), [Box::from("gated")], "its gates are gone");
}

#[tokio::test(start_paused = true)]
async fn a_refused_pod_waits_for_the_right_event_and_its_backoff() {
    let mut queue = Queue::default();
    let start = Instant::now();
    queue.set(waiting("p", 0, ""));
    for (attempt, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (6, 10)] {
        let now = start + Duration::from_secs(attempt * 100);
        assert_eq!(names(&mut queue, now).len(), 1);
        queue.refused("p", Refusers::NODE_RESOURCES_FIT, now);
        queue.wake(Refusers::TAINT_TOLERATION, now);
        assert_eq!(queue.due(), None, "taints do not matter to it");
        queue.wake(Refusers::NODE_RESOURCES_FIT.and(Refusers::NODE_PORTS), now);
        assert_eq!(queue.due(), Some(now + Duration::from_secs(seconds)));
        assert!(names(&mut queue, now).is_empty());
    }
    queue.remove("p");
    assert!(queue.is_empty() && queue.due().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_update_that_matters_ends_the_wait() {
    let mut queue = Queue::default();
    let now = Instant::now();
    queue.set(waiting("p", 0, ""));
    names(&mut queue, now);
    queue.refused("p", Refusers::NODE_AFFINITY, now);
    queue.set(pod("p", json!({ "status": { "nominatedNodeName": "a" }, "spec": { "priority": 0 } })));
    assert!(names(&mut queue, now).is_empty(), "its status does not matter");
    queue.set(pod("p", json!({ "metadata": { "labels": { "k": "v" } }, "spec": { "priority": 0 } })));
    assert_eq!(names(&mut queue, now).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_counted_by_what_for() {
    let mut queue = Queue::default();
    let now = Instant::now();
    for name in ["a", "b", "c"] {
        queue.set(waiting(name, 0, "2026-01-01T00:00:00Z"));
    }
    queue.set(pod("gated", json!({ "spec": { "schedulingGates": [{ "name": "g" }] } })));
    let first = queue.next(now).expect("three are ready");
    let second = queue.next(now).expect("two are ready");
    queue.refused(&first.uid, Refusers::NODE_RESOURCES_FIT, now);
    queue.failed(&second.uid, now);
    assert_eq!(queue.counts(), Counts { active: 1, backoff: 1, unschedulable: 1, gated: 1 });
    queue.wake(Refusers::ALL, now);
    assert_eq!(queue.counts(), Counts { active: 1, backoff: 2, unschedulable: 0, gated: 1 });
    queue.next(now);
    queue.set(waiting("gated", 0, "2026-01-01T00:00:00Z"));
    assert_eq!(queue.counts(), Counts { active: 1, backoff: 2, unschedulable: 0, gated: 0 });
}
