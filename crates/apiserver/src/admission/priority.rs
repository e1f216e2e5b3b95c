//! Priority: a pod's priority is the one of its class, and at most one class is the default.

use sampan_api::{Gvr, Status};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::registry::Registry;

const PRIORITY_CLASSES: Gvr = Gvr::new("scheduling.k8s.io", "v1", "priorityclasses");

/// What pods get of a class.
struct Class {
    name: String,
    value: i64,
    policy: Option<String>,
}

impl Class {
    fn of(object: &Value) -> Self {
        Class {
            name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            value: object["value"].as_i64().unwrap_or(0),
            policy: object["preemptionPolicy"].as_str().map(str::to_owned),
        }
    }
}

pub fn mutate(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if attributes.is(Operation::Create, "", "pods") {
        return create(attributes, pod);
    }
    if attributes.is(Operation::Update, "", "pods")
        && let Some(old) = attributes.old
        && let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut)
    {
        // What was given on creation stays where a manifest leaves it out.
        for field in ["priority", "preemptionPolicy"] {
            if spec.get(field).is_none_or(Value::is_null) && !old["spec"][field].is_null() {
                spec.insert(field.into(), old["spec"][field].clone());
            }
        }
    }
    Ok(())
}

pub fn validate(attributes: &Attributes<'_>, class: &Value) -> Result<(), Status> {
    let written = [Operation::Create, Operation::Update]
        .into_iter()
        .any(|operation| attributes.is(operation, "scheduling.k8s.io", "priorityclasses"));
    if !written || class["globalDefault"] != true {
        return Ok(());
    }
    match default_class(attributes.registry)? {
        Some(other) if attributes.operation == Operation::Create || other.name != attributes.name => {
            let why = format!(
                "PriorityClass {} is already marked as default. Only one default can exist",
                other.name
            );
            Err(Status::forbidden(&PRIORITY_CLASSES, attributes.name, why))
        }
        Some(_) | None => Ok(()),
    }
}

fn create(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let refused = |why: String| Status::forbidden(attributes.resource.gvr(), attributes.name, why);
    let named = pod["spec"]["priorityClassName"].as_str().unwrap_or_default();
    let class = if named.is_empty() {
        default_class(attributes.registry)?.unwrap_or(Class {
            name: String::new(),
            value: 0,
            policy: Some("PreemptLowerPriority".to_owned()),
        })
    } else {
        let found = attributes.registry.find(&PRIORITY_CLASSES, named);
        let found = found.ok_or_else(|| refused(format!("no PriorityClass with name {named} was found")))?;
        Class::of(&found.decode().map_err(Status::internal)?)
    };
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    if let Some(asked) = spec.get("priority").and_then(Value::as_i64).filter(|asked| *asked != class.value) {
        return Err(refused(format!(
            "the integer value of priority ({asked}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
            class.value
        )));
    }
    spec.insert("priority".into(), class.value.into());
    if !class.name.is_empty() {
        spec.insert("priorityClassName".into(), class.name.into());
    }
    if let Some(policy) = class.policy {
        if let Some(asked) =
            spec.get("preemptionPolicy").and_then(Value::as_str).filter(|asked| **asked != policy)
        {
            return Err(refused(format!(
                "the string value of PreemptionPolicy ({asked}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            )));
        }
        spec.insert("preemptionPolicy".into(), policy.into());
    }
    Ok(())
}

/// The class that is marked as the default one; of several, which only a race makes, the lowest.
fn default_class(registry: &Registry) -> Result<Option<Class>, Status> {
    let (classes, _) = registry.resource(&PRIORITY_CLASSES)?.cache.snapshot();
    let mut lowest: Option<Class> = None;
    for object in classes.values() {
        let value: Value = object.decode().map_err(Status::internal)?;
        if value["globalDefault"] == true {
            let class = Class::of(&value);
            if lowest.as_ref().is_none_or(|lowest| class.value < lowest.value) {
                lowest = Some(class);
            }
        }
    }
    Ok(lowest)
}
