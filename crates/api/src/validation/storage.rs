//! Persistent volumes, claims and storage classes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::field::{At, Faults, same};
use super::selector::{label_selector, node_selector};
use super::{csi, resources};
use crate::names;

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const PARAMETERS_MAX: usize = 512;
const PARAMETERS_SIZE_MAX: usize = 256 * 1024;

/// Fields of a persistent volume's spec that are no volume source.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn access_modes(spec: &At<'_, '_>, missing: &str, faults: &mut Faults) {
    let modes = spec.get("accessModes");
    if modes.is_empty() {
        faults.required(&modes, missing);
    }
    for mode in modes.items() {
        if !MODES.contains(&mode.text()) {
            // Told at the list, with the value of the element.
            let before = faults.count();
            faults.unsupported(&mode, &MODES);
            faults.move_to(before, &modes);
        }
    }
    let single = modes.items().any(|mode| mode.text() == "ReadWriteOncePod");
    if single && modes.items().any(|mode| MODES[..3].contains(&mode.text())) {
        faults.forbidden(&modes, "may not use ReadWriteOncePod with other access modes");
    }
}

fn sources<'v>(spec: &At<'v, '_>) -> Map<String, Value> {
    spec.entries()
        .filter(|(key, value)| !value.is_null() && !NO_SOURCE.contains(key))
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
}

pub(super) fn volume(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    access_modes(&spec, "", faults);
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        faults.required(&capacity, "");
    } else if !capacity.key("storage").is_set() || capacity.len() > 1 {
        let before = faults.count();
        faults.unsupported(&capacity, &["storage"]);
        faults.move_to(before, &capacity);
    }
    for (name, _) in capacity.entries() {
        positive(&capacity.key(name), name, faults);
    }
    let policy = spec.get("persistentVolumeReclaimPolicy");
    if !policy.text().is_empty() {
        faults.one_of(&policy, &["Delete", "Recycle", "Retain"]);
    }
    faults.one_of_or_none(&spec.get("volumeMode"), &["Block", "Filesystem"]);
    let affinity = spec.get("nodeAffinity");
    if affinity.is_set() {
        let required = affinity.get("required");
        if required.is_set() {
            node_selector(&required, faults);
        } else {
            faults.required(&required, "must specify required node constraints");
        }
    }
    let sources = sources(&spec);
    let mut kinds = sources.keys();
    match kinds.next() {
        None => faults.required(&spec, "must specify a volume type"),
        Some(kind) => {
            source(&spec.get(kind), kind, faults);
            if kind == "local" && !affinity.is_set() {
                faults.required(&affinity, "Local volume requires node affinity");
            }
        }
    }
    for other in kinds {
        faults.forbidden(&spec.get(other), "may not specify more than 1 volume type");
    }
    class_name(&spec, faults);
}

fn source(source: &At<'_, '_>, kind: &str, faults: &mut Faults) {
    let fields: &[&str] = match kind {
        "hostPath" | "local" => &["path"],
        "nfs" => &["server", "path"],
        "csi" => &["driver", "volumeHandle"],
        "iscsi" => &["targetPortal", "iqn"],
        _ => &[],
    };
    for field in fields {
        if source.get(field).text().is_empty() {
            faults.required(&source.get(field), "");
        }
    }
    let path = source.get("path");
    if matches!(kind, "hostPath" | "local") && path.text().split('/').any(|step| step == "..") {
        faults.invalid(&path, "must not contain '..'");
    }
}

fn positive(at: &At<'_, '_>, name: &str, faults: &mut Faults) {
    if let Some(quantity) = resources::quantity(at, name, faults)
        && quantity.is_zero()
    {
        faults.invalid(at, "must be greater than zero");
    }
}

fn class_name(spec: &At<'_, '_>, faults: &mut Faults) {
    for field in ["storageClassName", "volumeAttributesClassName"] {
        let name = spec.get(field);
        if !name.text().is_empty() {
            faults.named(&name, names::dns1123_subdomain(name.text()));
        }
    }
}

pub(super) fn claim(root: &At<'_, '_>, faults: &mut Faults) {
    claim_spec(&root.get("spec"), faults);
}

pub(super) fn claim_spec(spec: &At<'_, '_>, faults: &mut Faults) {
    access_modes(spec, "at least 1 access mode is required", faults);
    label_selector(&spec.get("selector"), faults);
    let resources = spec.get("resources");
    let requests = resources.get("requests");
    let requested = requests.get("storage");
    let told = resources.key("storage");
    if requested.is_set() {
        // Told at the resources, as upstream does.
        let before = faults.count();
        positive(&requested, "storage", faults);
        faults.move_to(before, &told);
    } else {
        faults.required(&told, "");
    }
    class_name(spec, faults);
    faults.one_of_or_none(&spec.get("volumeMode"), &["Block", "Filesystem"]);
    for field in ["dataSource", "dataSourceRef"] {
        let source = spec.get(field);
        if !source.is_set() {
            continue;
        }
        for part in ["name", "kind"] {
            if source.get(part).text().is_empty() {
                faults.required(&source.get(part), "");
            }
        }
        if source.get("apiGroup").text().is_empty() && source.get("kind").text() != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            faults.invalid(&source, detail);
        }
    }
}

pub(super) fn class(root: &At<'_, '_>, faults: &mut Faults) {
    let provisioner = root.get("provisioner");
    if provisioner.text().is_empty() {
        faults.required(&provisioner, "");
    } else {
        faults.named(&provisioner, names::qualified_name(&provisioner.text().to_lowercase()));
    }
    parameters(&root.get("parameters"), faults);
    faults.one_of_or_none(&root.get("reclaimPolicy"), &["Delete", "Retain"]);
    faults.one_of(&root.get("volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"]);
    topologies(&root.get("allowedTopologies"), faults);
}

/// What a driver is told, as texts.
pub(super) fn parameters(parameters: &At<'_, '_>, faults: &mut Faults) {
    if parameters.len() > PARAMETERS_MAX {
        faults.too_long(parameters, PARAMETERS_MAX);
        return;
    }
    let mut size = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            faults.invalid_text(parameters, key, "field can not be empty.");
        }
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > PARAMETERS_SIZE_MAX {
        faults.too_long(parameters, PARAMETERS_SIZE_MAX);
    }
}

/// Terms that differ, each of keys that differ, each with values that differ.
fn topologies(terms: &At<'_, '_>, faults: &mut Faults) {
    let mut known: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for term in terms.items() {
        let mut by_key = BTreeMap::new();
        let expressions = term.get("matchLabelExpressions");
        for expression in expressions.items() {
            let (key, values) = (expression.get("key"), expression.get("values"));
            if values.is_empty() {
                faults.required(&values, "");
            }
            let mut seen = BTreeSet::new();
            for value in values.items() {
                if !seen.insert(value.text()) {
                    faults.duplicate(&value, value.value);
                }
            }
            for message in names::qualified_name(key.text()) {
                faults.invalid_text(&key, key.text(), &message);
            }
            if by_key.insert(key.text(), seen).is_some() {
                faults.duplicate(&key, key.value);
            }
        }
        if known.contains(&by_key) {
            faults.duplicate(&expressions, &Value::from(""));
        }
        known.push(by_key);
    }
}

pub(super) fn update(kind: &str, root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    match kind {
        "StorageClass" => {
            for field in ["parameters", "provisioner"] {
                if !same(root.get(field).value, before.get(field).value) {
                    let detail = format!("updates to {field} are forbidden.");
                    faults.forbidden(&root.get(field), &detail);
                }
            }
            if root.get("reclaimPolicy").text() != before.get("reclaimPolicy").text() {
                faults.forbidden(&root.get("reclaimPolicy"), "updates to reclaimPolicy are forbidden.");
            }
            faults.immutable(&root.get("volumeBindingMode"), &before.get("volumeBindingMode"));
        }
        "PersistentVolume" => {
            if !same(&Value::Object(sources(&spec)), &Value::Object(sources(&old))) {
                let at = spec.get("persistentvolumesource");
                faults.forbidden(&at, "spec.persistentvolumesource is immutable after creation");
            }
            faults.immutable(&spec.get("volumeMode"), &old.get("volumeMode"));
            if old.get("nodeAffinity").is_set() {
                faults.immutable(&spec.get("nodeAffinity"), &old.get("nodeAffinity"));
            }
        }
        "CSIDriver" => csi::update_driver(root, before, faults),
        "CSINode" => csi::update_node(root, before, faults),
        "CSIStorageCapacity" => csi::update_capacity(root, before, faults),
        // In its status alone something happens.
        "VolumeAttachment" => faults.immutable(&spec, &old),
        "VolumeAttributesClass" => csi::update_attributes_class(root, before, faults),
        "PersistentVolumeClaim" => claim_update(&before.get("status"), &spec, &old, faults),
        _ => {}
    }
}

/// A claim may be bound, and when bound it may grow.
fn claim_update(status: &At<'_, '_>, spec: &At<'_, '_>, old: &At<'_, '_>, faults: &mut Faults) {
    let bound = status.get("phase").text() == "Bound";
    let unbound_before = old.get("volumeName").text().is_empty();
    let unclassed_before = !old.get("storageClassName").is_set();
    let frozen = |value: &Value| {
        let mut spec = value.as_object().cloned().unwrap_or_default();
        if unbound_before {
            spec.remove("volumeName");
        }
        if unclassed_before {
            spec.remove("storageClassName");
        }
        if bound {
            spec.remove("volumeAttributesClassName");
            if let Some(Value::Object(requests)) =
                spec.get_mut("resources").and_then(|all| all.get_mut("requests"))
            {
                requests.remove("storage");
            }
        }
        Value::Object(spec)
    };
    if !same(&frozen(spec.value), &frozen(old.value)) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        faults.forbidden(spec, detail);
    }
    let resources = spec.get("resources");
    let requests = resources.get("requests");
    let storage = requests.get("storage");
    let size_before = old.get("resources").get("requests").get("storage").quantity();
    if storage.quantity().zip(size_before).is_some_and(|(now, before)| now < before) {
        let capacity = status.get("capacity").get("storage").quantity().unwrap_or_default();
        if storage.quantity().is_some_and(|now| now <= capacity) {
            faults.forbidden(&storage, "field can not be less than status.capacity");
        } else {
            faults.forbidden(&storage, "field can not be less than previous value");
        }
    }
}
