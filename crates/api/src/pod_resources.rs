//! What a pod asks for as a whole: requests and limits over its containers, its own resources and
//! its overhead.
//!
//! Init containers run one after another and before the others, so that the greatest of them
//! counts; those that restart always run beside everything that starts after them (KEP-753). What
//! the pod asks for as a whole (KEP-2837) stands in place of the sum of its containers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::Quantity;

/// Quantities by the names of resources.
pub type ResourceList = BTreeMap<String, Quantity>;

/// A resource list out of JSON; what is no quantity is left out.
pub fn list(value: &Value) -> ResourceList {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), Quantity::from_json(value).ok()?))).collect()
}

/// Adds one list to another.
pub fn add(to: &mut ResourceList, more: &ResourceList) {
    for (name, quantity) in more {
        *to.entry(name.clone()).or_default() += *quantity;
    }
}

fn raise(to: &mut ResourceList, other: &ResourceList) {
    for (name, quantity) in other {
        let known = to.entry(name.clone()).or_insert(*quantity);
        *known = (*known).max(*quantity);
    }
}

/// What the scheduler must find for a pod: the sum of its requests with its overhead.
pub fn requests(pod: &Value) -> ResourceList {
    let mut total = containers(pod, "requests");
    total.extend(pod_level(pod, "requests"));
    add(&mut total, &list(&pod["spec"]["overhead"]));
    total
}

/// The sum of a pod's limits; its overhead counts only where something is limited.
pub fn limits(pod: &Value) -> ResourceList {
    let mut total = containers(pod, "limits");
    total.extend(pod_level(pod, "limits"));
    for (name, overhead) in list(&pod["spec"]["overhead"]) {
        if let Some(limit) = total.get_mut(&name).filter(|limit| !limit.is_zero()) {
            *limit += overhead;
        }
    }
    total
}

/// What a pod asks for as a whole; only what can be shared by containers.
pub fn pod_level(pod: &Value, part: &str) -> ResourceList {
    let mut own = list(&pod["spec"]["resources"][part]);
    own.retain(|name, _| matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-"));
    own
}

/// `requests` or `limits` over the containers alone.
pub fn containers(pod: &Value, part: &str) -> ResourceList {
    let spec = &pod["spec"];
    let of = |name: &str| spec[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut total = ResourceList::new();
    for container in of("containers") {
        add(&mut total, &list(&container["resources"][part]));
    }
    let (mut beside, mut before) = (ResourceList::new(), ResourceList::new());
    for container in of("initContainers") {
        let own = list(&container["resources"][part]);
        if container["restartPolicy"] == "Always" {
            add(&mut total, &own);
            add(&mut beside, &own);
            raise(&mut before, &beside);
        } else {
            let mut at_once = own;
            add(&mut at_once, &beside);
            raise(&mut before, &at_once);
        }
    }
    raise(&mut total, &before);
    total
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(spec: Value, part: fn(&Value) -> ResourceList, expected: &[(&str, &str)]) {
        let total = part(&json!({ "spec": spec }));
        let total: Vec<_> =
            total.iter().map(|(name, quantity)| (name.clone(), quantity.to_string())).collect();
        let expected: Vec<_> =
            expected.iter().map(|(name, quantity)| ((*name).to_owned(), (*quantity).to_owned())).collect();
        assert_eq!(total, expected, "{spec}");
    }

    #[test]
    fn a_pod_asks_for_what_runs_at_once() {
        let asks = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}});
        let sidecar = json!({"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}});
        check(json!({"containers": [asks("1"), asks("500m")]}), requests, &[("cpu", "1500m")]);
        check(
            json!({"containers": [asks("1")], "initContainers": [asks("3"), asks("2")]}),
            requests,
            &[("cpu", "3")],
        );
        check(
            json!({"containers": [asks("1")], "initContainers": [sidecar, asks("3")]}),
            requests,
            &[("cpu", "4")],
        );
        check(json!({"containers": [asks("2")], "initContainers": [sidecar]}), requests, &[("cpu", "3")]);
        let overhead = json!({"cpu": "100m", "memory": "1Mi"});
        check(json!({"containers": [asks("1")], "overhead": overhead}), limits, &[("cpu", "1100m")]);
        check(
            json!({"containers": [asks("1")], "overhead": overhead}),
            requests,
            &[("cpu", "1100m"), ("memory", "1Mi")],
        );
        check(
            json!({"containers": [asks("1")], "resources": {"requests": {"cpu": "3"}}}),
            requests,
            &[("cpu", "3")],
        );
    }
}
