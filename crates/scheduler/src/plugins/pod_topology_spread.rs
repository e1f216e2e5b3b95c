//! PodTopologySpread: pods that belong together are spread evenly over zones, nodes or whatever a
//! label tells apart. Pods without constraints of their own are spread by upstream's defaults, as
//! far as that costs nothing else.

use std::collections::HashMap;

use crate::cluster::{Cluster, Move};
use crate::framework::{Reason, Rejection};
use crate::labels::Labels;
use crate::node::NodeInfo;
use crate::plugins::{MAX_SCORE, SCALE, node_affinity, taint_toleration};
use crate::pod::{PodInfo, SpreadConstraint};

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Topology and skew by which pods without constraints are spread.
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];

/// Counts of matching pods for the hard constraints of one pod.
#[derive(Clone, Default)]
pub struct Hard {
    constraints: Vec<Counted>,
}

#[derive(Clone)]
struct Counted {
    constraint: SpreadConstraint,
    /// Matching pods by value of the topology's label, over the nodes that count.
    counts: HashMap<Box<str>, i64>,
    /// What the emptiest place counts as.
    least: i64,
    counts_itself: bool,
}

impl Counted {
    fn count(&mut self, value: &str, by: i64) {
        match self.counts.get_mut(value) {
            Some(count) => *count += by,
            None => drop(self.counts.insert(value.into(), by)),
        }
    }
}

impl Hard {
    pub fn new(cluster: &Cluster, pod: &PodInfo) -> Self {
        let hard: Vec<&SpreadConstraint> = pod.spread.iter().filter(|constraint| constraint.hard).collect();
        let mut state = Hard {
            constraints: hard
                .iter()
                .map(|constraint| Counted {
                    constraint: (*constraint).clone(),
                    counts: HashMap::new(),
                    least: 0,
                    counts_itself: constraint.counts(&pod.labels),
                })
                .collect(),
        };
        if state.constraints.is_empty() {
            return state;
        }
        for node in cluster.nodes() {
            state.each(pod, node, |counted, value| counted.count(value, 0));
        }
        for (labels, group) in cluster.groups_of(&pod.namespace) {
            if !state.constraints.iter().any(|counted| counted.constraint.counts(labels)) {
                continue;
            }
            for (node, present) in group {
                if let Some(node) = cluster.node(node) {
                    state.count(pod, labels, node, present.staying);
                }
            }
        }
        state.settle();
        state
    }

    fn count(&mut self, pod: &PodInfo, labels: &Labels, node: &NodeInfo, by: i64) {
        self.each(pod, node, |counted, value| {
            if counted.constraint.counts(labels) {
                counted.count(value, by);
            }
        });
    }

    /// Finds the emptiest places again.
    fn settle(&mut self) {
        for counted in &mut self.constraints {
            counted.least = if counted.counts.len() < counted.constraint.min_domains {
                0
            } else {
                // Where no node counts at all, upstream compares with the largest number there is.
                counted.counts.values().copied().min().unwrap_or(i64::from(i32::MAX))
            };
        }
    }

    /// Visits each constraint that the node counts for, with its value of the topology's label.
    fn each(&mut self, pod: &PodInfo, node: &NodeInfo, mut visit: impl FnMut(&mut Counted, &str)) {
        let has = |counted: &Counted| node.label(&counted.constraint.topology_key).is_some();
        if !self.constraints.iter().all(has) {
            return;
        }
        for counted in &mut self.constraints {
            if includes(&counted.constraint, pod, node)
                && let Some(value) = node.label(&counted.constraint.topology_key)
            {
                visit(counted, value);
            }
        }
    }

    /// Counts a pod that comes to a node, or goes (`by` -1).
    pub fn update(&mut self, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        if self.constraints.is_empty() || other.namespace != pod.namespace || other.terminating {
            return;
        }
        self.count(pod, &other.labels, node, by);
        self.settle();
    }

    /// Counts what has come and gone.
    pub fn follow<'a>(&mut self, cluster: &Cluster, pod: &PodInfo, moves: impl Iterator<Item = &'a Move>) {
        for Move { pod: other, node, by } in moves {
            if other.namespace == pod.namespace
                && !other.terminating
                && let Some(node) = cluster.node(node)
            {
                self.count(pod, &other.labels, node, *by);
            }
        }
        self.settle();
    }

    pub fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for counted in &self.constraints {
            let constraint = &counted.constraint;
            let Some(value) = node.label(&constraint.topology_key) else {
                return Err(Rejection::unresolvable(Reason::SpreadLabel));
            };
            let here = counted.counts.get(value).copied().unwrap_or_default();
            if here + i64::from(counted.counts_itself) - counted.least > constraint.max_skew {
                return Err(Rejection::resolvable(Reason::Spread));
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.constraints.is_empty()
    }
}

fn includes(constraint: &SpreadConstraint, pod: &PodInfo, node: &NodeInfo) -> bool {
    (!constraint.honor_affinity || node_affinity::matches(pod, node))
        && (!constraint.honor_taints || taint_toleration::untolerated(pod, node).is_none())
}

/// Counts of matching pods for the soft constraints of one pod; owned, so that it can serve
/// several pods of one class.
#[derive(Default)]
pub struct Soft {
    constraints: Vec<Weighed>,
    /// Nodes without all of the labels are worth nothing. Not so under the default constraints.
    need_all: bool,
    /// Of the nodes that are compared.
    least: f64,
    most: f64,
}

struct Weighed {
    constraint: SpreadConstraint,
    by_node: bool,
    /// By value of the topology's label, or by node name for `kubernetes.io/hostname`.
    counts: HashMap<Box<str>, i64>,
    weight: f64,
}

impl Soft {
    /// `feasible` are the nodes that will be compared.
    pub fn new(cluster: &Cluster, pod: &PodInfo, feasible: &[usize]) -> Self {
        let constraints = constraints(cluster, pod);
        if constraints.is_empty() {
            return Soft::default();
        }
        let need_all = !pod.spread.is_empty();
        let mut soft = Soft { constraints: Vec::new(), need_all, least: 0.0, most: 0.0 };
        for constraint in constraints {
            let by_node = *constraint.topology_key == *HOSTNAME;
            soft.constraints.push(Weighed { constraint, by_node, counts: HashMap::new(), weight: 0.0 });
        }
        let nodes: Vec<&NodeInfo> =
            feasible.iter().map(|at| &cluster.nodes()[*at]).filter(|node| soft.compares(node)).collect();
        for weighed in &mut soft.constraints {
            for node in &nodes {
                if let Some(domain) = weighed.domain(node) {
                    weighed.counts.entry(domain.into()).or_default();
                }
            }
            let domains = if weighed.by_node { nodes.len() } else { weighed.counts.len() };
            weighed.weight = ((domains + 2) as f64).ln();
        }
        for (labels, group) in cluster.groups_of(&pod.namespace) {
            if !soft.constraints.iter().any(|weighed| weighed.constraint.counts(labels)) {
                continue;
            }
            for (node, present) in group {
                if let Some(node) = cluster.node(node) {
                    soft.count(pod, labels, node, present.staying);
                }
            }
        }
        let raw = nodes.iter().map(|node| soft.raw(node, true) + soft.raw(node, false));
        let range = raw.fold((f64::MAX, 0.0), |(least, most), raw| (raw.min(least), raw.max(most)));
        (soft.least, soft.most) = range;
        soft
    }

    fn compares(&self, node: &NodeInfo) -> bool {
        let has = |weighed: &Weighed| node.label(&weighed.constraint.topology_key).is_some();
        !self.need_all || self.constraints.iter().all(has)
    }

    /// Counts a pod of the class that went to a node.
    pub fn placed(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.count(pod, &pod.labels, node, 1);
    }

    fn count(&mut self, pod: &PodInfo, labels: &Labels, node: &NodeInfo, by: i64) {
        if !self.compares(node) {
            return;
        }
        for weighed in &mut self.constraints {
            let Some(domain) = weighed.domain(node) else { continue };
            // On nodes themselves every pod counts; beyond, those on nodes that the pod may use.
            if let Some(count) = weighed.counts.get_mut(domain)
                && weighed.constraint.counts(labels)
                && (weighed.by_node || includes(&weighed.constraint, pod, node))
            {
                *count += by;
            }
        }
    }

    /// The part of the constraints on nodes themselves, or of those on larger places.
    fn raw(&self, node: &NodeInfo, by_node: bool) -> f64 {
        let parts = self.constraints.iter().filter(|weighed| weighed.by_node == by_node);
        let raw = parts.filter_map(|weighed| {
            let domain = weighed.domain(node)?;
            let count = weighed.counts.get(domain).copied().unwrap_or_default() as f64;
            Some(count * weighed.weight + (weighed.constraint.max_skew - 1) as f64)
        });
        raw.sum()
    }

    /// What the node itself adds to its score, times [`SCALE`].
    pub fn score_of_node(&self, node: &NodeInfo) -> i64 {
        if self.constraints.is_empty() || !self.compares(node) {
            return 0;
        }
        self.scaled(self.most + self.least - self.raw(node, true))
    }

    /// What the places that the node is in add, times [`SCALE`]; the same for all nodes with the
    /// same [`Soft::places`].
    pub fn score_of_places(&self, node: &NodeInfo) -> i64 {
        if self.constraints.is_empty() || !self.compares(node) {
            return 0;
        }
        self.scaled(-self.raw(node, false))
    }

    /// The values of the labels that larger places are told apart by.
    pub fn places<'a>(&self, node: &'a NodeInfo) -> Vec<Option<&'a str>> {
        self.constraints
            .iter()
            .filter(|weighed| !weighed.by_node)
            .map(|weighed| weighed.domain(node))
            .collect()
    }

    /// Both parts together are 0 to 100 while the counts are those of the beginning, and less once
    /// pods were added.
    fn scaled(&self, raw: f64) -> i64 {
        let most = if self.most > 0.0 { self.most } else { 1.0 };
        ((MAX_SCORE * SCALE) as f64 * raw / most) as i64
    }
}

impl Weighed {
    fn domain<'a>(&self, node: &'a NodeInfo) -> Option<&'a str> {
        let value = node.label(&self.constraint.topology_key);
        if self.by_node { value.map(|_| node.name()) } else { value }
    }
}

/// The pod's soft constraints, or the defaults.
fn constraints(cluster: &Cluster, pod: &PodInfo) -> Vec<SpreadConstraint> {
    if !pod.spread.is_empty() {
        return pod.spread.iter().filter(|constraint| !constraint.hard).cloned().collect();
    }
    let selectors = cluster.selectors_of(pod);
    if selectors.is_empty() {
        return Vec::new();
    }
    let default = |(topology_key, max_skew): (&str, i64)| SpreadConstraint {
        max_skew,
        topology_key: topology_key.into(),
        hard: false,
        selectors: selectors.clone(),
        min_domains: 1,
        honor_affinity: true,
        honor_taints: false,
    };
    DEFAULTS.into_iter().map(default).collect()
}
