//! Webhook configurations that are written: match conditions that cannot be compiled are refused.

use sampan_api::Status;
use sampan_api::status::Cause;
use sampan_cel::conditions::{Conditions, Offered, environment};
use serde_json::Value;

use super::{GROUP, MUTATING, VALIDATING};
use crate::admission::{Attributes, Operation};

/// Refuses a configuration whose conditions could never be evaluated. What was stored before stays.
pub fn check(attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
    let gvr = attributes.resource.gvr();
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    let (Some(object), true, "") = (object, written, attributes.subresource) else { return Ok(()) };
    if *gvr != MUTATING && *gvr != VALIDATING {
        return Ok(());
    }
    let before = attributes.old.map(conditions);
    if before.as_ref() == Some(&conditions(object)) {
        return Ok(());
    }
    let causes = faults(object);
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GROUP, &attributes.resource.def.kind, attributes.name, causes))
}

/// The conditions of each webhook.
fn conditions(object: &Value) -> Vec<&[Value]> {
    fn list(value: &Value) -> &[Value] {
        value.as_array().map_or(&[], Vec::as_slice)
    }
    list(&object["webhooks"]).iter().map(|hook| list(&hook["matchConditions"])).collect()
}

fn faults(object: &Value) -> Vec<Cause> {
    let environment = environment(Offered { authorizer: true, ..Offered::default() }, &[]);
    let mut causes = Vec::new();
    for (hook, list) in conditions(object).into_iter().enumerate() {
        for (at, condition) in list.iter().enumerate() {
            let text = |field: &str| condition[field].as_str().unwrap_or_default();
            let expression = text("expression");
            if expression.trim().is_empty() {
                continue;
            }
            let found = Conditions::compile([(text("name"), expression)], &environment);
            causes.extend(found.err().into_iter().flatten().map(|(_, error)| Cause {
                reason: "FieldValueInvalid".to_owned(),
                message: format!("Invalid value: {expression:?}: {error}"),
                field: format!("webhooks[{hook}].matchConditions[{at}].expression"),
            }));
        }
    }
    causes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_compiled_is_told_with_its_place() {
        let hook = |expression: &str| json!({"matchConditions": [{"name": "a", "expression": expression}]});
        let object = json!({"webhooks": [hook("request.operation == 'CREATE'"), {}, hook("nobody == 1")]});
        let told: Vec<String> =
            faults(&object).into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        assert_eq!(
            told,
            [
                "webhooks[2].matchConditions[0].expression: Invalid value: \"nobody == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'nobody' (in container '')\n | nobody == 1\n | ^"
            ]
        );
        let number = faults(&json!({"webhooks": [hook("1 + 1")]}));
        assert_eq!(number[0].message, "Invalid value: \"1 + 1\": must evaluate to bool");
    }
}
