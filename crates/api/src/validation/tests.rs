use super::*;
use crate::defaults;
use proptest::prelude::*;
use serde_json::json;

fn told(causes: Vec<Cause>) -> Vec<String> {
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

/// A complete object of a kind, named `a`, after defaults.
fn complete(group: &str, kind: &str, mut value: Value) -> Value {
    if value.get("metadata").is_none() {
        value["metadata"] = json!({"name": "a", "namespace": "n"});
    }
    defaults::apply(group, "v1", kind, &mut value);
    defaults::prepare_create(group, kind, "u", &mut value);
    value
}

#[track_caller]
fn check(group: &str, kind: &str, value: Value, expected: &[&str]) {
    let value = complete(group, kind, value);
    assert_eq!(told(create(group, kind, &value)), expected, "{kind}: {value}");
}

#[track_caller]
fn check_update(group: &str, kind: &str, old: Value, new: Value, expected: &[&str]) {
    let (old, new) = (complete(group, kind, old), complete(group, kind, new));
    assert_eq!(told(update(group, kind, &new, &old)), expected, "{kind}: {new}");
}

fn container(more: Value) -> Value {
    let mut container = json!({"name": "c", "image": "i"});
    for (key, value) in more.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    container
}

fn pod(more: Value) -> Value {
    let mut spec = json!({"containers": [container(json!({}))]});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"spec": spec})
}

fn pod_with(container_fields: Value) -> Value {
    pod(json!({"containers": [container(container_fields)], "volumes": [{"name": "v"}]}))
}

fn workload(more: Value) -> Value {
    let mut template = pod(json!({}));
    template["metadata"] = json!({"labels": {"app": "a"}});
    let mut spec = json!({"selector": {"matchLabels": {"app": "a"}}, "template": template});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"spec": spec})
}

#[test]
fn metadata_rules() {
    let named = |metadata: Value| json!({"metadata": metadata, "data": {}});
    check("", "ConfigMap", named(json!({"name": "a"})), &[]);
    check("", "ConfigMap", named(json!({"generateName": "a-", "name": "a-x"})), &[]);
    check(
        "",
        "ConfigMap",
        named(json!({})),
        &["metadata.name: Required value: name or generateName is required"],
    );
    let subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    check(
        "",
        "ConfigMap",
        named(json!({"name": "A"})),
        &[&format!("metadata.name: Invalid value: \"A\": {subdomain}")],
    );
    check(
        "",
        "ConfigMap",
        named(
            json!({"name": "a", "finalizers": ["x"], "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}),
        ),
        &[
            "metadata.ownerReferences.uid: Invalid value: \"\": uid must not be empty",
            "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
    check(
        "",
        "ConfigMap",
        named(json!({"name": "a", "annotations": {"k": "x".repeat(300_000)}})),
        &["metadata.annotations: Too long: may not be more than 262144 bytes"],
    );
    check("rbac.authorization.k8s.io", "ClusterRole", named(json!({"name": "system:A"})), &[]);
    check(
        "",
        "Service",
        json!({"metadata": {"name": "1a"}, "spec": {"clusterIP": "None"}}),
        &[
            "metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    check_update(
        "",
        "ConfigMap",
        named(json!({"name": "a", "uid": "1"})),
        named(json!({"name": "a", "uid": "2"})),
        &["metadata.uid: Invalid value: \"2\": field is immutable"],
    );
    check_update(
        "",
        "ConfigMap",
        named(json!({"name": "a", "deletionTimestamp": "2020-01-01T00:00:00Z"})),
        named(json!({"name": "a", "finalizers": ["x.io/y"]})),
        &[
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.io/y\"}",
        ],
    );
}

#[test]
fn only_finalizers_of_built_in_kinds_must_say_whose_they_are() {
    let named = |finalizer: &str| json!({"metadata": {"name": "a", "finalizers": [finalizer]}});
    assert_eq!(told(create_custom(&named("mine"))), Vec::<String>::new());
    assert_eq!(told(update_custom(&named("mine"), &named("example.com/x"))), Vec::<String>::new());
    let kind = "ValidatingAdmissionPolicyBinding";
    check("admissionregistration.k8s.io", kind, named("mine"), &[]);
    check_update(
        "",
        "ConfigMap",
        named("example.com/x"),
        named("mine"),
        &[
            "metadata.finalizers[0]: Invalid value: \"mine\": name is neither a standard finalizer name nor is it fully qualified",
        ],
    );
    let faults = told(create_custom(&named("not a name")));
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("metadata.finalizers: Invalid value: \"not a name\": "), "{faults:?}");
}

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

#[test]
fn services() {
    let service = |spec: Value| json!({"spec": spec});
    check("", "Service", service(json!({"ports": [{"port": 80}]})), &[]);
    check("", "Service", service(json!({})), &["spec.ports: Required value"]);
    check(
        "",
        "Service",
        service(json!({"ports": [{"port": 80}, {"port": 80, "name": "b", "nodePort": 30000}]})),
        &[
            "spec.ports[0].name: Required value",
            "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
        ],
    );
    check("", "Service", service(json!({"type": "ExternalName"})), &["spec.externalName: Required value"]);
    check("", "Service", service(json!({"type": "ExternalName", "externalName": "a.b"})), &[]);
    check(
        "",
        "Service",
        service(json!({"type": "X", "ports": [{"port": 0}]})),
        &[
            "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
        ],
    );
    let with_ip = |ip: &str| service(json!({"ports": [{"port": 80}], "clusterIP": ip, "clusterIPs": [ip]}));
    check_update(
        "",
        "Service",
        with_ip("10.0.0.1"),
        with_ip("10.0.0.2"),
        &["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"],
    );
}

#[test]
fn workloads() {
    for kind in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
        check("apps", kind, workload(json!({})), &[]);
        check(
            "apps",
            kind,
            workload(json!({"selector": {"matchLabels": {"app": "b"}}})),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
            ],
        );
    }
    check(
        "apps",
        "Deployment",
        workload(json!({"selector": null, "replicas": -1})),
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.selector: Required value",
        ],
    );
    check(
        "apps",
        "DaemonSet",
        workload(json!({"selector": {}})),
        &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"],
    );
    check(
        "apps",
        "Deployment",
        workload(json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}})),
        &[
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
        ],
    );
    check(
        "apps",
        "Deployment",
        workload(
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}, "progressDeadlineSeconds": 5, "minReadySeconds": 5}),
        ),
        &[
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
            "spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds",
        ],
    );
    let mut other = workload(json!({"selector": {"matchLabels": {"app": "b"}}}));
    other["spec"]["template"]["metadata"]["labels"] = json!({"app": "b"});
    check_update(
        "apps",
        "Deployment",
        workload(json!({})),
        other.clone(),
        &["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable"],
    );
    check_update(
        "apps",
        "StatefulSet",
        workload(json!({})),
        workload(json!({"serviceName": "x"})),
        &[
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ],
    );
    check_update("apps", "StatefulSet", workload(json!({})), workload(json!({"replicas": 3})), &[]);
}

#[test]
fn jobs() {
    let job = |more: Value, policy: &str| {
        let mut value = json!({"spec": {"template": pod(json!({"restartPolicy": policy}))}});
        for (key, field) in more.as_object().into_iter().flatten() {
            value["spec"][key] = field.clone();
        }
        value
    };
    check("batch", "Job", job(json!({}), "Never"), &[]);
    check(
        "batch",
        "Job",
        job(json!({"completions": -1}), "Always"),
        &[
            "spec.completions: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ],
    );
    check("batch", "Job", job(json!({"completionMode": "Indexed"}), "Never"), &[]);
    check_update(
        "batch",
        "Job",
        job(json!({}), "Never"),
        job(json!({"parallelism": 4, "backoffLimit": 1, "completions": 1}), "Never"),
        &[],
    );
    let causes = told(update(
        "batch",
        "Job",
        &complete("batch", "Job", job(json!({}), "OnFailure")),
        &complete("batch", "Job", job(json!({}), "Never")),
    ));
    assert_eq!(causes.len(), 1);
    assert!(
        causes[0].starts_with("spec.template: Invalid value: {") && causes[0].ends_with("field is immutable"),
        "{causes:?}"
    );
    let cron =
        |schedule: &str| json!({"spec": {"schedule": schedule, "jobTemplate": job(json!({}), "Never")}});
    check("batch", "CronJob", cron("*/5 * * * *"), &[]);
    check(
        "batch",
        "CronJob",
        cron("* * *"),
        &["spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]"],
    );
}

#[test]
fn configuration() {
    check(
        "",
        "ConfigMap",
        json!({"data": {"a/b": "x", "c": "1"}, "binaryData": {"c": "AA=="}}),
        &[
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            "data[c]: Invalid value: \"c\": duplicate of key present in binaryData",
        ],
    );
    check(
        "",
        "Secret",
        json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "AA=="}}),
        &["data[tls.key]: Required value"],
    );
    check(
        "",
        "Secret",
        json!({"type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{}"}}),
        &[],
    );
    check_update(
        "",
        "Secret",
        json!({"type": "a"}),
        json!({"type": "b"}),
        &["type: Invalid value: \"b\": field is immutable"],
    );
    check_update(
        "",
        "ConfigMap",
        json!({"immutable": true, "data": {"a": "1"}}),
        json!({"data": {"a": "2"}}),
        &[
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set",
        ],
    );
}

#[test]
fn other_kinds() {
    check(
        "rbac.authorization.k8s.io",
        "Role",
        json!({"rules": [{"verbs": []}]}),
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ],
    );
    let binding = |name: &str| json!({"roleRef": {"kind": "Role", "name": name}, "subjects": [{"kind": "X", "name": "s"}]});
    let kind = "subjects[0].kind: Unsupported value: \"X\": supported values: \"ServiceAccount\", \"User\", \"Group\"";
    check("rbac.authorization.k8s.io", "RoleBinding", binding("r"), &[kind]);
    check_update(
        "rbac.authorization.k8s.io",
        "RoleBinding",
        binding("r"),
        binding("s"),
        &[
            kind,
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"s\"}: cannot change roleRef",
        ],
    );
    check(
        "networking.k8s.io",
        "Ingress",
        json!({"spec": {}}),
        &["spec: Invalid value: []: either `defaultBackend` or `rules` must be specified"],
    );
    check(
        "networking.k8s.io",
        "Ingress",
        json!({"spec": {"rules": [{"host": "1.2.3.4", "http": {"paths": [{"path": "x", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {}}}}]}}]}}),
        &[
            "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
            "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
            "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
        ],
    );
    check(
        "networking.k8s.io",
        "NetworkPolicy",
        json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9", "10.1.0.0/16"]}}, {}]}]}}),
        &[
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/9\": must be a strict subset of `cidr`",
            "spec.ingress[0].from[1]: Required value: must specify a peer",
        ],
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1", "127.0.0.1", "10.0.0.1"]}]}),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
            "endpoints[0].addresses[1]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
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
    check(
        "policy",
        "PodDisruptionBudget",
        json!({"spec": {"minAvailable": "x", "maxUnavailable": "101%"}}),
        &[
            "spec: Invalid value: {\"maxUnavailable\":\"101%\",\"minAvailable\":\"x\"}: minAvailable and maxUnavailable cannot be both set",
            "spec.minAvailable: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ],
    );
    check(
        "autoscaling",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 0, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
        &[
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ],
    );
    check(
        "",
        "LimitRange",
        json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}),
        &[
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            "spec.limits[0].defaultRequest[cpu]: Invalid value: \"1\": min value 2 is greater than default request value 1",
            "spec.limits[0].default[cpu]: Invalid value: \"1\": min value 2 is greater than default value 1",
        ],
    );
    check(
        "",
        "ResourceQuota",
        json!({"spec": {"hard": {"pods": "1.5", "x": "1", "count/deployments.apps": "2"}}}),
        &[
            "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
            "spec.hard[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
        ],
    );
    check(
        "",
        "Node",
        json!({"spec": {"taints": [{"key": "k", "effect": "X"}]}}),
        &[
            "spec.taints[0].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
        ],
    );
    check(
        "",
        "Event",
        json!({"involvedObject": {"namespace": "m"}}),
        &["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"],
    );
    check(
        "coordination.k8s.io",
        "Lease",
        json!({"spec": {"leaseDurationSeconds": 0}}),
        &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
    );
}

#[test]
fn what_people_write_is_fine() {
    let rich = json!({
        "serviceAccountName": "shop", "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet",
        "priorityClassName": "system-node-critical", "nodeSelector": {"kubernetes.io/os": "linux"},
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": [{"operator": "Exists"}, {"key": "a/b", "value": "c", "effect": "NoExecute", "tolerationSeconds": 300}],
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}, {"key": "cores", "operator": "Gt", "values": ["3"]}]},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]},
            ]}},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 100, "podAffinityTerm": {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"}},
            ]},
        },
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}],
        "initContainers": [
            {"name": "wait", "image": "busybox:1", "command": ["sh", "-c", "true"]},
            {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 15000}}},
        ],
        "containers": [{
            "name": "web", "image": "registry.local:5000/shop/web@sha256:00", "args": ["--port=8080"],
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
            "env": [
                {"name": "A.b-c", "value": "$(B)"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/name']"}}},
                {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
            ],
            "envFrom": [{"configMapRef": {"name": "c"}, "prefix": "C_"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi", "example.com/gpu": 1}},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http", "httpHeaders": [{"name": "X-A", "value": "1"}]}},
            "readinessProbe": {"exec": {"command": ["cat", "/tmp/ready"]}, "successThreshold": 2},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [
                {"name": "config", "mountPath": "/etc/app", "readOnly": true}, {"name": "data", "mountPath": "/data", "subPath": "x"},
                {"name": "token", "mountPath": "/var/run/secrets"},
            ],
        }],
        "volumes": [
            {"name": "config", "configMap": {"name": "c", "items": [{"key": "a", "path": "b/c"}]}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "d"}},
            {"name": "token", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            {"name": "host", "hostPath": {"path": "/var/log", "type": "DirectoryOrCreate"}},
        ],
    });
    check("", "Pod", json!({"spec": rich}), &[]);
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": rich});
    for kind in ["Deployment", "DaemonSet", "StatefulSet"] {
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        check("apps", kind, workload(json!({"template": template, "volumeClaimTemplates": [claim]})), &[]);
    }
    check(
        "",
        "Service",
        json!({"spec": {"type": "NodePort", "selector": {"app": "a"}, "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080, "appProtocol": "kubernetes.io/h2c"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]}}),
        &[],
    );
    check("", "Service", json!({"spec": {"clusterIP": "None", "selector": {"app": "a"}}}), &[]);
    check(
        "networking.k8s.io",
        "Ingress",
        json!({"spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["*.a.b"], "secretName": "t"}], "rules": [
            {"host": "*.a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}},
        ]}}),
        &[],
    );
    check(
        "networking.k8s.io",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {}, "egress": [
            {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}, {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}],
             "ports": [{"port": 1000, "endPort": 2000}, {"port": "dns", "protocol": "UDP"}]},
        ]}}),
        &[],
    );
    check(
        "rbac.authorization.k8s.io",
        "ClusterRole",
        json!({"metadata": {"name": "system:x"}, "rules": [
            {"apiGroups": ["", "apps"], "resources": ["pods/log"], "verbs": ["get"]}, {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        ]}),
        &[],
    );
    check(
        "autoscaling",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}}),
        &[],
    );
    check(
        "",
        "PersistentVolume",
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}, "claimRef": {"name": "c"}}}),
        &[],
    );
    check(
        "",
        "Node",
        json!({"status": {"capacity": {"cpu": "4", "memory": "8Gi", "pods": "110", "hugepages-2Mi": "0"}}}),
        &[],
    );
    check(
        "",
        "ResourceQuota",
        json!({"spec": {"hard": {"requests.cpu": "1", "limits.memory": "1Gi", "requests.example.com/gpu": "1", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}}}),
        &[],
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"], "nodeName": "n", "hints": {"forZones": [{"name": "a"}]}}], "ports": [{"port": 80}]}),
        &[],
    );
}

const KINDS: [(&str, &str); 32] = [
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
    }

    #[test]
    fn an_unchanged_object_breaks_no_immutability(value in any_object(), at in 0..KINDS.len()) {
        let (group, kind) = KINDS[at];
        let faults = update(group, kind, &value, &value);
        prop_assert!(!faults.iter().any(|cause| cause.message.ends_with("field is immutable")), "{:?}", faults);
    }
}
