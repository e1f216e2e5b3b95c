//! What drivers of volumes say about themselves: drivers, nodes, capacities, attachments and classes of
//! attributes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field::{At, Faults, same};
use super::selector::label_selector;
use super::storage;
use crate::names;

const NODE_ID_MAX: usize = 256;
const DRIVER_NAME_MAX: usize = 63;
const METADATA_MAX: usize = 256 * 1024;
const ERROR_MAX: usize = 1024;
const PARAMETERS_MAX: usize = 512;

/// The name of a driver, wherever it stands.
pub(super) fn driver_name(at: &At<'_, '_>, faults: &mut Faults) {
    if at.text().is_empty() {
        faults.required(at, "");
    }
    if at.text().len() > DRIVER_NAME_MAX {
        faults.too_long(at, DRIVER_NAME_MAX);
    }
    for message in names::dns1123_subdomain(&at.text().to_lowercase()) {
        faults.invalid_text(at, at.text(), &message);
    }
}

pub(super) fn driver(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    // The first is told by a name that no field has, as upstream does.
    for (field, told) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !spec.get(field).is_set() {
            faults.required(&spec.get(told), "");
        }
    }
    faults.one_of_or_none(&spec.get("fsGroupPolicy"), &["File", "None", "ReadWriteOnceWithFSType"]);
    token_requests(&spec.get("tokenRequests"), faults);
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes.items().filter(|mode| !matches!(mode.text(), "Persistent" | "Ephemeral")) {
        let before = faults.count();
        faults.unsupported(&mode, &["Persistent", "Ephemeral"]);
        faults.move_to(before, &modes);
    }
    if !spec.get("seLinuxMount").is_set() {
        faults.required(&spec.get("seLinuxMount"), "");
    }
    let period = spec.get("nodeAllocatableUpdatePeriodSeconds");
    if period.int().is_some_and(|seconds| seconds < 10) {
        faults.invalid(&period, "must be greater than or equal to 10 seconds");
    }
}

/// Each audience once; the empty one is that of the API server.
fn token_requests(requests: &At<'_, '_>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for request in requests.items() {
        let (audience, seconds) = (request.get("audience"), request.get("expirationSeconds"));
        if !seen.insert(audience.text()) {
            faults.duplicate(&audience, &Value::from(audience.text()));
            continue;
        }
        if seconds.int().is_some_and(|seconds| seconds < 600) {
            faults.invalid(&seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds.int().is_some_and(|seconds| seconds > 1 << 32) {
            faults.invalid(&seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

pub(super) fn update_driver(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    let attach = spec.get("attachRequired");
    if !same(attach.value, old.get("attachRequired").value) {
        faults.invalid_value(&spec.get("attachedRequired"), attach.value, "field is immutable");
    }
    faults.immutable(&spec.get("volumeLifecycleModes"), &old.get("volumeLifecycleModes"));
}

pub(super) fn node(root: &At<'_, '_>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    let spec = root.get("spec");
    let drivers = spec.get("drivers");
    for driver in drivers.items() {
        let (name, id) = (driver.get("name"), driver.get("nodeID"));
        driver_name(&name, faults);
        if id.text().is_empty() {
            faults.required(&id, "");
        } else if id.text().len() > NODE_ID_MAX {
            faults.invalid(&id, &format!("must be {NODE_ID_MAX} characters or less"));
        }
        let allocatable = driver.get("allocatable");
        faults.not_negative(&allocatable.get("count"));
        if !seen.insert(name.text()) {
            faults.duplicate(&name, name.value);
        }
        let mut keys = BTreeSet::new();
        for key in driver.get("topologyKeys").items() {
            if key.text().is_empty() {
                faults.required(&driver, "");
            }
            if !keys.insert(key.text()) {
                faults.duplicate(&driver, key.value);
            }
            for message in names::qualified_name(key.text()) {
                faults.invalid_text(&driver, key.text(), &message);
            }
        }
    }
}

/// What a driver says about a node stays; drivers come and go.
pub(super) fn update_node(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    let (drivers, old_drivers) = (spec.get("drivers"), old.get("drivers"));
    for old in old_drivers.items() {
        for driver in drivers.items().filter(|one| one.get("name").text() == old.get("name").text()) {
            let mut frozen = [driver.value.clone(), old.value.clone()];
            // How many volumes fit may be found out anew.
            frozen.iter_mut().for_each(|driver| {
                driver.as_object_mut().map(|driver| driver.remove("allocatable"));
            });
            if !same(&frozen[0], &frozen[1]) {
                faults.invalid_value(&root.get("CSINodeDriver"), driver.value, "field is immutable");
            }
        }
    }
}

pub(super) fn capacity(root: &At<'_, '_>, faults: &mut Faults) {
    label_selector(&root.get("nodeTopology"), faults);
    let class = root.get("storageClassName");
    for message in names::dns1123_subdomain(class.text()) {
        faults.invalid_text(&class, class.text(), &message);
    }
    let capacity = root.get("capacity");
    if capacity.quantity().is_some_and(|amount| amount < Default::default()) {
        faults.invalid(&capacity, "must be greater than or equal to 0");
    }
}

/// The questions stay; the answers change.
pub(super) fn update_capacity(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    for field in ["nodeTopology", "storageClassName"] {
        faults.immutable(&root.get(field), &before.get(field));
    }
}

pub(super) fn attachment(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    let attacher = spec.get("attacher");
    driver_name(&attacher, faults);
    let source = spec.get("source");
    let (inline, name) = (source.get("inlineVolumeSpec"), source.get("persistentVolumeName"));
    let one_of = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_set(), name.is_set()) {
        (false, false) => faults.required(&source, one_of),
        (true, true) => faults.forbidden(&source, one_of),
        (false, true) if name.text().is_empty() => {
            faults.required(&name, "must specify non empty persistentVolumeName");
        }
        (true, false) | (false, true) => {}
    }
    if name.is_set() {
        for message in names::dns1123_subdomain(name.text()) {
            faults.invalid_text(&name, name.text(), &message);
        }
    }
    let node = spec.get("nodeName");
    for message in names::dns1123_subdomain(node.text()) {
        faults.invalid_text(&node, node.text(), &message);
    }
    attachment_status(&root.get("status"), faults);
}

pub(super) fn attachment_status(status: &At<'_, '_>, faults: &mut Faults) {
    let metadata = status.get("attachmentMetadata");
    let size: usize =
        metadata.entries().map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len()).sum();
    if size > METADATA_MAX {
        faults.too_long(&metadata, METADATA_MAX);
    }
    for field in ["attachError", "detachError"] {
        let error = status.get(field);
        let message = error.get("message");
        if message.text().len() > ERROR_MAX {
            // The limit of another field is told, as upstream does.
            faults.too_long(&message, METADATA_MAX);
        }
    }
}

pub(super) fn attributes_class(root: &At<'_, '_>, faults: &mut Faults) {
    let driver = root.get("driverName");
    if driver.text().is_empty() {
        faults.required(&driver, "");
    } else {
        faults.named(&driver, names::qualified_name(&driver.text().to_lowercase()));
    }
    let parameters = root.get("parameters");
    if parameters.is_empty() {
        faults.required(&parameters, "must contain at least one key/value pair");
    } else if parameters.len() > PARAMETERS_MAX {
        faults.too_long(&parameters, PARAMETERS_MAX);
    } else {
        storage::parameters(&parameters, faults);
    }
}

pub(super) fn update_attributes_class(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    for field in ["driverName", "parameters"] {
        if !same(root.get(field).value, before.get(field).value) {
            let detail = format!("updates to {field} are forbidden.");
            faults.forbidden(&root.get(field), &detail);
        }
    }
}
