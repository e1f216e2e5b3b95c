use serde_json::{Value, json};

use super::*;

fn deployment(replicas: i32, image: &str, more: Value) -> Deployment {
    let mut spec = json!({"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": "d", "uid": "d"}, "spec": spec}))
        .expect("a deployment")
}

fn set(image: &str, replicas: i32, available: i32, revision: i64, desired: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": image, "uid": image, "creationTimestamp": format!("2024-01-01T00:00:{revision:02}Z"),
            "annotations": {REVISION: revision.to_string(), DESIRED: desired.to_string(), MAXIMUM: (desired + 1).to_string()}},
        "spec": {"replicas": replicas, "selector": {},
            "template": {"metadata": {"labels": {"a": "b", "pod-template-hash": image}},
                "spec": {"containers": [{"name": "c", "image": image}]}}},
        "status": {"replicas": replicas, "availableReplicas": available, "readyReplicas": available}}))
    .expect("a set")
}

/// The steps in short: `+n` creates, `name=n` scales, `rN` shows a revision, `-name` deletes.
fn steps(deployment: &Deployment, sets: &[ReplicaSet], old_pods_left: bool) -> Vec<String> {
    let shown = plan(deployment, sets, old_pods_left).into_iter().filter_map(|action| match action {
        Action::Create { replicas, .. } => Some(format!("+{replicas}")),
        Action::Scale { name, to, .. } => Some(format!("{name}={to}")),
        Action::Annotate { .. } => None,
        Action::SetRevision(revision) => Some(format!("r{revision}")),
        Action::Delete { name, .. } => Some(format!("-{name}")),
    });
    shown.collect()
}

#[test]
fn a_new_deployment_creates_its_set() {
    assert_eq!(steps(&deployment(3, "v1", json!({})), &[], false), ["+3", "r1"]);
}

#[test]
fn a_rollout_goes_step_by_step_within_its_bounds() {
    // 4 replicas, 25 %: at most 5, at least 3 available.
    let wanted = deployment(4, "v2", json!({}));
    assert_eq!(steps(&wanted, &[set("v1", 4, 4, 1, 4)], false), ["+1", "r2"]);
    let check = |new: (i32, i32), old: (i32, i32), expected: &[&str]| {
        let sets = [set("v1", old.0, old.1, 1, 4), set("v2", new.0, new.1, 2, 4)];
        let moves: Vec<String> =
            steps(&wanted, &sets, false).into_iter().filter(|step| !step.starts_with('r')).collect();
        assert_eq!(moves, expected, "new {new:?} old {old:?}");
    };
    check((1, 0), (4, 4), &["v1=3"]);
    check((1, 0), (3, 3), &["v2=2"]);
    check((2, 0), (3, 3), &[]);
    check((2, 1), (3, 3), &["v1=2"]);
    check((4, 3), (1, 1), &["v1=0"]);
    check((4, 4), (0, 0), &[]);
    // Old pods that do not serve go first, all of them.
    check((1, 0), (4, 2), &["v1=3"]);
}

#[test]
fn nothing_is_lost_when_nothing_may_be_unavailable() {
    let strategy =
        json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}});
    let wanted = deployment(2, "v2", strategy);
    let step = |new: (i32, i32), old: i32| {
        let sets = [set("v1", old, old, 1, 2), set("v2", new.0, new.1, 2, 2)];
        steps(&wanted, &sets, false).into_iter().filter(|step| !step.starts_with('r')).collect::<Vec<_>>()
    };
    assert!(step((1, 0), 2).is_empty());
    assert_eq!(step((1, 1), 2), ["v1=1"]);
    assert_eq!(step((1, 1), 1), ["v2=2"]);
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let wanted = deployment(2, "v2", json!({"strategy": {"type": "Recreate"}}));
    assert_eq!(steps(&wanted, &[set("v1", 2, 2, 1, 2)], true), ["v1=0"]);
    assert!(steps(&wanted, &[set("v1", 0, 0, 1, 2)], true).is_empty());
    assert_eq!(steps(&wanted, &[set("v1", 0, 0, 1, 2)], false), ["+2", "r2"]);
}

#[test]
fn going_back_reuses_the_old_set_under_a_new_revision() {
    let wanted = deployment(2, "v1", json!({}));
    let sets = [set("v1", 0, 0, 1, 2), set("v2", 2, 2, 2, 2)];
    let actions = plan(&wanted, &sets, false);
    assert!(actions.contains(&Action::SetRevision("3".into())), "{actions:?}");
    let annotated = actions.iter().any(|action| {
        matches!(action, Action::Annotate { annotations, .. }
        if annotations.get(REVISION).map(String::as_str) == Some("3")
            && annotations.get(REVISION_HISTORY).map(String::as_str) == Some("1"))
    });
    assert!(annotated, "{actions:?}");
}

#[test]
fn a_paused_deployment_scales_and_does_not_roll() {
    let wanted = deployment(5, "v2", json!({"paused": true}));
    assert_eq!(steps(&wanted, &[set("v1", 2, 2, 1, 2)], false), ["v1=5"]);
}

#[test]
fn scaling_within_a_rollout_keeps_the_shares() {
    let wanted = deployment(20, "v2", json!({}));
    let sets = [set("v1", 6, 6, 1, 10), set("v2", 5, 5, 2, 10)];
    let scaled = steps(&wanted, &sets, false);
    let total: i32 = scaled
        .iter()
        .map(|step| step.split_once('=').expect("scaled").1.parse::<i32>().expect("a number"))
        .sum();
    assert_eq!(total, 25, "{scaled:?}");
}

#[test]
fn history_is_kept_up_to_its_limit() {
    let wanted = deployment(1, "v4", json!({"revisionHistoryLimit": 1}));
    let sets = [set("v1", 0, 0, 1, 1), set("v2", 0, 0, 2, 1), set("v3", 0, 0, 3, 1), set("v4", 1, 1, 4, 1)];
    let deleted: Vec<String> =
        steps(&wanted, &sets, false).into_iter().filter(|step| step.starts_with('-')).collect();
    assert_eq!(deleted, ["-v1", "-v2"]);
}

#[test]
fn percentages_round_in_favour_of_progress() {
    let bounds = Bounds::of(&deployment(10, "v1", json!({})));
    assert_eq!((bounds.surge, bounds.unavailable), (3, 2));
    let none = json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}});
    assert_eq!(Bounds::of(&deployment(10, "v1", none)).unavailable, 1);
}
