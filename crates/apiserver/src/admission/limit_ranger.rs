//! LimitRanger: containers get the defaults of their namespace's limit ranges, and pods, containers
//! and claims on storage keep to their bounds.

use std::collections::BTreeMap;

use sampan_api::pod_resources::{self, ResourceList};
use sampan_api::quantity::Quantity;
use sampan_api::{Gvr, Status};
use serde_json::{Map, Value, json};

use super::{Attributes, Operation};

const LIMIT_RANGES: Gvr = Gvr::new("", "v1", "limitranges");
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The limits of the namespace, in the order of their ranges' names.
fn limits(attributes: &Attributes<'_>) -> Result<Vec<Value>, Status> {
    let ranges = attributes.registry.find_all(&LIMIT_RANGES, attributes.namespace.unwrap_or_default());
    let mut limits = Vec::new();
    for range in ranges {
        let mut range: Value = range.decode().map_err(Status::internal)?;
        if let Value::Array(items) = range["spec"]["limits"].take() {
            limits.push(Value::Array(items));
        }
    }
    Ok(limits)
}

pub fn mutate(attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
    if attributes.is(Operation::Create, "", "pods") {
        for range in limits(attributes)? {
            set_defaults(&range, object);
        }
    }
    Ok(())
}

pub fn validate(attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    let pods = attributes.is(Operation::Create, "", "pods") || is_resize(attributes);
    let claims = attributes.is(Operation::Create, "", "persistentvolumeclaims")
        || attributes.is(Operation::Update, "", "persistentvolumeclaims");
    let leaves = attributes.old.is_some_and(|old| !old["metadata"]["deletionTimestamp"].is_null());
    if !(pods || claims) || leaves {
        return Ok(());
    }
    for range in limits(attributes)? {
        let faults = if pods { pod_faults(&range, object) } else { claim_faults(&range, object) };
        if !faults.is_empty() {
            let why = match faults.as_slice() {
                [one] => one.clone(),
                many => format!("[{}]", many.join(", ")),
            };
            return Err(Status::forbidden(attributes.resource.gvr(), attributes.name, why));
        }
    }
    Ok(())
}

fn is_resize(attributes: &Attributes<'_>) -> bool {
    let gvr = attributes.resource.gvr();
    gvr.group.is_empty() && gvr.resource == "pods" && attributes.subresource == "resize"
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn set_defaults(range: &Value, pod: &mut Value) {
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    for limit in items(range).iter().filter(|limit| limit["type"] == "Container") {
        for (from, to) in [("defaultRequest", &mut requests), ("default", &mut limits)] {
            to.extend(
                limit[from]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
        }
    }
    let mut told = Vec::new();
    for (list, noun) in [("containers", "container"), ("initContainers", "init container")] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (part, defaults, what) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let set = fill(container, part, defaults);
                if !set.is_empty() {
                    told.push(format!("{} {what} for {noun} {name}", set.join(", ")));
                }
            }
        }
    }
    if !told.is_empty() {
        let annotations = crate::registry::metadata_of(pod).entry("annotations").or_insert_with(|| json!({}));
        annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", told.join("; ")).into();
    }
}

/// Fills in what a container leaves out; answers the names, sorted.
fn fill(container: &mut Value, part: &str, defaults: &BTreeMap<String, Value>) -> Vec<String> {
    let mut set = Vec::new();
    let Some(container) = container.as_object_mut().filter(|_| !defaults.is_empty()) else { return set };
    let resources = container.entry("resources").or_insert_with(|| json!({}));
    let Some(resources) = resources.as_object_mut() else { return set };
    let list = resources.entry(part).or_insert_with(|| Value::Object(Map::new()));
    let Some(list) = list.as_object_mut() else { return set };
    for (name, value) in defaults {
        if !list.contains_key(name) {
            list.insert(name.clone(), value.clone());
            set.push(name.clone());
        }
    }
    set
}

fn claim_faults(range: &Value, claim: &Value) -> Vec<String> {
    const KIND: &str = "PersistentVolumeClaim";
    let requests = pod_resources::list(&claim["spec"]["resources"]["requests"]);
    let mut faults = Vec::new();
    for limit in items(range).iter().filter(|limit| limit["type"] == KIND) {
        for (name, least) in pod_resources::list(&limit["min"]) {
            faults.extend(below(KIND, &name, least, &requests, &ResourceList::new()));
        }
        for (name, most) in pod_resources::list(&limit["max"]) {
            let what = format!("maximum {name} usage per {KIND} is {most}");
            match requests.get(&name) {
                None => faults.push(format!("{what}.  No request is specified")),
                Some(asked) if *asked > most => faults.push(format!("{what}, but request is {asked}")),
                Some(_) => {}
            }
        }
    }
    faults
}

fn pod_faults(range: &Value, pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for limit in items(range) {
        match limit["type"].as_str() {
            Some("Container") => {
                for container in
                    items(&pod["spec"]["containers"]).iter().chain(items(&pod["spec"]["initContainers"]))
                {
                    let resources = &container["resources"];
                    let of = |part: &str| pod_resources::list(&resources[part]);
                    faults.extend(limit_faults("Container", limit, &of("requests"), &of("limits")));
                }
            }
            Some("Pod") => {
                // What a pod states as a whole stands for the sum; its overhead is not its author's.
                let of = |part: &str| {
                    let mut list = pod_resources::containers(pod, part);
                    list.extend(pod_resources::pod_level(pod, part));
                    list
                };
                faults.extend(limit_faults("Pod", limit, &of("requests"), &of("limits")));
            }
            Some(_) | None => {}
        }
    }
    faults
}

fn limit_faults(kind: &str, limit: &Value, requests: &ResourceList, limits: &ResourceList) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, least) in pod_resources::list(&limit["min"]) {
        faults.extend(below(kind, &name, least, requests, limits));
    }
    for (name, most) in pod_resources::list(&limit["max"]) {
        faults.extend(above(kind, &name, most, requests, limits));
    }
    for (name, ratio) in pod_resources::list(&limit["maxLimitRequestRatio"]) {
        faults.extend(too_far_apart(kind, &name, ratio, requests, limits));
    }
    faults
}

fn below(
    kind: &str,
    name: &str,
    least: Quantity,
    requests: &ResourceList,
    limits: &ResourceList,
) -> Option<String> {
    let what = format!("minimum {name} usage per {kind} is {least}");
    let Some(asked) = requests.get(name) else { return Some(format!("{what}.  No request is specified")) };
    if *asked < least {
        return Some(format!("{what}, but request is {asked}"));
    }
    let limit = limits.get(name).filter(|limit| **limit < least)?;
    Some(format!("{what}, but limit is {limit}"))
}

fn above(
    kind: &str,
    name: &str,
    most: Quantity,
    requests: &ResourceList,
    limits: &ResourceList,
) -> Option<String> {
    let what = format!("maximum {name} usage per {kind} is {most}");
    let Some(limit) = limits.get(name) else { return Some(format!("{what}.  No limit is specified")) };
    if *limit > most {
        return Some(format!("{what}, but limit is {limit}"));
    }
    let asked = requests.get(name).filter(|asked| **asked > most)?;
    Some(format!("{what}, but request is {asked}"))
}

fn too_far_apart(
    kind: &str,
    name: &str,
    ratio: Quantity,
    requests: &ResourceList,
    limits: &ResourceList,
) -> Option<String> {
    let what = format!("{name} max limit to request ratio per {kind} is {ratio}");
    let some = |list: &ResourceList| list.get(name).copied().filter(|amount| !amount.is_zero());
    let Some(asked) = some(requests) else {
        return Some(format!("{what}, but no request is specified or request is 0"));
    };
    let Some(limit) = some(limits) else {
        return Some(format!("{what}, but no limit is specified or limit is 0"));
    };
    let actual = limit.as_f64() / asked.as_f64();
    (actual > ratio.as_f64()).then(|| format!("{what}, but provided ratio is {actual:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_get_what_they_leave_out() {
        let range = json!([{"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"},
            "defaultRequest": {"cpu": "100m"}}]);
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "resources": {
            "requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "2Gi"}}}], "initContainers": [{"name": "i"}]}});
        set_defaults(&range, &mut pod);
        let defaults = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "1Gi"}});
        assert_eq!(pod["spec"]["containers"][0]["resources"], defaults);
        assert_eq!(pod["spec"]["initContainers"][0]["resources"], defaults);
        assert_eq!(pod["spec"]["containers"][1]["resources"]["limits"], json!({"cpu": "2", "memory": "2Gi"}));
        assert_eq!(
            pod["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container a; cpu, memory limit for container a; \
             cpu request for init container i; cpu, memory limit for init container i"
        );
    }

    #[test]
    fn bounds_are_told_in_full() {
        let check = |limit: Value, resources: Value, expected: &[&str]| {
            let pod = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
            assert_eq!(pod_faults(&json!([limit]), &pod), expected, "{limit} {resources}");
        };
        let bounds = json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"}});
        check(bounds.clone(), json!({"requests": {"cpu": "200m"}, "limits": {"cpu": "1"}}), &[]);
        check(
            bounds.clone(),
            json!({}),
            &[
                "minimum cpu usage per Container is 100m.  No request is specified",
                "maximum cpu usage per Container is 1.  No limit is specified",
            ],
        );
        check(
            bounds,
            json!({"requests": {"cpu": "50m"}, "limits": {"cpu": "2"}}),
            &[
                "minimum cpu usage per Container is 100m, but request is 50m",
                "maximum cpu usage per Container is 1, but limit is 2",
            ],
        );
        check(
            json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "2"}}),
            json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}}),
            &["cpu max limit to request ratio per Pod is 2, but provided ratio is 5.000000"],
        );
        let claim = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
        let bounds =
            json!([{"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]);
        assert_eq!(
            claim_faults(&bounds, &claim),
            ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]
        );
    }
}
