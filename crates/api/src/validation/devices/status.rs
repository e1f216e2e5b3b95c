//! Which devices a claim got, who uses them, and how they are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::slice::binding_conditions;
use super::{
    LIST_MAX, Requests, configuration, distinct, driver_name, each, label, name_of_request,
    names_of_requests, pool_name, raw, requests, set, toleration,
};
use crate::validation::field::{At, Faults};
use crate::validation::selector::node_selector;

const USERS_MAX: usize = 256;
const CONDITIONS_MAX: usize = 8;
const DATA_MAX: usize = 10 * 1024;
const INTERFACE_MAX: usize = 256;
const HARDWARE_MAX: usize = 128;
const ADDRESSES_MAX: usize = 16;

pub fn update(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, status, old) = (root.get("spec"), root.get("status"), before.get("status"));
    let claimed = spec.get("devices");
    let requests = requests(&claimed);
    let users = status.get("reservedFor");
    if each(&users, USERS_MAX, faults, user) {
        distinct(&users, |user| user["uid"].as_str().unwrap_or_default().to_owned(), faults);
    }
    let allocation = status.get("allocation");
    let allocated: BTreeSet<String> = {
        let results = allocation.value["devices"]["results"].as_array();
        results.into_iter().flatten().map(identity).collect()
    };
    let devices = status.get("devices");
    each(&devices, usize::MAX, faults, |device, faults| device_status(device, &allocated, faults));
    distinct(&devices, identity, faults);
    if !users.is_empty() && !allocation.is_set() {
        faults.forbidden(&users, "may not be specified when `allocated` is not set");
    } else if root.value.pointer("/metadata/deletionTimestamp").is_some() {
        let known = old.get("reservedFor");
        let known = known.value.as_array().map_or(&[][..], Vec::as_slice);
        if users.items().any(|user| !known.contains(user.value)) {
            let detail =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            faults.forbidden(&users, detail);
        }
    }
    let old_allocation = old.get("allocation");
    if allocation.is_set() && old_allocation.is_set() {
        faults.immutable(&allocation, &old_allocation);
    } else if allocation.is_set() {
        allocated_devices(&allocation, &requests, faults);
    }
}

/// What tells a device, or a share of one, from all others.
fn identity(device: &Value) -> String {
    let text = |field: &str| device[field].as_str().unwrap_or_default();
    let whole = format!("{}/{}/{}", text("driver"), text("pool"), text("device"));
    match text("shareID") {
        "" => whole,
        share => format!("{whole}/{share}"),
    }
}

fn user(user: &At<'_, '_>, faults: &mut Faults) {
    for field in ["resource", "name", "uid"] {
        if user.get(field).text().is_empty() {
            faults.required(&user.get(field), "");
        }
    }
}

fn allocated_devices(allocation: &At<'_, '_>, requests: &Requests<'_>, faults: &mut Faults) {
    let devices = allocation.get("devices");
    each(&devices.get("results"), LIST_MAX, faults, |result, faults| {
        name_of_request(&result.get("request"), requests, faults);
        names_of_device(result, faults);
        binding_conditions(result, faults);
        for one in result.get("tolerations").items() {
            toleration(&one, faults);
        }
    });
    each(&devices.get("config"), 2 * LIST_MAX, faults, |config, faults| {
        faults.one_of(&config.get("source"), &["FromClaim", "FromClass"]);
        names_of_requests(&config.get("requests"), requests, faults);
        configuration(config, false, faults);
    });
    let selector = allocation.get("nodeSelector");
    if selector.is_set() {
        node_selector(&selector, faults);
    }
}

fn names_of_device(holder: &At<'_, '_>, faults: &mut Faults) {
    driver_name(&holder.get("driver"), faults);
    pool_name(&holder.get("pool"), faults);
    label(&holder.get("device"), faults);
}

fn device_status(device: &At<'_, '_>, allocated: &BTreeSet<String>, faults: &mut Faults) {
    names_of_device(device, faults);
    let identity = identity(device.value);
    if !allocated.contains(&identity) {
        faults.invalid_text(device, &identity, "must be an allocated device in the claim");
    }
    let conditions = device.get("conditions");
    if conditions.len() > CONDITIONS_MAX {
        faults.too_many(&conditions, conditions.len(), CONDITIONS_MAX);
    }
    let data = device.get("data");
    if data.is_set() {
        raw(&data, false, DATA_MAX, faults);
    }
    let network = device.get("networkData");
    for (field, limit) in [("interfaceName", INTERFACE_MAX), ("hardwareAddress", HARDWARE_MAX)] {
        let at = network.get(field);
        if at.text().len() > limit {
            faults.too_long(&at, limit);
        }
    }
    set(&network.get("ips"), ADDRESSES_MAX, faults, |address, faults| {
        if !is_interface_address(address.text()) {
            let detail = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            faults.invalid(address, detail);
        }
    });
}

fn is_interface_address(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), length.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(length)) => length <= 32,
        (Ok(IpAddr::V6(_)), Ok(length)) => length <= 128,
        (Ok(_), Err(_)) | (Err(_), _) => false,
    }
}
