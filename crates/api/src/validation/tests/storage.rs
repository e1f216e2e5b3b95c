use serde_json::json;

use super::*;

#[test]
fn volumes_and_claims() {
    check(
        "",
        "PersistentVolumeClaim",
        json!({"spec": {"accessModes": ["X"]}}),
        &[
            "spec.accessModes: Unsupported value: \"X\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.resources[storage]: Required value",
        ],
    );
    check(
        "",
        "PersistentVolume",
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
        &["spec: Required value: must specify a volume type"],
    );
}

fn driver(more: Value) -> Value {
    let mut spec = json!({"attachRequired": true});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"spec": spec})
}

#[test]
fn drivers() {
    let group = "storage.k8s.io";
    check(group, "CSIDriver", driver(json!({})), &[]);
    check(
        group,
        "CSIDriver",
        driver(json!({
            "fsGroupPolicy": "X", "volumeLifecycleModes": ["Y"], "nodeAllocatableUpdatePeriodSeconds": 9,
            "tokenRequests": [{"audience": "a", "expirationSeconds": 1}, {"audience": "a"}],
        })),
        &[
            "spec.fsGroupPolicy: Unsupported value: \"X\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
            "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            "spec.volumeLifecycleModes: Unsupported value: \"Y\": supported values: \"Persistent\", \"Ephemeral\"",
            "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
        ],
    );
    check_update(
        group,
        "CSIDriver",
        driver(json!({})),
        driver(json!({"attachRequired": false, "volumeLifecycleModes": ["Ephemeral"]})),
        &[
            "spec.attachedRequired: Invalid value: false: field is immutable",
            "spec.volumeLifecycleModes: Invalid value: [\"Ephemeral\"]: field is immutable",
        ],
    );
    let node =
        |id: &str| json!({"spec": {"drivers": [{"name": "d.io", "nodeID": id, "topologyKeys": ["a", "a"]}]}});
    check(
        group,
        "CSINode",
        node(""),
        &["spec.drivers[0].nodeID: Required value", "spec.drivers[0]: Duplicate value: \"a\""],
    );
    check_update(
        group,
        "CSINode",
        node("a"),
        node("b"),
        &[
            "spec.drivers[0]: Duplicate value: \"a\"",
            "CSINodeDriver: Invalid value: {\"name\":\"d.io\",\"nodeID\":\"b\",\"topologyKeys\":[\"a\",\"a\"]}: field is immutable",
        ],
    );
    check_update(
        group,
        "CSIStorageCapacity",
        json!({"storageClassName": "a"}),
        json!({"storageClassName": "b", "capacity": "-1"}),
        &[
            "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
            "storageClassName: Invalid value: \"b\": field is immutable",
        ],
    );
}

#[test]
fn classes_and_attachments() {
    let group = "storage.k8s.io";
    let class = |policy: &str, values: Value| {
        json!({"provisioner": "p.io/x", "reclaimPolicy": policy, "allowedTopologies": [
            {"matchLabelExpressions": [{"key": "zone", "values": values}]}, {"matchLabelExpressions": [{"key": "zone", "values": ["a"]}]},
        ]})
    };
    check(group, "StorageClass", class("Delete", json!(["b"])), &[]);
    check(
        group,
        "StorageClass",
        class("Delete", json!(["a", "a"])),
        &[
            "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
            "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"",
        ],
    );
    check_update(
        group,
        "StorageClass",
        class("Delete", json!(["b"])),
        class("Retain", json!(["b"])),
        &["reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."],
    );
    let attributes = |value: &str| json!({"driverName": "d.io", "parameters": {"a": value}});
    check(
        group,
        "VolumeAttributesClass",
        json!({}),
        &[
            "driverName: Required value",
            "parameters: Required value: must contain at least one key/value pair",
        ],
    );
    check_update(
        group,
        "VolumeAttributesClass",
        attributes("b"),
        attributes("c"),
        &["parameters: Forbidden: updates to parameters are forbidden."],
    );
    let attachment =
        |node: &str, source: Value| json!({"spec": {"attacher": "d.io", "nodeName": node, "source": source}});
    check(
        group,
        "VolumeAttachment",
        attachment("n", json!({})),
        &[
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ],
    );
    let (old, new) = (
        attachment("n", json!({"persistentVolumeName": "v"})),
        attachment("m", json!({"persistentVolumeName": "v"})),
    );
    check_update(
        group,
        "VolumeAttachment",
        old,
        new,
        &[
            "spec: Invalid value: {\"attacher\":\"d.io\",\"nodeName\":\"m\",\"source\":{\"persistentVolumeName\":\"v\"}}: field is immutable",
        ],
    );
    let failed = json!({"status": {"attachError": {"message": "x".repeat(1025)}}});
    assert_eq!(
        told(update_status(group, "VolumeAttachment", &failed, &json!({}))),
        ["status.attachError.message: Too long: may not be more than 262144 bytes"]
    );
}
