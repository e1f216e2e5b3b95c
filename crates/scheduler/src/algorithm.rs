//! The decision: which node a pod goes to, or why none takes it.
//!
//! Not every node is looked at: once enough of them take the pod, the best of those is chosen, and
//! the next pod's search begins where this one ended. Pods that no plugin can tell apart share a
//! comparison: the nodes that one of them found, best first. Each next one takes the best node
//! that is still right after being asked again, so that a shared comparison can make a choice less
//! than best but never a wrong one. It ends after some pods, or when anything but a plain pod
//! changes.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::framework::{Cycle, Reason, Refusers, Scorer, Tally};
use crate::plugins::default_preemption::{NoPreemption, Preemption, preempt};
use crate::plugins::node_affinity;
use crate::pod::PodInfo;

/// Clusters up to this size are searched whole.
const FEW_NODES: usize = 100;
/// Classes whose comparisons are kept.
const CLASSES: usize = 256;

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Assign { node: Arc<str> },
    Refuse(Refusal),
}

/// Why no node takes a pod, and what is done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub message: String,
    pub refusers: Refusers,
    pub preemption: Option<Preemption>,
    /// Room is still being made for it where it was nominated.
    pub keeps_nomination: bool,
}

/// The deciding part of the scheduler: what it remembers between pods.
#[derive(Default)]
pub struct Algorithm {
    /// Where the next search begins.
    next: usize,
    classes: HashMap<u64, Class>,
    random: Random,
}

/// What pods of one class found out.
enum Class {
    Candidates { epoch: u64, heap: BinaryHeap<Candidate>, scorer: Scorer, left: usize },
    Refused { epoch: u64, freed: u64, refusal: Refusal },
}

/// Ordered by score, then by chance.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    score: i64,
    chance: u32,
    node: Arc<str>,
}

/// SplitMix64: equal nodes should not always be taken in the same order; nothing depends on its
/// quality.
#[derive(Default)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z >> 32) as u32
    }
}

/// How many nodes that take the pod are enough to choose from.
fn enough(nodes: usize) -> usize {
    if nodes < FEW_NODES {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(FEW_NODES)
}

impl Algorithm {
    /// Decides on one pod. Does not place it.
    pub fn schedule(&mut self, cluster: &Cluster, pod: &PodInfo) -> Decision {
        if cluster.nodes().is_empty() {
            return Decision::Refuse(Refusal {
                message: "no nodes available to schedule pods".to_owned(),
                refusers: Refusers::ALL,
                preemption: None,
                keeps_nomination: false,
            });
        }
        let shares = shares(cluster, pod);
        if shares && let Some(decision) = self.from_class(cluster, pod) {
            return decision;
        }
        self.search(cluster, pod, shares)
    }

    fn from_class(&mut self, cluster: &Cluster, pod: &PodInfo) -> Option<Decision> {
        match self.classes.get_mut(&pod.class)? {
            Class::Refused { epoch, freed, refusal } => {
                let same = (*epoch, *freed) == (cluster.epoch(), cluster.freed());
                same.then(|| Decision::Refuse(refusal.clone()))
            }
            Class::Candidates { epoch, heap, scorer, left } => {
                if *epoch != cluster.epoch() || *left == 0 {
                    return None;
                }
                *left -= 1;
                let node = take_best(cluster, pod, heap, scorer, &mut self.random)?;
                Some(Decision::Assign { node })
            }
        }
    }

    /// Looks for nodes that take the pod, and compares them.
    fn search(&mut self, cluster: &Cluster, pod: &PodInfo, shares: bool) -> Decision {
        let cycle = Cycle::new(cluster, pod);
        let nodes = cluster.nodes();
        if let Some(at) = pod.nominated.as_deref().and_then(|name| cluster.node_index(name))
            && cycle.filter(&nodes[at]).is_ok()
        {
            return Decision::Assign { node: nodes[at].spec.name.clone() };
        }
        let mut tally = Tally::default();
        let mut helpable = Vec::new();
        let named = node_affinity::names(pod);
        let places: Vec<usize> = match &named {
            Some(names) => names.iter().filter_map(|name| cluster.node_index(name)).collect(),
            None => (0..nodes.len()).map(|step| (self.next + step) % nodes.len()).collect(),
        };
        tally.add(&[Reason::NotNamed], nodes.len() - places.len());
        let enough = enough(places.len());
        let mut feasible = Vec::new();
        let mut looked = 0;
        for at in places {
            if feasible.len() == enough {
                break;
            }
            looked += 1;
            match cycle.filter(&nodes[at]) {
                Ok(()) => feasible.push(at),
                Err(rejection) => {
                    if rejection.resolvable {
                        helpable.push(at);
                    }
                    tally.add(&rejection.reasons, 1);
                }
            }
        }
        if named.is_none() {
            self.next = (self.next + looked) % nodes.len();
        }
        if feasible.is_empty() {
            return Decision::Refuse(self.refuse(&cycle, &tally, &helpable, shares));
        }
        if let [only] = feasible[..] {
            return Decision::Assign { node: nodes[only].spec.name.clone() };
        }
        self.compare(cluster, pod, &feasible, shares)
    }

    fn compare(&mut self, cluster: &Cluster, pod: &PodInfo, feasible: &[usize], shares: bool) -> Decision {
        let mut scorer = Scorer::new(cluster, pod, feasible);
        let mut heap: BinaryHeap<Candidate> = feasible
            .iter()
            .map(|at| {
                let node = &cluster.nodes()[*at];
                let score = scorer.score(cluster, pod, node);
                Candidate { score, chance: self.random.next(), node: node.spec.name.clone() }
            })
            .collect();
        // In a small cluster each pod deserves a comparison of its own.
        let left = if cluster.nodes().len() < FEW_NODES { 0 } else { feasible.len() / 2 };
        let best = if shares && left > 0 {
            take_best(cluster, pod, &mut heap, &mut scorer, &mut self.random)
        } else {
            heap.pop().map(|best| best.node)
        };
        let node = best.expect("there are feasible nodes, and nothing has changed since");
        if shares && left > 0 {
            self.remember(pod.class, Class::Candidates { epoch: cluster.epoch(), heap, scorer, left });
        }
        Decision::Assign { node }
    }

    fn refuse(&mut self, cycle: &Cycle<'_>, tally: &Tally, helpable: &[usize], shares: bool) -> Refusal {
        let (cluster, pod) = (cycle.cluster, cycle.pod);
        let mut message = tally.message(cluster.nodes().len());
        let (preemption, keeps_nomination) = match preempt(cycle, helpable) {
            Ok(preemption) => (Some(preemption), false),
            Err(why) => {
                message.push_str(&format!(" preemption: {why}"));
                match why {
                    NoPreemption::Never | NoPreemption::Waits => (None, true),
                    NoPreemption::NoCandidate(_) => (None, false),
                }
            }
        };
        let refusal = Refusal { message, refusers: tally.refusers(), preemption, keeps_nomination };
        if shares && refusal.preemption.is_none() {
            let (epoch, freed) = (cluster.epoch(), cluster.freed());
            self.remember(pod.class, Class::Refused { epoch, freed, refusal: refusal.clone() });
        }
        refusal
    }

    fn remember(&mut self, class: u64, found: Class) {
        if self.classes.len() >= CLASSES && !self.classes.contains_key(&class) {
            self.classes.clear();
        }
        self.classes.insert(class, found);
    }
}

/// Whether the pod may use what others of its class found out: only its own node's state may
/// matter to it, and its preferences must not move as pods of other classes come.
fn shares(cluster: &Cluster, pod: &PodInfo) -> bool {
    !pod.has_pod_terms()
        && !cluster.has_pods_with_terms()
        && !cluster.has_nominated()
        && pod.nominated.is_none()
        && !pod.spread.iter().any(|constraint| constraint.hard)
}

/// Takes the best candidate. Since it was compared, pods may have come to its node: it is asked
/// and compared again, and put back when another is now better.
fn take_best(
    cluster: &Cluster,
    pod: &PodInfo,
    heap: &mut BinaryHeap<Candidate>,
    scorer: &mut Scorer,
    random: &mut Random,
) -> Option<Arc<str>> {
    let cycle = Cycle::new(cluster, pod);
    // Each candidate is compared again at most once for one pod.
    for _ in 0..heap.len() {
        let candidate = heap.pop()?;
        let Some(node) = cluster.node(&candidate.node) else { continue };
        if cycle.filter_once(node).is_err() {
            continue;
        }
        let score = scorer.score(cluster, pod, node);
        let beaten = heap.peek().is_some_and(|next| next.score > score);
        let back = Candidate { score, chance: random.next(), node: candidate.node.clone() };
        if beaten {
            heap.push(back);
            continue;
        }
        scorer.placed(pod, node);
        heap.push(back);
        return Some(candidate.node);
    }
    heap.pop()
        .map(|candidate| candidate.node)
        .filter(|name| cluster.node(name).is_some_and(|node| cycle.filter_once(node).is_ok()))
}

#[cfg(test)]
mod tests;
