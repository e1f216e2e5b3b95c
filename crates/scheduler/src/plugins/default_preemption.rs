//! DefaultPreemption: where no node has room, pods of lower priority make it.
//!
//! On each node that removing pods could open, all pods of lower priority are thought away; then
//! as many as possible are let back, those that a disruption budget protects first. Of the nodes
//! that so become free, the one is chosen where the least is lost.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::framework::{Cycle, Reason, Tally};
use crate::pod::PodInfo;

/// Nodes that are tried: this share of them, but at least this many.
const TRIED_PERCENT: usize = 10;
const TRIED_AT_LEAST: usize = 100;

/// What is done to make room for a pod.
#[derive(Clone, Debug)]
pub struct Preemption {
    pub node: Arc<str>,
    /// Most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// Pods for which room was being made there and that matter less.
    pub displaced: Vec<Arc<PodInfo>>,
}

impl PartialEq for Preemption {
    fn eq(&self, other: &Self) -> bool {
        let uids = |pods: &[Arc<PodInfo>]| pods.iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>();
        self.node == other.node
            && uids(&self.victims) == uids(&other.victims)
            && uids(&self.displaced) == uids(&other.displaced)
    }
}

impl Eq for Preemption {}

/// Why no room is made. The texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPreemption {
    #[error("not eligible due to preemptionPolicy=Never.")]
    Never,
    /// Room is already being made.
    #[error("not eligible due to a terminating pod on the nominated node.")]
    Waits,
    #[error("{0}")]
    NoCandidate(String),
}

/// Who would have to go from one node.
struct Victims {
    node: Arc<str>,
    /// Most important first.
    pods: Vec<Arc<PodInfo>>,
    /// Of them, pods that a budget protects.
    violating: usize,
}

/// Finds a node to make room on. `helpable` are the nodes that removing pods could open.
pub fn preempt(cycle: &Cycle<'_>, helpable: &[usize]) -> Result<Preemption, NoPreemption> {
    let (cluster, pod) = (cycle.cluster, cycle.pod);
    if !pod.may_preempt {
        return Err(NoPreemption::Never);
    }
    if waits_for_victims(cluster, pod, helpable) {
        return Err(NoPreemption::Waits);
    }
    let nodes = cluster.nodes();
    let mut tally = Tally::default();
    tally.add(&[Reason::PreemptionNotHelpful], nodes.len() - helpable.len());
    let limit = (helpable.len() * TRIED_PERCENT / 100).max(TRIED_AT_LEAST);
    let mut candidates: Vec<Victims> = Vec::new();
    for at in helpable {
        match victims(cycle, *at) {
            Ok(victims) => candidates.push(victims),
            Err(reasons) => tally.add(&reasons, 1),
        }
        if candidates.len() >= limit && candidates.iter().any(|victims| victims.violating == 0) {
            break;
        }
    }
    let best = candidates.into_iter().min_by_key(|victims| {
        let highest = victims.pods.first().map(|pod| pod.priority);
        let sum: i64 = victims.pods.iter().map(|pod| i64::from(pod.priority) - i64::from(i32::MIN)).sum();
        // The one whose most important victims have run for the shortest time.
        let longest = victims.pods.iter().filter(|pod| Some(pod.priority) == highest);
        let started = longest.filter_map(|pod| pod.started.clone()).min();
        (victims.violating, highest, sum, victims.pods.len(), Reverse(started))
    });
    let Some(best) = best else {
        return Err(NoPreemption::NoCandidate(tally.message(nodes.len())));
    };
    let nominated = cluster.nominated(&best.node).iter();
    let displaced = nominated.filter(|other| other.priority < pod.priority).cloned().collect();
    Ok(Preemption { node: best.node, victims: best.pods, displaced })
}

/// Whether room is already being made for the pod.
fn waits_for_victims(cluster: &Cluster, pod: &PodInfo, helpable: &[usize]) -> bool {
    let Some(at) = pod.nominated.as_deref().and_then(|name| cluster.node_index(name)) else {
        return false;
    };
    // A node that became impossible is given up.
    helpable.contains(&at)
        && cluster.nodes()[at]
            .pods
            .iter()
            .any(|other| other.priority < pod.priority && other.terminating && other.preempted)
}

/// Who must go from a node at least; the error says why nobody's going helps.
fn victims(cycle: &Cycle<'_>, at: usize) -> Result<Victims, Vec<Reason>> {
    let pod = cycle.pod;
    let original = &cycle.cluster.nodes()[at];
    let mut lower: Vec<Arc<PodInfo>> =
        original.pods.iter().filter(|other| other.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return Err(vec![Reason::NoVictims]);
    }
    let mut node = original.clone();
    let mut cycle = cycle.clone();
    for other in &lower {
        node.remove(&other.uid);
        cycle.update(other, original, -1);
    }
    cycle.filter(&node).map_err(|rejection| rejection.reasons)?;
    lower.sort_by_key(|pod| importance(pod));
    let (violating, harmless) = by_budget(cycle.cluster, &lower);
    let count = violating.len();
    let mut pods = Vec::new();
    let mut violations = 0;
    for (index, other) in violating.into_iter().chain(harmless).enumerate() {
        node.add(other.clone());
        cycle.update(&other, original, 1);
        if cycle.filter(&node).is_err() {
            node.remove(&other.uid);
            cycle.update(&other, original, -1);
            pods.push(other);
            violations += usize::from(index < count);
        }
    }
    pods.sort_by_key(|pod| importance(pod));
    if pods.is_empty() {
        // It fits with everybody there: the node changed its mind, and the next attempt will see.
        return Err(vec![Reason::NoVictims]);
    }
    Ok(Victims { node: original.spec.name.clone(), pods, violating: violations })
}

/// Higher priority first, then the longest running.
fn importance(pod: &PodInfo) -> (Reverse<i32>, bool, Option<Box<str>>) {
    (Reverse(pod.priority), pod.started.is_none(), pod.started.clone())
}

/// Splits pods into those that a disruption budget protects and others; keeps their order.
fn by_budget(cluster: &Cluster, pods: &[Arc<PodInfo>]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut budgets: Vec<_> = cluster.budgets().map(|budget| (budget, budget.allowed)).collect();
    pods.iter().cloned().partition(|pod| {
        let mut protected = false;
        for (budget, allowed) in &mut budgets {
            let covers = budget.namespace == pod.namespace
                && !budget.selector.is_everything()
                && pod.labels.match_selector(&budget.selector);
            if covers && !budget.disrupted.contains(&pod.name) {
                *allowed -= 1;
                protected |= *allowed < 0;
            }
        }
        protected
    })
}
