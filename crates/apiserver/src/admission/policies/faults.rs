//! Policies and bindings that are written: what their schemas cannot say about them.

use sampan_api::status::Cause;
use sampan_api::{names, validation};
use sampan_cel::parser::is_reserved;
use serde_json::Value;

use super::compile::Fault;

const MAX_CONDITIONS: usize = 64;

/// The faults that were found so far.
#[derive(Default)]
pub struct Faults {
    pub causes: Vec<Cause>,
}

pub fn items(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

pub fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

impl Faults {
    pub fn fault(&mut self, reason: &str, field: impl Into<String>, message: String) {
        self.causes.push(Cause { reason: reason.into(), message, field: field.into() });
    }

    pub fn required(&mut self, field: impl Into<String>, detail: &str) {
        let colon = if detail.is_empty() { "" } else { ": " };
        self.fault("FieldValueRequired", field, format!("Required value{colon}{detail}"));
    }

    pub fn invalid(&mut self, field: impl Into<String>, value: &str, detail: &str) {
        self.fault("FieldValueInvalid", field, format!("Invalid value: {value:?}: {detail}"));
    }

    pub fn duplicate(&mut self, field: impl Into<String>, value: &str) {
        self.fault("FieldValueDuplicate", field, format!("Duplicate value: {value:?}"));
    }

    pub fn one_of(&mut self, field: impl Into<String>, value: &str, known: &[&str]) {
        if !known.contains(&value) {
            let known: Vec<String> = known.iter().map(|one| format!("{one:?}")).collect();
            let message = format!("Unsupported value: {value:?}: supported values: {}", known.join(", "));
            self.fault("FieldValueNotSupported", field, message);
        }
    }

    pub fn matches(&mut self, value: &Value, path: &str) {
        if !value["matchPolicy"].is_null() {
            let field = format!("{path}.matchPolicy");
            self.one_of(field, text(value, "matchPolicy"), &["Equivalent", "Exact"]);
        }
        for field in ["namespaceSelector", "objectSelector"] {
            self.selector(format!("{path}.{field}"), &value[field]);
        }
        for list in ["resourceRules", "excludeResourceRules"] {
            for (at, rule) in items(&value[list]) {
                self.rule(rule, &format!("{path}.{list}[{at}]"));
            }
        }
    }

    /// The rules of what a policy is about, of which there must be some.
    pub fn constraints(&mut self, value: &Value) {
        if value.is_null() {
            return self.required("spec.matchConstraints", "");
        }
        self.matches(value, "spec.matchConstraints");
        if value["resourceRules"].as_array().is_none_or(Vec::is_empty) {
            self.required("spec.matchConstraints.resourceRules", "");
        }
    }

    fn rule(&mut self, rule: &Value, path: &str) {
        let mut seen = Vec::new();
        for (at, name) in items(&rule["resourceNames"]) {
            let (name, field) = (name.as_str().unwrap_or_default(), format!("{path}.resourceNames[{at}]"));
            for fault in names::path_segment(name) {
                self.invalid(field.clone(), name, &fault);
            }
            if seen.contains(&name) {
                self.duplicate(field, name);
            }
            seen.push(name);
        }
        for field in ["apiGroups", "apiVersions", "resources", "operations"] {
            let given = rule[field].as_array();
            if given.is_none_or(Vec::is_empty) {
                self.required(format!("{path}.{field}"), "");
            }
            let several = given.is_some_and(|given| given.len() > 1);
            let any = given.is_some_and(|all| all.iter().any(|one| one == "*"));
            if field != "resources" && several && any {
                let message = "Invalid value: [\"*\"]: if '*' is present, must not specify other values";
                self.fault("FieldValueInvalid", format!("{path}.{field}"), message.into());
            }
        }
        for (at, operation) in items(&rule["operations"]) {
            let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
            let operation = operation.as_str().unwrap_or_default();
            self.one_of(format!("{path}.operations[{at}]"), operation, &known);
        }
        if !rule["scope"].is_null() {
            self.one_of(format!("{path}.scope"), text(rule, "scope"), &["*", "Cluster", "Namespaced"]);
        }
    }

    pub fn failure_policy(&mut self, spec: &Value) {
        if !spec["failurePolicy"].is_null() {
            self.one_of("spec.failurePolicy", text(spec, "failurePolicy"), &["Fail", "Ignore"]);
        }
    }

    /// The kind of parameters.
    pub fn param_kind(&mut self, spec: &Value) {
        let kind = &spec["paramKind"];
        if !kind.is_object() {
            return;
        }
        let (version, field) = (text(kind, "apiVersion"), "spec.paramKind.apiVersion");
        match version.split('/').collect::<Vec<_>>().as_slice() {
            [""] => self.required(field, ""),
            [one] => self.param_version(version, "", one),
            [group, one] => self.param_version(version, group, one),
            _ => self.invalid(field, version, &format!("unexpected GroupVersion string: {version}")),
        }
        let (kind, field) = (text(kind, "kind"), "spec.paramKind.kind");
        if kind.is_empty() {
            self.required(field, "");
        } else if let faults = names::dns1035_label(&kind.to_lowercase())
            && !faults.is_empty()
        {
            let faults = faults.join(",");
            self.invalid(field, kind, &format!("may have mixed case, but should otherwise match: {faults}"));
        }
    }

    fn param_version(&mut self, both: &str, group: &str, version: &str) {
        let field = "spec.paramKind.apiVersion";
        let faults = names::dns1123_subdomain(group);
        if !group.is_empty() && !faults.is_empty() {
            self.invalid(field, group, &faults.join(","));
        }
        let faults = names::dns1035_label(version);
        if version.is_empty() {
            self.invalid(field, both, "version must be specified");
        } else if !faults.is_empty() {
            self.invalid(field, version, &faults.join(","));
        }
    }

    /// The name of a binding's policy.
    pub fn policy_name(&mut self, spec: &Value) {
        match text(spec, "policyName") {
            "" => self.required("spec.policyName", ""),
            name => {
                for fault in names::dns1123_subdomain(name) {
                    self.invalid("spec.policyName", name, &fault);
                }
            }
        }
    }

    /// Expressions that cannot be compiled; empty ones were told of before.
    pub fn expressions(&mut self, faults: Vec<Fault>) {
        for fault in faults.into_iter().filter(|fault| !fault.expression.trim().is_empty()) {
            self.invalid(format!("spec.{}", fault.field), &fault.expression, &fault.error.to_string());
        }
    }

    fn selector(&mut self, path: String, selector: &Value) {
        self.causes.extend(validation::label_selector(&path, selector));
    }

    pub fn conditions(&mut self, list: &Value) {
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

    pub fn variables(&mut self, list: &Value) {
        let mut seen = Vec::new();
        for (at, variable) in items(list) {
            let (name, path) = (text(variable, "name"), format!("spec.variables[{at}]"));
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            let identifier = plain && !name.starts_with(|c: char| c.is_ascii_digit()) && !is_reserved(name);
            if name.trim().is_empty() {
                self.required(format!("{path}.name"), "name is not specified");
            } else if !identifier {
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

    pub fn param_ref(&mut self, reference: &Value) {
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
                "spec.matchConstraints.objectSelector.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator",
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
