//! Horizontal pod autoscalers of both versions.

use serde_json::json;

use super::field::{At, Faults};
use crate::names;

const PERIOD_SECONDS_MAX: i64 = 1800;
const WINDOW_SECONDS_MAX: i64 = 3600;

pub(super) fn autoscaler(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    if least.int().is_some_and(|least| least < 1) {
        faults.invalid(&least, "must be greater than or equal to 1");
    }
    let maximum = most.int().unwrap_or_default();
    let zero = json!(0);
    let shown = if most.is_set() { most.value } else { &zero };
    if maximum < 1 {
        faults.invalid_value(&most, shown, "must be greater than 0");
    }
    if least.int().is_some_and(|least| maximum < least) {
        faults.invalid_value(&most, shown, "must be greater than or equal to `minReplicas`");
    }
    let target = spec.get("scaleTargetRef");
    for field in ["kind", "name"] {
        let at = target.get(field);
        if at.text().is_empty() {
            faults.required(&at, "");
        } else {
            faults.named(&at, names::path_segment(at.text()));
        }
    }
    for metric in spec.get("metrics").items() {
        self::metric(&metric, faults);
    }
    let behavior = spec.get("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        let rules = behavior.get(direction);
        if rules.is_set() {
            scaling(&rules, faults);
        }
    }
}

fn metric(metric: &At<'_, '_>, faults: &mut Faults) {
    let kind = metric.get("type");
    let kinds = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    faults.one_of(&kind, &kinds);
    let field = match kind.text() {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return,
    };
    let source = metric.get(field);
    if !source.is_set() {
        faults.required(&source, "must populate information for the given metric source");
        return;
    }
    if matches!(field, "resource" | "containerResource") && source.get("name").text().is_empty() {
        faults.required(&source.get("name"), "must specify a resource name");
    }
    let target = source.get("target");
    faults.one_of(&target.get("type"), &["Utilization", "Value", "AverageValue"]);
    for amount in ["averageUtilization", "value", "averageValue"] {
        let at = target.get(amount);
        let positive = at.quantity().is_none_or(|quantity| !quantity.is_zero() && !quantity.is_negative());
        if !positive {
            faults.invalid(
                &at,
                if amount == "averageUtilization" { "must be greater than 0" } else { "must be positive" },
            );
        }
    }
}

fn scaling(rules: &At<'_, '_>, faults: &mut Faults) {
    let window = rules.get("stabilizationWindowSeconds");
    faults.not_negative(&window);
    if window.int().is_some_and(|seconds| seconds > WINDOW_SECONDS_MAX) {
        faults.invalid(&window, &format!("must be less than or equal to {WINDOW_SECONDS_MAX}"));
    }
    faults.one_of_or_none(&rules.get("selectPolicy"), &["Disabled", "Max", "Min"]);
    let policies = rules.get("policies");
    if policies.is_empty() {
        faults.required(&policies, "must specify at least one Policy");
    }
    for policy in policies.items() {
        faults.one_of_or_none(&policy.get("type"), &["Percent", "Pods"]);
        let (value, period) = (policy.get("value"), policy.get("periodSeconds"));
        if value.int().unwrap_or_default() <= 0 {
            faults.invalid(&value, "must be greater than zero");
        }
        if period.int().unwrap_or_default() <= 0 {
            faults.invalid(&period, "must be greater than zero");
        }
        if period.int().is_some_and(|seconds| seconds > PERIOD_SECONDS_MAX) {
            faults.invalid(&period, &format!("must be less than or equal to {PERIOD_SECONDS_MAX}"));
        }
    }
}
