//! Where a pod may run: affinity, tolerations, spreading.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field::{At, Faults};
use super::selector::{label_selector, node_selector, node_term};
use crate::names;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn affinity(affinity: &At<'_, '_>, faults: &mut Faults) {
    let node = affinity.get("nodeAffinity");
    let required = node.get(REQUIRED);
    if required.is_set() {
        node_selector(&required, faults);
    }
    for term in node.get(PREFERRED).items() {
        weight(&term.get("weight"), faults);
        node_term(&term.get("preference"), faults);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pod = affinity.get(kind);
        for term in pod.get(REQUIRED).items() {
            pod_term(&term, faults);
        }
        for weighted in pod.get(PREFERRED).items() {
            weight(&weighted.get("weight"), faults);
            pod_term(&weighted.get("podAffinityTerm"), faults);
        }
    }
}

fn weight(weight: &At<'_, '_>, faults: &mut Faults) {
    if !(1..=100).contains(&weight.int().unwrap_or_default()) {
        let zero = Value::from(0);
        faults.invalid_value(
            weight,
            if weight.is_set() { weight.value } else { &zero },
            "must be in the range 1-100",
        );
    }
}

fn pod_term(term: &At<'_, '_>, faults: &mut Faults) {
    label_selector(&term.get("labelSelector"), faults);
    label_selector(&term.get("namespaceSelector"), faults);
    for namespace in term.get("namespaces").items() {
        for message in names::dns1123_label(namespace.text()) {
            faults.invalid_value(&term.get("namespace"), namespace.value, &message);
        }
    }
    let key = term.get("topologyKey");
    if key.text().is_empty() {
        faults.required(&key, "can not be empty");
    }
    for message in names::qualified_name(key.text()) {
        faults.invalid_text(&key, key.text(), &message);
    }
}

pub(super) fn tolerations(tolerations: &At<'_, '_>, faults: &mut Faults) {
    for toleration in tolerations.items() {
        let (key, operator) = (toleration.get("key"), toleration.get("operator"));
        let (value, effect) = (toleration.get("value"), toleration.get("effect"));
        if !key.text().is_empty() {
            faults.named(&key, names::qualified_name(key.text()));
        } else if operator.text() != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            faults.invalid_text(&operator, operator.text(), detail);
        }
        if toleration.get("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            faults.invalid_text(&effect, effect.text(), detail);
        }
        match operator.text() {
            "" | "Equal" => {
                let messages = names::label_value(value.text());
                if !messages.is_empty() {
                    faults.invalid_text(&operator, value.text(), &messages.join(";"));
                }
            }
            "Exists" => {
                if !value.text().is_empty() {
                    let detail = "value must be empty when `operator` is 'Exists'";
                    faults.invalid_value(&operator, toleration.value, detail);
                }
            }
            _ => faults.unsupported(&operator, &["Equal", "Exists"]),
        }
        if !effect.text().is_empty() && !EFFECTS.contains(&effect.text()) {
            faults.unsupported(&effect, &EFFECTS);
        }
    }
}

/// Taints of a node.
pub(super) fn taints(taints: &At<'_, '_>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for taint in taints.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        for message in names::qualified_name(key.text()) {
            faults.invalid_text(&key, key.text(), &message);
        }
        faults.named(&value, names::label_value(value.text()));
        if effect.text().is_empty() {
            faults.required(&effect, "");
        } else if !EFFECTS.contains(&effect.text()) {
            faults.unsupported(&effect, &EFFECTS);
        }
        if !seen.insert((key.text(), effect.text())) {
            faults.duplicate(&taint, taint.value);
        }
    }
}

pub(super) fn spread_constraints(constraints: &At<'_, '_>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for constraint in constraints.items() {
        let skew = constraint.get("maxSkew");
        if skew.int().unwrap_or_default() <= 0 {
            let zero = Value::from(0);
            faults.invalid_value(
                &skew,
                if skew.is_set() { skew.value } else { &zero },
                "must be greater than zero",
            );
        }
        let (key, action) = (constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        if key.text().is_empty() {
            faults.required(&key, "can not be empty");
        }
        if !matches!(action.text(), "DoNotSchedule" | "ScheduleAnyway") {
            faults.unsupported(&action, &["DoNotSchedule", "ScheduleAnyway"]);
        }
        if !seen.insert((key.text(), action.text())) {
            let at = constraint.get("{topologyKey, whenUnsatisfiable}");
            faults.duplicate(&at, &Value::from(format!("{{{}, {}}}", key.text(), action.text())));
        }
        let domains = constraint.get("minDomains");
        if domains.int().is_some_and(|domains| domains <= 0) {
            faults.invalid(&domains, "must be greater than zero");
        }
        if domains.is_set() && action.text() != "DoNotSchedule" {
            let detail =
                format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", action.text());
            faults.invalid(&domains, &detail);
        }
        faults.one_of_or_none(&constraint.get("nodeAffinityPolicy"), &["Honor", "Ignore"]);
        faults.one_of_or_none(&constraint.get("nodeTaintsPolicy"), &["Honor", "Ignore"]);
        label_selector(&constraint.get("labelSelector"), faults);
    }
}
