//! NodeAffinity: `nodeSelector`, and required and preferred node affinity.

use crate::framework::{Reason, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// Whether the node is one that the pod requires.
pub fn matches(pod: &PodInfo, node: &NodeInfo) -> bool {
    let labels = &node.spec.labels;
    pod.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        && pod
            .required_nodes
            .as_ref()
            .is_none_or(|terms| terms.iter().any(|term| term.matches(node.name(), labels)))
}

/// The only nodes that can match, when every term names its own.
pub fn names(pod: &PodInfo) -> Option<Vec<&str>> {
    let terms = pod.required_nodes.as_ref().filter(|terms| !terms.is_empty())?;
    let mut names = Vec::new();
    for term in terms {
        names.extend(term.names()?.iter().map(|name| &**name));
    }
    names.sort_unstable();
    names.dedup();
    Some(names)
}

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    if matches(pod, node) { Ok(()) } else { Err(Rejection::unresolvable(Reason::NodeAffinity)) }
}

/// The weights of the preferences that the node meets.
pub fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let met = pod.preferred_nodes.iter().filter(|(_, term)| term.matches(node.name(), &node.spec.labels));
    met.map(|(weight, _)| *weight).sum()
}
