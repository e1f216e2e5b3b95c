//! Disruption budgets, priority classes and leases.

use super::field::{At, Faults};
use super::resources::{count_or_percent, not_more_than_all};
use super::selector::label_selector;

const PRIORITY_MAX: i64 = 1_000_000_000;

pub(super) fn disruption_budget(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    let (available, unavailable) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if available.is_set() && unavailable.is_set() {
        faults.invalid(&spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for count in [&available, &unavailable] {
        count_or_percent(count, faults);
        not_more_than_all(count, faults);
    }
    label_selector(&spec.get("selector"), faults);
    faults.one_of_or_none(&spec.get("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"]);
}

pub(super) fn priority_class(root: &At<'_, '_>, faults: &mut Faults) {
    let metadata = root.get("metadata");
    let (name, value) = (metadata.get("name"), root.get("value"));
    if name.text().starts_with("system-") {
        let known = match name.text() {
            "system-node-critical" => value.int() == Some(2_000_001_000),
            "system-cluster-critical" => value.int() == Some(2_000_000_000),
            _ => false,
        };
        if !known || root.get("globalDefault").is_true() {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {} is not a known system priority class",
                name.text()
            );
            faults.forbidden(&name, &detail);
        }
    } else if value.int().is_some_and(|value| value > PRIORITY_MAX) {
        let detail = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
        faults.forbidden(&value, &detail);
    }
    faults.one_of_or_none(&root.get("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
}

pub(super) fn update_priority_class(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let value = root.get("value");
    if value.int().unwrap_or_default() != before.get("value").int().unwrap_or_default() {
        faults.forbidden(&value, "may not be changed in an update.");
    }
    faults.immutable(&root.get("preemptionPolicy"), &before.get("preemptionPolicy"));
}

pub(super) fn lease(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    let duration = spec.get("leaseDurationSeconds");
    if duration.int().is_some_and(|seconds| seconds <= 0) {
        faults.invalid(&duration, "must be greater than 0");
    }
    faults.not_negative(&spec.get("leaseTransitions"));
}
