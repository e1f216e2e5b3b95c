//! TaintNodesByCondition: a new node takes no pods until it is known to be ready.

use serde_json::{Value, json};

use super::{Attributes, Operation};

const KEY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub fn mutate(attributes: &Attributes<'_>, node: &mut Value) {
    if !attributes.is(Operation::Create, "", "nodes") {
        return;
    }
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    if !node["spec"]["taints"].is_array() {
        node["spec"]["taints"] = json!([]);
    }
    if let Some(taints) = node["spec"]["taints"].as_array_mut()
        && !taints.iter().any(|taint| taint["key"] == KEY && taint["effect"] == EFFECT)
    {
        taints.push(json!({"key": KEY, "effect": EFFECT}));
    }
}
