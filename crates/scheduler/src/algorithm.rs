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
use crate::framework::{Cycle, Reason, Refusers, Scorer, Tally, filter_node};
use crate::plugins::default_preemption::{NoPreemption, Preemption, preempt};
use crate::plugins::pod_topology_spread::Hard;
use crate::plugins::{inter_pod_affinity, node_affinity};
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
    /// Counts for hard spreading, by class.
    spreads: HashMap<u64, Spread>,
    random: Random,
}

/// What pods of one class found out.
enum Class {
    Candidates { epoch: u64, candidates: Candidates, left: usize },
    Refused { epoch: u64, freed: u64, refusal: Refusal },
}

/// Counts that were right after so many moves of pods.
struct Spread {
    epoch: u64,
    moves: u64,
    counts: Arc<Hard>,
}

/// Nodes to choose from, by the places that they share a part of their score with.
struct Candidates {
    scorer: Scorer,
    places: Vec<BinaryHeap<Candidate>>,
}

/// Ordered by the node's own part of its score, then by chance.
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
        if shares && let Some(decision) = self.by_class(cluster, pod) {
            return decision;
        }
        self.search(cluster, pod, shares)
    }

    fn by_class(&mut self, cluster: &Cluster, pod: &PodInfo) -> Option<Decision> {
        match self.classes.get_mut(&pod.class)? {
            Class::Refused { epoch, freed, refusal } => {
                let same = (*epoch, *freed) == (cluster.epoch(), cluster.freed());
                same.then(|| Decision::Refuse(refusal.clone()))
            }
            Class::Candidates { epoch, candidates, left } => {
                if *epoch != cluster.epoch() || *left == 0 {
                    return None;
                }
                *left -= 1;
                let node = candidates.take_best(cluster, pod, &mut self.random)?;
                Some(Decision::Assign { node })
            }
        }
    }

    /// Looks for nodes that take the pod, and compares them.
    fn search(&mut self, cluster: &Cluster, pod: &PodInfo, shares: bool) -> Decision {
        let cycle = Cycle::with_spread(cluster, pod, self.spread(cluster, pod));
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

    /// The counts for the pod's hard spreading. Those of an earlier pod of its class are brought
    /// up to date where that takes few steps.
    fn spread(&mut self, cluster: &Cluster, pod: &PodInfo) -> Arc<Hard> {
        if !pod.spread.iter().any(|constraint| constraint.hard) {
            return Arc::default();
        }
        let (epoch, moves) = (cluster.epoch(), cluster.moves());
        if let Some(spread) = self.spreads.get_mut(&pod.class).filter(|spread| spread.epoch == epoch)
            && let Some(missed) = cluster.moves_since(spread.moves)
        {
            Arc::make_mut(&mut spread.counts).follow(cluster, pod, missed);
            spread.moves = moves;
            return spread.counts.clone();
        }
        if self.spreads.len() >= CLASSES {
            self.spreads.clear();
        }
        let counts = Arc::new(Hard::new(cluster, pod));
        self.spreads.insert(pod.class, Spread { epoch, moves, counts: counts.clone() });
        counts
    }

    fn compare(&mut self, cluster: &Cluster, pod: &PodInfo, feasible: &[usize], shares: bool) -> Decision {
        let mut candidates = Candidates::new(cluster, pod, feasible, &mut self.random);
        let node = candidates
            .take_best(cluster, pod, &mut self.random)
            .expect("there are feasible nodes, and nothing has changed since");
        // In a small cluster each pod deserves a comparison of its own.
        let left = if cluster.nodes().len() < FEW_NODES { 0 } else { feasible.len() / 2 };
        if shares && left > 0 {
            self.remember(pod.class, Class::Candidates { epoch: cluster.epoch(), candidates, left });
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
        && !inter_pod_affinity::concerns_others(cluster, pod)
        && !cluster.has_nominated()
        && pod.nominated.is_none()
        && !pod.spread.iter().any(|constraint| constraint.hard)
}

impl Candidates {
    fn new(cluster: &Cluster, pod: &PodInfo, feasible: &[usize], random: &mut Random) -> Self {
        let scorer = Scorer::new(cluster, pod, feasible);
        let mut places: HashMap<Vec<Option<&str>>, BinaryHeap<Candidate>> = HashMap::new();
        for at in feasible {
            let node = &cluster.nodes()[*at];
            let score = scorer.score_of_node(cluster, pod, node);
            let candidate = Candidate { score, chance: random.next(), node: node.spec.name.clone() };
            places.entry(scorer.places(node)).or_default().push(candidate);
        }
        Candidates { places: places.into_values().collect(), scorer }
    }

    /// The best that a place has, with its whole score.
    fn best_of(&self, cluster: &Cluster, place: &BinaryHeap<Candidate>) -> Option<(i64, u32)> {
        let best = place.peek()?;
        let shared = cluster.node(&best.node).map_or(0, |node| self.scorer.score_of_places(node));
        Some((best.score + shared, best.chance))
    }

    /// Takes the best candidate. Since it was compared, pods may have come to its node: it is
    /// asked and compared again, and put back when another is now better.
    fn take_best(&mut self, cluster: &Cluster, pod: &PodInfo, random: &mut Random) -> Option<Arc<str>> {
        let count: usize = self.places.iter().map(BinaryHeap::len).sum();
        // Each candidate is compared again at most once; the last one is taken as it is.
        for again in (0..count).rev() {
            let best = (0..self.places.len())
                .filter_map(|at| Some((self.best_of(cluster, &self.places[at])?, at)))
                .max()?;
            let candidate = self.places[best.1].pop()?;
            let Some(node) = cluster.node(&candidate.node) else { continue };
            // Pods that share have no terms about others, and no hard constraints; for those that
            // do not, the candidates are fresh.
            if filter_node(pod, node).is_err() {
                continue;
            }
            let score = self.scorer.score_of_node(cluster, pod, node);
            let worse = score < candidate.score;
            let name = candidate.node;
            self.places[best.1].push(Candidate { score, chance: random.next(), node: name.clone() });
            let whole = score + self.scorer.score_of_places(node);
            let beaten = || {
                self.places
                    .iter()
                    .filter_map(|place| self.best_of(cluster, place))
                    .any(|(score, _)| score > whole)
            };
            if worse && again > 0 && beaten() {
                continue;
            }
            self.scorer.placed(pod, node);
            return Some(name);
        }
        None
    }
}

#[cfg(test)]
mod tests;
