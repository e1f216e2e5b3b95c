//! What a driver offers on nodes: `ResourceSlice`.

use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

use super::{EFFECTS, LIST_MAX, driver_name, each, label, name_of, pool_name, qualified_name, set};
use crate::names;
use crate::validation::field::{At, Faults, same};
use crate::validation::selector::node_selector;

const DEVICES_MAX: usize = 128;
/// Where devices are tainted or share counters, which costs the scheduler more.
const ADVANCED_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const CONSUMED_SETS_MAX: usize = 2;
const VALUE_MAX: usize = 64;
const TAINTS_MAX: usize = 16;
const CONDITIONS_MAX: usize = 4;

/// A version by semver.org 2.0.0.
static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    let (number, before, build) =
        (r"(0|[1-9]\d*)", r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)", "[0-9a-zA-Z-]+");
    let text = format!(r"^{number}\.{number}\.{number}(-{before}(\.{before})*)?(\+{build}(\.{build})*)?$");
    Regex::new(&text).expect("a constant pattern (tested)")
});

pub(super) fn slice(spec: &At<'_, '_>, old: Option<&At<'_, '_>>, faults: &mut Faults) {
    driver_name(&spec.get("driver"), faults);
    let pool = spec.get("pool");
    pool_name(&pool.get("name"), faults);
    let zero = |at: &At<'_, '_>| Value::from(at.int().unwrap_or_default());
    let (count, generation) = (pool.get("resourceSliceCount"), pool.get("generation"));
    if count.int().unwrap_or_default() <= 0 {
        faults.invalid_value(&count, &zero(&count), "must be greater than zero");
    }
    if generation.int().is_some_and(|generation| generation < 0) {
        faults.invalid(&generation, "must be greater than or equal to zero");
    }
    if let Some(old) = old {
        let old_pool = old.get("pool");
        faults.immutable(&pool.get("name"), &old_pool.get("name"));
        for field in ["driver", "nodeName"] {
            faults.immutable(&spec.get(field), &old.get(field));
        }
    }
    nodes_of_slice(spec, faults);
    let (counters, devices) = (spec.get("sharedCounters"), spec.get("devices"));
    if counters.is_set() && devices.is_set() {
        faults.invalid_text(spec, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let has = |field: &str| devices.items().any(|device| !device.get(field).is_empty());
    let limit = if has("taints") || has("consumesCounters") { ADVANCED_MAX } else { DEVICES_MAX };
    let per_device = spec.get("perDeviceNodeSelection").is_true();
    let old_devices = old.map(|old| old.value["devices"].clone()).unwrap_or_default();
    let rule = |device_at: &At<'_, '_>, faults: &mut Faults| {
        let of_name = |old: &&Value| old["name"] == device_at.value["name"];
        let old = old_devices.as_array().into_iter().flatten().find(of_name);
        device(device_at, old, per_device, faults);
    };
    if each(&devices, limit, faults, rule) {
        super::distinct(&devices, name_of, faults);
    }
    let rule = |set: &At<'_, '_>, faults: &mut Faults| {
        counter_set(set, &set.get("name"), faults);
    };
    if each(&counters, COUNTER_SETS_MAX, faults, rule) {
        super::distinct(&counters, name_of, faults);
    }
}

/// Where the devices are: said once, in one way.
fn nodes_of_slice(spec: &At<'_, '_>, faults: &mut Faults) {
    let mut given = nodes(spec, "must be either unset or set to a non-empty string", faults);
    let selector = spec.get("nodeSelector");
    let terms = selector.get("nodeSelectorTerms");
    if selector.is_set() && terms.len() != 1 {
        faults.invalid(&terms, "must have exactly one node selector term");
    }
    flag(&spec.get("perDeviceNodeSelection"), "`perDeviceNodeSelection`", &mut given, faults);
    let one_of =
        "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match given.len() {
        0 => faults.required(spec, one_of),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", given.join(", "));
            faults.invalid_text(spec, &shown, &format!("{one_of}, but multiple fields are set"));
        }
    }
}

/// The ways in which nodes are given.
fn nodes(holder: &At<'_, '_>, empty: &str, faults: &mut Faults) -> Vec<&'static str> {
    let mut given = Vec::new();
    let name = holder.get("nodeName");
    if name.is_set() && name.text().is_empty() {
        faults.invalid(&name, empty);
    } else if name.is_set() {
        given.push("`nodeName`");
        faults.named(&name, names::dns1123_subdomain(name.text()));
    }
    let selector = holder.get("nodeSelector");
    if selector.is_set() {
        given.push("`nodeSelector`");
        node_selector(&selector, faults);
    }
    flag(&holder.get("allNodes"), "`allNodes`", &mut given, faults);
    given
}

fn flag(at: &At<'_, '_>, told: &'static str, given: &mut Vec<&'static str>, faults: &mut Faults) {
    if at.is_true() {
        given.push(told);
    } else if at.is_set() {
        faults.invalid(at, "must be either unset or set to true");
    }
}

fn device(device: &At<'_, '_>, old: Option<&Value>, per_device: bool, faults: &mut Faults) {
    label(&device.get("name"), faults);
    let (attributes, capacity) = (device.get("attributes"), device.get("capacity"));
    let together = attributes.len() + capacity.len();
    if together > LIST_MAX {
        let detail = format!("the total number of attributes and capacities must not exceed {LIST_MAX}");
        faults.invalid_value(device, &Value::from(together), &detail);
    }
    for (name, _) in attributes.entries() {
        qualified_name(&attributes, name, faults);
        attribute(&attributes.key(name), faults);
    }
    let several = device.get("allowMultipleAllocations").is_true();
    for (name, _) in capacity.entries() {
        qualified_name(&capacity, name, faults);
        let one = capacity.key(name);
        if !several && one.get("requestPolicy").is_set() {
            faults.forbidden(&one.get("requestPolicy"), "allowMultipleAllocations must be true");
        }
    }
    let taints = device.get("taints");
    if !old.is_some_and(|old| same(&old["taints"], taints.value)) {
        each(&taints, TAINTS_MAX, faults, taint);
    }
    let consumed = device.get("consumesCounters");
    let rule = |one: &At<'_, '_>, faults: &mut Faults| counter_set(one, &one.get("counterSet"), faults);
    if each(&consumed, CONSUMED_SETS_MAX, faults, rule) {
        let name = |consumed: &Value| consumed["counterSet"].as_str().unwrap_or_default().to_owned();
        super::distinct(&consumed, name, faults);
    }
    nodes_of_device(device, per_device, faults);
    binding_conditions(device, faults);
}

fn nodes_of_device(device: &At<'_, '_>, per_device: bool, faults: &mut Faults) {
    if !per_device {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| device.get(field).is_set()) {
            let detail = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            faults.invalid_value(device, &Value::Null, detail);
        }
        return;
    }
    let one_of = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let given = nodes(device, "must not be empty", faults);
    match given.len() {
        0 => faults.required(device, one_of),
        1 => {}
        _ => faults.invalid_text(device, &format!("{{{}}}", given.join(", ")), one_of),
    }
}

fn attribute(attribute: &At<'_, '_>, faults: &mut Faults) {
    let text = attribute.get("string");
    if text.text().len() > VALUE_MAX {
        faults.too_long(&text, VALUE_MAX);
    }
    let version = attribute.get("version");
    if version.is_set() && !VERSION.is_match(version.text()) {
        faults.invalid(&version, "must be a string compatible with semver.org spec 2.0.0");
    }
    if version.text().len() > VALUE_MAX {
        faults.too_long(&version, VALUE_MAX);
    }
    match ["bool", "int", "string", "version"].iter().filter(|field| attribute.get(field).is_set()).count() {
        0 => faults.invalid_text(attribute, "", "exactly one value must be specified"),
        1 => {}
        _ => faults.invalid(attribute, "exactly one value must be specified"),
    }
}

fn taint(taint: &At<'_, '_>, faults: &mut Faults) {
    let (key, value) = (taint.get("key"), taint.get("value"));
    for message in names::qualified_name(key.text()) {
        faults.invalid_text(&key, key.text(), &message);
    }
    faults.named(&value, names::label_value(value.text()));
    faults.one_of(&taint.get("effect"), &EFFECTS);
}

/// Counters of a set that has a name.
fn counter_set(holder: &At<'_, '_>, name: &At<'_, '_>, faults: &mut Faults) {
    if name.text().is_empty() {
        faults.required(name, "");
    } else {
        label(name, faults);
    }
    let counters = holder.get("counters");
    if counters.is_empty() {
        faults.required(&counters, "");
    } else if counters.len() > LIST_MAX {
        faults.too_many(&counters, counters.len(), LIST_MAX);
    } else {
        for (name, _) in counters.entries() {
            for message in names::dns1123_label(name) {
                faults.invalid_text(&counters, name, &message);
            }
        }
    }
}

/// What must be true, and what must not, before a pod is bound.
pub(super) fn binding_conditions(holder: &At<'_, '_>, faults: &mut Faults) {
    let (wanted, failures) = (holder.get("bindingConditions"), holder.get("bindingFailureConditions"));
    for list in [&wanted, &failures] {
        set(list, CONDITIONS_MAX, faults, |name, faults| {
            faults.named(name, names::qualified_name(name.text()));
        });
    }
    for failure in failures.items() {
        if wanted.items().any(|one| one.text() == failure.text()) {
            faults.invalid(&failure, "bindingFailureConditions must not overlap with bindingConditions");
        }
    }
    let none = Value::Array(Vec::new());
    if wanted.is_empty() && !failures.is_empty() {
        let detail = "bindingConditions are required to use bindingFailureConditions";
        faults.invalid_value(&wanted, &none, detail);
    }
    if failures.is_empty() && !wanted.is_empty() {
        let detail = "bindingFailureConditions are required to use bindingConditions";
        faults.invalid_value(&failures, &none, detail);
    }
}
