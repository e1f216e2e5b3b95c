//! Resource names and quantities.

use serde_json::Value;

use super::field::{At, Faults};
use crate::names;
use crate::quantity::Quantity;

const NATIVE_PREFIX: &str = "kubernetes.io/";
const HUGE_PAGES: &str = "hugepages-";

/// Whether a name needs no domain: it is Kubernetes' own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains(NATIVE_PREFIX)
}

fn is_standard_for_containers(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with(HUGE_PAGES)
}

/// Names that stand for themselves, without a domain, anywhere.
pub(super) fn is_standard(name: &str) -> bool {
    const STANDARD: [&str; 20] = [
        "cpu",
        "memory",
        "ephemeral-storage",
        "requests.cpu",
        "requests.memory",
        "requests.ephemeral-storage",
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "persistentvolumeclaims",
        "configmaps",
        "requests.storage",
        "storage",
        "services.nodeports",
        "services.loadbalancers",
    ];
    STANDARD.contains(&name)
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-")
        || name.starts_with("limits.hugepages-")
}

/// A name that may be counted at all; answers whether it may.
pub(super) fn resource_name(at: &At<'_, '_>, name: &str, faults: &mut Faults) -> bool {
    let messages = names::qualified_name(name);
    let fine = messages.is_empty();
    for message in messages {
        faults.invalid_text(at, name, &message);
    }
    if fine && !name.contains('/') && !is_standard(name) {
        faults.invalid_text(at, name, "must be a standard resource type or fully qualified");
        return false;
    }
    fine
}

fn container_resource_name(at: &At<'_, '_>, name: &str, faults: &mut Faults) {
    if !resource_name(at, name, faults) {
        return;
    }
    if !name.contains('/') {
        if !is_standard_for_containers(name) {
            faults.invalid_text(at, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && name.starts_with("requests.") {
        faults.invalid_text(at, name, "doesn't follow extended resource name standard");
    }
}

/// A quantity of a named resource: a quantity, not negative, and whole where things are counted.
pub(super) fn quantity(at: &At<'_, '_>, name: &str, faults: &mut Faults) -> Option<Quantity> {
    let parsed = match Quantity::from_json(at.value) {
        Ok(parsed) => parsed,
        Err(error) => {
            faults.invalid(at, &error.to_string());
            return None;
        }
    };
    if parsed.is_negative() {
        faults.invalid(at, "must be greater than or equal to 0");
    }
    let counted = matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    );
    if (counted || !is_native(name)) && !parsed.is_whole() {
        faults.invalid(at, "must be an integer");
    }
    Some(parsed)
}

/// `resources` of a container: names, quantities, and requests within limits.
pub(super) fn requirements(resources: &At<'_, '_>, faults: &mut Faults) {
    let (limits, requests) = (resources.get("limits"), resources.get("requests"));
    let mut has_compute = false;
    let mut has_huge_pages = false;
    for list in [&limits, &requests] {
        for (name, _) in list.entries() {
            let at = list.key(name);
            container_resource_name(&at, name, faults);
            quantity(&at, name, faults);
            has_compute |= matches!(name, "cpu" | "memory");
            has_huge_pages |= name.starts_with(HUGE_PAGES);
        }
    }
    for (name, request) in requests.entries() {
        let request = Quantity::from_json(request).ok();
        let limit = limits.key(name).quantity();
        let overcommits = is_native(name) && !name.starts_with(HUGE_PAGES);
        match (request, limit) {
            (Some(request), Some(limit)) if !overcommits && request != limit => {
                let detail = format!("must be equal to {name} limit of {limit}");
                faults.invalid_text(&requests, &request.to_string(), &detail);
            }
            (Some(request), Some(limit)) if request > limit => {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                faults.invalid_text(&requests, &request.to_string(), &detail);
            }
            (_, None) if !overcommits && !limits.key(name).is_set() => {
                faults.required(&limits, "Limit must be set for non overcommitable resources");
            }
            (Some(_), Some(_)) | (None, _) | (_, None) => {}
        }
    }
    if has_huge_pages && !has_compute {
        faults.forbidden(resources, "HugePages require cpu or memory");
    }
}

/// A list of named quantities; `rule` checks the names.
pub(super) fn list(list: &At<'_, '_>, faults: &mut Faults, rule: impl Fn(&At<'_, '_>, &str, &mut Faults)) {
    for (name, _) in list.entries() {
        let at = list.key(name);
        rule(&at, name, faults);
        quantity(&at, name, faults);
    }
}

/// `IntOrString` that is a count or a percentage; answers whether it is fine.
pub(super) fn count_or_percent(at: &At<'_, '_>, faults: &mut Faults) -> bool {
    let before = faults.count();
    match at.value {
        Value::String(text) => faults.named(at, names::percent(text)),
        Value::Number(_) => faults.not_negative(at),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
    }
    faults.count() == before
}

/// The number of a percentage.
pub(super) fn percent(at: &At<'_, '_>) -> Option<u64> {
    at.text().strip_suffix('%')?.parse().ok()
}

/// A percentage may not exceed all.
pub(super) fn not_more_than_all(at: &At<'_, '_>, faults: &mut Faults) {
    if percent(at).is_some_and(|percent| percent > 100) {
        faults.invalid(at, "must not be greater than 100%");
    }
}
