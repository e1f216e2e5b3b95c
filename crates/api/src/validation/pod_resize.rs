//! What the `resize` subresource may change of a pod (KEP-1287): CPU and memory of containers, and of init
//! containers that go on running.

use serde_json::{Map, Value};

use super::field::{At, Faults, same};
use crate::defaults::qos_class;

const LISTS: [&str; 2] = ["containers", "initContainers"];
const MUTABLE: [&str; 2] = ["cpu", "memory"];

pub(super) fn update(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    let whole = At::root(root.value);
    if before.get("metadata").get("annotations").get("kubernetes.io/config.mirror").is_set() {
        return faults.forbidden(&whole, "static pods cannot be resized");
    }
    if old.get("os").get("name").text() == "windows" {
        return faults.forbidden(&whole, "windows pods cannot be resized");
    }
    let class = before.get("status").get("qosClass").text();
    let class = if class.is_empty() { qos_class(before.value) } else { class };
    if class != qos_class(root.value) {
        faults.invalid_text(&spec, class, "Pod QOS Class may not change as a result of resizing");
    }
    if !is_supported(before) {
        faults.forbidden(&spec, "Pod running on node without support for resize");
    }
    let known = faults.count();
    for list in LISTS {
        order(list, &spec.get(list), &old.get(list), faults);
    }
    if faults.count() > known {
        return;
    }
    for list in LISTS {
        let (containers, old) = (spec.get(list), old.get(list));
        for (container, old) in containers.items().zip(old.items()) {
            removed(&container.get("resources"), &old.get("resources"), faults);
        }
    }
    let settled = settled(spec.value, old.value);
    for (container, old) in list(&settled, "initContainers").iter().zip(list(old.value, "initContainers")) {
        if !same(container, old) {
            faults.forbidden(&spec, "only cpu and memory resources for sidecar containers are mutable");
        }
    }
    let mut others = settled;
    let mut old = old.value.clone();
    for spec in [&mut others, &mut old] {
        if let Some(spec) = spec.as_object_mut() {
            spec.remove("initContainers");
        }
    }
    if !same(&others, &old) {
        faults.forbidden(&spec, "only cpu and memory resources are mutable");
    }
}

/// A node that can resize says what its containers have.
fn is_supported(pod: &At<'_, '_>) -> bool {
    let status = pod.get("status");
    let statuses = status.get("containerStatuses");
    let running = statuses.items().find(|status| status.get("state").get("running").is_set());
    running.is_none_or(|status| status.get("resources").is_set())
}

fn order(name: &str, now: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    if now.len() != before.len() {
        return faults.forbidden(now, &format!("{name} may not be added or removed on resize"));
    }
    for (container, old) in now.items().zip(before.items()) {
        if container.get("name").text() != old.get("name").text() {
            let detail = format!("{name} may not be renamed or reordered on resize");
            faults.forbidden(&container.get("name"), &detail);
        }
    }
}

/// What is asked for once can be changed and not be taken back.
fn removed(now: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    for (list, noun) in [("requests", "resource requests"), ("limits", "resource limits")] {
        let (now, before) = (now.get(list), before.get(list));
        if before.entries().any(|(name, _)| !now.key(name).is_set()) {
            faults.forbidden(&now, &format!("{noun} cannot be removed"));
        }
    }
}

fn list<'a>(spec: &'a Value, name: &str) -> &'a [Value] {
    spec[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A spec with what may change as it was before: what still differs may not.
fn settled(spec: &Value, old: &Value) -> Value {
    let mut settled = spec.clone();
    for name in LISTS {
        let Some(containers) = settled.get_mut(name).and_then(Value::as_array_mut) else { continue };
        for (container, old) in containers.iter_mut().zip(list(old, name)) {
            if name == "containers" || container["restartPolicy"] == "Always" {
                settle(container, old);
            }
        }
    }
    settled
}

fn settle(container: &mut Value, old: &Value) {
    for list in ["requests", "limits"] {
        let mut amounts = container["resources"][list].as_object().cloned().unwrap_or_default();
        for name in MUTABLE {
            match old["resources"][list].get(name) {
                Some(amount) => amounts.insert(name.to_owned(), amount.clone()),
                None => amounts.remove(name),
            };
        }
        if let Some(resources) = resources(container) {
            resources.insert(list.to_owned(), Value::Object(amounts));
        }
    }
}

fn resources(container: &mut Value) -> Option<&mut Map<String, Value>> {
    let container = container.as_object_mut()?;
    container.entry("resources").or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validation::update_resize;

    fn pod(containers: Value) -> Value {
        let mut pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "1"},
            "spec": {"containers": containers},
            "status": {"containerStatuses": [{"state": {"running": {}}, "resources": {}}]},
        });
        crate::defaults::apply("", "v1", "Pod", &mut pod);
        pod["status"]["qosClass"] = qos_class(&pod).into();
        pod
    }

    fn container(name: &str, resources: Value) -> Value {
        json!({"name": name, "image": "i", "resources": resources})
    }

    fn check(old: Value, new: Value, expected: &[&str]) {
        let told: Vec<String> = update_resize(&new, &old)
            .into_iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        assert_eq!(told, expected, "{}", new["spec"]);
    }

    #[test]
    fn cpu_and_memory_change_and_nothing_else() {
        let asks = |cpu: &str| json!({"requests": {"cpu": cpu, "memory": "1Mi"}});
        let one = |resources: Value| pod(json!([container("a", resources)]));
        check(one(asks("1")), one(asks("2")), &[]);
        let limited = |cpu: &str| json!({"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": cpu}});
        check(one(asks("1")), one(limited("2")), &[]);
        check(
            one(limited("2")),
            one(asks("1")),
            &["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed"],
        );
        check(
            one(asks("1")),
            one(json!({"requests": {"cpu": "1"}})),
            &["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"],
        );
        check(
            one(asks("1")),
            one(json!({"requests": {"cpu": "1", "memory": "1Mi", "ephemeral-storage": "1Mi"}})),
            &["spec: Forbidden: only cpu and memory resources are mutable"],
        );
        check(
            one(json!({})),
            one(asks("1")),
            &["spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing"],
        );
        let mut unaware = one(asks("1"));
        unaware["status"]["containerStatuses"][0]["resources"] = Value::Null;
        check(unaware, one(asks("2")), &["spec: Forbidden: Pod running on node without support for resize"]);
    }

    #[test]
    fn containers_stay_what_and_where_they_are() {
        let asks = || json!({"requests": {"cpu": "1"}});
        let (a, b) = (container("a", asks()), container("b", asks()));
        check(
            pod(json!([a, b])),
            pod(json!([b, a])),
            &[
                "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize",
                "spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize",
            ],
        );
        check(
            pod(json!([a, b])),
            pod(json!([a])),
            &["spec.containers: Forbidden: containers may not be added or removed on resize"],
        );
        let with_init = |policy: Value, cpu: &str| {
            let mut pod = pod(json!([a]));
            let mut init = container("i", json!({"requests": {"cpu": cpu}}));
            init["restartPolicy"] = policy;
            pod["spec"]["initContainers"] = json!([init]);
            crate::defaults::apply("", "v1", "Pod", &mut pod);
            pod
        };
        check(with_init(json!("Always"), "1"), with_init(json!("Always"), "2"), &[]);
        check(
            with_init(Value::Null, "1"),
            with_init(Value::Null, "2"),
            &["spec: Forbidden: only cpu and memory resources for sidecar containers are mutable"],
        );
    }
}
