//! What one pass does for a daemon set. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::nodes::{self, Place};
use crate::pods::{self, Availability};
use crate::revisions::{REVISION_LABEL, name};

pub(super) struct Snapshot<'a> {
    pub set: &'a DaemonSet,
    /// With the tolerations of every daemon.
    pub template: &'a PodTemplateSpec,
    /// Of the template's revision.
    pub hash: &'a str,
    pub collisions: i32,
    pub nodes: &'a [Node],
    /// The set's own.
    pub pods: &'a [Pod],
    /// Whether everything that was done before is seen.
    pub settled: bool,
    pub now: Timestamp,
}

/// What is done to the pods.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Nodes that get a pod.
    pub create: Vec<String>,
    /// Indices into the snapshot's pods.
    pub delete: Vec<usize>,
    /// Those of them that ended, although daemons are meant to run for ever.
    pub ended: Vec<usize>,
    pub again: Option<Duration>,
}

/// The pods of one node, by their indices.
#[derive(Default)]
struct OnNode {
    /// All but those that ended and are being deleted.
    all: Vec<usize>,
    /// Neither ended nor being deleted; the one that serves longest first.
    running: Vec<usize>,
    ended: Vec<usize>,
}

pub(super) fn plan(snapshot: &Snapshot<'_>) -> (Plan, DaemonSetStatus) {
    let by_node = by_node(snapshot);
    let mut planner = Planner { snapshot, by_node: &by_node, plan: Plan::default() };
    if snapshot.set.metadata.deletion_timestamp.is_none() && snapshot.settled {
        planner.manage();
        let strategy = snapshot.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let by_hand = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
        // What is too much or too little is mended before what is old is replaced.
        if !by_hand && planner.plan.create.is_empty() && planner.plan.delete.is_empty() {
            planner.update();
        }
    }
    let status = planner.status();
    (planner.plan, status)
}

fn by_node(snapshot: &Snapshot<'_>) -> BTreeMap<String, OnNode> {
    let mut by_node: BTreeMap<String, OnNode> = BTreeMap::new();
    for (index, pod) in snapshot.pods.iter().enumerate() {
        let Some(node) = nodes::target(pod) else { continue };
        let deleted = pod.metadata.deletion_timestamp.is_some();
        let ended = matches!(pods::phase(pod), "Succeeded" | "Failed");
        let on_node = by_node.entry(node).or_default();
        if !(ended && deleted) {
            on_node.all.push(index);
        }
        match (deleted, ended) {
            (false, false) => on_node.running.push(index),
            (false, true) => on_node.ended.push(index),
            (true, _) => {}
        }
    }
    let age = |index: &usize| {
        let pod = &snapshot.pods[*index];
        let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (!placed, created, pod.metadata.name.clone())
    };
    for on_node in by_node.values_mut() {
        on_node.running.sort_by_key(age);
        on_node.all.sort_by_key(age);
    }
    by_node.retain(|_, on_node| !on_node.all.is_empty());
    by_node
}

struct Planner<'a> {
    snapshot: &'a Snapshot<'a>,
    by_node: &'a BTreeMap<String, OnNode>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn pod(&self, index: usize) -> &'a Pod {
        &self.snapshot.pods[index]
    }

    fn place(&self, node: &Node) -> Place {
        nodes::place(self.snapshot.template, node)
    }

    fn is_new(&self, index: usize) -> bool {
        let labels = self.pod(index).metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(REVISION_LABEL)).is_some_and(|hash| hash == self.snapshot.hash)
    }

    fn surge(&self) -> usize {
        let rolling = self.rolling();
        let asked = rolling.and_then(|rolling| rolling.max_surge.as_ref());
        scaled(asked, 0, self.wanted())
    }

    fn rolling(&self) -> Option<&'a k8s_openapi::api::apps::v1::RollingUpdateDaemonSet> {
        self.snapshot.set.spec.as_ref()?.update_strategy.as_ref()?.rolling_update.as_ref()
    }

    /// On how many nodes a pod is to run.
    fn wanted(&self) -> usize {
        self.snapshot.nodes.iter().filter(|node| self.place(node) == Place::Wanted).count()
    }

    /// One pod where one belongs, none elsewhere.
    fn manage(&mut self) {
        let surge = self.surge();
        let mut known = Vec::new();
        for node in self.snapshot.nodes {
            let node_name = name(&node.metadata);
            known.push(node_name);
            let place = self.place(node);
            let Some(on_node) = self.by_node.get(node_name) else {
                if place == Place::Wanted {
                    self.plan.create.push(node_name.to_owned());
                }
                continue;
            };
            match place {
                Place::Unwanted => {
                    let there = on_node.running.iter().chain(&on_node.ended);
                    self.plan.delete.extend(there.copied());
                }
                Place::Wanted | Place::Kept => {
                    self.plan.ended.extend(&on_node.ended);
                    self.plan.delete.extend(&on_node.ended);
                    if surge == 0 {
                        self.plan.delete.extend(on_node.running.iter().skip(1));
                    } else {
                        self.keep_two(on_node, node_name, place);
                    }
                }
            }
        }
        // Bound for nodes that are gone.
        for (node, on_node) in self.by_node {
            if !known.contains(&node.as_str()) {
                let waiting = on_node.running.iter().copied();
                let unplaced = |index: &usize| {
                    let spec = self.snapshot.pods[*index].spec.as_ref();
                    spec.is_none_or(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty())
                };
                self.plan.delete.extend(waiting.filter(unplaced));
            }
        }
    }

    /// While an update surges, an old pod and a new one may be on a node.
    fn keep_two(&mut self, on_node: &OnNode, node: &str, place: Place) {
        if on_node.running.is_empty() {
            let leaving = on_node.all.iter().any(|index| !on_node.ended.contains(index));
            if place == Place::Wanted && leaving {
                self.plan.create.push(node.to_owned());
            }
            return;
        }
        let (new, old): (Vec<usize>, Vec<usize>) =
            on_node.running.iter().partition(|index| self.is_new(**index));
        self.plan.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!pods::is_ready(self.pod(*old)) || self.is_available(*new))
        {
            self.plan.delete.push(*old);
        }
    }

    /// Replaces old pods, within what may be missing or too many.
    fn update(&mut self) {
        let wanted = self.wanted();
        let surge = self.surge();
        let unavailable = self.rolling().and_then(|rolling| rolling.max_unavailable.as_ref());
        let unavailable = match (scaled(unavailable, 1, wanted), surge) {
            (0, 0) => 1,
            (unavailable, _) => unavailable,
        };
        let (mut broken, mut candidates, mut used) = (Vec::new(), Vec::new(), 0);
        for node in self.snapshot.nodes {
            let node_name = name(&node.metadata);
            let place = self.place(node);
            if place == Place::Unwanted {
                continue;
            }
            let Some(on_node) = self.by_node.get(node_name) else {
                used += usize::from(place == Place::Wanted && surge == 0);
                continue;
            };
            let new = on_node.running.iter().copied().find(|index| self.is_new(*index));
            let old = on_node.running.iter().copied().find(|index| !self.is_new(*index));
            match (new, old) {
                (None, None) => used += usize::from(surge == 0),
                (Some(_), Some(_)) => used += 1,
                (Some(new), None) => used += usize::from(!self.is_available(new) && surge == 0),
                (None, Some(old)) if !self.is_available(old) => broken.push((node_name, old)),
                (None, Some(old)) => candidates.push((node_name, old)),
            }
        }
        let room = if surge > 0 { surge } else { unavailable };
        let chosen = broken.into_iter().chain(candidates.into_iter().take(room.saturating_sub(used)));
        for (node, old) in chosen {
            if surge > 0 {
                self.plan.create.push(node.to_owned());
            } else {
                self.plan.delete.push(old);
            }
        }
    }

    fn is_available(&mut self, index: usize) -> bool {
        let min_ready = self.snapshot.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        match pods::availability(self.pod(index), min_ready, self.snapshot.now) {
            Availability::NotReady => false,
            Availability::Available => true,
            Availability::In(seconds) => {
                let wait = Duration::from_secs(seconds);
                self.plan.again = Some(self.plan.again.map_or(wait, |known| known.min(wait)));
                false
            }
        }
    }

    fn status(&mut self) -> DaemonSetStatus {
        let set = self.snapshot.set;
        let mut status = DaemonSetStatus {
            observed_generation: set.metadata.generation,
            collision_count: (self.snapshot.collisions > 0).then_some(self.snapshot.collisions),
            conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
            ..DaemonSetStatus::default()
        };
        let (mut updated, mut available) = (0, 0);
        for node in self.snapshot.nodes {
            let on_node = self.by_node.get(name(&node.metadata));
            match (self.place(node), on_node) {
                (Place::Wanted, None) => status.desired_number_scheduled += 1,
                (Place::Wanted, Some(on_node)) => {
                    status.desired_number_scheduled += 1;
                    status.current_number_scheduled += 1;
                    let Some(first) = on_node.all.first().copied() else { continue };
                    if pods::is_ready(self.pod(first)) {
                        status.number_ready += 1;
                        available += i32::from(self.is_available(first));
                    }
                    updated += i32::from(self.is_new(first));
                }
                (Place::Kept | Place::Unwanted, Some(_)) => status.number_misscheduled += 1,
                (Place::Kept | Place::Unwanted, None) => {}
            }
        }
        let positive = |count: i32| (count > 0).then_some(count);
        status.number_available = positive(available);
        status.number_unavailable = positive(status.desired_number_scheduled - available);
        status.updated_number_scheduled = positive(updated);
        status
    }
}

/// A count, or a percentage of all, rounded up.
fn scaled(asked: Option<&IntOrString>, default: usize, all: usize) -> usize {
    match asked {
        None => default,
        Some(IntOrString::Int(count)) => usize::try_from(*count).unwrap_or(0),
        Some(IntOrString::String(text)) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            (all * percent).div_ceil(100)
        }
    }
}

#[cfg(test)]
mod tests;
