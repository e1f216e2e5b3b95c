//! Pods and pod templates.

use std::collections::BTreeSet;

use super::field::{At, Faults};
use super::metadata::{annotations, labels};
use super::{container, resources, scheduling, security, volume};
use crate::names;

const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;

pub(super) fn pod(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    pod_spec(&spec, true, faults);
    if spec.get("serviceAccountName").text().is_empty() {
        for volume in spec.get("volumes").items() {
            let projected = volume.get("projected");
            for source in projected.get("sources").items() {
                let token = source.get("serviceAccountToken");
                if token.is_set() {
                    faults.forbidden(&token, "must not be specified when serviceAccountName is not set");
                }
            }
        }
    }
}

/// What a pod must not have when it is made.
pub(super) fn only_on_create(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    if !spec.get("ephemeralContainers").is_empty() {
        faults.forbidden(&spec.get("ephemeralContainers"), "cannot be set on create");
    }
    if !spec.get("nodeName").text().is_empty() && !spec.get("schedulingGates").is_empty() {
        faults.forbidden(&spec.get("nodeName"), "cannot be set until all schedulingGates have been cleared");
    }
}

/// A `PodTemplateSpec`.
pub(super) fn template(template: &At<'_, '_>, faults: &mut Faults) {
    let metadata = template.get("metadata");
    labels(&metadata.get("labels"), faults);
    annotations(&metadata.get("annotations"), faults);
    let spec = template.get("spec");
    pod_spec(&spec, false, faults);
    if !spec.get("ephemeralContainers").is_empty() {
        faults
            .forbidden(&spec.get("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

fn pod_spec(spec: &At<'_, '_>, is_pod: bool, faults: &mut Faults) {
    let volumes = volume::volumes(&spec.get("volumes"), faults);
    container::containers(spec, &volumes, faults);
    host_network(spec, is_pod, faults);
    faults.one_of(&spec.get("restartPolicy"), &["Always", "OnFailure", "Never"]);
    faults.one_of(&spec.get("dnsPolicy"), &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    labels(&spec.get("nodeSelector"), faults);
    security::pod(spec, faults);
    scheduling::affinity(&spec.get("affinity"), faults);
    dns_config(spec, faults);
    gates(spec, faults);
    scheduling::spread_constraints(&spec.get("topologySpreadConstraints"), faults);
    host_users(spec, faults);
    identities(spec, faults);
    let deadline = spec.get("activeDeadlineSeconds");
    if deadline.int().is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds)) {
        faults.invalid(&deadline, &names::out_of_range(1, i64::from(i32::MAX)));
    }
    faults.not_negative(&spec.get("terminationGracePeriodSeconds"));
    scheduling::tolerations(&spec.get("tolerations"), faults);
    let aliases = spec.get("hostAliases");
    for alias in aliases.items() {
        let ip = alias.get("ip");
        if !names::ip_address(ip.text()).is_empty() {
            faults.invalid_text(&aliases.get("ip"), ip.text(), "must be valid IP address");
        }
        for hostname in alias.get("hostnames").items() {
            for message in names::dns1123_subdomain(hostname.text()) {
                faults.invalid_value(&aliases.get("hostnames"), hostname.value, &message);
            }
        }
    }
    faults.one_of_or_none(&spec.get("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
    resources::requirements(&spec.get("resources"), faults);
    let system = spec.get("os");
    if system.is_set() && !matches!(system.get("name").text(), "linux" | "windows") {
        faults.one_of(&system.get("name"), &["linux", "windows"]);
    }
}

/// Names of other objects and of the pod itself.
fn identities(spec: &At<'_, '_>, faults: &mut Faults) {
    for field in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = spec.get(field);
        if !name.text().is_empty() {
            faults.named(&name, names::dns1123_subdomain(name.text()));
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = spec.get(field);
        if !name.text().is_empty() {
            faults.named(&name, names::dns1123_label(name.text()));
        }
    }
}

fn host_network(spec: &At<'_, '_>, is_pod: bool, faults: &mut Faults) {
    if !spec.get("hostNetwork").is_true() {
        return;
    }
    for container in spec.get("containers").items() {
        for port in container.get("ports").items() {
            let host = port.get("hostPort");
            let number = host.int().unwrap_or_default();
            let differs = number != port.get("containerPort").int().unwrap_or_default();
            if differs && (is_pod || number != 0) {
                faults.invalid(&host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn host_users(spec: &At<'_, '_>, faults: &mut Faults) {
    if spec.get("hostUsers").value != &serde_json::Value::Bool(false) {
        return;
    }
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec.get(field).is_true() {
            faults.forbidden(&spec.get(field), "when `hostUsers` is false");
        }
    }
}

fn dns_config(spec: &At<'_, '_>, faults: &mut Faults) {
    let config = spec.get("dnsConfig");
    let (nameservers, searches) = (config.get("nameservers"), config.get("searches"));
    if spec.get("dnsPolicy").text() == "None" {
        if !config.is_set() {
            faults.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if nameservers.is_empty() {
            faults
                .required(&nameservers, "must provide at least one DNS nameserver when `dnsPolicy` is None");
            return;
        }
    }
    if nameservers.len() > NAMESERVERS_MAX {
        faults.invalid(&nameservers, &format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for server in nameservers.items() {
        if !names::ip_address(server.text()).is_empty() {
            faults.invalid(&server, "must be valid IP address");
        }
    }
    if searches.len() > SEARCHES_MAX {
        faults.invalid(&searches, &format!("must not have more than {SEARCHES_MAX} search paths"));
    }
    let characters: usize = searches.items().map(|search| search.text().len() + 1).sum();
    if characters.saturating_sub(1) > SEARCH_CHARACTERS_MAX {
        let detail = format!(
            "must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list"
        );
        faults.invalid(&searches, &detail);
    }
    for search in searches.items() {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        // A lone dot is the root: no search.
        if search.text() != "." {
            for message in names::dns1123_subdomain(name) {
                faults.invalid_text(&search, name, &message);
            }
        }
    }
    for option in config.get("options").items() {
        if option.get("name").text().is_empty() {
            faults.required(&option, "must not be empty");
        }
    }
}

fn gates(spec: &At<'_, '_>, faults: &mut Faults) {
    for gate in spec.get("readinessGates").items() {
        let kind = gate.get("conditionType");
        for message in names::qualified_name(kind.text()) {
            faults.invalid_text(&kind, kind.text(), &message);
        }
    }
    let mut seen = BTreeSet::new();
    for gate in spec.get("schedulingGates").items() {
        let name = gate.get("name");
        for message in names::qualified_name(name.text()) {
            faults.invalid_text(&gate, name.text(), &message);
        }
        if !seen.insert(name.text()) {
            faults.duplicate(&gate, name.value);
        }
    }
}
