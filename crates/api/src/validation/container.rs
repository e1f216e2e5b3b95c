//! Containers: init, regular and ephemeral.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field::{At, Faults};
use super::metadata::unique;
use super::volume::{self, Volumes};
use super::{probe, resources, security};
use crate::names;

/// Fields of the pod that a variable may take its value from.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// What an ephemeral container may not have.
const NOT_EPHEMERAL: [&str; 7] = [
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resizePolicy",
    "restartPolicy",
];

/// All containers of a pod. Their names are unique across the three lists.
pub(super) fn containers(spec: &At<'_, '_>, volumes: &Volumes<'_>, faults: &mut Faults) {
    let mut names = BTreeSet::new();
    regular(&spec.get("containers"), volumes, &mut names, faults);
    init(&spec.get("initContainers"), volumes, &mut names, faults);
    let others = names.clone();
    for container in spec.get("ephemeralContainers").items() {
        common(&container, volumes, faults);
        unique(&mut names, &container.get("name"), faults);
        let target = container.get("targetContainerName");
        if !target.text().is_empty() && !others.contains(target.text()) {
            faults.not_found(&target);
        }
        for field in NOT_EPHEMERAL {
            if container.get(field).is_set() {
                faults.forbidden(&container.get(field), "cannot be set for an Ephemeral Container");
            }
        }
        if !container.get("resources").is_empty() {
            faults.forbidden(&container.get("resources"), "cannot be set for an Ephemeral Container");
        }
        for mount in container.get("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.get(field).text().is_empty() {
                    faults.forbidden(&mount.get(field), "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

fn regular<'v>(list: &At<'v, '_>, volumes: &Volumes<'_>, names: &mut BTreeSet<&'v str>, faults: &mut Faults) {
    if list.is_empty() {
        faults.required(list, "");
    }
    let mut host_ports = BTreeSet::new();
    for container in list.items() {
        common(&container, volumes, faults);
        unique(names, &container.get("name"), faults);
        probes(&container, faults);
        host_port_conflicts(&container, &mut host_ports, faults);
    }
}

fn init<'v>(list: &At<'v, '_>, volumes: &Volumes<'_>, names: &mut BTreeSet<&'v str>, faults: &mut Faults) {
    for container in list.items() {
        common(&container, volumes, faults);
        unique(names, &container.get("name"), faults);
        host_port_conflicts(&container, &mut BTreeSet::new(), faults);
        if container.get("restartPolicy").text() == "Always" {
            probes(&container, faults);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.get(field).is_set() {
                faults.forbidden(
                    &container.get(field),
                    "may not be set for init containers without restartPolicy=Always",
                );
            }
        }
    }
}

fn probes(container: &At<'_, '_>, faults: &mut Faults) {
    probe::lifecycle(&container.get("lifecycle"), faults);
    probe::liveness(&container.get("livenessProbe"), faults);
    probe::readiness(&container.get("readinessProbe"), faults);
    // A startup probe follows the rules of a liveness probe.
    probe::liveness(&container.get("startupProbe"), faults);
}

fn common(container: &At<'_, '_>, volumes: &Volumes<'_>, faults: &mut Faults) {
    let name = container.get("name");
    if name.text().is_empty() {
        faults.required(&name, "");
    } else {
        faults.named(&name, names::dns1123_label(name.text()));
    }
    let image = container.get("image");
    if image.text().is_empty() {
        faults.required(&image, "");
    } else if image.text().trim() != image.text() {
        faults.invalid(&image, "must not have leading or trailing whitespace");
    }
    faults.one_of(&container.get("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"]);
    faults.one_of(&container.get("imagePullPolicy"), &["Always", "IfNotPresent", "Never"]);
    faults.one_of_or_none(&container.get("restartPolicy"), &["Always", "OnFailure", "Never"]);
    ports(&container.get("ports"), faults);
    for variable in container.get("env").items() {
        env(&variable, faults);
    }
    env_from(&container.get("envFrom"), faults);
    volume::mounts(container, volumes, faults);
    resources::requirements(&container.get("resources"), faults);
    resize_policy(&container.get("resizePolicy"), faults);
    security::container(&container.get("securityContext"), faults);
}

fn ports(ports: &At<'_, '_>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.text().is_empty() {
            faults.named(&name, names::port_name(name.text()));
            unique(&mut seen, &name, faults);
        }
        let number = port.get("containerPort");
        match number.int() {
            None | Some(0) => faults.required(&number, ""),
            Some(value) => faults.named(&number, names::port_number(value)),
        }
        let host = port.get("hostPort");
        if let Some(value) = host.int().filter(|value| *value != 0) {
            faults.named(&host, names::port_number(value));
        }
        faults.one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

fn host_port_conflicts(container: &At<'_, '_>, taken: &mut BTreeSet<String>, faults: &mut Faults) {
    for port in container.get("ports").items() {
        let host = port.get("hostPort");
        let Some(number) = host.int().filter(|number| *number != 0) else { continue };
        let key = format!("{}/{}/{number}", port.get("protocol").text(), port.get("hostIP").text());
        if taken.contains(&key) {
            faults.duplicate(&host, &Value::from(key));
        } else {
            taken.insert(key);
        }
    }
}

fn env(variable: &At<'_, '_>, faults: &mut Faults) {
    let name = variable.get("name");
    if name.text().is_empty() {
        faults.required(&name, "");
    } else {
        faults.named(&name, names::env_var_name(name.text()));
    }
    let source = variable.get("valueFrom");
    if !source.is_set() {
        return;
    }
    let mut count = 0;
    for kind in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let reference = source.get(kind);
        if !reference.is_set() {
            continue;
        }
        count += 1;
        match kind {
            "fieldRef" => field_reference(&reference, &ENV_FIELDS, faults),
            "resourceFieldRef" => resource_reference(&reference, false, faults),
            "fileKeyRef" => {}
            _ => key_reference(&reference, faults),
        }
    }
    if count == 0 {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
        faults.invalid_text(&source, "", detail);
    } else if !variable.get("value").text().is_empty() {
        faults.invalid_text(&source, "", "may not be specified when `value` is not empty");
    } else if count > 1 {
        faults.invalid_text(&source, "", "may not have more than one field specified at a time");
    }
}

fn key_reference(reference: &At<'_, '_>, faults: &mut Faults) {
    let (name, key) = (reference.get("name"), reference.get("key"));
    for message in names::dns1123_subdomain(name.text()) {
        faults.invalid_text(&name, name.text(), &message);
    }
    if key.text().is_empty() {
        faults.required(&key, "");
    } else {
        faults.named(&key, names::config_key(key.text()));
    }
}

/// A field of the pod, by path: one of `supported`, or a label or annotation by subscript.
pub(super) fn field_reference(reference: &At<'_, '_>, supported: &[&str], faults: &mut Faults) {
    let path = reference.get("fieldPath");
    if path.text().is_empty() {
        faults.required(&path, "");
        return;
    }
    let subscript = path.text().strip_suffix("']").and_then(|head| head.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => {
            for message in names::qualified_name(&key.to_lowercase()) {
                faults.invalid_text(reference, &key.to_lowercase(), &message);
            }
        }
        Some(("metadata.labels", key)) => {
            for message in names::qualified_name(key) {
                faults.invalid_text(reference, key, &message);
            }
        }
        Some((holder, _)) => faults.invalid_text(reference, holder, "does not support subscript"),
        None if supported.contains(&path.text()) => {}
        None if ENV_FIELDS.contains(&path.text()) || path.text().starts_with("metadata.") => {
            faults.unsupported(&path, supported);
        }
        None => {
            let detail = format!("error converting fieldPath: field label not supported: {}", path.text());
            faults.invalid(&path, &detail);
        }
    }
}

/// A limit or request of a container, which a file must name.
pub(super) fn resource_reference(reference: &At<'_, '_>, in_volume: bool, faults: &mut Faults) {
    let resource = reference.get("resource");
    let huge =
        ["requests.hugepages-", "limits.hugepages-"].iter().any(|prefix| resource.text().starts_with(prefix));
    if in_volume && reference.get("containerName").text().is_empty() {
        faults.required(&reference.get("containerName"), "");
    } else if resource.text().is_empty() {
        faults.required(&resource, "");
    } else if !huge && !RESOURCE_FIELDS.contains(&resource.text()) {
        faults.unsupported(&resource, &RESOURCE_FIELDS);
    }
    let divisor = reference.get("divisor");
    let Some(quantity) = divisor.quantity().filter(|quantity| !quantity.is_zero()) else { return };
    let text = quantity.to_string();
    let byte_units = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (allowed, what): (&[&str], &str) = match resource.text() {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (&byte_units, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (&byte_units, "local ephemeral storage"),
        _ if huge => (&byte_units, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&text.as_str()) {
        let list = if what == "cpu" { "1m and 1".to_owned() } else { byte_units.join(", ") };
        let detail = format!("only divisor's values {list} are supported with the {what} resource");
        faults.invalid_text(&divisor, resource.text(), &detail);
    }
}

fn env_from(sources: &At<'_, '_>, faults: &mut Faults) {
    for source in sources.items() {
        let prefix = source.get("prefix");
        if !prefix.text().is_empty() {
            faults.named(&prefix, names::env_var_name(prefix.text()));
        }
        let mut count = 0;
        for kind in ["configMapRef", "secretRef"] {
            let reference = source.get(kind);
            if !reference.is_set() {
                continue;
            }
            count += 1;
            let name = reference.get("name");
            if name.text().is_empty() {
                faults.required(&name, "");
            } else {
                faults.named(&name, names::dns1123_subdomain(name.text()));
            }
        }
        if count == 0 {
            faults.invalid_text(sources, "", "must specify one of: `configMapRef` or `secretRef`");
        } else if count > 1 {
            faults.invalid_text(sources, "", "may not have more than one field specified at a time");
        }
    }
}

fn resize_policy(policies: &At<'_, '_>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for policy in policies.items() {
        let name = policy.get("resourceName");
        if !name.text().is_empty() && !seen.insert(name.text()) {
            faults.duplicate(&policy, name.value);
        }
        faults.one_of(&name, &["cpu", "memory"]);
        faults.one_of(&policy.get("restartPolicy"), &["NotRequired", "RestartContainer"]);
    }
}
