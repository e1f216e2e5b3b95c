//! Resource quotas and limit ranges.

use std::collections::BTreeSet;

use super::field::{At, Faults, same};
use super::metadata::unique;
use super::resources;
use crate::names;
use crate::quantity::Quantity;

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

pub(super) fn quota(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    resources::list(&spec.get("hard"), faults, |at, name, faults| {
        let counted = name.starts_with("count/") || name.contains(".storageclass.storage.k8s.io/");
        if !counted {
            resources::resource_name(at, name, faults);
        } else if !names::qualified_name(name).is_empty() {
            for message in names::qualified_name(name) {
                faults.invalid_text(at, name, &message);
            }
        }
    });
    let scopes = spec.get("scopes");
    for scope in scopes.items() {
        if !SCOPES.contains(&scope.text()) {
            faults.invalid(&scopes, "unsupported scope");
        }
    }
    let has = |name: &str| scopes.items().any(|scope| scope.text() == name);
    if (has("BestEffort") && has("NotBestEffort")) || (has("Terminating") && has("NotTerminating")) {
        faults.invalid(&scopes, "conflicting scopes");
    }
    let selector = spec.get("scopeSelector");
    for expression in selector.get("matchExpressions").items() {
        let (name, operator) = (expression.get("scopeName"), expression.get("operator"));
        let values = expression.get("values");
        if !SCOPES.contains(&name.text()) {
            faults.invalid_text(&name, name.text(), "unsupported scope");
        }
        match operator.text() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    let detail =
                        "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                    faults.required(&values, detail);
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    let detail =
                        "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector";
                    faults.invalid(&values, detail);
                }
            }
            other => faults.invalid_text(&operator, other, "not a valid selector operator"),
        }
    }
}

pub(super) fn update(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    let scopes = spec.get("scopes");
    if !same(scopes.value, old.get("scopes").value) {
        faults.invalid(&scopes, "field is immutable");
    }
}

pub(super) fn limit_range(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    let mut seen = BTreeSet::new();
    for item in spec.get("limits").items() {
        let kind = item.get("type");
        let messages = names::qualified_name(kind.text());
        let fine = messages.is_empty();
        for message in messages {
            faults.invalid_text(&kind, kind.text(), &message);
        }
        let standard = matches!(kind.text(), "Pod" | "Container" | "PersistentVolumeClaim");
        if fine && !kind.text().contains('/') && !standard {
            faults.invalid(&kind, "must be a standard limit type or fully qualified");
        }
        unique(&mut seen, &kind, faults);
        limits(&item, faults);
    }
}

fn limits(item: &At<'_, '_>, faults: &mut Faults) {
    let kind = item.get("type").text();
    let mut resource_names = BTreeSet::new();
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let at = item.get(list);
        if kind == "Pod" && matches!(list, "default" | "defaultRequest") && !at.is_empty() {
            faults.forbidden(&at, "may not be specified when `type` is 'Pod'");
            continue;
        }
        resources::list(&at, faults, |at, name, faults| {
            resources::resource_name(at, name, faults);
        });
        resource_names.extend(at.entries().map(|(name, _)| name));
    }
    let has_storage = |list: &str| item.get(list).key("storage").is_set();
    if kind == "PersistentVolumeClaim" && !has_storage("min") && !has_storage("max") {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        faults.required(&item.get("limits"), detail);
    }
    for name in resource_names {
        one_resource(item, name, faults);
    }
}

/// Where it is told, the lesser and its name, the greater and its name.
type Order<'a> = (&'a str, Option<Quantity>, &'a str, Option<Quantity>, &'a str);

/// The bounds and defaults of one resource must be in order.
fn one_resource(item: &At<'_, '_>, name: &str, faults: &mut Faults) {
    let of = |list: &str| item.get(list).key(name).quantity();
    let (min, max, default, request) = (of("min"), of("max"), of("default"), of("defaultRequest"));
    let orders: [Order<'_>; 6] = [
        ("min", min, "min", max, "max"),
        ("defaultRequest", min, "min", request, "default request"),
        ("defaultRequest", request, "default request", max, "max"),
        ("defaultRequest", request, "default request", default, "default limit"),
        ("default", min, "min", default, "default"),
        ("default", default, "default", max, "max"),
    ];
    for (list, lesser, lesser_name, greater, greater_name) in orders {
        let (Some(lesser), Some(greater)) = (lesser, greater) else { continue };
        if lesser > greater {
            let detail =
                format!("{lesser_name} value {lesser} is greater than {greater_name} value {greater}");
            let at = item.get(list);
            faults.invalid(&at.key(name), &detail);
        }
    }
    let ratio = of("maxLimitRequestRatio");
    if let Some(ratio) = ratio.filter(|ratio| *ratio < Quantity::from_milli(1000)) {
        let at = item.get("maxLimitRequestRatio");
        faults.invalid(&at.key(name), &format!("ratio {ratio} is less than 1"));
    }
}
