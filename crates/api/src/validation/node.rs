//! Nodes and runtime classes.

use super::field::{At, Faults, same};
use super::networking::network;
use super::{metadata, resources, scheduling};
use crate::names;

pub(super) fn node(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    scheduling::taints(&spec.get("taints"), faults);
    let status = root.get("status");
    for list in ["capacity", "allocatable"] {
        // A node may count what only its own devices and volumes know: any name is fine.
        resources::list(&status.get(list), faults, |_, _, _| {});
    }
    let ranges = spec.get("podCIDRs");
    for range in ranges.items() {
        if network(range.text()).is_none() {
            faults.invalid_value(&range, ranges.value, "must be valid CIDR");
        }
    }
    if ranges.len() > 2 {
        faults.invalid(&ranges, "may specify no more than one CIDR for each IP family");
    }
}

/// What a pod names to choose how its containers run.
pub(super) fn runtime_class(root: &At<'_, '_>, faults: &mut Faults) {
    let handler = root.get("handler");
    for message in names::dns1123_label(handler.text()) {
        faults.invalid_text(&handler, handler.text(), &message);
    }
    let scheduling = root.get("scheduling");
    metadata::labels(&scheduling.get("nodeSelector"), faults);
    scheduling::tolerations(&scheduling.get("tolerations"), faults);
    let overhead = root.get("overhead");
    resources::list(&overhead.get("podFixed"), faults, |at, name, faults| {
        resources::resource_name(at, name, faults);
    });
}

pub(super) fn update(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    let ranges = spec.get("podCIDRs");
    if !old.get("podCIDRs").is_empty() && !same(ranges.value, old.get("podCIDRs").value) {
        faults.forbidden(&ranges, "node updates may not change podCIDR except from \"\" to valid");
    }
    let provider = spec.get("providerID");
    if !old.get("providerID").text().is_empty() && provider.text() != old.get("providerID").text() {
        faults.forbidden(&provider, "node updates may not change providerID except from \"\" to valid");
    }
}
