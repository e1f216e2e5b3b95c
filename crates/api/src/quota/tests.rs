use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn quota(name: &str, spec: Value, used: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": spec, "status": {"hard": spec["hard"], "used": used}})
}

fn pod(cpu: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

/// What a creation is answered: the error, or the used amounts of each charged quota.
fn check(quotas: &[Value], group: &str, resource: &str, object: &Value, expected: Result<Value, &str>) {
    let charged = charge(quotas, &Evaluator::new(group, resource), object, None, now());
    let charged = charged
        .map(|charges| Value::from(charges.iter().map(|charge| to_json(&charge.used)).collect::<Vec<_>>()));
    assert_eq!(charged, expected.map_err(str::to_owned), "{object}");
}

#[test]
fn creations_are_charged_or_refused() {
    let five = [quota("q", json!({"hard": {"pods": "5"}}), json!({"pods": "4"}))];
    check(&five, "", "pods", &pod("1"), Ok(json!([{"pods": "5"}])));
    check(&five, "", "secrets", &json!({}), Ok(json!([])));
    let full = [quota("q", json!({"hard": {"pods": "5", "cpu": "1"}}), json!({"pods": "5", "cpu": "500m"}))];
    let why = "exceeded quota: q, requested: cpu=1,pods=1, used: cpu=500m,pods=5, limited: cpu=1,pods=5";
    check(&full, "", "pods", &pod("1"), Err(why));
    let silent =
        json!({"spec": {"containers": [{"name": "c"}, {"name": "b"}], "initContainers": [{"name": "a"}]}});
    check(&full, "", "pods", &silent, Err("failed quota: q: must specify cpu for: a,b,c"));
    let both = [quota("q", json!({"hard": {"limits.memory": "1", "cpu": "1"}}), json!({}))];
    let why = "failed quota: q: must specify cpu for: c; limits.memory for: c";
    check(&both, "", "pods", &json!({"spec": {"containers": [{"name": "c"}]}}), Err(why));
    let unknown = [quota("q", json!({"hard": {"pods": "5", "cpu": "1"}}), json!({"pods": "1"}))];
    check(&unknown, "", "pods", &pod("1"), Err("status unknown for quota: q, resources: cpu,pods"));
    let objects = [quota(
        "q",
        json!({"hard": {"count/widgets.example.com": "1", "secrets": "1"}}),
        json!({"count/widgets.example.com": "0", "secrets": "0"}),
    )];
    check(
        &objects,
        "example.com",
        "widgets",
        &json!({}),
        Ok(json!([{"count/widgets.example.com": "1", "secrets": "0"}])),
    );
    check(
        &objects,
        "",
        "secrets",
        &json!({}),
        Ok(json!([{"count/widgets.example.com": "0", "secrets": "1"}])),
    );
}

#[test]
fn every_kind_uses_what_it_uses() {
    let check = |group: &str, resource: &str, object: Value, expected: Value| {
        assert_eq!(to_json(&Evaluator::new(group, resource).usage(&object, now())), expected, "{object}");
    };
    check(
        "",
        "pods",
        json!({"spec": {"containers": [{"resources": {
        "requests": {"cpu": "1", "hugepages-2Mi": "2Mi", "example.com/gpu": "2"}, "limits": {"memory": "1Gi"}}}]}}),
        json!({"count/pods": "1", "pods": "1", "cpu": "1", "requests.cpu": "1", "hugepages-2Mi": "2Mi",
            "requests.hugepages-2Mi": "2Mi", "requests.example.com/gpu": "2", "limits.memory": "1Gi"}),
    );
    check("", "pods", json!({"status": {"phase": "Failed"}}), json!({"count/pods": "1"}));
    check(
        "",
        "pods",
        json!({"metadata": {"deletionTimestamp": "2025-12-31T23:59:00Z", "deletionGracePeriodSeconds": 30}}),
        json!({"count/pods": "1"}),
    );
    check(
        "",
        "services",
        json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}}),
        json!({"count/services": "1", "services": "1", "services.nodeports": "2", "services.loadbalancers": "1"}),
    );
    check(
        "",
        "services",
        json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
        "ports": [{"nodePort": 30000}, {}]}}),
        json!({"count/services": "1", "services": "1", "services.nodeports": "1", "services.loadbalancers": "1"}),
    );
    check(
        "",
        "persistentvolumeclaims",
        json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}),
        json!({"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "1Gi",
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
            "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}),
    );
    check(
        "resource.k8s.io",
        "resourceclaims",
        json!({"spec": {"devices": {"requests": [
        {"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
        {"firstAvailable": [{"deviceClassName": "gpu", "count": 1}, {"deviceClassName": "gpu", "allocationMode": "All"}]}]}}}),
        json!({"count/resourceclaims.resource.k8s.io": "1", "gpu.deviceclass.resource.k8s.io/devices": "34"}),
    );
}

#[test]
fn scopes_choose_objects() {
    let pods = Evaluator::new("", "pods");
    let check = |spec: Value, pod: Value, expected: bool| {
        assert_eq!(pods.in_scope(&json!({"spec": spec}), &pod), expected, "{spec} {pod}");
    };
    let deadline = json!({"spec": {"activeDeadlineSeconds": 5}});
    check(json!({}), deadline.clone(), true);
    check(json!({"scopes": ["Terminating"]}), deadline.clone(), true);
    check(json!({"scopes": ["NotTerminating"]}), deadline, false);
    check(json!({"scopes": ["BestEffort"]}), json!({"spec": {}}), true);
    check(json!({"scopes": ["NotBestEffort"]}), pod("1"), true);
    check(json!({"scopes": ["BestEffort", "Terminating"]}), json!({"spec": {}}), false);
    let priority = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
    let high = json!({"spec": {"priorityClassName": "high"}});
    check(priority("In", json!(["high"])), high.clone(), true);
    check(priority("In", json!(["low"])), high.clone(), false);
    check(priority("NotIn", json!(["low"])), high.clone(), true);
    check(priority("NotIn", json!(["low"])), json!({}), true);
    check(priority("Exists", json!([])), high.clone(), true);
    check(priority("DoesNotExist", json!([])), high, false);
    let term = json!({"spec": {"affinity": {"podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaces": ["n"]}}]}}}});
    check(json!({"scopes": ["CrossNamespacePodAffinity"]}), term, true);
    check(json!({"scopes": ["CrossNamespacePodAffinity"]}), json!({"spec": {"affinity": {}}}), false);
    assert!(
        !Evaluator::new("", "secrets").in_scope(&json!({"spec": {"scopes": ["Terminating"]}}), &json!({}))
    );
    let gold = json!({"spec": {"scopeSelector": {"matchExpressions": [
        {"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["gold"]}]}}});
    let claims = Evaluator::new("", "persistentvolumeclaims");
    assert!(claims.in_scope(&gold, &json!({"status": {"currentVolumeAttributesClassName": "gold"}})));
    assert!(!claims.in_scope(&gold, &json!({"spec": {"volumeAttributesClassName": "silver"}})));
}

#[test]
fn updates_are_charged_what_they_add() {
    let services = Evaluator::new("", "services");
    let quotas = [quota(
        "q",
        json!({"hard": {"services": "1", "services.nodeports": "1"}}),
        json!({"services": "1", "services.nodeports": "0"}),
    )];
    let inside = json!({"spec": {"type": "ClusterIP", "ports": [{}]}});
    let outside = json!({"spec": {"type": "NodePort", "ports": [{}]}});
    let charges = charge(&quotas, &services, &outside, Some(&inside), now()).expect("fits");
    assert_eq!(to_json(&charges[0].used), json!({"services": "1", "services.nodeports": "1"}));
    assert_eq!(charge(&quotas, &services, &inside, Some(&outside), now()), Ok(Vec::new()));
    assert!(services.handles(Written::Update { subresource: "" }));
    assert!(!services.handles(Written::Update { subresource: "status" }));
}

#[test]
fn a_namespace_is_counted() {
    let counted = json!({"spec": {"hard": {"pods": "5", "requests.cpu": "2", "secrets": "1"}}});
    let pods = [pod("500m"), pod("1"), json!({"status": {"phase": "Succeeded"}})];
    let used = usage(&counted, &Evaluator::new("", "pods"), pods.iter(), now());
    assert_eq!(to_json(&used), json!({"pods": "2", "requests.cpu": "1500m"}));
}
