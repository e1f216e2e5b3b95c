use proptest::prelude::*;
use serde_json::json;

use super::*;

const KINDS: [(&str, &str); 42] = [
    ("", "Pod"),
    ("", "PodTemplate"),
    ("", "ReplicationController"),
    ("", "Service"),
    ("", "ConfigMap"),
    ("", "Secret"),
    ("", "Namespace"),
    ("", "Event"),
    ("", "Binding"),
    ("", "Endpoints"),
    ("", "Node"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("", "ResourceQuota"),
    ("", "LimitRange"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("storage.k8s.io", "CSINode"),
    ("storage.k8s.io", "CSIStorageCapacity"),
    ("storage.k8s.io", "VolumeAttachment"),
    ("storage.k8s.io", "VolumeAttributesClass"),
    ("resource.k8s.io", "DeviceClass"),
    ("resource.k8s.io", "ResourceClaim"),
    ("resource.k8s.io", "ResourceClaimTemplate"),
    ("resource.k8s.io", "ResourceSlice"),
    ("events.k8s.io", "Event"),
    ("policy", "PodDisruptionBudget"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("coordination.k8s.io", "Lease"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("example.com", "Custom"),
];

/// Objects with the right names and any types.
fn any_object() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "spec",
        "template",
        "metadata",
        "labels",
        "name",
        "containers",
        "volumes",
        "resources",
        "limits",
        "requests",
        "ports",
        "port",
        "type",
        "strategy",
        "rollingUpdate",
        "selector",
        "matchExpressions",
        "env",
        "valueFrom",
        "fieldRef",
        "fieldPath",
        "volumeMounts",
        "affinity",
        "tolerations",
        "schedule",
        "jobTemplate",
        "rules",
        "http",
        "paths",
        "ingress",
        "from",
        "ipBlock",
        "cidr",
        "endpoints",
        "addresses",
        "addressType",
        "data",
        "capacity",
        "securityContext",
        "clusterIPs",
        "hostPath",
        "projected",
        "sources",
        "status",
        "maxReplicas",
        "devices",
        "exactly",
        "allocation",
        "results",
        "pool",
        "attributes",
        "drivers",
        "series",
        "metrics",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-c1-9A-Z/.:%-]{0,5}".prop_map(Value::from),
        Just(json!("é['x']")),
        Just(json!(1e300)),
        Just(json!("RollingUpdate")),
        Just(json!("10.0.0.0/8")),
        Just(json!("::/0")),
        Just(json!("0.0.0.0/0")),
    ];
    leaf.prop_recursive(7, 80, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..7)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_object_is_answered(value in any_object(), old in any_object(), at in 0..KINDS.len()) {
        let (group, kind) = KINDS[at];
        prop_assert!(create(group, kind, &value).len() <= MAX_FAULTS);
        prop_assert!(update(group, kind, &value, &old).len() <= MAX_FAULTS);
        prop_assert!(update_status(group, kind, &value, &old).len() <= MAX_FAULTS);
    }

    #[test]
    fn an_unchanged_object_breaks_no_immutability(value in any_object(), at in 0..KINDS.len()) {
        let (group, kind) = KINDS[at];
        let faults = update(group, kind, &value, &value);
        prop_assert!(!faults.iter().any(|cause| cause.message.ends_with("field is immutable")), "{:?}", faults);
    }
}
