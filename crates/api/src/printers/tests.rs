use super::*;
use crate::table::Table;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().expect("a time")
}

fn check(group: &str, version: &str, resource: &str, object: Value, expected: &[&str]) {
    let table = Table::builtin();
    let def = table.get(group, version, resource).expect(resource);
    let cells = cells(def, &object, now());
    let shown: Vec<String> =
        cells.iter().map(|cell| cell.as_str().map_or(cell.to_string(), str::to_owned)).collect();
    assert_eq!(shown, expected, "{resource}: {object}");
    assert_eq!(columns(def).as_array().map(Vec::len), Some(expected.len()));
}

/// Name, readiness, status and restarts of a pod with the given specification and status.
fn check_pod(mut pod: Value, ready: &str, status: &str, restarts: &str) {
    pod["metadata"]["name"] = "p".into();
    pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    check(
        "",
        "v1",
        "pods",
        pod,
        &["p", ready, status, restarts, "60m", "<none>", "<none>", "<none>", "<none>"],
    );
}

#[test]
fn pods_tell_their_state() {
    let one = |state: Value| json!({"spec": {"containers": [{}]}, "status": {"phase": "Running", "containerStatuses": [state]}});
    check_pod(json!({}), "0/0", "", "0");
    check_pod(one(json!({"ready": true, "state": {"running": {}}})), "1/1", "Running", "0");
    check_pod(
        one(json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 2,
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:55Z"}}})),
        "0/1",
        "CrashLoopBackOff",
        "2 (5s ago)",
    );
    check_pod(one(json!({"state": {"terminated": {"exitCode": 3}}})), "0/1", "ExitCode:3", "0");
    check_pod(one(json!({"state": {"terminated": {"signal": 9, "exitCode": 137}}})), "0/1", "Signal:9", "0");
    check_pod(one(json!({"state": {"terminated": {"reason": "OOMKilled"}}})), "0/1", "OOMKilled", "0");
    let mut terminating = one(json!({"ready": true, "state": {"running": {}}}));
    terminating["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    check_pod(terminating.clone(), "1/1", "Terminating", "0");
    terminating["status"]["reason"] = "NodeLost".into();
    check_pod(terminating, "1/1", "Unknown", "0");
    check_pod(
        json!({"spec": {"containers": [{}]}, "status": {"phase": "Pending", "conditions":
        [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}}),
        "0/1",
        "SchedulingGated",
        "0",
    );
    // One container is done, the other runs.
    check_pod(
        json!({"spec": {"containers": [{}, {}]}, "status": {"phase": "Running", "containerStatuses": [
        {"state": {"terminated": {"reason": "Completed"}}}, {"ready": true, "state": {"running": {}}}]}}),
        "1/2",
        "NotReady",
        "0",
    );
}

#[test]
fn pods_tell_their_initialization() {
    let init = |spec: Value, state: Value| {
        json!({"spec": {"containers": [{}], "initContainers": [spec, {"name": "b"}]},
            "status": {"phase": "Pending", "initContainerStatuses": [state]}})
    };
    let plain = json!({"name": "a"});
    check_pod(init(plain.clone(), json!({"name": "a", "state": {"running": {}}})), "0/1", "Init:0/2", "0");
    check_pod(
        init(
            plain.clone(),
            json!({"name": "a", "restartCount": 4, "state": {"waiting":
        {"reason": "CrashLoopBackOff"}}}),
        ),
        "0/1",
        "Init:CrashLoopBackOff",
        "4",
    );
    check_pod(
        init(plain.clone(), json!({"name": "a", "state": {"terminated": {"exitCode": 1}}})),
        "0/1",
        "Init:ExitCode:1",
        "0",
    );
    check_pod(
        init(plain, json!({"name": "a", "state": {"terminated": {"exitCode": 0}}})),
        "0/1",
        "Pending",
        "0",
    );
    check_pod(
        init(
            json!({"name": "a", "restartPolicy": "Always"}),
            json!({"name": "a", "started": true, "ready": true, "restartCount": 1}),
        ),
        "1/2",
        "Pending",
        "1",
    );
}

#[test]
fn kinds_print_as_upstream() {
    let metadata = json!({"name": "x", "creationTimestamp": "2026-01-01T00:59:30Z"});
    let object = |rest: Value| {
        let mut object = rest;
        object["metadata"] = metadata.clone();
        object
    };
    let template =
        json!({"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}});
    check(
        "apps",
        "v1",
        "deployments",
        object(json!({"spec": {"replicas": 3, "template": template,
        "selector": {"matchLabels": {"z": "1"}, "matchExpressions":
            [{"key": "a", "operator": "In", "values": ["2", "1"]}]}},
        "status": {"readyReplicas": 2, "updatedReplicas": 1}})),
        &["x", "2/3", "1", "0", "30s", "a,b", "i,j", "a in (1,2),z=1"],
    );
    check(
        "batch",
        "v1",
        "jobs",
        object(json!({"spec": {"completions": 2}, "status": {"succeeded": 1,
        "startTime": "2026-01-01T00:59:30Z"}})),
        &["x", "Running", "1/2", "30s", "30s", "", "", "<none>"],
    );
    check(
        "batch",
        "v1",
        "cronjobs",
        object(json!({"spec": {"schedule": "* * * * *", "suspend": false}})),
        &["x", "* * * * *", "<none>", "False", "0", "<none>", "30s", "", "", "<none>"],
    );
    check(
        "",
        "v1",
        "services",
        object(json!({"spec": {"type": "NodePort", "clusterIPs": ["10.0.0.1"],
        "ports": [{"port": 80, "nodePort": 30000, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}})),
        &["x", "NodePort", "10.0.0.1", "<none>", "80:30000/TCP,53/UDP", "30s", "<none>"],
    );
    check(
        "",
        "v1",
        "endpoints",
        object(json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "::1"}],
        "ports": [{"port": 1}, {"port": 2}]}]})),
        &["x", "1.1.1.1:1,[::1]:1,1.1.1.1:2 + 1 more...", "30s"],
    );
    check(
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        object(json!({"addressType": "IPv4"})),
        &["x", "IPv4", "<unset>", "<unset>", "30s"],
    );
    check(
        "networking.k8s.io",
        "v1",
        "ingresses",
        object(json!({"spec": {"rules": [{"host": "a"}, {}], "tls": [{}]}})),
        &["x", "<none>", "a", "", "80, 443", "30s"],
    );
    check(
        "networking.k8s.io",
        "v1",
        "ipaddresses",
        object(json!({"spec": {"parentRef":
        {"resource": "services", "namespace": "n", "name": "s"}}})),
        &["x", "services/n/s", "30s"],
    );
    check(
        "",
        "v1",
        "nodes",
        json!({"metadata": {"name": "x", "labels": {"node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        &[
            "x",
            "Ready,SchedulingDisabled",
            "control-plane",
            "<unknown>",
            "",
            "<none>",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>",
        ],
    );
    check(
        "",
        "v1",
        "events",
        object(json!({"type": "Normal", "reason": "Started", "message": "m\n",
        "involvedObject": {"kind": "Pod", "name": "p"}, "lastTimestamp": "2026-01-01T00:59:00Z",
        "source": {"component": "kubelet", "host": "h"}})),
        &["60s", "Normal", "Started", "pod/p", "", "kubelet, h", "m", "<unknown>", "1", "x"],
    );
    check(
        "events.k8s.io",
        "v1",
        "events",
        object(json!({"note": "m", "regarding": {"kind": "Pod"},
        "eventTime": "2026-01-01T00:59:00.000000Z", "reportingController": "c"})),
        &["60s", "", "", "pod", "", "c", "m", "60s", "1", "x"],
    );
    check(
        "",
        "v1",
        "configmaps",
        object(json!({"data": {"a": ""}, "binaryData": {"b": ""}})),
        &["x", "2", "30s"],
    );
    check(
        "",
        "v1",
        "resourcequotas",
        object(json!({"status": {"hard": {"pods": "4", "limits.cpu": "2"},
        "used": {"pods": "1"}}})),
        &["x", "30s", "pods: 1/4", "limits.cpu: 0/2"],
    );
    check(
        "rbac.authorization.k8s.io",
        "v1",
        "rolebindings",
        object(json!({"roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "namespace": "n", "name": "s"}, {"kind": "User", "name": "u"}]})),
        &["x", "Role/r", "30s", "u", "", "n/s"],
    );
    check("rbac.authorization.k8s.io", "v1", "roles", object(json!({})), &["x", "2026-01-01T00:59:30Z"]);
    check(
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        object(json!({"spec": {"maxReplicas": 5,
        "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "metrics": [{"type": "Resource", "resource":
            {"name": "cpu", "target": {"averageUtilization": 80}}}]}})),
        &["x", "Deployment/d", "cpu: <unknown>/80%", "<unset>", "5", "0", "30s"],
    );
    check(
        "policy",
        "v1",
        "poddisruptionbudgets",
        object(json!({"spec": {"minAvailable": "50%"}})),
        &["x", "50%", "N/A", "0", "30s"],
    );
    check(
        "",
        "v1",
        "persistentvolumeclaims",
        object(json!({"spec": {"volumeName": "v", "storageClassName": "c"},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}})),
        &["x", "Bound", "v", "1Gi", "RWO", "c", "<unset>", "30s", "<unset>"],
    );
    check(
        "storage.k8s.io",
        "v1",
        "storageclasses",
        object(json!({"provisioner": "p"})),
        &["x", "p", "Delete", "Immediate", "false", "30s"],
    );
}

#[test]
fn any_shape_prints() {
    for def in Table::builtin().entries() {
        let count = columns(def).as_array().map(Vec::len);
        assert!(count >= Some(2), "{}", def.kind);
        for shape in [
            json!(null),
            json!([]),
            json!({"spec": 1, "status": [], "metadata": "x"}),
            json!({"spec": {"ports": {}, "metrics": [1], "rules": [null]}, "subsets": [1], "status": {"conditions": [7]}}),
        ] {
            assert_eq!(Some(cells(def, &shape, now()).len()), count, "{}: {shape}", def.kind);
        }
    }
}

#[test]
fn durations_are_short() {
    for (seconds, expected) in [
        (-5, "<invalid>"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (310, "5m10s"),
        (601, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (28_800, "8h"),
        (172_800, "2d"),
        (180_000, "2d2h"),
        (864_000, "10d"),
    ] {
        assert_eq!(duration(seconds), expected, "{seconds}");
    }
}

#[test]
fn rows_of_pods_that_ended_say_so() {
    let table = crate::table::Table::builtin();
    let check = |resource: &str, phase: &str, expected: Option<&str>| {
        let def = table.by_name(resource).expect("a resource");
        let conditions = row_conditions(def, &serde_json::json!({"status": {"phase": phase}}));
        assert_eq!(conditions.map(|all| all[0]["reason"].clone()), expected.map(Value::from), "{resource}");
    };
    check("pods", "Succeeded", Some("Succeeded"));
    check("pods", "Failed", Some("Failed"));
    check("pods", "Running", None);
    check("namespaces", "Failed", None);
}
