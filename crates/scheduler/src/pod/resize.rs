//! Pods whose resources are being changed in place (KEP-1287) count with the greatest of what they ask
//! for, what their node has allotted to them, and what they still have.

use sampan_api::quantity::Quantity;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::raw::{RawContainer, RawContainerStatus, RawPod, RawRequirements, RawSpec, read};
use crate::resources::RawResources;

/// What counts for one container in place of what it asks for.
pub(super) struct Held {
    init: bool,
    index: usize,
    resources: Box<RawValue>,
}

/// The containers that do not have what they ask for. An `infeasible` wish does not count.
pub(super) fn held(pod: &RawPod<'_>, infeasible: bool) -> Result<Vec<Held>, serde_json::Error> {
    let mut all = Vec::new();
    let lists = [
        (true, &pod.spec.init_containers, &pod.status.init_container_statuses),
        (false, &pod.spec.containers, &pod.status.container_statuses),
    ];
    for (init, containers, statuses) in lists {
        for (index, container) in containers.iter().flatten().enumerate() {
            let status =
                statuses.iter().flatten().find(|status| Some(&status.name) == container.name.as_ref());
            let Some(status) = status.filter(|status| differs(container, status)) else { continue };
            let resources = greatest(container, status, infeasible)?;
            all.push(Held { init, index, resources });
        }
    }
    Ok(all)
}

/// Puts them in the place of what the containers ask for.
pub(super) fn count<'a>(spec: &mut RawSpec<'a>, held: &'a [Held]) {
    for Held { init, index, resources } in held {
        let list = if *init { &mut spec.init_containers } else { &mut spec.containers };
        if let Some(container) = list.as_mut().and_then(|list| list.get_mut(*index)) {
            container.resources = Some(resources);
        }
    }
}

/// Whether a status may say something else than the specification. Both are written in one form, so that
/// most of all pods need no closer look.
fn differs(container: &RawContainer<'_>, status: &RawContainerStatus<'_>) -> bool {
    let asked = container.resources.map_or("", RawValue::get);
    let missing = |part: &RawValue| !asked.contains(part.get());
    status.allocated_resources.is_some_and(missing)
        || status.resources.is_some_and(|has| has.get() != "{}" && has.get() != asked)
}

fn greatest(
    container: &RawContainer<'_>,
    status: &RawContainerStatus<'_>,
    infeasible: bool,
) -> Result<Box<RawValue>, serde_json::Error> {
    let asked: RawRequirements = read(container.resources)?;
    let has: RawRequirements = read(status.resources)?;
    let allotted: RawResources = read(status.allocated_resources)?;
    let mut requests = asked.limits.unwrap_or_default();
    requests.extend(asked.requests.unwrap_or_default());
    if infeasible {
        requests.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
    }
    for (name, amount) in allotted.into_iter().chain(has.requests.unwrap_or_default()) {
        let known = requests.entry(name).or_insert(Value::Null);
        let quantity = |value: &Value| Quantity::from_json(value).unwrap_or(Quantity::ZERO);
        if known.is_null() || quantity(known) < quantity(&amount) {
            *known = amount;
        }
    }
    to_raw_value(&serde_json::json!({ "requests": requests }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    fn check(asked: &str, allotted: &str, has: &str, reason: Option<&str>, milli_cpu: i64) {
        let amount = |cpu: &str| json!({"cpu": cpu});
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n"},
            "spec": {"containers": [{"name": "c", "resources": {"requests": amount(asked)}}]},
            "status": {
                "conditions": reason.map(|reason| json!([{"type": "PodResizePending", "status": "True", "reason": reason}])),
                "containerStatuses": [{"name": "c", "allocatedResources": amount(allotted),
                    "resources": {"requests": amount(has)}}],
            },
        });
        let object = sampan_api::Object::parse(pod.to_string().into()).expect("an object");
        let pod = crate::pod::PodInfo::parse(&object, &mut crate::pod::Classes::default());
        let requests = &pod.expect("a pod").requests;
        assert_eq!(requests.milli_cpu, milli_cpu, "{asked} {allotted} {has} {reason:?}");
    }

    #[test]
    fn the_greatest_of_what_is_asked_allotted_and_had_counts() {
        check("1", "1", "1", None, 1000);
        check("2", "1", "1", None, 2000);
        check("1", "2", "1", None, 2000);
        check("1", "1", "3", None, 3000);
        check("5", "1", "1", Some("Deferred"), 5000);
        check("5", "1", "2", Some("Infeasible"), 2000);
    }
}
