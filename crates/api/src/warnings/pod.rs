//! Pods, and templates of pods.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::quantity::Quantity;

const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

const OLD_LABELS: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];

const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn old_label(name: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == name).map(|(_, what)| *what)
}

/// The warnings of the pod at a path; empty for the object itself.
pub(super) fn pod(path: &str, pod: &Value, warnings: &mut Vec<String>) {
    let below = |field: &str| if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
    let (spec, at) = (&pod["spec"], below("spec"));
    for name in spec["nodeSelector"].as_object().into_iter().flatten().map(|(name, _)| name) {
        warnings.extend(old_label(name).map(|what| format!("{at}.nodeSelector[{name}]: {what}")));
    }
    node_affinity(&format!("{at}.affinity.nodeAffinity"), &spec["affinity"]["nodeAffinity"], warnings);
    for (index, constraint) in items(&spec["topologySpreadConstraints"]).iter().enumerate() {
        let at = format!("{at}.topologySpreadConstraints[{index}]");
        let key = text(&constraint["topologyKey"]);
        warnings.extend(old_label(key).map(|what| format!("{at}.topologyKey: {key} is {what}")));
        no_selector(&at, constraint, warnings);
    }
    for (name, what) in OLD_ANNOTATIONS {
        if pod["metadata"]["annotations"].get(name).is_some() {
            warnings.push(format!("{}[{name}]: {what}", below("metadata.annotations")));
        }
    }
    for (index, volume) in items(&spec["volumes"]).iter().enumerate() {
        for (kind, what) in OLD_VOLUMES.iter().filter(|(kind, _)| !volume[*kind].is_null()) {
            let field = if *kind == "storageos" { "storageOS" } else { kind };
            warnings.push(format!("{at}.volumes[{index}].{field}: {what}"));
        }
    }
    repeated(&format!("{at}.hostAliases"), &spec["hostAliases"], "ip", warnings);
    repeated(&format!("{at}.imagePullSecrets"), &spec["imagePullSecrets"], "name", warnings);
    for (index, secret) in items(&spec["imagePullSecrets"]).iter().enumerate() {
        if text(&secret["name"]).is_empty() {
            warnings.push(format!("{at}.imagePullSecrets[{index}].name: invalid empty name \"\""));
        }
    }
    fractions(&format!("{at}.overhead"), &spec["overhead"], warnings);
    let containers = containers(&at, spec);
    for (at, container) in &containers {
        for part in ["limits", "requests"] {
            fractions(&format!("{at}.resources.{part}"), &container["resources"][part], warnings);
        }
        variables(at, container, warnings);
    }
    ports(&containers, warnings);
    if spec["terminationGracePeriodSeconds"].as_i64().is_some_and(|seconds| seconds < 0) {
        warnings.push(format!(
            "{at}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        pod_affinity(&format!("{at}.affinity.{kind}"), &spec["affinity"][kind], warnings);
    }
}

fn containers<'a>(at: &str, spec: &'a Value) -> Vec<(String, &'a Value)> {
    let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
    lists
        .flat_map(|list| {
            let of = items(&spec[list]).iter().enumerate();
            of.map(move |(index, container)| (format!("{at}.{list}[{index}]"), container))
        })
        .collect()
}

fn node_affinity(at: &str, affinity: &Value, warnings: &mut Vec<String>) {
    let mut term = |at: String, term: &Value| {
        for (index, expression) in items(&term["matchExpressions"]).iter().enumerate() {
            let key = text(&expression["key"]);
            let told =
                old_label(key).map(|what| format!("{at}.matchExpressions[{index}].key: {key} is {what}"));
            warnings.extend(told);
        }
    };
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, one) in items(&affinity[REQUIRED]["nodeSelectorTerms"]).iter().enumerate() {
        term(format!("{at}.{REQUIRED}.nodeSelectorTerms[{index}]"), one);
    }
    for (index, one) in items(&affinity[PREFERRED]).iter().enumerate() {
        term(format!("{at}.{PREFERRED}[{index}].preference"), &one["preference"]);
    }
}

fn pod_affinity(at: &str, affinity: &Value, warnings: &mut Vec<String>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, term) in items(&affinity[REQUIRED]).iter().enumerate() {
        no_selector(&format!("{at}.{REQUIRED}[{index}]"), term, warnings);
    }
    for (index, term) in items(&affinity[PREFERRED]).iter().enumerate() {
        no_selector(
            &format!("{at}.{PREFERRED}[{index}].podAffinityTerm"),
            &term["podAffinityTerm"],
            warnings,
        );
    }
}

fn no_selector(at: &str, term: &Value, warnings: &mut Vec<String>) {
    if term["labelSelector"].is_null() {
        warnings.push(format!("{at}.labelSelector: a null labelSelector results in matching no pod"));
    }
}

fn repeated(at: &str, list: &Value, field: &str, warnings: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, item) in items(list).iter().enumerate() {
        let value = text(&item[field]);
        if !seen.insert(value) {
            warnings.push(format!("{at}[{index}].{field}: duplicate {field} {value:?}"));
        }
    }
}

fn fractions(at: &str, list: &Value, warnings: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        if let Some(amount) = list
            .get(name)
            .and_then(|value| Quantity::from_json(value).ok())
            .filter(|amount| !amount.is_whole())
        {
            warnings.push(format!(
                "{at}[{name}]: fractional byte value \"{amount}\" is invalid, must be an integer"
            ));
        }
    }
}

/// A variable may be set again where the second value builds on the first.
fn variables(at: &str, container: &Value, warnings: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, variable) in items(&container["env"]).iter().enumerate() {
        let name = text(&variable["name"]);
        let (value, first) = (text(&variable["value"]), format!("$({name})"));
        let hides = !variable["valueFrom"].is_null() || value == first || !value.contains(&first);
        if !seen.insert(name) && hides {
            warnings.push(format!("{at}.env[{index}]: hides previous definition of {name:?}"));
        }
    }
}

fn ports(containers: &[(String, &Value)], warnings: &mut Vec<String>) {
    let mut known: BTreeMap<(i64, &str), Vec<(String, &Value)>> = BTreeMap::new();
    for (at, container) in containers {
        for (index, port) in items(&container["ports"]).iter().enumerate() {
            let at = format!("{at}.ports[{index}]");
            let host = |port: &Value| port["hostPort"].as_i64().unwrap_or(0);
            let address = |port: &Value| text(&port["hostIP"]).to_owned();
            let key = (port["containerPort"].as_i64().unwrap_or(0), text(&port["protocol"]));
            let others = known.entry(key).or_default();
            for (other_at, other) in others.iter() {
                let one_is_open = address(port).is_empty() != address(other).is_empty();
                if host(port) == host(other) && address(port) == address(other) {
                    warnings.push(format!("{at}: duplicate port definition with {other_at}"));
                } else if host(port) == 0 || host(other) == 0 {
                    warnings.push(format!("{at}: overlapping port definition with {other_at}"));
                } else if host(port) == host(other) && one_is_open {
                    warnings.push(format!("{at}: dangerously ambiguous port definition with {other_at}"));
                }
            }
            others.push((at, port));
        }
    }
}
