//! InterPodAffinity: pods that want to be near other pods, or far from them; and what pods that
//! are already placed demand of those that come.

use std::collections::HashMap;

use crate::cluster::Cluster;
use crate::framework::{Reason, Rejection};
use crate::labels::{AffinityTerm, Labels};
use crate::node::NodeInfo;
use crate::plugins::MAX_SCORE;
use crate::pod::PodInfo;

/// What a required affinity of a placed pod is worth to the pods that it wants near.
const HARD_WEIGHT: i64 = 1;

/// Counts by topology: label key and value.
type Counts = HashMap<(Box<str>, Box<str>), i64>;

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

fn count(counts: &mut Counts, node: &NodeInfo, key: &str, by: i64) {
    if let Some(value) = node.label(key) {
        let entry = (key.into(), value.into());
        let count = counts.entry(entry.clone()).or_default();
        *count += by;
        if *count == 0 {
            counts.remove(&entry);
        }
    }
}

fn at(counts: &Counts, node: &NodeInfo, key: &str) -> i64 {
    if counts.is_empty() {
        return 0;
    }
    let value = node.label(key);
    value.and_then(|value| counts.get(&(key.into(), value.into()))).copied().unwrap_or_default()
}

fn means(cluster: &Cluster, term: &AffinityTerm, namespace: &str, labels: &Labels) -> bool {
    term.matches(namespace, cluster.namespace(namespace), labels)
}

fn all_mean(cluster: &Cluster, terms: &[AffinityTerm], namespace: &str, labels: &Labels) -> bool {
    !terms.is_empty() && terms.iter().all(|term| means(cluster, term, namespace, labels))
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
                        count(&mut state.near, node, &term.topology_key, present.all);
                    }
                    for term in &far {
                        count(&mut state.far, node, &term.topology_key, present.all);
                    }
                }
            }
        }
        for (other, node) in cluster.pods_with_terms() {
            state.update_refusing(cluster, pod, other, node, 1);
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
                count(&mut self.near, node, &term.topology_key, by);
            }
        }
        for term in &pod.anti_affinity.required {
            if means(cluster, term, &other.namespace, &other.labels) {
                count(&mut self.far, node, &term.topology_key, by);
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
            if means(cluster, term, &pod.namespace, &pod.labels) {
                count(&mut self.refusing, node, &term.topology_key, by);
            }
        }
    }

    pub fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let terms = &pod.affinity.required;
        if !terms.is_empty() {
            let labelled = terms.iter().all(|term| node.label(&term.topology_key).is_some());
            let met = terms.iter().all(|term| at(&self.near, node, &term.topology_key) > 0);
            // The first of a group that wants to be together must be able to start it.
            let first = self.near.is_empty() && self.wants_itself;
            if !(labelled && (met || first)) {
                return Err(Rejection::unresolvable(Reason::PodAffinity));
            }
        }
        let far = pod.anti_affinity.required.iter();
        if far.map(|term| at(&self.far, node, &term.topology_key)).any(|count| count > 0) {
            return Err(Rejection::resolvable(Reason::PodAntiAffinity));
        }
        let refused = |((key, value), count): (&(Box<str>, Box<str>), &i64)| {
            *count > 0 && node.label(key) == Some(value)
        };
        if self.refusing.iter().any(refused) {
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
                                count(&mut state.weights, node, &term.topology_key, weight);
                            }
                        }
                    }
                }
            }
        }
        for (other, node) in cluster.pods_with_terms() {
            for term in &other.affinity.required {
                if means(cluster, term, &pod.namespace, &pod.labels) {
                    count(&mut state.weights, node, &term.topology_key, HARD_WEIGHT);
                }
            }
            state.weigh(cluster, &other.affinity.preferred, pod, node, 1);
            state.weigh(cluster, &other.anti_affinity.preferred, pod, node, -1);
        }
        if !state.weights.is_empty() {
            let raw = feasible.iter().map(|at| state.raw(&cluster.nodes()[*at].spec.labels));
            (state.least, state.most) =
                raw.fold((i64::MAX, i64::MIN), |(least, most), score| (least.min(score), most.max(score)));
        }
        state
    }

    fn weigh(
        &mut self,
        cluster: &Cluster,
        terms: &[(i64, AffinityTerm)],
        meant: &PodInfo,
        node: &NodeInfo,
        sign: i64,
    ) {
        for (weight, term) in terms {
            if means(cluster, term, &meant.namespace, &meant.labels) {
                count(&mut self.weights, node, &term.topology_key, weight * sign);
            }
        }
    }

    fn raw(&self, labels: &Labels) -> i64 {
        let here = self.weights.iter().filter(|((key, value), _)| labels.get(key) == Some(value));
        here.map(|(_, weight)| *weight).sum()
    }

    /// 0 to 100.
    pub fn score(&self, node: &NodeInfo) -> i64 {
        let range = self.most - self.least;
        if self.weights.is_empty() || range <= 0 {
            return 0;
        }
        let share = (self.raw(&node.spec.labels) - self.least) as f64 / range as f64;
        (MAX_SCORE as f64 * share) as i64
    }
}
