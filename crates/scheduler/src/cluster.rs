//! Everything that decisions are made from, kept current one event at a time.
//!
//! Pods that the scheduler has just placed are here too (assumed), so that the next decision
//! counts with them while their binding is under way.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sampan_api::selector::Selector;

use crate::labels::Labels;
use crate::node::{NodeInfo, NodeSpec};
use crate::pod::PodInfo;

/// Nodes, the pods on them, and what plugins look up beside them.
#[derive(Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    index: HashMap<Arc<str>, usize>,
    /// Pods on nodes, by uid.
    placed: HashMap<Box<str>, Placed>,
    /// Pods on nodes that are not known (yet).
    homeless: HashMap<Arc<str>, Vec<Arc<PodInfo>>>,
    /// Pods on nodes, counted by namespace and labels: most pods have many like them, so that a
    /// selector is asked once for all of those.
    groups: HashMap<Box<str>, HashMap<Labels, Group>>,
    /// Pods on nodes that have terms about other pods, by class.
    with_terms: HashMap<u64, TermClass>,
    nominated: HashMap<Box<str>, Vec<Arc<PodInfo>>>,
    namespaces: HashMap<Box<str>, Labels>,
    /// By namespace.
    workloads: HashMap<Box<str>, Workloads>,
    budgets: HashMap<String, Budget>,
    /// On how many nodes an image is.
    image_nodes: HashMap<Box<str>, usize>,
    epoch: u64,
    freed: u64,
    /// The latest changes of pods on nodes, and how many there were before them.
    journal: VecDeque<Move>,
    forgotten: u64,
}

/// How many of the latest moves are kept.
const JOURNAL: usize = 1024;

/// A pod that came to a node (`by` 1) or left it (-1).
#[derive(Clone)]
pub struct Move {
    pub pod: Arc<PodInfo>,
    pub node: Arc<str>,
    pub by: i64,
}

/// Pods of one namespace with the same labels, by node.
pub type Group = HashMap<Arc<str>, Present>;

/// Pods with the same terms about other pods.
pub struct TermClass {
    /// One of them.
    pub pod: Arc<PodInfo>,
    /// How many are on each node.
    pub nodes: HashMap<Arc<str>, i64>,
}

/// How many pods are on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    pub all: i64,
    /// Those of them that are not being deleted.
    pub staying: i64,
}

struct Placed {
    pod: Arc<PodInfo>,
    node: Arc<str>,
    assumed: bool,
}

/// What owns, or serves, the pods that a selector selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkloadKind {
    Service,
    ReplicationController,
    ReplicaSet,
    StatefulSet,
}

impl WorkloadKind {
    pub fn as_str(self) -> &'static str {
        match self {
            WorkloadKind::Service => "Service",
            WorkloadKind::ReplicationController => "ReplicationController",
            WorkloadKind::ReplicaSet => "ReplicaSet",
            WorkloadKind::StatefulSet => "StatefulSet",
        }
    }
}

/// The selectors of a namespace's workloads, by kind and name.
type Workloads = HashMap<(WorkloadKind, Box<str>), Selector>;

/// Kind, namespace and name.
pub type WorkloadKey = (WorkloadKind, Box<str>, Box<str>);

/// A pod disruption budget.
#[derive(Clone, Debug)]
pub struct Budget {
    pub namespace: Box<str>,
    pub selector: Selector,
    /// Pods that may still be disrupted.
    pub allowed: i64,
    /// Names of pods whose disruption is already counted.
    pub disrupted: Vec<Box<str>>,
}

/// What an update of a node changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeChange {
    pub added: bool,
    pub allocatable: bool,
    pub labels: bool,
    pub taints: bool,
    pub unschedulable: bool,
}

static NO_LABELS: std::sync::LazyLock<Labels> = std::sync::LazyLock::new(Labels::default);

impl Cluster {
    /// In no order; the place of a node changes when nodes go.
    pub fn nodes(&self) -> &[NodeInfo] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|at| &self.nodes[*at])
    }

    pub fn node_index(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Changes whenever a node, or anything else that is not a plain pod, does.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Changes whenever something was freed or changed: as long as it does not, a pod that did not
    /// fit does not fit.
    pub fn freed(&self) -> u64 {
        self.freed
    }

    fn changed(&mut self) {
        self.epoch += 1;
        self.freed += 1;
    }

    // Nodes.

    pub fn set_node(&mut self, spec: NodeSpec) -> NodeChange {
        let Some(&at) = self.index.get(&spec.name) else {
            self.add_node(spec);
            return NodeChange { added: true, ..NodeChange::default() };
        };
        let old = self.nodes[at].spec.clone();
        if *old == spec {
            return NodeChange::default();
        }
        let change = NodeChange {
            added: false,
            allocatable: old.allocatable != spec.allocatable || old.allowed_pods != spec.allowed_pods,
            labels: old.labels != spec.labels,
            taints: old.taints != spec.taints,
            unschedulable: old.unschedulable != spec.unschedulable,
        };
        self.count_images(&old, false);
        self.count_images(&spec, true);
        self.nodes[at].spec = Arc::new(spec);
        if change == NodeChange::default() {
            // Only images differ: they make a node more or less wanted, and open none.
            self.epoch += 1;
        } else {
            self.changed();
        }
        change
    }

    fn add_node(&mut self, spec: NodeSpec) {
        self.count_images(&spec, true);
        let name = spec.name.clone();
        let mut node = NodeInfo::new(Arc::new(spec));
        for pod in self.homeless.remove(&name).unwrap_or_default() {
            node.add(pod);
        }
        self.index.insert(name, self.nodes.len());
        self.nodes.push(node);
        self.changed();
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.index.remove(name) else { return };
        let node = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.spec.name.clone(), at);
        }
        self.count_images(&node.spec, false);
        if !node.pods.is_empty() {
            self.homeless.insert(node.spec.name.clone(), node.pods);
        }
        self.changed();
    }

    fn count_images(&mut self, spec: &NodeSpec, add: bool) {
        for image in spec.images.keys() {
            let count = self.image_nodes.entry(image.clone()).or_default();
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.image_nodes.remove(image);
            }
        }
    }

    pub fn image_nodes(&self, image: &str) -> usize {
        self.image_nodes.get(image).copied().unwrap_or_default()
    }

    // Pods.

    /// Puts a pod on a node before its binding is done.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.place(pod, node.into(), true);
    }

    /// A pod that the API says is on a node.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        let Some(node) = pod.node.clone() else { return };
        // A change of a placed pod may free something (a resize) or turn a plugin's mind (labels).
        if self.pod(&pod.uid).is_some_and(|old| old.class != pod.class) {
            self.changed();
        }
        self.place(pod, (&*node).into(), false);
    }

    fn place(&mut self, pod: Arc<PodInfo>, node: Arc<str>, assumed: bool) {
        self.take(&pod.uid);
        let uid = pod.uid.clone();
        match self.index.get(&node) {
            Some(&at) => self.nodes[at].add(pod.clone()),
            None => self.homeless.entry(node.clone()).or_default().push(pod.clone()),
        }
        self.count_group(&pod, &node, 1);
        self.count_terms(&pod, &node, 1);
        self.placed.insert(uid, Placed { pod, node, assumed });
    }

    /// Takes a pod off its node, for good or because its binding failed.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.take(uid)?;
        self.freed += 1;
        Some(pod)
    }

    fn take(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let Placed { pod, node, .. } = self.placed.remove(uid)?;
        match self.index.get(&node) {
            Some(&at) => drop(self.nodes[at].remove(uid)),
            None => {
                if let Some(pods) = self.homeless.get_mut(&node) {
                    pods.retain(|pod| *pod.uid != *uid);
                    if pods.is_empty() {
                        self.homeless.remove(&node);
                    }
                }
            }
        }
        self.count_group(&pod, &node, -1);
        self.count_terms(&pod, &node, -1);
        Some(pod)
    }

    fn count_group(&mut self, pod: &Arc<PodInfo>, node: &Arc<str>, by: i64) {
        let groups = match self.groups.get_mut(&pod.namespace) {
            Some(groups) => groups,
            None => self.groups.entry(pod.namespace.clone()).or_default(),
        };
        let group = match groups.get_mut(&pod.labels) {
            Some(group) => group,
            None => groups.entry(pod.labels.clone()).or_default(),
        };
        let present = group.entry(node.clone()).or_default();
        present.all += by;
        present.staying += if pod.terminating { 0 } else { by };
        if present.all == 0 {
            group.remove(node);
            if group.is_empty() {
                groups.remove(&pod.labels);
            }
            if groups.is_empty() {
                self.groups.remove(&pod.namespace);
            }
        }
        if self.journal.len() == JOURNAL {
            self.journal.pop_front();
            self.forgotten += 1;
        }
        self.journal.push_back(Move { pod: pod.clone(), node: node.clone(), by });
    }

    /// How many pods have come and gone so far.
    pub fn moves(&self) -> u64 {
        self.forgotten + self.journal.len() as u64
    }

    /// The moves after the first `known`; `None` when not all of them are remembered.
    pub fn moves_since(&self, known: u64) -> Option<impl Iterator<Item = &Move>> {
        let from = known.checked_sub(self.forgotten)? as usize;
        (from <= self.journal.len()).then(|| self.journal.range(from..))
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.placed.get(uid).is_some_and(|placed| placed.assumed)
    }

    /// The pod as it was placed.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.placed.get(uid).map(|placed| &placed.pod)
    }

    /// The pods of a namespace that are on nodes, by labels.
    pub fn groups_of(&self, namespace: &str) -> impl Iterator<Item = (&Labels, &Group)> {
        self.groups.get(namespace).into_iter().flatten()
    }

    /// All pods that are on nodes, by namespace and labels.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Labels, &Group)> {
        let namespaces = self.groups.iter();
        namespaces.flat_map(|(name, groups)| groups.iter().map(|(labels, group)| (&**name, labels, group)))
    }

    /// Pods on nodes that have terms about other pods.
    pub fn with_terms(&self) -> impl Iterator<Item = &TermClass> {
        self.with_terms.values()
    }

    fn count_terms(&mut self, pod: &Arc<PodInfo>, node: &Arc<str>, by: i64) {
        if !pod.has_pod_terms() {
            return;
        }
        let class = self.with_terms.entry(pod.class);
        let class = class.or_insert_with(|| TermClass { pod: pod.clone(), nodes: HashMap::new() });
        let count = class.nodes.entry(node.clone()).or_default();
        *count += by;
        if *count == 0 {
            class.nodes.remove(node);
            if class.nodes.is_empty() {
                self.with_terms.remove(&pod.class);
            }
        }
    }

    // Nominations: pods for which room is being made.

    /// Notes, or forgets, where room is being made for a pod.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: Option<&str>) {
        self.forget_nomination(&pod.uid);
        if let Some(node) = node {
            self.nominated.entry(node.into()).or_default().push(pod.clone());
            self.epoch += 1;
        }
    }

    pub fn forget_nomination(&mut self, uid: &str) {
        if self.nominated.is_empty() {
            return;
        }
        let count = |nominated: &HashMap<_, Vec<_>>| nominated.values().map(Vec::len).sum::<usize>();
        let before = count(&self.nominated);
        self.nominated.retain(|_, pods| {
            pods.retain(|pod| *pod.uid != *uid);
            !pods.is_empty()
        });
        if count(&self.nominated) != before {
            self.changed();
        }
    }

    /// Pods for which room is being made on a node.
    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated.get(node).map_or(&[], Vec::as_slice)
    }

    pub fn has_nominated(&self) -> bool {
        !self.nominated.is_empty()
    }

    // What else plugins ask.

    pub fn set_namespace(&mut self, name: &str, labels: Labels) -> bool {
        let changed = self.namespaces.insert(name.into(), labels.clone()) != Some(labels);
        if changed {
            self.changed();
        }
        changed
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
        self.changed();
    }

    /// The labels of a namespace; none where it is not known.
    pub fn namespace(&self, name: &str) -> &Labels {
        self.namespaces.get(name).unwrap_or(&NO_LABELS)
    }

    pub fn set_workload(&mut self, (kind, namespace, name): WorkloadKey, selector: Selector) {
        let workloads = self.workloads.entry(namespace).or_default();
        if workloads.get(&(kind, name.clone())) != Some(&selector) {
            workloads.insert((kind, name), selector);
            self.epoch += 1;
        }
    }

    pub fn remove_workload(&mut self, (kind, namespace, name): &WorkloadKey) {
        let Some(workloads) = self.workloads.get_mut(namespace) else { return };
        if workloads.remove(&(*kind, name.clone())).is_some() {
            self.epoch += 1;
        }
        if workloads.is_empty() {
            self.workloads.remove(namespace);
        }
    }

    /// The selectors of the services and of the controller that a pod belongs to.
    pub fn selectors_of(&self, pod: &PodInfo) -> Vec<Selector> {
        let mut selectors = Vec::new();
        for ((kind, name), selector) in self.workloads.get(&pod.namespace).into_iter().flatten() {
            let belongs = match kind {
                WorkloadKind::Service => pod.labels.match_selector(selector),
                WorkloadKind::ReplicationController
                | WorkloadKind::ReplicaSet
                | WorkloadKind::StatefulSet => {
                    let owner = pod.controller.as_ref();
                    owner.is_some_and(|(owner, owner_name)| **owner == *kind.as_str() && owner_name == name)
                }
            };
            if belongs && !selector.is_everything() {
                selectors.push(selector.clone());
            }
        }
        selectors
    }

    pub fn set_budget(&mut self, key: String, budget: Budget) {
        self.budgets.insert(key, budget);
        self.freed += 1;
    }

    pub fn remove_budget(&mut self, key: &str) {
        self.budgets.remove(key);
        self.freed += 1;
    }

    pub fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.budgets.values()
    }
}
