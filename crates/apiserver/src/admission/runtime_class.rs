//! RuntimeClass: a pod's runtime class exists, and says what running it costs and where it can run.

use sampan_api::{Gvr, Status};
use serde_json::{Map, Value};

use super::{Attributes, Operation};

const RUNTIME_CLASSES: Gvr = Gvr::new("node.k8s.io", "v1", "runtimeclasses");

fn class(attributes: &Attributes<'_>, pod: &Value) -> Result<Value, Status> {
    let Some(name) = pod["spec"]["runtimeClassName"].as_str() else { return Ok(Value::Null) };
    let found = attributes.registry.find(&RUNTIME_CLASSES, name).ok_or_else(|| {
        let why = format!("pod rejected: RuntimeClass {name:?} not found");
        Status::forbidden(attributes.resource.gvr(), attributes.name, why)
    })?;
    found.decode().map_err(Status::internal)
}

pub fn mutate(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    if !attributes.is(Operation::Create, "", "pods") {
        return Ok(());
    }
    let class = class(attributes, pod)?;
    apply(&class, pod).map_err(|why| Status::forbidden(attributes.resource.gvr(), attributes.name, why))
}

pub fn validate(attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if !attributes.is(Operation::Create, "", "pods") {
        return Ok(());
    }
    let class = class(attributes, pod)?;
    let (fixed, overhead) = (&class["overhead"]["podFixed"], &pod["spec"]["overhead"]);
    let why = if class["overhead"].is_null() {
        "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    } else {
        "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
    };
    if fixed == overhead {
        return Ok(());
    }
    Err(Status::forbidden(attributes.resource.gvr(), attributes.name, why))
}

fn apply(class: &Value, pod: &mut Value) -> Result<(), String> {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    let fixed = &class["overhead"]["podFixed"];
    if !fixed.is_null() {
        if spec.get("overhead").is_some_and(|overhead| !overhead.is_null() && overhead != fixed) {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
        }
        spec.insert("overhead".into(), fixed.clone());
    }
    let scheduling = &class["scheduling"];
    if let Some(wanted) = scheduling["nodeSelector"].as_object().filter(|wanted| !wanted.is_empty()) {
        let selector = spec.entry("nodeSelector").or_insert_with(|| Value::Object(Map::new()));
        for (key, value) in wanted {
            let (own, of_class) =
                (selector[key].as_str().unwrap_or_default(), value.as_str().unwrap_or_default());
            if selector.get(key).is_some_and(|own| own != value) {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {of_class}; pod.spec.nodeSelector[{key}] = {own}"
                ));
            }
            selector[key] = value.clone();
        }
    }
    let tolerations = scheduling["tolerations"].as_array().filter(|tolerations| !tolerations.is_empty());
    if let Some(tolerations) = tolerations
        && let Some(own) =
            spec.entry("tolerations").or_insert_with(|| Value::Array(Vec::new())).as_array_mut()
    {
        let missing: Vec<Value> = tolerations.iter().filter(|one| !own.contains(one)).cloned().collect();
        own.extend(missing);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_class_says_cost_and_place() {
        let class = json!({"overhead": {"podFixed": {"cpu": "10m"}}, "scheduling": {
            "nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
        let mut pod = json!({"spec": {"nodeSelector": {"a": "b"}}});
        assert_eq!(apply(&class, &mut pod), Ok(()));
        let expected = json!({"spec": {"overhead": {"cpu": "10m"}, "nodeSelector": {"a": "b", "vm": "yes"},
            "tolerations": [{"key": "vm", "operator": "Exists"}]}});
        assert_eq!(pod, expected);
        assert_eq!(apply(&class, &mut pod), Ok(()));
        assert_eq!(pod, expected, "the second time changes nothing");
        let mut other = json!({"spec": {"nodeSelector": {"vm": "no"}}});
        assert_eq!(
            apply(&class, &mut other),
            Err("conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"
                .into())
        );
        let mut costly = json!({"spec": {"overhead": {"cpu": "1"}}});
        assert!(apply(&class, &mut costly).is_err());
        let mut plain = json!({"spec": {}});
        assert_eq!((apply(&Value::Null, &mut plain), plain), (Ok(()), json!({"spec": {}})));
    }
}
