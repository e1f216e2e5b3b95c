//! Which nodes a daemon set's pods belong on: by node selector and affinity, and by taints.

use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    PodTemplateSpec, Toleration,
};
use sampan_api::selector::{Operator, Requirement};

use crate::revisions::name;
use crate::taint_eviction::tolerates;

/// What a node is to a daemon set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A pod is to run there.
    Wanted,
    /// One that runs there goes on; a new one is not started.
    Kept,
    Unwanted,
}

/// Taints that a daemon's pod tolerates by itself: it is part of the node, whatever state that is in.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const OF_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// The template with what every daemon's pod tolerates.
pub(super) fn with_tolerations(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let spec = template.spec.get_or_insert_default();
    let host_network = spec.host_network.unwrap_or(false);
    let all = spec.tolerations.get_or_insert_default();
    for (key, effect) in TOLERATED.into_iter().chain(host_network.then_some(OF_HOST_NETWORK)) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    template
}

/// Whether a pod of a template (with its tolerations) belongs on a node.
pub(super) fn place(template: &PodTemplateSpec, node: &Node) -> Place {
    let spec = template.spec.clone().unwrap_or_default();
    if !fits(&spec, node) {
        return Place::Unwanted;
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let untolerated = |effect: &str| {
        taints
            .iter()
            .filter(|taint| taint.effect == effect)
            .any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
    };
    match (untolerated("NoExecute"), untolerated("NoSchedule")) {
        (true, _) => Place::Unwanted,
        (false, true) => Place::Kept,
        (false, false) => Place::Wanted,
    }
}

/// Name, node selector and required affinity.
fn fits(spec: &PodSpec, node: &Node) -> bool {
    let own = spec.node_name.as_deref().filter(|name| !name.is_empty());
    if own.is_some_and(|own| own != name(&node.metadata)) {
        return false;
    }
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    if spec.node_selector.iter().flatten().any(|(key, value)| label(key) != Some(value)) {
        return false;
    }
    match required(spec.affinity.as_ref()) {
        None => true,
        Some(selector) => selector.node_selector_terms.iter().any(|term| matches(term, node)),
    }
}

fn required(affinity: Option<&Affinity>) -> Option<&NodeSelector> {
    affinity?.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
}

/// A term without requirements matches nothing.
fn matches(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let labels = node.metadata.labels.as_ref();
    let by_label = |requirement: &NodeSelectorRequirement| {
        holds(requirement, labels.and_then(|labels| labels.get(&requirement.key)).map(String::as_str))
    };
    let by_field = |requirement: &NodeSelectorRequirement| {
        requirement.key == "metadata.name" && holds(requirement, Some(name(&node.metadata)))
    };
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(by_label)
        && fields.iter().all(by_field)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let operator = match requirement.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return false,
    };
    let values = requirement.values.clone().unwrap_or_default();
    Requirement::new(&requirement.key, operator, values).is_ok_and(|requirement| requirement.matches(value))
}

/// Binds a template to a node: the scheduler places its pod there or nowhere.
pub(super) fn bind(template: &PodTemplateSpec, node: &str) -> PodTemplateSpec {
    let here = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let mut template = template.clone();
    let affinity = template.spec.get_or_insert_default().affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required = affinity.required_during_scheduling_ignored_during_execution.get_or_insert_default();
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![here.clone()]);
    }
    template
}

/// The node that a pod is on or bound for.
pub(super) fn target(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_ref().filter(|node| !node.is_empty()) {
        return Some(node.clone());
    }
    let terms = &required(spec.affinity.as_ref())?.node_selector_terms;
    let fields = terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let names = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    names.filter_map(|field| field.values.as_ref()?.first().cloned()).next()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn template(spec: Value) -> PodTemplateSpec {
        let mut spec = spec;
        spec["containers"] = json!([]);
        with_tolerations(&serde_json::from_value(json!({"spec": spec})).expect("a template"))
    }

    fn node(labels: Value, taints: Value) -> Node {
        let node = json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"taints": taints}});
        serde_json::from_value(node).expect("a node")
    }

    #[test]
    fn selectors_and_taints_decide() {
        let check = |spec: Value, labels: Value, taints: Value, expected: Place| {
            let found = place(&template(spec.clone()), &node(labels.clone(), taints.clone()));
            assert_eq!(found, expected, "{spec} {labels} {taints}");
        };
        check(json!({}), json!({}), json!([]), Place::Wanted);
        check(json!({"nodeSelector": {"a": "b"}}), json!({"a": "b"}), json!([]), Place::Wanted);
        check(json!({"nodeSelector": {"a": "b"}}), json!({"a": "c"}), json!([]), Place::Unwanted);
        let affinity = |operator: &str, values: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": operator, "values": values}]}]}}}});
        check(affinity("In", json!(["b", "c"])), json!({"a": "c"}), json!([]), Place::Wanted);
        check(affinity("DoesNotExist", Value::Null), json!({"a": "c"}), json!([]), Place::Unwanted);
        check(affinity("Gt", json!(["3"])), json!({"a": "4"}), json!([]), Place::Wanted);
        let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
        check(json!({}), json!({}), taint("x", "NoSchedule"), Place::Kept);
        check(json!({}), json!({}), taint("x", "NoExecute"), Place::Unwanted);
        check(json!({}), json!({}), taint("x", "PreferNoSchedule"), Place::Wanted);
        let unschedulable = taint("node.kubernetes.io/unschedulable", "NoSchedule");
        check(json!({}), json!({}), unschedulable, Place::Wanted);
        let all = json!({"tolerations": [{"operator": "Exists"}]});
        check(all, json!({}), taint("x", "NoExecute"), Place::Wanted);
    }

    #[test]
    fn a_pod_is_bound_to_its_node() {
        let bound = bind(&template(json!({})), "n7");
        let pod = Pod { spec: bound.spec, ..Pod::default() };
        assert_eq!(target(&pod).as_deref(), Some("n7"));
    }
}
