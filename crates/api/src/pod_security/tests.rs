use serde_json::json;

use super::*;

/// What a level of a version says of a pod's spec; empty where it allows it.
fn check(level: Level, version: Version, spec: Value, expected: &str) {
    let found = violations(LevelVersion { level, version }, &json!({}), &spec);
    assert_eq!(details(&found), expected, "{spec}");
}

fn one(container: Value) -> Value {
    json!({"containers": [container]})
}

#[test]
fn a_plain_pod_is_baseline_and_not_restricted() {
    let plain = one(json!({"name": "c"}));
    check(Level::Privileged, Version::Latest, one(json!({"securityContext": {"privileged": true}})), "");
    check(Level::Baseline, Version::Latest, plain.clone(), "");
    check(
        Level::Restricted,
        Version::Latest,
        plain,
        concat!(
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), ",
            "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), ",
            "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), ",
            "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        ),
    );
    let strict = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}]});
    check(Level::Restricted, Version::Latest, strict, "");
}

#[test]
fn baseline_forbids_what_reaches_the_host() {
    let latest = |spec: Value, expected: &str| check(Level::Baseline, Version::Latest, spec, expected);
    latest(json!({"hostNetwork": true, "hostIPC": true}), "host namespaces (hostNetwork=true, hostIPC=true)");
    latest(
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {}}]}),
        "hostPath volumes (volumes \"v\", \"w\")",
    );
    latest(
        json!({"initContainers": [{"name": "a", "ports": [{"hostPort": 80}]}],
        "containers": [{"name": "b", "ports": [{"hostPort": 80}, {"hostPort": 443}]}]}),
        "hostPort (containers \"a\", \"b\" use hostPorts 443, 80)",
    );
    latest(
        one(json!({"name": "c", "securityContext": {"privileged": true}})),
        "privileged (container \"c\" must not set securityContext.privileged=true)",
    );
    latest(
        one(json!({"name": "c", "securityContext": {"capabilities": {"add": ["NET_RAW", "CHOWN"]}}})),
        "non-default capabilities (container \"c\" must not include \"NET_RAW\" in securityContext.capabilities.add)",
    );
    latest(
        one(json!({"name": "c", "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}})),
        "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
    );
    latest(
        json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}, "containers": []}),
        "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
    );
    latest(
        json!({"securityContext": {"seLinuxOptions": {"type": "x_t", "user": "u"}}}),
        "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"x_t\"; user may not be set)",
    );
    latest(
        json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
        "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
    );
    latest(
        json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
        "forbidden sysctls (kernel.msgmax)",
    );
    latest(
        json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
        "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
    );
    let unmasked = one(json!({"name": "c", "securityContext": {"procMount": "Unmasked"}}));
    latest(
        unmasked.clone(),
        "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
    );
    let mut own = unmasked;
    own["hostUsers"] = json!(false);
    latest(own.clone(), "");
    check(
        Level::Baseline,
        Version::Minor(34),
        own,
        "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
    );
}

#[test]
fn versions_have_their_own_checks() {
    let probe = one(json!({"name": "c", "livenessProbe": {"tcpSocket": {"host": "h"}}}));
    check(Level::Baseline, Version::Minor(33), probe, "");
    let kept = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    check(Level::Baseline, Version::Minor(31), kept.clone(), "forbidden sysctls (net.ipv4.tcp_rmem)");
    check(Level::Baseline, Version::Minor(32), kept, "");
    check(
        Level::Restricted,
        Version::Minor(7),
        one(json!({"name": "c", "securityContext": {"runAsNonRoot": true}})),
        "",
    );
    let windows = json!({"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]});
    check(Level::Restricted, Version::Minor(25), windows.clone(), "");
    check(
        Level::Restricted,
        Version::Minor(20),
        windows,
        concat!(
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), ",
            "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        ),
    );
    let root = json!({"securityContext": {"runAsUser": 0, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [], "volumes": [{"name": "n", "nfs": {}}, {"name": "h", "hostPath": {}}]});
    check(
        Level::Restricted,
        Version::Latest,
        root,
        "restricted volume types (volumes \"n\", \"h\" use restricted volume types \"hostPath\", \"nfs\"), runAsUser=0 (pod must not set runAsUser=0)",
    );
}

#[test]
fn labels_become_a_policy() {
    let policy = |labels: Value| {
        let (policy, faults) = Policy::of_labels(|name| labels[name].as_str());
        let faults: Vec<String> =
            faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        ([policy.enforce, policy.audit, policy.warn].map(|mode| mode.to_string()), faults)
    };
    let (modes, faults) = policy(json!({}));
    assert!(faults.is_empty() && modes == ["privileged:latest", "privileged:latest", "privileged:latest"]);
    let (modes, _) = policy(json!({"pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "v1.30"}));
    assert_eq!(modes, ["baseline:v1.30", "privileged:latest", "baseline:v1.30"]);
    let (modes, faults) = policy(json!({"pod-security.kubernetes.io/enforce": "strict",
        "pod-security.kubernetes.io/warn-version": "1.30"}));
    assert_eq!(modes, ["restricted:latest", "privileged:latest", "privileged:latest"]);
    assert_eq!(
        faults,
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.30\": must be \"latest\" or \"v1.x\""
        ]
    );
}
