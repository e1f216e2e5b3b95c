use serde_json::json;

use super::*;

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
