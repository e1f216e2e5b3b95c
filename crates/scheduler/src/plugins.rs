//! The plugins, named as upstream's: each answers whether a pod may go on a node (filter), how good
//! a node is (score, 0 to 100 after normalisation), or both.

pub mod default_preemption;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_balanced_allocation;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod taint_toleration;

/// The best score of a node.
pub const MAX_SCORE: i64 = 100;
/// What a score is counted in parts of, where parts of one matter.
pub const SCALE: i64 = 1024;

/// Brings scores to 0..=100 by the largest of them.
pub(crate) fn normalize(score: i64, largest: i64, reverse: bool) -> i64 {
    let share = if largest == 0 { 0 } else { MAX_SCORE * score / largest };
    if reverse { MAX_SCORE - share } else { share }
}

#[cfg(test)]
mod tests;
