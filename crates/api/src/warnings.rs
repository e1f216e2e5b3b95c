//! What is accepted and yet told to its author: fields and resources that are on their way out, and
//! what is most likely not meant.

use serde_json::Value;

use crate::names;
use crate::resource::Gvr;

mod pod;

/// The warning of every request on a resource that is deprecated as a whole.
pub fn resource(gvr: &Gvr) -> Option<&'static str> {
    match (gvr.group.as_ref(), gvr.version.as_ref(), gvr.resource.as_ref()) {
        ("", "v1", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        ("", "v1", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        _ => None,
    }
}

/// The warnings of a valid object; `old` is what an update replaces.
pub fn object(group: &str, kind: &str, value: &Value, old: Option<&Value>) -> Vec<String> {
    let mut warnings = Vec::new();
    let created = old.is_none();
    let changed = old.is_none_or(|old| old["metadata"]["generation"] != value["metadata"]["generation"]);
    match (group, kind) {
        // People seldom change pods by hand.
        ("", "Pod") if created => {
            name(value, "this is used in the Pod's hostname", &mut warnings);
            pod::pod("", value, &mut warnings);
        }
        ("", "PodTemplate") => pod::pod("template", &value["template"], &mut warnings),
        ("", "ReplicationController")
        | ("apps", "ReplicaSet" | "Deployment" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job") => {
            if created {
                name(value, "this is used in Pod names and hostnames", &mut warnings);
            }
            if changed {
                pod::pod("spec.template", &value["spec"]["template"], &mut warnings);
            }
        }
        ("batch", "CronJob") => {
            if created {
                name(value, "this is used in Pod names and hostnames", &mut warnings);
            }
            if changed {
                let template = &value["spec"]["jobTemplate"]["spec"]["template"];
                pod::pod("spec.jobTemplate.spec.template", template, &mut warnings);
            }
        }
        ("", "Service") => service(value, &mut warnings),
        ("networking.k8s.io", "Ingress") if created => {
            const ANNOTATION: &str = "kubernetes.io/ingress.class";
            let annotated = value["metadata"]["annotations"].get(ANNOTATION).is_some();
            if annotated && value["spec"]["ingressClassName"].is_null() {
                warnings.push(format!(
                    "annotation {ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
                ));
            }
        }
        ("", "PersistentVolume") => {
            storage_class_annotation(value, &mut warnings);
            if value["spec"]["persistentVolumeReclaimPolicy"] == "Recycle" {
                warnings.push(
                    "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."
                        .to_owned(),
                );
            }
        }
        ("", "PersistentVolumeClaim") => storage_class_annotation(value, &mut warnings),
        _ => {}
    }
    warnings
}

/// The warnings of a custom resource: finalizers that somebody else may use too.
pub fn custom(value: &Value) -> Vec<String> {
    let finalizers =
        value["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let standard = |name: &str| matches!(name, "orphan" | "foregroundDeletion" | "kubernetes");
    finalizers
        .filter(|name| !name.contains('/') && !standard(name))
        .map(|name| {
            format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers"
            )
        })
        .collect()
}

/// A name that is a fine name and no fine host name.
fn name(value: &Value, what: &str, warnings: &mut Vec<String>) {
    let faults = names::dns1123_label(value["metadata"]["name"].as_str().unwrap_or_default());
    if !faults.is_empty() {
        warnings.push(format!(
            "metadata.name: {what}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            faults.join(" ")
        ));
    }
}

fn storage_class_annotation(value: &Value, warnings: &mut Vec<String>) {
    const ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
    if value["metadata"]["annotations"].get(ANNOTATION).is_some() {
        warnings.push(format!(
            "metadata.annotations[{ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
}

fn service(value: &Value, warnings: &mut Vec<String>) {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let spec = &value["spec"];
    if value["metadata"]["annotations"].get(HINTS).is_some() {
        warnings.push(format!(
            "annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let external = spec["type"] == "ExternalName";
    if external && spec["externalIPs"].as_array().is_some_and(|addresses| !addresses.is_empty()) {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !external && spec["externalName"].as_str().is_some_and(|name| !name.is_empty()) {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(group: &str, kind: &str, value: Value, expected: &[&str]) {
        assert_eq!(object(group, kind, &value, None), expected, "{value}");
    }

    fn pod(spec: Value, expected: &[&str]) {
        check("", "Pod", json!({"metadata": {"name": "p"}, "spec": spec}), expected);
    }

    #[test]
    fn objects_that_are_fine_and_odd() {
        check(
            "",
            "Service",
            json!({"spec": {"type": "ClusterIP", "externalName": "a"}}),
            &["spec.externalName is ignored when spec.type is not \"ExternalName\""],
        );
        check(
            "networking.k8s.io",
            "Ingress",
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "nginx"}}}),
            &[
                "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
            ],
        );
        let long = object("", "Pod", &json!({"metadata": {"name": "a.b"}}), None);
        assert!(
            long[0].starts_with("metadata.name: this is used in the Pod's hostname, which can result in"),
            "{long:?}"
        );
        assert!(custom(&json!({"metadata": {"finalizers": ["example.com/a", "orphan"]}})).is_empty());
        assert_eq!(custom(&json!({"metadata": {"finalizers": ["mine"]}})).len(), 1);
        let same = json!({"metadata": {"name": "d", "generation": 1},
            "spec": {"template": {"spec": {"volumes": [{"name": "g", "gitRepo": {}}]}}}});
        assert!(object("apps", "Deployment", &same, Some(&same)).is_empty());
        check("apps", "Deployment", same, &["spec.template.spec.volumes[0].gitRepo: deprecated in v1.11"]);
    }

    #[test]
    fn pods_that_are_fine_and_odd() {
        pod(json!({"containers": [{"name": "c"}]}), &[]);
        pod(
            json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}),
            &[
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
            ],
        );
        pod(
            json!({"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"},
            {"name": "A", "value": "$(A)3"}]}]}),
            &["spec.containers[0].env[1]: hides previous definition of \"A\""],
        );
        pod(
            json!({"containers": [{"name": "c", "resources": {"limits": {"memory": "100m"}}}]}),
            &[
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
            ],
        );
        pod(
            json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}]}),
            &[
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.imagePullSecrets[2].name: invalid empty name \"\"",
            ],
        );
        pod(
            json!({"topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}]}),
            &[
                "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
            ],
        );
        pod(
            json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
            {"name": "b", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}),
            &["spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]"],
        );
        pod(
            json!({"terminationGracePeriodSeconds": -1}),
            &[
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ],
        );
        check(
            "",
            "Pod",
            json!({"metadata": {"name": "p", "annotations": {"scheduler.alpha.kubernetes.io/critical-pod": ""}}}),
            &[
                "metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the \"priorityClassName\" field instead",
            ],
        );
    }

    #[test]
    fn whole_resources_are_deprecated() {
        assert!(resource(&Gvr::new("", "v1", "endpoints")).is_some());
        assert_eq!(resource(&Gvr::new("", "v1", "pods")), None);
    }
}
