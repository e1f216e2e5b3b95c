use super::*;
use proptest::prelude::*;

#[track_caller]
fn check(group: &str, version: &str, kind: &str, mut value: Value, expected: Value) {
    apply(group, version, kind, &mut value);
    assert_eq!(value, expected, "{group}/{version} {kind}");
    apply(group, version, kind, &mut value);
    assert_eq!(value, expected, "{group}/{version} {kind}, again");
}

fn pod_spec(container: Value) -> Value {
    json!({
        "containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
        "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler",
    })
}

fn container(name: &str, policy: &str) -> Value {
    json!({
        "name": name, "image": name, "imagePullPolicy": policy, "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    })
}

#[test]
fn templates_and_pods() {
    let written = json!({"spec": {"containers": [{"name": "a", "image": "a"}]}});
    let mut expected = json!({"spec": pod_spec(container("a", "Always"))});
    check("", "v1", "PodTemplate", json!({"template": written}), json!({"template": expected}));
    expected["spec"]["enableServiceLinks"] = json!(true);
    check("", "v1", "Pod", written.clone(), expected);
    for (group, kind, path) in [
        ("apps", "Deployment", "/spec/template"),
        ("apps", "ReplicaSet", "/spec/template"),
        ("apps", "StatefulSet", "/spec/template"),
        ("apps", "DaemonSet", "/spec/template"),
        ("batch", "Job", "/spec/template"),
        ("batch", "CronJob", "/spec/jobTemplate/spec/template"),
        ("", "ReplicationController", "/spec/template"),
    ] {
        let mut value =
            json!({"spec": {"template": written, "jobTemplate": {"spec": {"template": written}}}});
        apply(group, "v1", kind, &mut value);
        assert_eq!(value.pointer(path), Some(&json!({"spec": pod_spec(container("a", "Always"))})), "{kind}");
    }
}

#[test]
fn containers() {
    let mut pod = json!({"spec": {"hostNetwork": true, "serviceAccount": "x", "containers": [{
        "name": "a", "image": "a:1", "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
        "livenessProbe": {"httpGet": {"port": 80}, "periodSeconds": 3},
        "readinessProbe": {"grpc": {"port": 1}},
        "lifecycle": {"preStop": {"httpGet": {"port": 1, "path": "/x"}}},
        "resources": {"limits": {"cpu": 0.5, "memory": "1024Ki"}, "requests": {"cpu": "0.1"}},
    }]}});
    apply("", "v1", "Pod", &mut pod);
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["ports"], json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]));
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
    assert_eq!(container["env"][1]["valueFrom"]["resourceFieldRef"]["divisor"], "0");
    assert_eq!(
        container["livenessProbe"],
        json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 3, "successThreshold": 1, "failureThreshold": 3})
    );
    assert_eq!(container["readinessProbe"]["grpc"], json!({"port": 1, "service": ""}));
    assert_eq!(
        container["lifecycle"]["preStop"]["httpGet"],
        json!({"port": 1, "path": "/x", "scheme": "HTTP"})
    );
    assert_eq!(
        container["resources"],
        json!({"limits": {"cpu": "500m", "memory": "1Mi"}, "requests": {"cpu": "100m", "memory": "1Mi"}})
    );
    assert_eq!(pod["spec"]["serviceAccountName"], "x");
}

#[test]
fn pull_policies_follow_the_tag() {
    for (image, policy) in [
        ("a", "Always"),
        ("a:latest", "Always"),
        ("a:1", "IfNotPresent"),
        ("r:5000/a", "Always"),
        ("r:5000/a:1", "IfNotPresent"),
        ("a@sha256:00", "IfNotPresent"),
        ("a:latest@sha256:00", "Always"),
        ("", "IfNotPresent"),
    ] {
        assert_eq!(pod::pull_policy(image), policy, "{image}");
    }
}

#[test]
fn volumes() {
    for (written, expected) in [
        (json!({"name": "a"}), json!({"name": "a", "emptyDir": {}})),
        (json!({"name": "a", "secret": {}}), json!({"name": "a", "secret": {"defaultMode": 420}})),
        (
            json!({"name": "a", "hostPath": {"path": "/"}}),
            json!({"name": "a", "hostPath": {"path": "/", "type": ""}}),
        ),
        (
            json!({"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
            json!({"name": "a", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}}),
        ),
        (
            json!({"name": "a", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}),
            json!({"name": "a", "ephemeral": {"volumeClaimTemplate": {"spec": {"volumeMode": "Filesystem", "resources": {}}}}}),
        ),
        (
            json!({"name": "a", "emptyDir": {"sizeLimit": "1024Mi"}}),
            json!({"name": "a", "emptyDir": {"sizeLimit": "1Gi"}}),
        ),
    ] {
        let mut pod = json!({"spec": {"volumes": [written]}});
        apply("", "v1", "Pod", &mut pod);
        assert_eq!(pod["spec"]["volumes"][0], expected);
    }
}

#[test]
fn other_kinds() {
    check(
        "",
        "v1",
        "Service",
        json!({"spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "x"}]}}),
        json!({"spec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 81, "protocol": "TCP", "targetPort": "x"}]},
            "status": {"loadBalancer": {}}}),
    );
    check(
        "",
        "v1",
        "Secret",
        json!({"stringData": {"a": "b"}, "data": {"c": "ZA=="}}),
        json!({"type": "Opaque", "data": {"a": "Yg==", "c": "ZA=="}}),
    );
    check(
        "",
        "v1",
        "Namespace",
        json!({"metadata": {"name": "a"}}),
        json!({"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}}}),
    );
    check(
        "",
        "v1",
        "LimitRange",
        json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"}}]}}),
        json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"},
            "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1", "memory": "1Mi"}}]}}),
    );
    check(
        "apps",
        "v1",
        "Deployment",
        json!({"spec": {}}),
        json!({"spec": {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}}),
    );
    check(
        "apps",
        "v1",
        "Deployment",
        json!({"spec": {"replicas": 0, "revisionHistoryLimit": 0, "progressDeadlineSeconds": 1, "strategy": {"type": "Recreate"}}}),
        json!({"spec": {"replicas": 0, "revisionHistoryLimit": 0, "progressDeadlineSeconds": 1, "strategy": {"type": "Recreate"}}}),
    );
    check(
        "batch",
        "v1",
        "Job",
        json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}},
            "completions": 1, "parallelism": 1, "backoffLimit": 6, "completionMode": "NonIndexed", "suspend": false,
            "podReplacementPolicy": "TerminatingOrFailed"}}),
    );
    check(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {}}),
        json!({"spec": {"minReplicas": 1, "metrics": [{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 80}}}]}}),
    );
    check(
        "networking.k8s.io",
        "v1",
        "NetworkPolicy",
        json!({"spec": {"egress": [{"ports": [{"port": 53}]}]}}),
        json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}], "policyTypes": ["Ingress", "Egress"]}}),
    );
    check(
        "rbac.authorization.k8s.io",
        "v1",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "a"}, "subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]}),
        json!({"roleRef": {"kind": "Role", "name": "a", "apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount"}]}),
    );
    check(
        "storage.k8s.io",
        "v1",
        "StorageClass",
        json!({}),
        json!({"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
    );
    check("example.com", "v1", "Pod", json!({"spec": {}}), json!({"spec": {}}));
}

#[test]
fn new_objects_start_with_the_servers_state() {
    let mut namespace = json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}});
    prepare_create("", "Namespace", "u", &mut namespace);
    assert_eq!(
        namespace,
        json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
    );
    let mut job = json!({"metadata": {"name": "j"}, "spec": {"template": {}}});
    prepare_create("batch", "Job", "u", &mut job);
    assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}}));
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");

    let resources = |limits: Value, requests: Value| {
        let mut pod =
            json!({"spec": {"containers": [{"resources": {"limits": limits, "requests": requests}}]}});
        prepare_create("", "Pod", "u", &mut pod);
        pod["status"]["qosClass"].as_str().map(str::to_owned)
    };
    let all = json!({"cpu": "1", "memory": "1Gi"});
    assert_eq!(resources(json!({}), json!({})).as_deref(), Some("BestEffort"));
    assert_eq!(resources(all.clone(), json!({})).as_deref(), Some("Guaranteed"));
    assert_eq!(resources(all.clone(), json!({"cpu": "500m"})).as_deref(), Some("Burstable"));
    assert_eq!(resources(json!({}), all).as_deref(), Some("Burstable"));
}

#[test]
fn what_the_server_allocated_stays() {
    let service = |kind: &str, more: Value| {
        let mut value = json!({"spec": {"type": kind, "ports": [{"port": 80}]}});
        apply("", "v1", "Service", &mut value);
        for (key, field) in more.as_object().into_iter().flatten() {
            value["spec"][key] = field.clone();
        }
        value
    };
    let stored = service(
        "NodePort",
        json!({
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}],
        }),
    );
    let mut sent = service("NodePort", json!({}));
    prepare_update("", "Service", &mut sent, &stored);
    assert_eq!(sent["spec"]["clusterIP"], "10.0.0.1");
    assert_eq!(sent["spec"]["clusterIPs"], json!(["10.0.0.1"]));
    assert_eq!(sent["spec"]["ports"][0]["nodePort"], 30000);
    let mut sent = service("ClusterIP", json!({"clusterIP": "10.0.0.2"}));
    prepare_update("", "Service", &mut sent, &stored);
    assert_eq!(sent["spec"]["clusterIP"], "10.0.0.2");
    assert_eq!(sent["spec"]["ports"][0].get("nodePort"), None);
    let mut sent = service("ExternalName", json!({}));
    prepare_update("", "Service", &mut sent, &stored);
    assert_eq!(sent["spec"].get("clusterIP"), None);

    let mut namespace = json!({"metadata": {"name": "a"}});
    prepare_update("", "Namespace", &mut namespace, &json!({"spec": {"finalizers": ["kubernetes"]}}));
    assert_eq!(namespace["spec"]["finalizers"], json!(["kubernetes"]));
}

const KINDS: [(&str, &str); 34] = [
    ("", "Pod"),
    ("", "PodTemplate"),
    ("", "ReplicationController"),
    ("", "Service"),
    ("", "Namespace"),
    ("", "Secret"),
    ("", "Endpoints"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("", "LimitRange"),
    ("", "ResourceQuota"),
    ("", "Node"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("networking.k8s.io", "IngressClass"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("resource.k8s.io", "ResourceClaim"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apiregistration.k8s.io", "APIService"),
];

/// Objects with the right names and any types.
fn any_object() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "spec",
        "template",
        "metadata",
        "labels",
        "containers",
        "volumes",
        "resources",
        "limits",
        "requests",
        "cpu",
        "ports",
        "type",
        "strategy",
        "rollingUpdate",
        "status",
        "stringData",
        "data",
        "jobTemplate",
        "image",
        "secret",
        "livenessProbe",
        "httpGet",
        "webhooks",
        "rules",
        "updateStrategy",
        "selector",
        "max",
        "name",
        "projected",
        "sources",
        "volumeClaimTemplates",
        "sessionAffinity",
        "hostNetwork",
        "capacity",
        "names",
        "kind",
        "conversion",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..3).prop_map(Value::from),
        "[a-c1-9A-Z]{0,3}".prop_map(Value::from),
        Just(json!("ClientIP")),
        Just(json!("Container")),
        Just(json!(1e300)),
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_object_is_taken_and_twice_is_once(mut value in any_object(), at in 0..KINDS.len()) {
        let (group, kind) = KINDS[at];
        apply(group, "v2", kind, &mut value);
        let once = value.clone();
        apply(group, "v2", kind, &mut value);
        prop_assert_eq!(&value, &once, "{} {}", group, kind);
        prepare_create(group, kind, "uid", &mut value);
        let created = value.clone();
        prepare_update(group, kind, &mut value, &once);
        prepare_update(group, kind, &mut value, &created);
    }
}
