//! Rules on an object.

use std::sync::Arc;

use sampan_api::status::Cause;
use serde_json::Value as Json;

use super::{CALL_LIMIT, MAX_MESSAGE, Node, OBJECT_BUDGET, Rule, Rules};
use crate::eval::{EvalError, Evaluator};
use crate::types::ListKind;
use crate::value::Value;

pub(super) fn validate(rules: &Rules, object: &Json, old: Option<&Json>, ratchet: bool) -> Vec<Cause> {
    let mut run = Run { causes: Vec::new(), left: OBJECT_BUDGET, stopped: false, ratchet };
    if let Some(root) = &rules.root {
        run.visit(root, object, old, String::new());
    }
    run.causes
}

struct Run {
    causes: Vec<Cause>,
    left: u64,
    stopped: bool,
    ratchet: bool,
}

impl Run {
    fn visit(&mut self, node: &Node, object: &Json, old: Option<&Json>, path: String) {
        let old = old.filter(|old| !old.is_null());
        if self.stopped || object.is_null() {
            return;
        }
        self.rules(node, object, old, &path);
        match object {
            Json::Array(items) => {
                let Some(below) = &node.items else { return };
                for (at, item) in items.iter().enumerate() {
                    let before = old.and_then(|old| correlated(&node.list, item, old));
                    self.visit(below, item, before, format!("{path}[{at}]"));
                }
            }
            Json::Object(fields) => {
                for (name, value) in fields {
                    let before = old.and_then(|old| old.get(name));
                    if let Some(below) = node.properties.get(name) {
                        self.visit(below, value, before, child(&path, name));
                    } else if let Some(below) = &node.values {
                        self.visit(below, value, before, format!("{path}[{name}]"));
                    }
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, node: &Node, object: &Json, old: Option<&Json>, path: &str) {
        if node.rules.is_empty() {
            return;
        }
        let unchanged = self.ratchet && old == Some(object);
        let this = Value::from_json(object, Some(&node.decl));
        let before = old.map(|old| Value::from_json(old, Some(&node.decl)));
        for rule in &node.rules {
            let skip = (unchanged && !rule.transition)
                || (rule.transition && old.is_none() && !rule.optional_old_self);
            if skip {
                continue;
            }
            let mut roots = vec![("self", this.clone())];
            if rule.optional_old_self {
                roots.push(("oldSelf", Value::Optional(before.clone().map(Arc::new))));
            } else if let Some(before) = &before {
                roots.push(("oldSelf", before.clone()));
            }
            self.rule(node, rule, Evaluator::new(roots), path);
            if self.stopped {
                return;
            }
        }
    }

    fn rule<'a>(&mut self, node: &Node, rule: &'a Rule, mut evaluator: Evaluator<'a>, path: &str) {
        let invalid = |message: String| Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {:?}: {message}", node.type_name),
            field: path.to_owned(),
        };
        let shown = if rule.message.is_empty() { rule.text.trim() } else { &rule.message };
        let (outcome, cost) = evaluator.run(&rule.program, CALL_LIMIT);
        if cost > self.left {
            let message = "validation failed due to running out of cost budget, no further validation rules will be run";
            self.causes.push(invalid(message.into()));
            self.stopped = true;
            return;
        }
        self.left -= cost;
        match outcome {
            Ok(Value::Bool(true)) => {}
            Ok(_) => {
                let failed = if rule.message.is_empty() {
                    format!("failed rule: {}", rule.text.trim())
                } else {
                    rule.message.clone()
                };
                let message = self.message(rule, evaluator).unwrap_or(failed);
                self.causes.push(cause(node, rule, path, message));
            }
            Err(error @ EvalError::NoSuchOverload) => self.causes.push(invalid(format!(
                "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {shown}"
            ))),
            Err(error @ EvalError::CostExceeded) => {
                self.causes.push(invalid(format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {shown}"
                )));
                self.stopped = true;
            }
            Err(error) => self.causes.push(invalid(format!("{error} evaluating rule: {shown}"))),
        }
    }

    /// What the rule's own expression says; none where it fails to.
    fn message<'a>(&mut self, rule: &'a Rule, mut evaluator: Evaluator<'a>) -> Option<String> {
        let program = rule.message_program.as_ref()?;
        let (outcome, cost) = evaluator.run(program, CALL_LIMIT.min(self.left));
        self.left = self.left.saturating_sub(cost);
        let text = outcome.ok()?.as_str()?.trim().to_owned();
        let usable = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
        usable.then_some(text)
    }
}

fn cause(node: &Node, rule: &Rule, path: &str, message: String) -> Cause {
    let field = match &rule.field_path {
        Some(below) if below.starts_with('[') => format!("{path}{below}"),
        Some(below) => child(path, below),
        None => path.to_owned(),
    };
    let (reason, message) = match rule.reason.as_str() {
        "FieldValueForbidden" => ("FieldValueForbidden", format!("Forbidden: {message}")),
        "FieldValueRequired" => ("FieldValueRequired", format!("Required value: {message}")),
        "FieldValueDuplicate" => ("FieldValueDuplicate", format!("Duplicate value: {:?}", node.type_name)),
        _ => ("FieldValueInvalid", format!("Invalid value: {:?}: {message}", node.type_name)),
    };
    // A fault of the whole object has a path all the same.
    let field = if field.is_empty() { "<nil>".to_owned() } else { field };
    Cause { reason: reason.into(), message, field }
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The old item of a list that is the same one as a new item; only maps have such.
fn correlated<'a>(kind: &ListKind, item: &Json, old: &'a Json) -> Option<&'a Json> {
    let ListKind::Map(keys) = kind else { return None };
    old.as_array()?.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
}
