//! One pod's cycle through the plugins: filters in upstream's order, then weighted scores.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::cluster::Cluster;
use crate::node::NodeInfo;
use crate::plugins::inter_pod_affinity::{Preferred, Required};
use crate::plugins::pod_topology_spread::{Hard, Soft};
use crate::plugins::{
    SCALE, image_locality, node_affinity, node_name, node_ports, node_resources_balanced_allocation,
    node_resources_fit, node_unschedulable, normalize, taint_toleration,
};
use crate::pod::PodInfo;

/// Why a node does not take a pod. The texts are upstream's, since people and tools know them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Unschedulable,
    NodeName,
    Taint {
        key: Box<str>,
        value: Box<str>,
    },
    NodeAffinity,
    /// The pod names its nodes, and this is none of them.
    NotNamed,
    NodePorts,
    TooManyPods,
    /// Of this resource.
    Insufficient(Box<str>),
    Spread,
    SpreadLabel,
    PodAffinity,
    PodAntiAffinity,
    ExistingAntiAffinity,
    /// Only said of preemption: no removal of pods helps.
    PreemptionNotHelpful,
    /// Only said of preemption: no pod on the node may be removed.
    NoVictims,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Reason::Unschedulable => "node(s) were unschedulable",
            Reason::NodeName => "node(s) didn't match the requested node name",
            Reason::Taint { key, value } => {
                return write!(f, "node(s) had untolerated taint {{{key}: {value}}}");
            }
            Reason::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Reason::NotNamed => "node(s) didn't satisfy plugin(s) [NodeAffinity]",
            Reason::NodePorts => "node(s) didn't have free ports for the requested pod ports",
            Reason::TooManyPods => "Too many pods",
            Reason::Insufficient(resource) => return write!(f, "Insufficient {resource}"),
            Reason::Spread => "node(s) didn't match pod topology spread constraints",
            Reason::SpreadLabel => {
                "node(s) didn't match pod topology spread constraints (missing required label)"
            }
            Reason::PodAffinity => "node(s) didn't match pod affinity rules",
            Reason::PodAntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Reason::ExistingAntiAffinity => "node(s) didn't satisfy existing pods anti-affinity rules",
            Reason::PreemptionNotHelpful => "Preemption is not helpful for scheduling",
            Reason::NoVictims => "No preemption victims found for incoming pod",
        };
        f.write_str(text)
    }
}

/// A set of plugins that refused a pod: what must change before it is worth another attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusers(u16);

impl Refusers {
    pub const NODE_UNSCHEDULABLE: Refusers = Refusers(1);
    pub const NODE_NAME: Refusers = Refusers(1 << 1);
    pub const TAINT_TOLERATION: Refusers = Refusers(1 << 2);
    pub const NODE_AFFINITY: Refusers = Refusers(1 << 3);
    pub const NODE_PORTS: Refusers = Refusers(1 << 4);
    pub const NODE_RESOURCES_FIT: Refusers = Refusers(1 << 5);
    pub const POD_TOPOLOGY_SPREAD: Refusers = Refusers(1 << 6);
    pub const INTER_POD_AFFINITY: Refusers = Refusers(1 << 7);
    pub const NONE: Refusers = Refusers(0);
    pub const ALL: Refusers = Refusers(u16::MAX);

    #[must_use]
    pub const fn and(self, other: Refusers) -> Refusers {
        Refusers(self.0 | other.0)
    }

    pub const fn meets(self, other: Refusers) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Reason {
    fn refuser(&self) -> Refusers {
        match self {
            Reason::Unschedulable => Refusers::NODE_UNSCHEDULABLE,
            Reason::NodeName => Refusers::NODE_NAME,
            Reason::Taint { .. } => Refusers::TAINT_TOLERATION,
            Reason::NodeAffinity | Reason::NotNamed => Refusers::NODE_AFFINITY,
            Reason::NodePorts => Refusers::NODE_PORTS,
            Reason::TooManyPods | Reason::Insufficient(_) => Refusers::NODE_RESOURCES_FIT,
            Reason::Spread | Reason::SpreadLabel => Refusers::POD_TOPOLOGY_SPREAD,
            Reason::PodAffinity | Reason::PodAntiAffinity | Reason::ExistingAntiAffinity => {
                Refusers::INTER_POD_AFFINITY
            }
            Reason::PreemptionNotHelpful | Reason::NoVictims => Refusers::NONE,
        }
    }
}

/// A filter's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Never empty.
    pub reasons: Vec<Reason>,
    /// Removing pods from the node could turn it into a yes.
    pub resolvable: bool,
}

impl Rejection {
    pub fn resolvable(reason: Reason) -> Self {
        Rejection { reasons: vec![reason], resolvable: true }
    }

    pub fn unresolvable(reason: Reason) -> Self {
        Rejection { reasons: vec![reason], resolvable: false }
    }
}

/// Reasons and how many nodes gave them.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counts: HashMap<Reason, usize>,
}

impl Tally {
    pub fn add(&mut self, reasons: &[Reason], nodes: usize) {
        if nodes > 0 {
            for reason in reasons {
                *self.counts.entry(reason.clone()).or_default() += nodes;
            }
        }
    }

    pub fn refusers(&self) -> Refusers {
        self.counts.keys().fold(Refusers::NONE, |refusers, reason| refusers.and(reason.refuser()))
    }

    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub fn message(&self, nodes: usize) -> String {
        let mut reasons: Vec<String> =
            self.counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort_unstable();
        format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
    }
}

/// The filters that look at nothing but the node.
pub fn filter_node(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    node_unschedulable::filter(pod, node)?;
    node_name::filter(pod, node)?;
    taint_toleration::filter(pod, node)?;
    node_affinity::filter(pod, node)?;
    node_ports::filter(pod, node)?;
    node_resources_fit::filter(pod, node)
}

/// What the filters need to know of the whole cluster, for one pod.
#[derive(Clone)]
pub struct Cycle<'a> {
    pub cluster: &'a Cluster,
    pub pod: &'a PodInfo,
    spread: Arc<Hard>,
    affinity: Required,
}

impl<'a> Cycle<'a> {
    pub fn new(cluster: &'a Cluster, pod: &'a PodInfo) -> Self {
        Cycle::with_spread(cluster, pod, Arc::new(Hard::new(cluster, pod)))
    }

    /// With the counts of an earlier pod of the class, brought up to date.
    pub fn with_spread(cluster: &'a Cluster, pod: &'a PodInfo, spread: Arc<Hard>) -> Self {
        Cycle { cluster, pod, spread, affinity: Required::new(cluster, pod) }
    }

    /// Whether the pod may go on the node as it stands.
    pub fn filter_once(&self, node: &NodeInfo) -> Result<(), Rejection> {
        filter_node(self.pod, node)?;
        self.spread.filter(node)?;
        self.affinity.filter(self.pod, node)
    }

    /// Whether the pod may go on the node, both as it stands and once the pods have come for which
    /// room is being made there and that matter at least as much.
    pub fn filter(&self, node: &NodeInfo) -> Result<(), Rejection> {
        let nominated = self.cluster.nominated(node.name()).iter();
        let coming: Vec<_> = nominated
            .filter(|other| other.priority >= self.pod.priority && other.uid != self.pod.uid)
            .filter(|other| !node.pods.iter().any(|pod| pod.uid == other.uid))
            .collect();
        if !coming.is_empty() {
            let mut full = node.clone();
            let mut cycle = self.clone();
            for other in coming {
                cycle.update(other, node, 1);
                full.add(other.clone());
            }
            cycle.filter_once(&full)?;
        }
        self.filter_once(node)
    }

    /// Counts a pod that comes to a node, or goes (`by` -1).
    pub fn update(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        if !self.spread.is_empty() {
            Arc::make_mut(&mut self.spread).update(self.pod, other, node, by);
        }
        self.affinity.update(self.cluster, self.pod, other, node, by);
    }
}

/// Compares nodes for one pod. It keeps what the comparison is relative to, so that it can also
/// compare for the next pods of the same class.
pub struct Scorer {
    most_disliked: i64,
    most_preferred: i64,
    spread: Soft,
    affinity: Preferred,
}

impl Scorer {
    /// `feasible` are the nodes that will be compared.
    pub fn new(cluster: &Cluster, pod: &PodInfo, feasible: &[usize]) -> Self {
        let most = |score: &dyn Fn(&NodeInfo) -> i64| {
            feasible.iter().map(|at| score(&cluster.nodes()[*at])).max().unwrap_or_default()
        };
        Scorer {
            most_disliked: most(&|node| taint_toleration::score(pod, node)),
            most_preferred: most(&|node| node_affinity::score(pod, node)),
            spread: Soft::new(cluster, pod, feasible),
            affinity: Preferred::new(cluster, pod, feasible),
        }
    }

    /// More is better. The weights are upstream's, times [`SCALE`].
    pub fn score(&self, cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> i64 {
        self.score_of_node(cluster, pod, node) + self.score_of_places(node)
    }

    /// The part of a score that only what happens on the node changes.
    pub fn score_of_node(&self, cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let whole = 3 * normalize(taint_toleration::score(pod, node), self.most_disliked, true)
            + 2 * normalize(node_affinity::score(pod, node), self.most_preferred, false)
            + node_resources_fit::score(pod, node)
            + node_resources_balanced_allocation::score(pod, node)
            + 2 * self.affinity.score(node)
            + image_locality::score(cluster, pod, node);
        whole * SCALE + 2 * self.spread.score_of_node(node)
    }

    /// The part of a score that nodes in the same [`Scorer::places`] share.
    pub fn score_of_places(&self, node: &NodeInfo) -> i64 {
        2 * self.spread.score_of_places(node)
    }

    /// The places, such as a zone, that a node shares with others.
    pub fn places<'a>(&self, node: &'a NodeInfo) -> Vec<Option<&'a str>> {
        self.spread.places(node)
    }

    /// Counts a pod of the class that went to a node.
    pub fn placed(&mut self, pod: &PodInfo, node: &NodeInfo) {
        self.spread.placed(pod, node);
    }
}
