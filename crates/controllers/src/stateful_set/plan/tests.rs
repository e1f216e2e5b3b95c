use serde_json::{Value, json};

use super::*;

fn set(replicas: i32, more: Value) -> StatefulSet {
    let mut spec = json!({"replicas": replicas, "serviceName": "svc", "selector": {"matchLabels": {"a": "b"}},
        "template": template("new"), "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    let set = json!({"metadata": {"name": "web", "namespace": "n", "uid": "s"}, "spec": spec});
    serde_json::from_value(set).expect("a set")
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// A pod as `ordinal`, revision, and `!` for one that is not ready, `-` for one that goes, `x` that failed.
fn pod(text: &str) -> Pod {
    let mut parts = text.split(' ');
    let (ordinal, revision) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let state = parts.next().unwrap_or_default();
    let phase = if state == "x" { "Failed" } else { "Running" };
    let ready = if state == "!" { "False" } else { "True" };
    let mut pod = json!({
        "metadata": {"name": format!("web-{ordinal}"), "uid": format!("u{ordinal}"),
            "labels": {"controller-revision-hash": revision,
                "statefulset.kubernetes.io/pod-name": format!("web-{ordinal}")}},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready,
            "lastTransitionTime": "2024-01-01T00:00:00Z"}]},
    });
    if state == "-" {
        pod["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
    }
    serde_json::from_value(pod).expect("a pod")
}

fn planned(set: &StatefulSet, pods: &[&str], claims: &[&str]) -> Plan {
    let (old, new) = (template("old"), template("new"));
    let (old, new): (PodTemplateSpec, PodTemplateSpec) =
        (serde_json::from_value(old).expect("a template"), serde_json::from_value(new).expect("a template"));
    let pods: Vec<Pod> = pods.iter().map(|text| pod(text)).collect();
    let claims = claims.iter().map(|name| {
        let claim = json!({"metadata": {"name": name}});
        ((*name).to_owned(), serde_json::from_value(claim).expect("a claim"))
    });
    plan(&Snapshot {
        set,
        current: Revision { name: "old", template: &old },
        update: Revision { name: "new", template: &new },
        collisions: 0,
        pods: &pods,
        claims: &claims.collect(),
        now: "2024-01-01T00:00:10Z".parse().expect("a time"),
    })
}

/// `+name revision` creates a pod, `+name` a claim, `-name` deletes, `name=kinds` owns a claim.
fn steps(set: &StatefulSet, pods: &[&str], claims: &[&str]) -> Vec<String> {
    let word = |action| match action {
        Action::Create(pod) => format!("+{} {}", name(&pod.metadata), identity::revision(&pod)),
        Action::CreateClaim(claim) => format!("+{}", name(&claim.metadata)),
        Action::Delete { name, .. } => format!("-{name}"),
        Action::Label { name, ordinal } => format!("{name} is {ordinal}"),
        Action::OwnClaim { name, owners } => {
            let kinds: Vec<String> = owners.into_iter().map(|owner| owner.kind).collect();
            format!("{name}={}", kinds.join(","))
        }
    };
    planned(set, pods, claims).actions.into_iter().map(word).collect()
}

fn check(set: &StatefulSet, pods: &[&str], expected: &[&str]) {
    assert_eq!(steps(set, pods, &[]), expected, "{pods:?}");
}

#[test]
fn pods_come_one_after_another() {
    let set = set(3, json!({}));
    check(&set, &[], &["+web-0 new"]);
    check(&set, &["0 new !"], &[]);
    check(&set, &["0 new"], &["+web-1 new"]);
    check(&set, &["0 new", "2 new"], &["+web-1 new"]);
    check(&set, &["0 new x"], &["-web-0"]);
    check(&set, &["0 new -", "1 new"], &[]);
    check(&set, &["0 new", "1 new", "2 new"], &[]);
}

#[test]
fn or_all_at_once() {
    let set = set(3, json!({"podManagementPolicy": "Parallel"}));
    check(&set, &[], &["+web-0 new", "+web-1 new", "+web-2 new"]);
    check(&set, &["1 new !"], &["+web-0 new", "+web-2 new"]);
    check(&set, &["0 new", "1 new", "2 new", "3 new", "4 new !"], &["-web-4", "-web-3"]);
}

#[test]
fn the_last_pod_goes_first() {
    let set = set(1, json!({}));
    check(&set, &["0 new", "1 new", "2 new"], &["-web-2"]);
    check(&set, &["0 new", "1 new", "2 new -"], &[]);
    check(&set, &["0 new !", "1 new"], &[]);
    // The first that is unhealthy may go, since nothing waits for it.
    check(&set, &["0 new", "1 new !"], &["-web-1"]);
    check(&set, &["0 new", "1 new", "2 new !"], &["-web-2"]);
    check(&set, &["0 new", "1 new !", "2 new !"], &[]);
}

#[test]
fn an_update_goes_from_the_last_to_the_first() {
    let plain = set(3, json!({}));
    check(&plain, &["0 old", "1 old", "2 old"], &["-web-2"]);
    check(&plain, &["0 old", "1 old"], &["+web-2 new"]);
    check(&plain, &["0 old", "1 old", "2 new !"], &[]);
    check(&plain, &["0 old", "1 old", "2 new"], &["-web-1"]);
    let partition = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    let partition = set(3, partition);
    check(&partition, &["0 old", "1 old", "2 old"], &["-web-2"]);
    check(&partition, &["0 old", "1 old", "2 new"], &[]);
    check(&partition, &["0 old", "2 new"], &["+web-1 old"]);
    let by_hand = set(3, json!({"updateStrategy": {"type": "OnDelete"}}));
    check(&by_hand, &["0 old", "1 old", "2 old"], &[]);
    check(&by_hand, &["0 old", "1 old"], &["+web-2 new"]);
    let two = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}});
    check(&set(3, two), &["0 old", "1 old", "2 old"], &["-web-2", "-web-1"]);
}

#[test]
fn ordinals_may_start_elsewhere() {
    let set = set(2, json!({"ordinals": {"start": 5}}));
    check(&set, &[], &["+web-5 new"]);
    check(&set, &["5 new"], &["+web-6 new"]);
    check(&set, &["0 new", "5 new", "6 new"], &["-web-0"]);
}

#[test]
fn pods_have_names_and_claims_of_their_own() {
    let set = set(1, json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}}]}));
    assert_eq!(steps(&set, &[], &[]), ["+data-web-0", "+web-0 new"]);
    assert_eq!(steps(&set, &[], &["data-web-0"]), ["+web-0 new"]);
    let planned = planned(&set, &[], &[]);
    let Some(Action::Create(pod)) = planned.actions.last() else { panic!("a pod is created") };
    let spec = pod.spec.as_ref().expect("a spec");
    assert_eq!((spec.hostname.as_deref(), spec.subdomain.as_deref()), (Some("web-0"), Some("svc")));
    let claim = spec.volumes.as_ref().and_then(|all| all[0].persistent_volume_claim.as_ref());
    assert_eq!(claim.map(|claim| claim.claim_name.as_str()), Some("data-web-0"));
    let labels = pod.metadata.labels.as_ref().expect("labels");
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "web-0");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "0");
}

#[test]
fn an_adopted_pod_is_labelled() {
    let set = set(1, json!({}));
    let mut bare = pod("0 new");
    bare.metadata.labels.as_mut().expect("labels").remove("statefulset.kubernetes.io/pod-name");
    assert!(!identity::is_labelled(&bare));
    assert!(identity::is_labelled(&pod("0 new")));
    check(&set, &["0 new"], &[]);
}

#[test]
fn claims_are_kept_or_go_with_the_set_or_the_pod() {
    let policy = |deleted: &str, scaled: &str| {
        set(
            1,
            json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}}],
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}),
        )
    };
    let check = |deleted: &str, scaled: &str, expected: &[&str]| {
        let steps = steps(&policy(deleted, scaled), &["0 new", "1 new"], &["data-web-0", "data-web-1"]);
        assert_eq!(steps, expected, "{deleted} {scaled}");
    };
    check("Retain", "Retain", &["-web-1"]);
    check("Delete", "Retain", &["data-web-0=StatefulSet", "data-web-1=StatefulSet", "-web-1"]);
    check("Retain", "Delete", &["data-web-1=Pod", "-web-1"]);
    check("Delete", "Delete", &["data-web-0=StatefulSet", "data-web-1=Pod", "-web-1"]);
}

#[test]
fn the_status_counts_revisions_and_completes() {
    let counts = |pods: &[&str]| {
        let status = planned(&set(2, json!({})), pods, &[]).status;
        let revision = status.current_revision.unwrap_or_default();
        (status.replicas, status.ready_replicas, status.current_replicas, status.updated_replicas, revision)
    };
    assert_eq!(counts(&["0 old", "1 new !"]), (2, Some(1), Some(1), Some(1), "old".to_owned()));
    assert_eq!(counts(&["0 new", "1 new"]), (2, Some(2), Some(2), Some(2), "new".to_owned()));
    let late = set(2, json!({"minReadySeconds": 30}));
    let planned = planned(&late, &["0 new"], &[]);
    assert_eq!((planned.status.available_replicas, planned.again), (Some(0), Some(Duration::from_secs(20))));
    assert_eq!(planned.actions, []);
}
