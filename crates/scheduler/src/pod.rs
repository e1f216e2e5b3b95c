//! A pod as the scheduler sees it: only what decisions need, parsed once.

use std::ops::Deref;
use std::sync::Arc;

use sampan_api::Object;
use sampan_api::selector::Selector;
use serde::Deserialize;

use crate::labels::{AffinityTerm, Labels};

mod class;
mod raw;
mod resize;

pub use class::{Classes, PodClass};
use raw::RawPod;

/// One pod. What it has in common with others like it is theirs together: it derefs to that.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub uid: Box<str>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub revision: u64,
    /// RFC 3339; texts of equal form, so that their order is that of time.
    pub created: Box<str>,
    pub started: Option<Box<str>>,
    pub terminating: bool,
    /// Succeeded or failed: it holds nothing of its node any more.
    pub finished: bool,
    /// It is being removed to make room for another pod.
    pub preempted: bool,
    pub gated: bool,
    /// Where it runs.
    pub node: Option<Box<str>>,
    /// Where room is being made for it.
    pub nominated: Option<Box<str>>,
    /// Reason and message of its condition `PodScheduled` when that is false.
    pub unscheduled: Option<Box<(Box<str>, Box<str>)>>,
    shared: Arc<PodClass>,
}

impl Deref for PodInfo {
    type Target = PodClass;

    fn deref(&self) -> &PodClass {
        &self.shared
    }
}

/// Terms of a pod affinity, or of an anti-affinity.
#[derive(Clone, Debug, Default)]
pub struct PodTerms {
    pub required: Vec<AffinityTerm>,
    pub preferred: Vec<(i64, AffinityTerm)>,
}

impl PodTerms {
    pub fn is_empty(&self) -> bool {
        self.required.is_empty() && self.preferred.is_empty()
    }
}

/// A port of the node that a pod wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub protocol: Box<str>,
    /// `0.0.0.0` is every address of the node.
    pub address: Box<str>,
    pub port: u16,
}

impl HostPort {
    /// Whether only one of the two can be had.
    pub fn conflicts(&self, other: &HostPort) -> bool {
        const ANY: &str = "0.0.0.0";
        let same_address = self.address == other.address || *self.address == *ANY || *other.address == *ANY;
        self.port == other.port && self.protocol == other.protocol && same_address
    }
}

/// `core/v1` Toleration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Toleration {
    key: Box<str>,
    operator: Box<str>,
    value: Box<str>,
    effect: Box<str>,
}

/// `core/v1` Taint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Taint {
    pub key: Box<str>,
    pub value: Box<str>,
    pub effect: Box<str>,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if !self.effect.is_empty() && self.effect != taint.effect {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        match &*self.operator {
            "" | "Equal" => self.value == taint.value && !self.key.is_empty(),
            "Exists" => true,
            _ => false,
        }
    }

    /// Whether it may tolerate taints that only make a node less wanted.
    pub fn covers_preferences(&self) -> bool {
        matches!(&*self.effect, "" | "PreferNoSchedule")
    }
}

/// `core/v1` TopologySpreadConstraint.
#[derive(Clone, Debug)]
pub struct SpreadConstraint {
    pub max_skew: i64,
    pub topology_key: Box<str>,
    /// `DoNotSchedule` rather than `ScheduleAnyway`.
    pub hard: bool,
    /// All must select.
    pub selectors: Vec<Selector>,
    pub min_domains: usize,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

/// What a missing `spec.schedulerName` means.
pub const DEFAULT_SCHEDULER: &str = "default-scheduler";

impl PodInfo {
    pub fn parse(object: &Object, classes: &mut Classes) -> Result<Self, serde_json::Error> {
        let json = object.bytes();
        let mut raw: RawPod<'_> = serde_json::from_slice(&json)?;
        let header = &object.header;
        let gated = raw.spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
        let named = |name: &Option<Box<str>>| name.clone().filter(|name| !name.is_empty());
        let (node, nominated) = (named(&raw.spec.node_name), named(&raw.status.nominated_node_name));
        let conditions = raw.status.conditions.take().unwrap_or_default();
        let infeasible = conditions.iter().any(|condition| {
            condition.kind == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
        });
        let held = resize::held(&raw, infeasible)?;
        let mut spec = raw.spec;
        resize::count(&mut spec, &held);
        let shared = classes.of(header, raw.metadata.labels.unwrap_or_default(), spec)?;
        let condition = |kind: &str| conditions.iter().find(|condition| condition.kind == kind);
        let preempted = condition("DisruptionTarget").is_some_and(|condition| {
            condition.status == "True" && condition.reason.as_deref() == Some("PreemptionByScheduler")
        });
        let unscheduled = condition("PodScheduled").filter(|condition| condition.status == "False");
        let unscheduled = unscheduled.map(|condition| {
            let text = |text: &Option<Box<str>>| text.clone().unwrap_or_default();
            Box::new((text(&condition.reason), text(&condition.message)))
        });
        Ok(PodInfo {
            uid: header.uid.clone(),
            namespace: header.namespace.clone(),
            name: header.name.clone(),
            revision: header.revision,
            created: header.creation_timestamp.clone(),
            started: raw.status.start_time,
            terminating: header.is_terminating(),
            finished: matches!(raw.status.phase.as_deref(), Some("Succeeded" | "Failed")),
            preempted,
            gated,
            node,
            nominated,
            unscheduled,
            shared,
        })
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// An image's name with the tag that an absent one means, as nodes report it.
pub(crate) fn image_name(image: &str) -> Box<str> {
    let tagged = image.rfind(':').is_some_and(|colon| image.rfind('/').is_none_or(|slash| slash < colon));
    if tagged { image.into() } else { format!("{image}:latest").into() }
}

impl SpreadConstraint {
    /// Whether a pod with these labels counts.
    pub fn counts(&self, labels: &Labels) -> bool {
        self.selectors.iter().all(|selector| labels.match_selector(selector))
    }
}
