//! Which conditions and taints a node should have.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions, the status of each that taints, and the taint's key.
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
/// The conditions that only the node itself can tell.
const TOLD_BY_NODE: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// What changes about a node; absent parts stay.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    pub conditions: Option<Vec<NodeCondition>>,
    pub taints: Option<Vec<Taint>>,
}

pub(super) fn ready_condition(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}

/// `silent` tells that nothing was heard of the node for too long; `evicts` that pods may be made
/// to leave it.
pub(super) fn plan(node: &Node, silent: bool, evicts: bool, now: Timestamp) -> Changes {
    let before = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let after = if silent { unknown(node, before.clone(), now) } else { before.clone() };
    let taints_before = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let taints = taints(node, &after, &taints_before, evicts, now);
    Changes {
        conditions: (after != before).then_some(after),
        taints: (taints != taints_before).then_some(taints),
    }
}

/// The conditions of a node that is no longer heard of.
fn unknown(node: &Node, mut conditions: Vec<NodeCondition>, now: Timestamp) -> Vec<NodeCondition> {
    for type_ in TOLD_BY_NODE {
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            Some(known) if known.status == "Unknown" => {}
            Some(known) => {
                known.status = "Unknown".to_owned();
                known.reason = Some("NodeStatusUnknown".to_owned());
                known.message = Some("Kubelet stopped posting node status.".to_owned());
                known.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    conditions
}

/// The node's own taints, with those that its conditions ask for. One that stays keeps its time.
fn taints(
    node: &Node,
    conditions: &[NodeCondition],
    before: &[Taint],
    evicts: bool,
    now: Timestamp,
) -> Vec<Taint> {
    // A node that has told nothing yet keeps the taint that it was born with.
    if !conditions.iter().any(|condition| condition.type_ == "Ready") {
        return before.to_vec();
    }
    let holds = |type_: &str, status: &str| {
        conditions.iter().any(|condition| condition.type_ == type_ && condition.status == status)
    };
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (type_, status, key) in TAINTS {
        if holds(type_, status) {
            wanted.push((key, "NoSchedule"));
            if type_ == "Ready" && evicts {
                wanted.push((key, "NoExecute"));
            }
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_managed = |taint: &Taint| match taint.effect.as_str() {
        "NoSchedule" => taint.key == UNSCHEDULABLE || TAINTS.iter().any(|(_, _, key)| taint.key == *key),
        "NoExecute" => taint.key == NOT_READY || taint.key == UNREACHABLE,
        _ => false,
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> =
        before.iter().filter(|taint| !is_managed(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            let time_added = Some(Time(now));
            taints.push(Taint { key: key.to_owned(), effect: effect.to_owned(), value: None, time_added });
        }
    }
    taints
}
