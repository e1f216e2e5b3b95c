//! What one pass does for a stateful set. Pure.
//!
//! In order means one at a time: the next pod is made when all before it are available, and the last one
//! is removed first. An update removes pods from the last to the first, each when all are healthy.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::identity;
use crate::pods::{self, Availability};
use crate::revisions::name;

/// A revision by its name and what it holds.
#[derive(Clone, Copy)]
pub(super) struct Revision<'a> {
    pub name: &'a str,
    pub template: &'a PodTemplateSpec,
}

pub(super) struct Snapshot<'a> {
    pub set: &'a StatefulSet,
    pub current: Revision<'a>,
    pub update: Revision<'a>,
    pub collisions: i32,
    /// The set's own.
    pub pods: &'a [Pod],
    /// Of the namespace, by name.
    pub claims: &'a BTreeMap<String, PersistentVolumeClaim>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    CreateClaim(Box<PersistentVolumeClaim>),
    Create(Box<Pod>),
    /// A pod that was adopted lacks the labels that name it.
    Label {
        name: String,
        ordinal: i32,
    },
    /// Name and uid, and whether it failed.
    Delete {
        name: String,
        uid: String,
        failed: bool,
    },
    /// What may be done with a claim when its owners go.
    OwnClaim {
        name: String,
        owners: Vec<OwnerReference>,
    },
}

pub(super) struct Plan {
    pub actions: Vec<Action>,
    pub status: StatefulSetStatus,
    pub again: Option<Duration>,
}

pub(super) fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let mut planner = Planner {
        snapshot,
        min_ready: snapshot.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0),
        actions: Vec::new(),
        again: None,
    };
    if snapshot.set.metadata.deletion_timestamp.is_none() {
        planner.advance();
    }
    let status = planner.status();
    Plan { actions: planner.actions, status, again: planner.again }
}

struct Planner<'a> {
    snapshot: &'a Snapshot<'a>,
    min_ready: i32,
    actions: Vec<Action>,
    again: Option<Duration>,
}

impl<'a> Planner<'a> {
    fn advance(&mut self) {
        let set = self.snapshot.set;
        let spec = set.spec.as_ref();
        let in_order = spec.and_then(|spec| spec.pod_management_policy.as_deref()) != Some("Parallel");
        let (start, replicas) = identity::range(set);
        let mut by_ordinal: BTreeMap<i32, &'a Pod> = BTreeMap::new();
        for pod in self.snapshot.pods {
            if let Some(ordinal) = identity::ordinal(set, &pod.metadata) {
                by_ordinal.insert(ordinal, pod);
            }
        }
        let wanted: Vec<(i32, Option<&'a Pod>)> =
            (start..start.saturating_add(replicas)).map(|at| (at, by_ordinal.get(&at).copied())).collect();
        let condemned: Vec<&'a Pod> = by_ordinal
            .iter()
            .rev()
            .filter(|(ordinal, _)| !identity::is_in_range(set, **ordinal))
            .map(|(_, pod)| *pod)
            .collect();
        self.own_claims(&by_ordinal);
        for (ordinal, pod) in &wanted {
            let settled = self.keep(*ordinal, *pod);
            if in_order && !settled {
                return;
            }
        }
        if !self.scale_down(&wanted, &condemned, in_order) {
            return;
        }
        self.update(&wanted);
    }

    /// Makes what is missing of one ordinal. Answers whether the next one may follow.
    fn keep(&mut self, ordinal: i32, pod: Option<&Pod>) -> bool {
        let Some(pod) = pod else {
            self.create(ordinal);
            return false;
        };
        if pod.metadata.deletion_timestamp.is_some() {
            return false;
        }
        // What ended is made anew: a stateful set's pods are meant to run for ever.
        if matches!(pods::phase(pod), "Failed" | "Succeeded") {
            self.delete(pod, true);
            return false;
        }
        if !identity::is_labelled(pod) {
            self.actions.push(Action::Label { name: name(&pod.metadata).to_owned(), ordinal });
        }
        if pods::phase(pod) == "Pending" {
            self.create_claims(ordinal);
        }
        self.is_available(pod)
    }

    fn create(&mut self, ordinal: i32) {
        self.create_claims(ordinal);
        let Snapshot { set, current, update, .. } = *self.snapshot;
        let revision = if self.keeps_current(ordinal) { current } else { update };
        let pod = identity::pod(set, revision.template, revision.name, ordinal);
        self.actions.push(Action::Create(Box::new(pod)));
    }

    fn create_claims(&mut self, ordinal: i32) {
        let set = self.snapshot.set;
        for (_, mut claim) in identity::claims(set, ordinal) {
            if self.snapshot.claims.contains_key(name(&claim.metadata)) {
                continue;
            }
            let nobody = Pod::default();
            claim.metadata.owner_references = identity::claim_owners(set, &nobody, true, &claim);
            self.actions.push(Action::CreateClaim(Box::new(claim)));
        }
    }

    /// Whether a new pod of an ordinal gets the revision from before the update.
    fn keeps_current(&self, ordinal: i32) -> bool {
        let set = self.snapshot.set;
        let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return false;
        }
        let (start, _) = identity::range(set);
        let kept = match strategy.and_then(|strategy| strategy.rolling_update.as_ref()) {
            Some(rolling) => rolling.partition.unwrap_or(0),
            None => set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0),
        };
        ordinal < start.saturating_add(kept)
    }

    fn delete(&mut self, pod: &Pod, failed: bool) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.actions.push(Action::Delete { name: name(&pod.metadata).to_owned(), uid, failed });
    }

    /// Claims follow the retention policy, those of condemned pods before the pods go.
    fn own_claims(&mut self, pods: &BTreeMap<i32, &Pod>) {
        let set = self.snapshot.set;
        for (ordinal, pod) in pods {
            for (_, claim) in identity::claims(set, *ordinal) {
                let Some(claim) = self.snapshot.claims.get(name(&claim.metadata)) else { continue };
                let in_range = identity::is_in_range(set, *ordinal);
                if let Some(owners) = identity::claim_owners(set, pod, in_range, claim) {
                    let name = name(&claim.metadata).to_owned();
                    self.actions.push(Action::OwnClaim { name, owners });
                }
            }
        }
    }

    /// Removes pods that are too many. Answers whether none is left to be waited for.
    fn scale_down(&mut self, wanted: &[(i32, Option<&Pod>)], condemned: &[&Pod], in_order: bool) -> bool {
        // Of the condemned the lowest counts first, as it is in the order of all pods.
        let all = wanted.iter().filter_map(|(_, pod)| *pod).chain(condemned.iter().rev().copied());
        let first_unhealthy = all.filter(|pod| !is_healthy(pod)).map(|pod| pod.metadata.uid.clone()).next();
        for pod in condemned {
            if pod.metadata.deletion_timestamp.is_some() {
                if in_order {
                    return false;
                }
                continue;
            }
            let is_first_unhealthy = first_unhealthy.as_ref() == Some(&pod.metadata.uid);
            if in_order && !is_first_unhealthy && !self.is_available(pod) {
                return false;
            }
            self.delete(pod, false);
            if in_order {
                return false;
            }
        }
        condemned.is_empty()
    }

    /// Removes pods of other revisions, the last first, as many as may be missing.
    fn update(&mut self, wanted: &[(i32, Option<&Pod>)]) {
        let strategy = self.snapshot.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return;
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0).max(0);
        let room = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let mut room = max_unavailable(room, wanted.len());
        let partition = usize::try_from(partition).unwrap_or(0);
        for (_, pod) in wanted.iter().skip(partition).rev() {
            if room == 0 {
                return;
            }
            let Some(pod) = pod else {
                room -= 1;
                continue;
            };
            let outdated = identity::revision(pod) != self.snapshot.update.name;
            if outdated && pod.metadata.deletion_timestamp.is_none() {
                self.delete(pod, false);
                room -= 1;
            } else if !is_healthy(pod) || !self.is_available(pod) {
                room -= 1;
            }
        }
    }

    fn is_available(&mut self, pod: &Pod) -> bool {
        if pods::phase(pod) != "Running" {
            return false;
        }
        match pods::availability(pod, self.min_ready, self.snapshot.now) {
            Availability::NotReady => false,
            Availability::Available => true,
            Availability::In(seconds) => {
                let wait = Duration::from_secs(seconds);
                self.again = Some(self.again.map_or(wait, |known| known.min(wait)));
                false
            }
        }
    }

    fn status(&mut self) -> StatefulSetStatus {
        let Snapshot { set, current, update, pods, collisions, .. } = *self.snapshot;
        let mut status = StatefulSetStatus {
            observed_generation: set.metadata.generation,
            current_revision: Some(current.name.to_owned()),
            update_revision: Some(update.name.to_owned()),
            collision_count: Some(collisions),
            conditions: set.status.as_ref().and_then(|status| status.conditions.clone()),
            ..StatefulSetStatus::default()
        };
        let (mut ready, mut available, mut of_current, mut of_update) = (0, 0, 0, 0);
        for pod in pods {
            status.replicas += 1;
            if pods::phase(pod) == "Running" && pods::is_ready(pod) {
                ready += 1;
                available += i32::from(self.is_available(pod));
            }
            if pod.metadata.deletion_timestamp.is_none() {
                of_current += i32::from(identity::revision(pod) == current.name);
                of_update += i32::from(identity::revision(pod) == update.name);
            }
        }
        let is_complete = of_update == status.replicas && ready == status.replicas;
        let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete") && is_complete {
            of_current = of_update;
            status.current_revision = Some(update.name.to_owned());
        }
        status.ready_replicas = Some(ready);
        status.available_replicas = Some(available);
        status.current_replicas = Some(of_current);
        status.updated_replicas = Some(of_update);
        status
    }
}

fn is_healthy(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// At least one may be missing: otherwise no update would ever begin.
fn max_unavailable(asked: Option<&IntOrString>, replicas: usize) -> usize {
    let count = match asked {
        None => 1,
        Some(IntOrString::Int(count)) => usize::try_from(*count).unwrap_or(0),
        Some(IntOrString::String(text)) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            replicas * percent / 100
        }
    };
    count.max(1)
}

#[cfg(test)]
mod tests;
