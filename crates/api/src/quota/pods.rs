//! Pods: their number, and what they request and are limited to.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::one;
use crate::pod_resources::{self, ResourceList};

const REQUESTS: &str = "requests.";
const HUGE_PAGES: &str = "hugepages-";
/// What every container must state where a quota counts it; a rule from before there was
/// quality of service, so that no other resource has it.
const STATED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

pub(super) fn counts(name: &str) -> bool {
    STATED.contains(&name)
        || matches!(
            name,
            "pods" | "ephemeral-storage" | "requests.ephemeral-storage" | "limits.ephemeral-storage"
        )
        || name.starts_with(HUGE_PAGES)
        || name.starts_with("requests.hugepages-")
        || (!is_native(name) && name.starts_with(REQUESTS))
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// A resource that someone's device plugin offers.
fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with(REQUESTS)
}

/// A pod that has ended, or that should be gone by now, uses nothing but its place in the store.
pub(super) fn usage(pod: &Value, now: Timestamp) -> ResourceList {
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    if ended || charged_until(pod).is_some_and(|until| until < now) {
        return ResourceList::new();
    }
    let mut used = of_lists(&pod_resources::requests(pod), &pod_resources::limits(pod));
    used.insert("pods".to_owned(), one());
    used
}

/// When a pod that is being deleted ends to count, although it may still be there: a node that is
/// lost must not hold a user's quota.
pub fn charged_until(pod: &Value) -> Option<Timestamp> {
    let metadata = &pod["metadata"];
    let deleted: Timestamp = metadata["deletionTimestamp"].as_str()?.parse().ok()?;
    let grace = metadata["deletionGracePeriodSeconds"].as_i64()?;
    deleted.checked_add(SignedDuration::from_secs(grace)).ok()
}

fn of_lists(requests: &ResourceList, limits: &ResourceList) -> ResourceList {
    let mut used = ResourceList::new();
    for (name, amount) in requests {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if plain || name.starts_with(HUGE_PAGES) {
            used.insert(name.clone(), *amount);
        }
        if plain || name.starts_with(HUGE_PAGES) || is_extended(name) {
            used.insert(format!("{REQUESTS}{name}"), *amount);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(limit) = limits.get(name) {
            used.insert(format!("limits.{name}"), *limit);
        }
    }
    used
}

pub(super) fn constraints(names: &[&str], pod: &Value) -> Result<(), String> {
    let required: Vec<&str> = names.iter().copied().filter(|name| STATED.contains(name)).collect();
    // What the pod states as a whole its containers need not.
    let whole =
        of_lists(&pod_resources::pod_level(pod, "requests"), &pod_resources::pod_level(pod, "limits"));
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let resources = &container["resources"];
            let stated = of_lists(
                &pod_resources::list(&resources["requests"]),
                &pod_resources::list(&resources["limits"]),
            );
            for name in &required {
                if !stated.contains_key(*name) && !whole.contains_key(*name) {
                    missing.entry(name).or_default().insert(container["name"].as_str().unwrap_or_default());
                }
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = missing
        .into_iter()
        .map(|(name, containers)| {
            format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))
        })
        .collect();
    Err(format!("must specify {}", texts.join("; ")))
}
