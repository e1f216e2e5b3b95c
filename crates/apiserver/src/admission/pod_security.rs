//! PodSecurity: pods keep to the standard that their namespace's labels enforce; what makes pods is
//! warned of, and so is a namespace whose pods would break its new standard.

use std::collections::{BTreeMap, HashSet};

use sampan_api::pod_security::{self, Level, LevelVersion, Policy};
use sampan_api::{Gvr, Status};
use serde_json::Value;

use super::Attributes;
use super::namespace_lifecycle::NAMESPACES;
use crate::registry::Context;

const PODS: Gvr = Gvr::new("", "v1", "pods");
/// What keys of audit annotations start with.
const PREFIX: &str = "pod-security.kubernetes.io/";
/// The most pods that are looked at when a namespace's label changes.
const MAX_PODS: usize = 3000;
/// What changes nothing of a pod's spec that a standard is about.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

pub fn validate(attributes: &Attributes<'_>, object: &Value, context: &mut Context) -> Result<(), Status> {
    let gvr = attributes.resource.gvr();
    match (gvr.group.as_ref(), gvr.resource.as_ref()) {
        ("", "namespaces") => namespace(attributes, object, context),
        ("", "pods") => pod(attributes, object, context),
        _ if attributes.subresource.is_empty() => match template(&gvr.group, &gvr.resource) {
            Some(pointer) => workload(attributes, object.pointer(pointer), context),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Where a resource has a template of pods.
fn template(group: &str, resource: &str) -> Option<&'static str> {
    match (group, resource) {
        ("", "podtemplates") => Some("/template"),
        ("", "replicationcontrollers") => Some("/spec/template"),
        ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets") => Some("/spec/template"),
        ("batch", "jobs") => Some("/spec/template"),
        ("batch", "cronjobs") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

fn policy_of(object: &Value) -> (Policy, Vec<sampan_api::status::Cause>) {
    let labels = &object["metadata"]["labels"];
    Policy::of_labels(|name| labels[name].as_str())
}

/// What the namespace of a request asks for.
fn policy(attributes: &Attributes<'_>) -> Policy {
    let namespace = attributes.registry.find(&NAMESPACES, attributes.namespace.unwrap_or_default());
    Policy::of_labels(|name| namespace.as_ref()?.header.label(name)).0
}

fn pod(attributes: &Attributes<'_>, pod: &Value, context: &mut Context) -> Result<(), Status> {
    if IGNORED.contains(&attributes.subresource) {
        return Ok(());
    }
    let policy = policy(attributes);
    if policy.is_privileged() || attributes.old.is_some_and(|old| !is_significant(pod, old)) {
        return Ok(());
    }
    let found = pod_security::violations(policy.enforce, &pod["metadata"], &pod["spec"]);
    context.annotations.insert(format!("{PREFIX}enforce-policy"), policy.enforce.to_string());
    if !found.is_empty() {
        audit(policy.audit, pod, context);
        let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, pod_security::details(&found));
        return Err(Status::forbidden(attributes.resource.gvr(), attributes.name, why));
    }
    audit(policy.audit, pod, context);
    warn(policy.warn, pod, context);
    Ok(())
}

fn workload(
    attributes: &Attributes<'_>,
    template: Option<&Value>,
    context: &mut Context,
) -> Result<(), Status> {
    if let Some(template) = template.filter(|template| template.is_object()) {
        let policy = policy(attributes);
        audit(policy.audit, template, context);
        warn(policy.warn, template, context);
    }
    Ok(())
}

fn audit(mode: LevelVersion, pod: &Value, context: &mut Context) {
    let found = pod_security::violations(mode, &pod["metadata"], &pod["spec"]);
    if !found.is_empty() {
        let text = format!("would violate PodSecurity \"{mode}\": {}", pod_security::details(&found));
        context.annotations.insert(format!("{PREFIX}audit-violations"), text);
    }
}

fn warn(mode: LevelVersion, pod: &Value, context: &mut Context) {
    let found = pod_security::violations(mode, &pod["metadata"], &pod["spec"]);
    if !found.is_empty() {
        let text = format!("would violate PodSecurity \"{mode}\": {}", pod_security::details(&found));
        context.warnings.push(text);
    }
}

/// Whether an update changes what a standard may be about: which containers there are, and their
/// images. Nothing else of them can be changed.
fn is_significant(pod: &Value, old: &Value) -> bool {
    let list = |pod: &Value, name: &str| -> Vec<(String, String)> {
        let containers = pod["spec"][name].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        containers.map(|one| (text(&one["name"]), text(&one["image"]))).collect()
    };
    ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .any(|name| list(pod, name) != list(old, name))
}

fn namespace(attributes: &Attributes<'_>, object: &Value, context: &mut Context) -> Result<(), Status> {
    if !attributes.subresource.is_empty() {
        return Ok(());
    }
    let (policy, faults) = policy_of(object);
    let before = attributes.old.map(policy_of);
    let same_faults = before.as_ref().is_some_and(|(_, before)| *before == faults);
    if !faults.is_empty() && !same_faults {
        return Err(Status::invalid("", "Namespace", attributes.name, faults));
    }
    let Some((before, _)) = before else { return Ok(()) };
    let (new, old) = (policy.enforce, before.enforce);
    let relaxed = new.version == old.version && new.level <= old.level;
    if new != old && new.level != Level::Privileged && !relaxed {
        let mut pods = Vec::new();
        for pod in attributes.registry.find_all(&PODS, attributes.name) {
            pods.push(pod.decode().map_err(Status::internal)?);
        }
        context.warnings.extend(namespace_warnings(attributes.name, new, pods));
    }
    Ok(())
}

/// What is told of the pods that a new standard would not have let in.
fn namespace_warnings(namespace: &str, enforce: LevelVersion, pods: Vec<Value>) -> Vec<String> {
    let total = pods.len();
    let mut controllers = HashSet::new();
    // One pod of each controller first: the others are most often like it.
    let (mut first, more): (Vec<Value>, Vec<Value>) = pods.into_iter().partition(|pod| {
        let owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let controller =
            owners.filter(|owner| owner["controller"] == true).map(|owner| owner["uid"].to_string()).next();
        controller.is_none_or(|uid| controllers.insert(uid))
    });
    first.extend(more);
    first.truncate(MAX_PODS);
    let mut warnings = Vec::new();
    if first.len() < total {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {} of {total} existing pods",
            first.len()
        ));
    }
    let mut by_reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for pod in &first {
        let found = pod_security::violations(enforce, &pod["metadata"], &pod["spec"]);
        if !found.is_empty() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            by_reasons.entry(pod_security::reasons(&found)).or_default().push(name);
        }
    }
    if !by_reasons.is_empty() {
        warnings.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut told: Vec<String> = by_reasons
        .into_iter()
        .map(|(reasons, names)| {
            let name = names.iter().min().copied().unwrap_or_default();
            match names.len() {
                1 => format!("{name}: {reasons}"),
                2 => format!("{name} (and 1 other pod): {reasons}"),
                count => format!("{name} (and {} other pods): {reasons}", count - 1),
            }
        })
        .collect();
    told.sort();
    warnings.extend(told);
    warnings
}

#[cfg(test)]
mod tests {
    use sampan_api::pod_security::Version;
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_of_a_namespace_are_summed_up() {
        let pod = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
        let host = json!({"hostNetwork": true, "containers": []});
        let pods = vec![
            pod("b", host.clone()),
            pod("a", host),
            pod("c", json!({"containers": []})),
            pod(
                "d",
                json!({"hostPID": true, "containers": [{"name": "x", "securityContext": {"privileged": true}}]}),
            ),
        ];
        let baseline = LevelVersion { level: Level::Baseline, version: Version::Latest };
        assert_eq!(
            namespace_warnings("n", baseline, pods),
            [
                "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "a (and 1 other pod): host namespaces",
                "d: host namespaces, privileged",
            ]
        );
    }
}
