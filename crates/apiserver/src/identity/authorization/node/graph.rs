//! Which objects the pods of each node refer to, so that the node may read them.
//!
//! Ways lead from an object to the nodes of the pods that name it: `secret → pod → node`, and over
//! volumes `secret → volume → claim → pod → node`. They are counted rather than searched: each object
//! knows how many ways lead to which node, so that a question is two look-ups. Pods themselves are not
//! kept; who takes one out says what it referred to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Kinds of objects that ways start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vertex {
    Secret,
    ConfigMap,
    ServiceAccount,
    Claim,
    Volume,
    VolumeAttachment,
    ResourceClaim,
    ResourceSlice,
    Pod,
}

const VERTICES: usize = Vertex::Pod as usize + 1;

/// What one pod that has a node refers to. Names are `namespace/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodLinks {
    pub node: Box<str>,
    /// Each once.
    pub objects: Vec<(Vertex, Box<str>)>,
}

/// What a volume that is bound to a claim refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeLinks {
    /// `namespace/name`.
    pub claim: Box<str>,
    /// `namespace/name`, each once.
    pub secrets: Vec<Box<str>>,
}

/// The nodes that ways lead to, and how many.
type Nodes = HashMap<Arc<str>, u32>;

#[derive(Default)]
pub struct Graph {
    reach: [HashMap<Box<str>, Nodes>; VERTICES],
    volumes: HashMap<Box<str>, VolumeLinks>,
    /// The volumes that say that they are a claim's.
    bound: HashMap<Box<str>, BTreeSet<Box<str>>>,
    /// One text per node, however many objects lead to it.
    names: HashMap<Box<str>, Arc<str>>,
}

impl Graph {
    /// Whether a way leads from an object to a node. `key` is `namespace/name`, or the name of an object
    /// of the cluster.
    pub fn leads(&self, vertex: Vertex, key: &str, node: &str) -> bool {
        self.reach[vertex as usize].get(key).is_some_and(|nodes| nodes.contains_key(node))
    }

    /// Takes in a pod that has a node. One that is known must be taken out first.
    pub fn add_pod(&mut self, pod: &PodLinks) {
        let node = self.node(&pod.node);
        for (vertex, key) in &pod.objects {
            let first = self.link(*vertex, key, &node);
            if *vertex == Vertex::Claim && first {
                self.link_volumes(key, &node, true);
            }
        }
    }

    /// Takes out a pod, with what it was taken in with.
    pub fn remove_pod(&mut self, pod: &PodLinks) {
        let node = self.node(&pod.node);
        for (vertex, key) in &pod.objects {
            let last = self.unlink(*vertex, key, &node);
            if *vertex == Vertex::Claim && last {
                self.link_volumes(key, &node, false);
            }
        }
    }

    /// Takes in a new or changed volume; `None` where it is gone, or bound to no claim.
    pub fn set_volume(&mut self, name: &str, links: Option<VolumeLinks>) {
        if let Some(before) = self.volumes.remove(name) {
            for node in self.nodes_of_claim(&before.claim) {
                self.link_volume(name, &before, &node, false);
            }
            if let Some(volumes) = self.bound.get_mut(&before.claim) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.bound.remove(&before.claim);
                }
            }
        }
        if let Some(links) = links {
            for node in self.nodes_of_claim(&links.claim) {
                self.link_volume(name, &links, &node, true);
            }
            self.bound.entry(links.claim.clone()).or_default().insert(name.into());
            self.volumes.insert(name.into(), links);
        }
    }

    /// Sets the one node that an object names itself; empty for none.
    pub fn set_node(&mut self, vertex: Vertex, key: &str, node: &str) {
        self.reach[vertex as usize].remove(key);
        if !node.is_empty() {
            let node = self.node(node);
            self.link(vertex, key, &node);
        }
    }

    fn node(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let shared: Arc<str> = name.into();
        self.names.insert(name.into(), shared.clone());
        shared
    }

    fn nodes_of_claim(&self, claim: &str) -> Vec<Arc<str>> {
        let nodes = self.reach[Vertex::Claim as usize].get(claim);
        nodes.into_iter().flat_map(|nodes| nodes.keys().cloned()).collect()
    }

    /// Begins or ends the ways over every volume of a claim, which now leads, or no longer, to a node.
    fn link_volumes(&mut self, claim: &str, node: &Arc<str>, begin: bool) {
        let names: Vec<Box<str>> = self.bound.get(claim).into_iter().flatten().cloned().collect();
        for name in names {
            if let Some(links) = self.volumes.get(&name).cloned() {
                self.link_volume(&name, &links, node, begin);
            }
        }
    }

    fn link_volume(&mut self, name: &str, links: &VolumeLinks, node: &Arc<str>, begin: bool) {
        let secrets = links.secrets.iter().map(|secret| (Vertex::Secret, &**secret));
        for (vertex, key) in [(Vertex::Volume, name)].into_iter().chain(secrets) {
            if begin {
                self.link(vertex, key, node);
            } else {
                self.unlink(vertex, key, node);
            }
        }
    }

    /// Answers whether it is the first way.
    fn link(&mut self, vertex: Vertex, key: &str, node: &Arc<str>) -> bool {
        let objects = &mut self.reach[vertex as usize];
        if !objects.contains_key(key) {
            objects.insert(key.into(), Nodes::new());
        }
        let count = objects.get_mut(key).map(|nodes| nodes.entry(node.clone()).or_insert(0));
        count.is_some_and(|count| {
            *count += 1;
            *count == 1
        })
    }

    /// Answers whether it was the last way.
    fn unlink(&mut self, vertex: Vertex, key: &str, node: &Arc<str>) -> bool {
        let objects = &mut self.reach[vertex as usize];
        let Some(nodes) = objects.get_mut(key) else { return false };
        let Some(count) = nodes.get_mut(node) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        nodes.remove(node);
        if nodes.is_empty() {
            objects.remove(key);
        }
        true
    }

    /// Whether nothing leads anywhere, for tests of what must be taken out again.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.reach.iter().all(HashMap::is_empty) && self.volumes.is_empty() && self.bound.is_empty()
    }
}
