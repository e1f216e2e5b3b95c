//! `x-kubernetes-validations` at work: rules are checked when a definition is written, and compiled
//! once for each version that is served.

use std::sync::Arc;

use sampan_api::Status;
use sampan_api::custom::{DEFINITIONS, Rules, Version};
use sampan_api::status::Cause;
use serde_json::Value;

use crate::admission::{Attributes, Operation};

/// The rules of one version.
#[derive(Debug)]
struct Compiled(sampan_cel::Rules);

impl Rules for Compiled {
    fn check(&self, new: &Value, old: Option<&Value>) -> Vec<Cause> {
        self.0.validate(new, old, true)
    }
}

/// Rules that could not be compiled: a definition of another server. Nothing may be written then.
#[derive(Debug)]
struct Broken(Vec<Cause>);

impl Rules for Broken {
    fn check(&self, _: &Value, _: Option<&Value>) -> Vec<Cause> {
        let told = |cause: &Cause| Cause {
            reason: "FieldValueInvalid".to_owned(),
            message: format!("Invalid value: \"object\": rule compile error: {}", cause.message),
            field: "<nil>".to_owned(),
        };
        self.0.iter().map(told).collect()
    }
}

/// The rules of a version; none where its schema has none.
pub fn of(version: &Version) -> Option<Arc<dyn Rules>> {
    match sampan_cel::Rules::compile(&version.source, "openAPIV3Schema") {
        Ok(rules) if rules.is_empty() => None,
        Ok(rules) => Some(Arc::new(Compiled(rules))),
        Err(causes) => Some(Arc::new(Broken(causes))),
    }
}

/// Refuses a definition whose rules cannot be or would cost too much. What was stored before stays.
pub fn check(attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    let (Some(object), true, "") = (object, written, attributes.subresource) else { return Ok(()) };
    if *attributes.resource.gvr() != DEFINITIONS {
        return Ok(());
    }
    let schemas = |definition: &Value| -> Vec<Value> {
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        let schema =
            |version: &Value| version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
        versions.into_iter().flatten().map(schema).collect()
    };
    let (new, old) = (schemas(object), attributes.old.map(schemas).unwrap_or_default());
    // What all versions have in common, Kubernetes knows under one path.
    let shared = new.windows(2).all(|pair| pair[0] == pair[1]);
    let mut causes = Vec::new();
    for (at, schema) in new.iter().enumerate() {
        if old.contains(schema) || (shared && at > 0) {
            continue;
        }
        let path = if shared {
            "spec.validation.openAPIV3Schema".to_owned()
        } else {
            format!("spec.versions[{at}].schema.openAPIV3Schema")
        };
        causes.extend(sampan_cel::Rules::compile(schema, &path).err().unwrap_or_default());
    }
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&DEFINITIONS.group, "CustomResourceDefinition", attributes.name, causes))
}
