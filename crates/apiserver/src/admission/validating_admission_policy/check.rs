//! Validating policies and bindings that are written: what their schemas cannot say about them.

use sampan_api::{Status, names};
use serde_json::Value;

use super::policy::{self, RawPolicy};
use super::{BINDINGS, GROUP, POLICIES};
use crate::admission::policies::faults::{Faults, items, text};
use crate::admission::{Attributes, Operation};

const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const MAX_ANNOTATIONS: usize = 20;

/// Refuses a policy or binding that could not be used.
pub fn check(attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
    let gvr = attributes.resource.gvr();
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    let (Some(object), true, "") = (object, written, attributes.subresource) else { return Ok(()) };
    if gvr.group != GROUP {
        return Ok(());
    }
    let mut faults = Faults::default();
    let kind = if *gvr == POLICIES {
        policy(&mut faults, object);
        "ValidatingAdmissionPolicy"
    } else if *gvr == BINDINGS {
        binding(&mut faults, &object["spec"]);
        "ValidatingAdmissionPolicyBinding"
    } else {
        return Ok(());
    };
    if faults.causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GROUP, kind, attributes.name, faults.causes))
}

fn policy(faults: &mut Faults, object: &Value) {
    let spec = &object["spec"];
    faults.failure_policy(spec);
    faults.param_kind(spec);
    faults.constraints(&spec["matchConstraints"]);
    faults.conditions(&spec["matchConditions"]);
    faults.variables(&spec["variables"]);
    let none = |field: &str| spec[field].as_array().is_none_or(Vec::is_empty);
    if none("validations") && none("auditAnnotations") {
        let detail = "validations or auditAnnotations must contain at least one item";
        faults.required("spec.validations", detail);
        faults.required("spec.auditAnnotations", detail);
    }
    validations(faults, &spec["validations"]);
    annotations(faults, &spec["auditAnnotations"], text(&object["metadata"], "name"));
    if let Ok(raw) = serde_json::from_value::<RawPolicy>(spec.clone()) {
        faults.expressions(policy::compile(raw).err().unwrap_or_default());
    }
}

fn validations(faults: &mut Faults, list: &Value) {
    for (at, validation) in items(list) {
        let path = format!("spec.validations[{at}]");
        let message = text(validation, "message");
        if text(validation, "expression").trim().is_empty() {
            faults.required(format!("{path}.expression"), "expression is not specified");
        }
        let told = text(validation, "messageExpression");
        if !told.is_empty() && told.trim().is_empty() {
            faults.invalid(format!("{path}.messageExpression"), told, "must be non-empty if specified");
        }
        if !message.is_empty() && message.trim().is_empty() {
            faults.invalid(format!("{path}.message"), message, "message must be non-empty if specified");
        } else if message.trim().contains(['\n', '\r']) {
            faults.invalid(format!("{path}.message"), message, "message must not contain line breaks");
        }
        if !validation["reason"].is_null() {
            faults.one_of(format!("{path}.reason"), text(validation, "reason"), &REASONS);
        }
    }
}

fn annotations(faults: &mut Faults, list: &Value, name: &str) {
    let mut seen = Vec::new();
    if list.as_array().is_some_and(|list| list.len() > MAX_ANNOTATIONS) {
        let message = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        faults.fault("FieldValueInvalid", "spec.auditAnnotations", format!("Invalid value: {message}"));
    }
    for (at, annotation) in items(list) {
        let (key, path) = (text(annotation, "key"), format!("spec.auditAnnotations[{at}]"));
        let full = format!("{name}/{key}");
        for fault in names::qualified_name(&full) {
            faults.invalid(format!("{path}.key"), &full, &fault);
        }
        if text(annotation, "valueExpression").trim().is_empty() {
            faults.required(format!("{path}.valueExpression"), "valueExpression is not specified");
        }
        if seen.contains(&key) {
            faults.duplicate(format!("{path}.key"), key);
        }
        seen.push(key);
    }
}

fn binding(faults: &mut Faults, spec: &Value) {
    faults.policy_name(spec);
    faults.param_ref(&spec["paramRef"]);
    if spec["matchResources"].is_object() {
        // The path is misspelt as upstream misspells it.
        faults.matches(&spec["matchResources"], "spec.matchResouces");
    }
    let mut seen = Vec::new();
    for (at, action) in items(&spec["validationActions"]) {
        let (action, field) = (action.as_str().unwrap_or_default(), format!("spec.validationActions[{at}]"));
        faults.one_of(field.clone(), action, &ACTIONS);
        if seen.contains(&action) {
            faults.duplicate(field, action);
        }
        seen.push(action);
    }
    if seen.contains(&"Deny") && seen.contains(&"Warn") {
        let shown = spec["validationActions"].to_string();
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        faults.fault(
            "FieldValueInvalid",
            "spec.validationActions",
            format!("Invalid value: {shown}: {detail}"),
        );
    }
    if seen.is_empty() {
        faults.required("spec.validationActions", "at least one validation action is required");
    }
}
