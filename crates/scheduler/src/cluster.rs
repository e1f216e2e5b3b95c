//! Everything that decisions are made from, kept current one event at a time.
//!
//! Pods that the scheduler has just placed are here too (assumed), so that the next decision
//! counts with them while their binding is under way.

use std::collections::HashMap;
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
    /// The uids of pods on nodes, by namespace.
    by_namespace: HashMap<Box<str>, HashMap<Box<str>, Arc<str>>>,
    /// The uids of pods on nodes that have terms about other pods.
    with_terms: HashMap<Box<str>, Arc<str>>,
    nominated: HashMap<Box<str>, Vec<Arc<PodInfo>>>,
    namespaces: HashMap<Box<str>, Labels>,
    workloads: HashMap<WorkloadKey, Workload>,
    budgets: HashMap<String, Budget>,
    /// On how many nodes an image is.
    image_nodes: HashMap<Box<str>, usize>,
    epoch: u64,
    freed: u64,
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

/// Kind, namespace and name.
pub type WorkloadKey = (WorkloadKind, Box<str>, Box<str>);

struct Workload {
    selector: Selector,
}

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
        self.by_namespace.entry(pod.namespace.clone()).or_default().insert(uid.clone(), node.clone());
        if pod.has_pod_terms() {
            self.with_terms.insert(uid.clone(), node.clone());
            self.epoch += 1;
        }
        self.placed.insert(uid, Placed { pod, node, assumed });
    }

    /// Takes a pod off its node, for good or because its binding failed.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.take(uid)?;
        self.freed += 1;
        if pod.has_pod_terms() {
            self.epoch += 1;
        }
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
        if let Some(pods) = self.by_namespace.get_mut(&pod.namespace) {
            pods.remove(uid);
            if pods.is_empty() {
                self.by_namespace.remove(&pod.namespace);
            }
        }
        self.with_terms.remove(uid);
        Some(pod)
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.placed.get(uid).is_some_and(|placed| placed.assumed)
    }

    /// The pod as it was placed.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.placed.get(uid).map(|placed| &placed.pod)
    }

    fn on_nodes<'a>(
        &'a self,
        uids: impl Iterator<Item = (&'a Box<str>, &'a Arc<str>)> + 'a,
    ) -> impl Iterator<Item = (&'a Arc<PodInfo>, &'a NodeInfo)> + 'a {
        uids.filter_map(|(uid, node)| Some((&self.placed.get(uid)?.pod, self.node(node)?)))
    }

    /// Pods of a namespace, with their nodes.
    pub fn pods_of(&self, namespace: &str) -> impl Iterator<Item = (&Arc<PodInfo>, &NodeInfo)> {
        self.on_nodes(self.by_namespace.get(namespace).into_iter().flatten())
    }

    /// Pods that have terms about other pods, with their nodes.
    pub fn pods_with_terms(&self) -> impl Iterator<Item = (&Arc<PodInfo>, &NodeInfo)> {
        self.on_nodes(self.with_terms.iter())
    }

    pub fn has_pods_with_terms(&self) -> bool {
        !self.with_terms.is_empty()
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

    pub fn set_workload(&mut self, key: WorkloadKey, selector: Selector) {
        let same = self.workloads.get(&key).is_some_and(|workload| workload.selector == selector);
        if !same {
            self.workloads.insert(key, Workload { selector });
            self.epoch += 1;
        }
    }

    pub fn remove_workload(&mut self, key: &WorkloadKey) {
        if self.workloads.remove(key).is_some() {
            self.epoch += 1;
        }
    }

    /// The selectors of the services and of the controller that a pod belongs to.
    pub fn selectors_of(&self, pod: &PodInfo) -> Vec<Selector> {
        let mut selectors = Vec::new();
        for ((kind, namespace, name), workload) in &self.workloads {
            let belongs = match kind {
                WorkloadKind::Service => pod.labels.match_selector(&workload.selector),
                WorkloadKind::ReplicationController
                | WorkloadKind::ReplicaSet
                | WorkloadKind::StatefulSet => {
                    let owner = pod.controller.as_ref();
                    owner.is_some_and(|(owner, owner_name)| **owner == *kind.as_str() && owner_name == name)
                }
            };
            if belongs && *namespace == pod.namespace && !workload.selector.is_everything() {
                selectors.push(workload.selector.clone());
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
