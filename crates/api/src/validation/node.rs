//! Nodes.

use super::field::{At, Faults, same};
use super::networking::network;
use super::{resources, scheduling};

pub(super) fn node(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    scheduling::taints(&spec.get("taints"), faults);
    let status = root.get("status");
    for list in ["capacity", "allocatable"] {
        resources::list(&status.get(list), faults, |at, name, faults| {
            resources::resource_name(at, name, faults);
        });
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
