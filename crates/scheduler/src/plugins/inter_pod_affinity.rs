//! InterPodAffinity: pods that want to be near other pods, or far from them; and what pods that
//! are already placed demand of those that come.

use std::collections::HashMap;

use crate::cluster::{Cluster, TermClass};
use crate::framework::{Reason, Rejection};
use crate::labels::{AffinityTerm, Labels};
use crate::node::NodeInfo;
use crate::plugins::MAX_SCORE;
use crate::pod::PodInfo;

/// What a required affinity of a placed pod is worth to the pods that it wants near.
const HARD_WEIGHT: i64 = 1;

/// Counts by label key and value.
#[derive(Clone, Default)]
struct Counts(HashMap<Box<str>, HashMap<Box<str>, i64>>);

impl Counts {
    /// Counts what is on a node for the place that the node is in.
    fn add(&mut self, node: &NodeInfo, key: &str, by: i64) {
        let Some(value) = node.label(key) else { return };
        let places = match self.0.get_mut(key) {
            Some(places) => places,
            None => self.0.entry(key.into()).or_default(),
        };
        match places.get_mut(value) {
            Some(count) => *count += by,
            None => drop(places.insert(value.into(), by)),
        }
        if places.get(value) == Some(&0) {
            places.remove(value);
            if places.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// The count of the place that the node is in.
    fn at(&self, node: &NodeInfo, key: &str) -> i64 {
        let place = self.0.get(key).and_then(|places| places.get(node.label(key)?));
        place.copied().unwrap_or_default()
    }

    /// The counts of all places that the node is in.
    fn all_at<'a>(&'a self, node: &'a NodeInfo) -> impl Iterator<Item = i64> + 'a {
        self.0.iter().filter_map(|(key, places)| places.get(node.label(key)?)).copied()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What required terms, of the pod and of those already placed, say about nodes.
#[derive(Clone, Default)]
pub struct Required {
    /// Placed pods whose anti-affinity means the pod.
    refusing: Counts,
    /// Placed pods that all of the pod's affinity terms mean.
    near: Counts,
    /// Placed pods that the pod's anti-affinity means.
    far: Counts,
    /// The pod is meant by all of its own affinity terms.
    wants_itself: bool,
}

fn means(cluster: &Cluster, term: &AffinityTerm, namespace: &str, labels: &Labels) -> bool {
    term.matches(namespace, cluster.namespace(namespace), labels)
}

fn all_mean(cluster: &Cluster, terms: &[AffinityTerm], namespace: &str, labels: &Labels) -> bool {
    !terms.is_empty() && terms.iter().all(|term| means(cluster, term, namespace, labels))
}

fn means_pod(cluster: &Cluster, term: &AffinityTerm, pod: &PodInfo) -> bool {
    means(cluster, term, &pod.namespace, &pod.labels)
}

/// Visits the nodes that pods of a class are on, with how many.
fn each_node(cluster: &Cluster, class: &TermClass, mut visit: impl FnMut(&NodeInfo, i64)) {
    for (node, pods) in &class.nodes {
        if let Some(node) = cluster.node(node) {
            visit(node, *pods);
        }
    }
}

/// What a placed pod wants near, by weight; negative is what it wants far.
fn pulls(pod: &PodInfo) -> impl Iterator<Item = (i64, &AffinityTerm)> {
    let required = pod.affinity.required.iter().map(|term| (HARD_WEIGHT, term));
    let near = pod.affinity.preferred.iter().map(|(weight, term)| (*weight, term));
    let far = pod.anti_affinity.preferred.iter().map(|(weight, term)| (-*weight, term));
    required.chain(near).chain(far)
}

/// Whether some placed pod cares where this one goes.
pub fn concerns_others(cluster: &Cluster, pod: &PodInfo) -> bool {
    cluster.with_terms().any(|class| {
        let pulls = pulls(&class.pod).map(|(_, term)| term);
        pulls.chain(&class.pod.anti_affinity.required).any(|term| means_pod(cluster, term, pod))
    })
}

impl Required {
    pub fn new(cluster: &Cluster, pod: &PodInfo) -> Self {
        let mut state = Required {
            wants_itself: all_mean(cluster, &pod.affinity.required, &pod.namespace, &pod.labels),
            ..Required::default()
        };
        let has_terms = !(pod.affinity.required.is_empty() && pod.anti_affinity.required.is_empty());
        if has_terms {
            for (namespace, labels, group) in cluster.groups() {
                let near = all_mean(cluster, &pod.affinity.required, namespace, labels);
                let far: Vec<&AffinityTerm> = pod
                    .anti_affinity
                    .required
                    .iter()
                    .filter(|term| means(cluster, term, namespace, labels))
                    .collect();
                if !near && far.is_empty() {
                    continue;
                }
                for (node, present) in group {
                    let Some(node) = cluster.node(node) else { continue };
                    for term in pod.affinity.required.iter().filter(|_| near) {
                        state.near.add(node, &term.topology_key, present.all);
                    }
                    for term in &far {
                        state.far.add(node, &term.topology_key, present.all);
                    }
                }
            }
        }
        for class in cluster.with_terms() {
            for term in class.pod.anti_affinity.required.iter().filter(|term| means_pod(cluster, term, pod)) {
                each_node(cluster, class, |node, pods| {
                    state.refusing.add(node, &term.topology_key, pods);
                });
            }
        }
        state
    }

    /// Counts a pod that comes to a node, or goes (`by` -1).
    pub fn update(&mut self, cluster: &Cluster, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        self.update_own(cluster, pod, other, node, by);
        self.update_refusing(cluster, pod, other, node, by);
    }

    fn update_own(&mut self, cluster: &Cluster, pod: &PodInfo, other: &PodInfo, node: &NodeInfo, by: i64) {
        if all_mean(cluster, &pod.affinity.required, &other.namespace, &other.labels) {
            for term in &pod.affinity.required {
                self.near.add(node, &term.topology_key, by);
            }
        }
        for term in &pod.anti_affinity.required {
            if means(cluster, term, &other.namespace, &other.labels) {
                self.far.add(node, &term.topology_key, by);
            }
        }
    }

    fn update_refusing(
        &mut self,
        cluster: &Cluster,
        pod: &PodInfo,
        other: &PodInfo,
        node: &NodeInfo,
        by: i64,
    ) {
        for term in &other.anti_affinity.required {
            if means_pod(cluster, term, pod) {
                self.refusing.add(node, &term.topology_key, by);
            }
        }
    }

    pub fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let terms = &pod.affinity.required;
        if !terms.is_empty() {
            let labelled = terms.iter().all(|term| node.label(&term.topology_key).is_some());
            let met = terms.iter().all(|term| self.near.at(node, &term.topology_key) > 0);
            // The first of a group that wants to be together must be able to start it.
            let first = self.near.is_empty() && self.wants_itself;
            if !(labelled && (met || first)) {
                return Err(Rejection::unresolvable(Reason::PodAffinity));
            }
        }
        let far = pod.anti_affinity.required.iter();
        if far.map(|term| self.far.at(node, &term.topology_key)).any(|count| count > 0) {
            return Err(Rejection::resolvable(Reason::PodAntiAffinity));
        }
        if self.refusing.all_at(node).any(|count| count > 0) {
            return Err(Rejection::resolvable(Reason::ExistingAntiAffinity));
        }
        Ok(())
    }
}

/// What preferred terms, of the pod and of those already placed, say about nodes.
#[derive(Default)]
pub struct Preferred {
    weights: Counts,
    least: i64,
    most: i64,
}

impl Preferred {
    /// `feasible` are the nodes that will be compared.
    pub fn new(cluster: &Cluster, pod: &PodInfo, feasible: &[usize]) -> Self {
        let mut state = Preferred::default();
        let own = !(pod.affinity.preferred.is_empty() && pod.anti_affinity.preferred.is_empty());
        if own {
            for (namespace, labels, group) in cluster.groups() {
                for (terms, sign) in [(&pod.affinity.preferred, 1), (&pod.anti_affinity.preferred, -1)] {
                    for (weight, term) in terms {
                        if !means(cluster, term, namespace, labels) {
                            continue;
                        }
                        for (node, present) in group {
                            if let Some(node) = cluster.node(node) {
                                let weight = weight * sign * present.all;
                                state.weights.add(node, &term.topology_key, weight);
                            }
                        }
                    }
                }
            }
        }
        for class in cluster.with_terms() {
            for (weight, term) in pulls(&class.pod) {
                if means_pod(cluster, term, pod) {
                    each_node(cluster, class, |node, pods| {
                        state.weights.add(node, &term.topology_key, weight * pods);
                    });
                }
            }
        }
        if !state.weights.is_empty() {
            let raw = feasible.iter().map(|at| state.raw(&cluster.nodes()[*at]));
            (state.least, state.most) =
                raw.fold((i64::MAX, i64::MIN), |(least, most), score| (least.min(score), most.max(score)));
        }
        state
    }

    fn raw(&self, node: &NodeInfo) -> i64 {
        self.weights.all_at(node).sum()
    }

    /// 0 to 100.
    pub fn score(&self, node: &NodeInfo) -> i64 {
        let range = self.most - self.least;
        if self.weights.is_empty() || range <= 0 {
            return 0;
        }
        let share = (self.raw(node) - self.least) as f64 / range as f64;
        (MAX_SCORE as f64 * share) as i64
    }
}
