//! Priority: a pod's priority is the one of its class.

use sampan_api::{Gvr, Status};
use serde_json::Value;

use crate::registry::Registry;

const PRIORITY_CLASSES: Gvr = Gvr::new("scheduling.k8s.io", "v1", "priorityclasses");
const PODS: Gvr = Gvr::new("", "v1", "pods");

pub fn admit(registry: &Registry, pod: &mut Value) -> Result<(), Status> {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (class, name) = (text("/spec/priorityClassName"), text("/metadata/name"));
    let (class, value, policy) = if class.is_empty() {
        default_class(registry)
    } else {
        let object = registry.find(&PRIORITY_CLASSES, &class).ok_or_else(|| {
            Status::forbidden(&PODS, &name, format!("no PriorityClass with name {class} was found"))
        })?;
        let object: Value = object.decode().map_err(Status::internal)?;
        (
            Some(class),
            object["value"].as_i64().unwrap_or(0),
            object["preemptionPolicy"].as_str().map(str::to_owned),
        )
    };
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    if spec.get("priority").and_then(Value::as_i64).is_some_and(|asked| asked != value) {
        let why = format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
            spec["priority"]
        );
        return Err(Status::forbidden(&PODS, &name, why));
    }
    if let Some(class) = class {
        spec.insert("priorityClassName".into(), class.into());
    }
    spec.insert("priority".into(), value.into());
    spec.entry("preemptionPolicy")
        .or_insert_with(|| policy.unwrap_or_else(|| "PreemptLowerPriority".into()).into());
    Ok(())
}

/// The class that is marked as the default one; of several the lowest.
fn default_class(registry: &Registry) -> (Option<String>, i64, Option<String>) {
    let Ok(resource) = registry.resource(&PRIORITY_CLASSES) else { return (None, 0, None) };
    let (classes, _) = resource.cache.snapshot();
    let defaults = classes.values().filter_map(|object| {
        let value: Value = object.decode().ok()?;
        (value["globalDefault"] == true).then(|| {
            let policy = value["preemptionPolicy"].as_str().map(str::to_owned);
            (Some(object.header.name.to_string()), value["value"].as_i64().unwrap_or(0), policy)
        })
    });
    defaults.min_by_key(|(_, value, _)| *value).unwrap_or((None, 0, None))
}
