//! Label selectors in objects, node selectors, and the match of a selector with a template.

use super::field::{At, Faults};
use super::metadata::labels;
use crate::names;
use crate::selector::Selector;

/// A `metav1.LabelSelector`.
pub(super) fn label_selector(selector: &At<'_, '_>, faults: &mut Faults) {
    labels(&selector.get("matchLabels"), faults);
    let expressions = selector.get("matchExpressions");
    for expression in expressions.items() {
        let (operator, values) = (expression.get("operator"), expression.get("values"));
        match operator.text() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    faults.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    faults.forbidden(
                        &values,
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    );
                }
            }
            other => faults.invalid_text(&operator, other, "not a valid selector operator"),
        }
        let key = expression.get("key");
        for message in names::qualified_name(key.text()) {
            faults.invalid_text(&key, key.text(), &message);
        }
        for value in values.items() {
            faults.named(&value, names::label_value(value.text()));
        }
    }
}

/// A selector of a workload: required, not empty, and its template must match it. `what` names the
/// workload in the message.
pub(super) fn workload(spec: &At<'_, '_>, what: &str, faults: &mut Faults) {
    let selector = spec.get("selector");
    if !selector.is_set() {
        faults.required(&selector, "");
        return;
    }
    let before = faults.count();
    label_selector(&selector, faults);
    if selector.get("matchLabels").is_empty() && selector.get("matchExpressions").is_empty() {
        faults.invalid(&selector, &format!("empty selector is invalid for {what}"));
    }
    let template = spec.get("template");
    let metadata = template.get("metadata");
    let template_labels = metadata.get("labels");
    if faults.count() > before {
        return;
    }
    match Selector::from_json(selector.value) {
        Err(error) => faults.invalid(&selector, &error.to_string()),
        Ok(parsed) => {
            if !parsed.matches(|key| template_labels.value.get(key)?.as_str()) {
                let empty = serde_json::json!({});
                let shown = if template_labels.is_set() { template_labels.value } else { &empty };
                faults.invalid_value(&template_labels, shown, "`selector` does not match template `labels`");
            }
        }
    }
}

/// A `NodeSelectorTerm`.
pub(super) fn node_term(term: &At<'_, '_>, faults: &mut Faults) {
    for expression in term.get("matchExpressions").items() {
        let (operator, values) = (expression.get("operator"), expression.get("values"));
        match operator.text() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    faults.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    faults.forbidden(
                        &values,
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    );
                }
            }
            "Gt" | "Lt" => {
                if values.len() != 1 {
                    faults
                        .required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
                }
            }
            other => faults.invalid_text(&operator, other, "not a valid selector operator"),
        }
        let key = expression.get("key");
        for message in names::qualified_name(key.text()) {
            faults.invalid_text(&key, key.text(), &message);
        }
    }
    for field in term.get("matchFields").items() {
        let (operator, values, key) = (field.get("operator"), field.get("values"), field.get("key"));
        if !matches!(operator.text(), "In" | "NotIn") {
            faults.invalid_text(&operator, operator.text(), "not a valid selector operator");
        } else if values.len() != 1 {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            faults.required(&values, detail);
        }
        if key.text() != "metadata.name" {
            faults.invalid_text(&key, key.text(), "not a valid field selector key");
            continue;
        }
        for value in values.items() {
            faults.named(&value, names::dns1123_subdomain(value.text()));
        }
    }
}

/// A `NodeSelector`.
pub(super) fn node_selector(selector: &At<'_, '_>, faults: &mut Faults) {
    let terms = selector.get("nodeSelectorTerms");
    if terms.is_empty() {
        faults.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_term(&term, faults);
    }
}
