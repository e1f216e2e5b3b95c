//! Policies and bindings that are written: what their schema cannot say about them.

use sampan_api::status::Cause;
use sampan_api::{Status, names, validation};
use serde_json::Value;

use super::policy::{self, RawPolicy};
use super::{BINDINGS, GROUP, POLICIES};
use crate::admission::{Attributes, Operation};

const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const MAX_ANNOTATIONS: usize = 20;
const MAX_CONDITIONS: usize = 64;

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
        faults.policy(object);
        "ValidatingAdmissionPolicy"
    } else if *gvr == BINDINGS {
        faults.binding(&object["spec"]);
        "ValidatingAdmissionPolicyBinding"
    } else {
        return Ok(());
    };
    if faults.causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GROUP, kind, attributes.name, faults.causes))
}

#[derive(Default)]
struct Faults {
    causes: Vec<Cause>,
}

fn items(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

impl Faults {
    fn fault(&mut self, reason: &str, field: impl Into<String>, message: String) {
        self.causes.push(Cause { reason: reason.into(), message, field: field.into() });
    }

    fn required(&mut self, field: impl Into<String>, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.fault("FieldValueRequired", field, format!("Required value{colon}{detail}"));
    }

    fn invalid(&mut self, field: impl Into<String>, value: &str, detail: &str) {
        self.fault("FieldValueInvalid", field, format!("Invalid value: {value:?}: {detail}"));
    }

    fn duplicate(&mut self, field: impl Into<String>, value: &str) {
        self.fault("FieldValueDuplicate", field, format!("Duplicate value: {value:?}"));
    }

    fn one_of(&mut self, field: impl Into<String>, value: &str, known: &[&str]) {
        if !known.contains(&value) {
            let known: Vec<String> = known.iter().map(|one| format!("{one:?}")).collect();
            let message = format!("Unsupported value: {value:?}: supported values: {}", known.join(", "));
            self.fault("FieldValueNotSupported", field, message);
        }
    }

    fn policy(&mut self, object: &Value) {
        let spec = &object["spec"];
        if !spec["failurePolicy"].is_null() {
            self.one_of("spec.failurePolicy", text(spec, "failurePolicy"), &["Fail", "Ignore"]);
        }
        if spec["paramKind"].is_object() {
            for field in ["apiVersion", "kind"] {
                if text(&spec["paramKind"], field).is_empty() {
                    self.required(format!("spec.paramKind.{field}"), "");
                }
            }
        }
        match &spec["matchConstraints"] {
            Value::Null => self.required("spec.matchConstraints", ""),
            constraints => {
                self.matches(constraints, "spec.matchConstraints");
                if constraints["resourceRules"].as_array().is_none_or(Vec::is_empty) {
                    self.required("spec.matchConstraints.resourceRules", "");
                }
            }
        }
        self.conditions(&spec["matchConditions"]);
        self.variables(&spec["variables"]);
        let none = |field: &str| spec[field].as_array().is_none_or(Vec::is_empty);
        if none("validations") && none("auditAnnotations") {
            let detail = "validations or auditAnnotations must contain at least one item";
            self.required("spec.validations", detail);
            self.required("spec.auditAnnotations", detail);
        }
        self.validations(&spec["validations"]);
        self.annotations(&spec["auditAnnotations"], text(&object["metadata"], "name"));
        self.expressions(spec);
    }

    fn expressions(&mut self, spec: &Value) {
        let Ok(raw) = serde_json::from_value::<RawPolicy>(spec.clone()) else { return };
        let faults = policy::compile(raw).err().unwrap_or_default();
        for fault in faults.into_iter().filter(|fault| !fault.expression.trim().is_empty()) {
            self.invalid(format!("spec.{}", fault.field), &fault.expression, &fault.error.to_string());
        }
    }

    fn matches(&mut self, value: &Value, path: &str) {
        if !value["matchPolicy"].is_null() {
            let field = format!("{path}.matchPolicy");
            self.one_of(field, text(value, "matchPolicy"), &["Equivalent", "Exact"]);
        }
        // Upstream names the second one so.
        for (field, told) in [("namespaceSelector", "namespaceSelector"), ("objectSelector", "labelSelector")]
        {
            self.selector(format!("{path}.{told}"), &value[field]);
        }
        for list in ["resourceRules", "excludeResourceRules"] {
            for (at, rule) in items(&value[list]) {
                let path = format!("{path}.{list}[{at}]");
                for field in ["apiGroups", "apiVersions", "resources", "operations"] {
                    let given = rule[field].as_array();
                    if given.is_none_or(Vec::is_empty) {
                        self.required(format!("{path}.{field}"), "");
                    }
                    let several = given.is_some_and(|given| given.len() > 1);
                    if field != "resources"
                        && several
                        && given.is_some_and(|all| all.iter().any(|one| one == "*"))
                    {
                        let message =
                            "Invalid value: [\"*\"]: if '*' is present, must not specify other values";
                        self.fault("FieldValueInvalid", format!("{path}.{field}"), message.into());
                    }
                }
                for (at, operation) in items(&rule["operations"]) {
                    let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
                    self.one_of(
                        format!("{path}.operations[{at}]"),
                        operation.as_str().unwrap_or_default(),
                        &known,
                    );
                }
                if !rule["scope"].is_null() {
                    self.one_of(
                        format!("{path}.scope"),
                        text(rule, "scope"),
                        &["*", "Cluster", "Namespaced"],
                    );
                }
            }
        }
    }

    fn selector(&mut self, path: String, selector: &Value) {
        self.causes.extend(validation::label_selector(&path, selector));
    }

    fn conditions(&mut self, list: &Value) {
        let count = list.as_array().map_or(0, Vec::len);
        if count > MAX_CONDITIONS {
            let message = format!("Too many: {count}: must have at most {MAX_CONDITIONS} items");
            self.fault("FieldValueTooMany", "spec.matchConditions", message);
        }
        let mut seen = Vec::new();
        for (at, condition) in items(list) {
            let (name, path) = (text(condition, "name"), format!("spec.matchConditions[{at}]"));
            if text(condition, "expression").trim().is_empty() {
                self.required(format!("{path}.expression"), "");
            }
            if name.is_empty() {
                self.required(format!("{path}.name"), "");
            } else {
                for fault in names::qualified_name(name) {
                    self.invalid(format!("{path}.name"), name, &fault);
                }
            }
            if seen.contains(&name) && !name.is_empty() {
                self.duplicate(format!("{path}.name"), name);
            }
            seen.push(name);
        }
    }

    fn variables(&mut self, list: &Value) {
        let mut seen = Vec::new();
        for (at, variable) in items(list) {
            let (name, path) = (text(variable, "name"), format!("spec.variables[{at}]"));
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if name.trim().is_empty() {
                self.required(format!("{path}.name"), "name is not specified");
            } else if !plain || name.starts_with(|c: char| c.is_ascii_digit()) {
                self.invalid(format!("{path}.name"), name, "name is not a valid CEL identifier");
            }
            if text(variable, "expression").trim().is_empty() {
                self.required(format!("{path}.expression"), "expression is not specified");
            }
            if seen.contains(&name) && !name.is_empty() {
                self.duplicate(format!("{path}.name"), name);
            }
            seen.push(name);
        }
    }

    fn validations(&mut self, list: &Value) {
        for (at, validation) in items(list) {
            let path = format!("spec.validations[{at}]");
            let message = text(validation, "message");
            if text(validation, "expression").trim().is_empty() {
                self.required(format!("{path}.expression"), "expression is not specified");
            }
            let told = text(validation, "messageExpression");
            if !told.is_empty() && told.trim().is_empty() {
                self.invalid(format!("{path}.messageExpression"), told, "must be non-empty if specified");
            }
            if !message.is_empty() && message.trim().is_empty() {
                self.invalid(format!("{path}.message"), message, "message must be non-empty if specified");
            } else if message.trim().contains(['\n', '\r']) {
                self.invalid(format!("{path}.message"), message, "message must not contain line breaks");
            }
            if !validation["reason"].is_null() {
                self.one_of(format!("{path}.reason"), text(validation, "reason"), &REASONS);
            }
        }
    }

    fn annotations(&mut self, list: &Value, name: &str) {
        let mut seen = Vec::new();
        if list.as_array().is_some_and(|list| list.len() > MAX_ANNOTATIONS) {
            let message = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
            self.fault("FieldValueInvalid", "spec.auditAnnotations", format!("Invalid value: {message}"));
        }
        for (at, annotation) in items(list) {
            let (key, path) = (text(annotation, "key"), format!("spec.auditAnnotations[{at}]"));
            let full = format!("{name}/{key}");
            for fault in names::qualified_name(&full) {
                self.invalid(format!("{path}.key"), &full, &fault);
            }
            if text(annotation, "valueExpression").trim().is_empty() {
                self.required(format!("{path}.valueExpression"), "valueExpression is not specified");
            }
            if seen.contains(&key) {
                self.duplicate(format!("{path}.key"), key);
            }
            seen.push(key);
        }
    }

    fn binding(&mut self, spec: &Value) {
        match text(spec, "policyName") {
            "" => self.required("spec.policyName", ""),
            name => {
                for fault in names::dns1123_subdomain(name) {
                    self.invalid("spec.policyName", name, &fault);
                }
            }
        }
        if spec["matchResources"].is_object() {
            // The path is misspelt as upstream misspells it.
            self.matches(&spec["matchResources"], "spec.matchResouces");
        }
        self.param_ref(&spec["paramRef"]);
        let mut seen = Vec::new();
        for (at, action) in items(&spec["validationActions"]) {
            let (action, field) =
                (action.as_str().unwrap_or_default(), format!("spec.validationActions[{at}]"));
            self.one_of(field.clone(), action, &ACTIONS);
            if seen.contains(&action) {
                self.duplicate(field, action);
            }
            seen.push(action);
        }
        if seen.contains(&"Deny") && seen.contains(&"Warn") {
            let shown = spec["validationActions"].to_string();
            let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
            self.fault(
                "FieldValueInvalid",
                "spec.validationActions",
                format!("Invalid value: {shown}: {detail}"),
            );
        }
        if seen.is_empty() {
            self.required("spec.validationActions", "at least one validation action is required");
        }
    }

    fn param_ref(&mut self, reference: &Value) {
        if !reference.is_object() {
            return;
        }
        let (name, selector) = (text(reference, "name"), &reference["selector"]);
        let both = "Forbidden: name and selector are mutually exclusive";
        if !name.is_empty() {
            for fault in names::path_segment(name) {
                self.invalid("spec.paramRef.name", name, &fault);
            }
            if !selector.is_null() {
                self.fault("FieldValueForbidden", "spec.paramRef.name", both.into());
            }
        } else if selector.is_null() {
            self.required("spec.paramRef", "one of name or selector must be specified");
        }
        self.selector("spec.paramRef.selector".to_owned(), selector);
        if !name.is_empty() && !selector.is_null() {
            self.fault("FieldValueForbidden", "spec.paramRef.selector", both.into());
        }
        match reference["parameterNotFoundAction"].as_str() {
            None => self.required("spec.paramRef.parameterNotFoundAction", ""),
            Some(action) => self.one_of("spec.paramRef.parameterNotFoundAction", action, &["Allow", "Deny"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(faults: Faults) -> Vec<String> {
        faults.causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
    }

    #[test]
    fn selectors_are_held_to_their_rules() {
        let mut faults = Faults::default();
        faults.matches(
            &json!({
                "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]},
                "objectSelector": {"matchExpressions": [{"key": "a", "operator": "Is", "values": ["b"]}]},
            }),
            "spec.matchConstraints",
        );
        assert_eq!(
            told(faults),
            [
                "spec.matchConstraints.namespaceSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.matchConstraints.labelSelector.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator",
            ]
        );
        let mut faults = Faults::default();
        faults.param_ref(&json!({
            "name": "a", "selector": {"matchLabels": {"a": "b"}}, "parameterNotFoundAction": "Deny",
        }));
        assert_eq!(
            told(faults),
            ["name", "selector"].map(|field| format!(
                "spec.paramRef.{field}: Forbidden: name and selector are mutually exclusive"
            ))
        );
    }
}
