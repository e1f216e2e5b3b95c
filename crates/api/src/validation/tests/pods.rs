use serde_json::json;

use super::*;

#[test]
fn pods() {
    check("", "Pod", pod(json!({})), &[]);
    check("", "Pod", pod(json!({"containers": []})), &["spec.containers: Required value"]);
    check(
        "",
        "Pod",
        pod(json!({"restartPolicy": "Foo", "dnsPolicy": "None"})),
        &[
            "spec.restartPolicy: Unsupported value: \"Foo\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ],
    );
    check(
        "",
        "Pod",
        pod(json!({"containers": [{"name": "c"}, container(json!({}))]})),
        &["spec.containers[0].image: Required value", "spec.containers[1].name: Duplicate value: \"c\""],
    );
    check(
        "",
        "Pod",
        pod(json!({"activeDeadlineSeconds": 0, "hostname": "a.b"})),
        &[
            "spec.hostname: Invalid value: \"a.b\": must not contain dots",
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ],
    );
    check(
        "",
        "Pod",
        pod(
            json!({"tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 1, "effect": "NoSchedule"}, {"operator": "Equal"}]}),
        ),
        &[
            "spec.tolerations[0].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            "spec.tolerations[1].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ],
    );
    let affinity = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": {"matchExpressions": [{"key": "k", "operator": "In"}]}, "topologyKey": "z"}]}});
    check(
        "",
        "Pod",
        pod(json!({"affinity": affinity})),
        &[
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ],
    );
    check(
        "",
        "Pod",
        pod(
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "No"}]}),
        ),
        &[
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
            "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"No\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
        ],
    );
    check(
        "",
        "Pod",
        pod(json!({"securityContext": {"runAsUser": -1, "sysctls": [{"name": "A"}]}})),
        &[
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            "spec.securityContext.sysctls[0].name: Invalid value: \"A\": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
        ],
    );
    check(
        "",
        "Pod",
        pod(json!({"ephemeralContainers": [container(json!({"name": "e"}))]})),
        &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
    );
}

#[test]
fn containers() {
    check(
        "",
        "Pod",
        pod_with(json!({"imagePullPolicy": "Foo"})),
        &[
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Foo\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
        ],
    );
    check(
        "",
        "Pod",
        pod_with(
            json!({"ports": [{"containerPort": 0}, {"containerPort": 70000, "protocol": "tcp"}, {"containerPort": 1, "hostPort": 1}, {"containerPort": 2, "hostPort": 1}]}),
        ),
        &[
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            "spec.containers[0].ports[3].hostPort: Duplicate value: \"TCP//1\"",
        ],
    );
    check(
        "",
        "Pod",
        pod_with(
            json!({"env": [{"name": ""}, {"name": "A", "value": "x", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
        ),
        &[
            "spec.containers[0].env[0].name: Required value",
            "spec.containers[0].env[1].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            "spec.containers[0].env[2].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x",
        ],
    );
    check(
        "",
        "Pod",
        pod_with(
            json!({"volumeMounts": [{"name": "x", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]}),
        ),
        &[
            "spec.containers[0].volumeMounts[0].name: Not found: \"x\"",
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique",
        ],
    );
    check(
        "",
        "Pod",
        pod_with(json!({"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}})),
        &[
            "spec.containers[0].resources.requests: Invalid value: \"2Gi\": must be less than or equal to memory limit of 1Gi",
        ],
    );
    check(
        "",
        "Pod",
        pod_with(json!({"resources": {"limits": {"x": "1", "cpu": "-1", "memory": "1Gb"}}})),
        &[
            "spec.containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.containers[0].resources.limits[memory]: Invalid value: \"1Gb\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            "spec.containers[0].resources.limits[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.containers[0].resources.requests[memory]: Invalid value: \"1Gb\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            "spec.containers[0].resources.requests[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
        ],
    );
    check(
        "",
        "Pod",
        pod_with(
            json!({"livenessProbe": {"successThreshold": 2}, "readinessProbe": {"httpGet": {"port": 80}, "exec": {"command": ["a"]}}}),
        ),
        &[
            "spec.containers[0].livenessProbe: Required value: must specify a handler type",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            "spec.containers[0].readinessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
        ],
    );
    let init = json!({"name": "i", "image": "i", "livenessProbe": {"tcpSocket": {"port": 1}}});
    check(
        "",
        "Pod",
        pod(json!({"initContainers": [init]})),
        &[
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
}

#[test]
fn volumes() {
    check(
        "",
        "Pod",
        pod(
            json!({"volumes": [{"name": "a", "hostPath": {}}, {"name": "B"}, {"name": "c", "secret": {}, "emptyDir": {}}]}),
        ),
        &[
            "spec.volumes[0].hostPath.path: Required value",
            "spec.volumes[1].name: Invalid value: \"B\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.volumes[2].secret: Forbidden: may not specify more than 1 volume type",
        ],
    );
    check(
        "",
        "Pod",
        pod(
            json!({"volumes": [{"name": "a", "configMap": {"name": "c", "defaultMode": 1000, "items": [{"key": "k", "path": "../x"}]}}]}),
        ),
        &[
            "spec.volumes[0].configMap.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive",
            "spec.volumes[0].configMap.items[0].path: Invalid value: \"../x\": must not contain '..'",
        ],
    );
}

#[test]
fn pods_hardly_change() {
    let image = pod(json!({"containers": [{"name": "c", "image": "other"}]}));
    check_update("", "Pod", pod(json!({})), image, &[]);
    check_update("", "Pod", pod(json!({})), pod(json!({"tolerations": [{"operator": "Exists"}]})), &[]);
    let added = pod(json!({"containers": [container(json!({})), {"name": "d", "image": "i"}]}));
    check_update(
        "",
        "Pod",
        pod(json!({})),
        added,
        &["spec.containers: Forbidden: pod updates may not add or remove containers"],
    );
    check_update(
        "",
        "Pod",
        pod(json!({"tolerations": [{"operator": "Exists"}]})),
        pod(json!({})),
        &[
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
        ],
    );
    let causes = update(
        "",
        "Pod",
        &complete("", "Pod", pod(json!({"nodeName": "n"}))),
        &complete("", "Pod", pod(json!({}))),
    );
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].reason, "FieldValueForbidden");
    assert!(
        causes[0].message.starts_with(
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
        )
    );
}

#[test]
fn ephemeral_containers_are_only_added() {
    let with = |image: &str| {
        let ephemeral = json!({"name": "e", "image": image, "targetContainerName": "c"});
        complete("", "Pod", pod(json!({"ephemeralContainers": [ephemeral]})))
    };
    let plain = complete("", "Pod", pod(json!({})));
    assert_eq!(told(update_ephemeral_containers(&with("i"), &plain)), Vec::<String>::new());
    assert_eq!(update("", "Pod", &with("i"), &plain).len(), 1, "not through the pod itself");
    assert_eq!(
        told(update_ephemeral_containers(&with("j"), &with("i"))),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be changed\n"]
    );
}
