//! A pod as the scheduler sees it: only what decisions need, parsed once.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::LazyLock;

use sampan_api::Object;
use sampan_api::selector::{Operator, Requirement, Selector};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::labels::{AffinityTerm, Labels, NodeTerm, selector};
use crate::resources::{ContainerRequests, PodRequests, Resources};

mod raw;

use raw::{
    RawAffinity, RawContainer, RawNodeAffinity, RawPod, RawPodAffinity, RawPort, RawRequirements, RawSpec,
    RawSpread, read,
};

/// One pod.
#[derive(Clone, Debug)]
pub struct PodInfo {
    pub uid: Box<str>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub revision: u64,
    pub labels: Labels,
    /// RFC 3339; texts of equal form, so that their order is that of time.
    pub created: Box<str>,
    pub started: Option<Box<str>>,
    pub terminating: bool,
    /// Succeeded or failed: it holds nothing of its node any more.
    pub finished: bool,
    /// It is being removed to make room for another pod.
    pub preempted: bool,
    pub scheduler: Box<str>,
    /// Where it runs.
    pub node: Option<Box<str>>,
    /// Where room is being made for it.
    pub nominated: Option<Box<str>>,
    pub priority: i32,
    pub may_preempt: bool,
    pub gated: bool,
    /// Reason and message of its condition `PodScheduled` when that is false.
    pub unscheduled: Option<(Box<str>, Box<str>)>,
    /// The kind and name of its controller.
    pub controller: Option<(Box<str>, Box<str>)>,
    pub requests: Resources,
    pub nonzero: Resources,
    pub ports: Vec<HostPort>,
    /// Of its containers, with the tag that an absent one means.
    pub images: Vec<Box<str>>,
    pub tolerations: Vec<Toleration>,
    pub node_selector: BTreeMap<Box<str>, Box<str>>,
    /// `None` lets every node be; otherwise one of the terms must match.
    pub required_nodes: Option<Vec<NodeTerm>>,
    pub preferred_nodes: Vec<(i64, NodeTerm)>,
    pub affinity: PodTerms,
    pub anti_affinity: PodTerms,
    pub spread: Vec<SpreadConstraint>,
    /// The same for pods that no plugin can tell apart.
    pub class: u64,
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
    pub fn parse(object: &Object) -> Result<Self, serde_json::Error> {
        let json = object.bytes();
        let raw: RawPod<'_> = serde_json::from_slice(&json)?;
        let header = &object.header;
        let labels = Labels::from(raw.metadata.labels.unwrap_or_default());
        let class = class(&header.namespace, &labels, &raw.spec);
        let spec = raw.spec;
        let affinity: RawAffinity = read(spec.affinity)?;
        let (required_nodes, preferred_nodes) = node_terms(affinity.node_affinity.unwrap_or_default());
        let pod_terms = |raw: Option<RawPodAffinity>| pod_terms(raw.unwrap_or_default(), &header.namespace);
        let spread: Vec<RawSpread> = read(spec.topology_spread_constraints)?;
        let containers = spec.containers.unwrap_or_default();
        let init = spec.init_containers.unwrap_or_default();
        let pod_requests: RawRequirements = read(spec.resources)?;
        let requests = PodRequests::new(
            &requests(&containers)?,
            &requests(&init)?,
            &pod_requests.requests.unwrap_or_default(),
            &read(spec.overhead)?,
        );
        let running = containers.iter().chain(init.iter().filter(|container| container.is_sidecar()));
        let ports = host_ports(running, spec.host_network.unwrap_or_default())?;
        let conditions = raw.status.conditions.unwrap_or_default();
        let condition = |kind: &str| conditions.iter().find(|condition| condition.kind == kind);
        let preempted = condition("DisruptionTarget").is_some_and(|condition| {
            condition.status == "True" && condition.reason.as_deref() == Some("PreemptionByScheduler")
        });
        let unscheduled = condition("PodScheduled").filter(|condition| condition.status == "False");
        let unscheduled = unscheduled.map(|condition| {
            (condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default())
        });
        let named = |name: Option<Box<str>>| name.filter(|name| !name.is_empty());
        Ok(PodInfo {
            uid: header.uid.clone(),
            namespace: header.namespace.clone(),
            name: header.name.clone(),
            revision: header.revision,
            spread: spread.into_iter().map(|raw| spread_constraint(raw, &labels)).collect(),
            labels,
            created: header.creation_timestamp.clone(),
            started: raw.status.start_time,
            terminating: header.is_terminating(),
            finished: matches!(raw.status.phase.as_deref(), Some("Succeeded" | "Failed")),
            preempted,
            scheduler: named(spec.scheduler_name).unwrap_or_else(|| DEFAULT_SCHEDULER.into()),
            node: named(spec.node_name),
            nominated: named(raw.status.nominated_node_name),
            priority: spec.priority.unwrap_or_default(),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            gated: spec.scheduling_gates.is_some_and(|gates| !gates.is_empty()),
            unscheduled,
            controller: header.controller().map(|owner| (owner.kind.clone(), owner.name.clone())),
            requests: requests.requests,
            nonzero: requests.nonzero,
            ports,
            images: containers
                .iter()
                .filter_map(|container| container.image.as_deref().map(image_name))
                .collect(),
            tolerations: read(spec.tolerations)?,
            node_selector: read(spec.node_selector)?,
            required_nodes,
            preferred_nodes,
            affinity: pod_terms(affinity.pod_affinity),
            anti_affinity: pod_terms(affinity.pod_anti_affinity),
            class,
        })
    }

    /// Whether other pods matter to it, or it to them, beyond the resources that they take.
    pub fn has_pod_terms(&self) -> bool {
        !(self.affinity.is_empty() && self.anti_affinity.is_empty())
    }

    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Hashes everything that a decision depends on.
fn class(namespace: &str, labels: &Labels, spec: &RawSpec<'_>) -> u64 {
    static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let mut hasher = STATE.build_hasher();
    (namespace, labels, spec.priority, &spec.preemption_policy, spec.host_network).hash(&mut hasher);
    for containers in [&spec.containers, &spec.init_containers] {
        for container in containers.iter().flatten() {
            (&container.image, &container.restart_policy).hash(&mut hasher);
            (container.resources.map(RawValue::get), container.ports.map(RawValue::get)).hash(&mut hasher);
        }
        0u8.hash(&mut hasher);
    }
    for part in [
        spec.overhead,
        spec.resources,
        spec.tolerations,
        spec.node_selector,
        spec.affinity,
        spec.topology_spread_constraints,
    ] {
        part.map(RawValue::get).hash(&mut hasher);
    }
    hasher.finish()
}

fn requests(containers: &[RawContainer<'_>]) -> Result<Vec<ContainerRequests>, serde_json::Error> {
    let one = |container: &RawContainer<'_>| {
        let raw: RawRequirements = read(container.resources)?;
        // The API fills requests in from limits; objects of others may have limits only.
        let mut requests = raw.limits.unwrap_or_default();
        requests.extend(raw.requests.unwrap_or_default());
        Ok(ContainerRequests { requests, sidecar: container.is_sidecar() })
    };
    containers.iter().map(one).collect()
}

fn host_ports<'a>(
    containers: impl Iterator<Item = &'a RawContainer<'a>>,
    host_network: bool,
) -> Result<Vec<HostPort>, serde_json::Error> {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Container {
        container_port: Option<u16>,
        #[serde(flatten)]
        port: RawPort,
    }
    let mut ports = Vec::new();
    for container in containers {
        let raw: Vec<Container> = read(container.ports)?;
        for Container { container_port, port } in raw {
            // In the node's network, every port is one of the node.
            let default = container_port.filter(|_| host_network);
            let Some(number) = port.host_port.filter(|port| *port != 0).or(default) else { continue };
            let or = |text: Option<String>, default: &str| {
                text.filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned()).into_boxed_str()
            };
            ports.push(HostPort {
                protocol: or(port.protocol, "TCP"),
                address: or(port.host_ip, "0.0.0.0"),
                port: number,
            });
        }
    }
    Ok(ports)
}

/// An image's name with the tag that an absent one means, as nodes report it.
pub(crate) fn image_name(image: &str) -> Box<str> {
    let tagged = image.rfind(':').is_some_and(|colon| image.rfind('/').is_none_or(|slash| slash < colon));
    if tagged { image.into() } else { format!("{image}:latest").into() }
}

fn node_terms(raw: RawNodeAffinity) -> (Option<Vec<NodeTerm>>, Vec<(i64, NodeTerm)>) {
    let required = raw.required.map(|selector| {
        selector.node_selector_terms.unwrap_or_default().into_iter().map(NodeTerm::new).collect()
    });
    let preferred = raw.preferred.unwrap_or_default().into_iter();
    (required, preferred.map(|raw| (raw.weight, NodeTerm::new(raw.preference))).collect())
}

fn pod_terms(raw: RawPodAffinity, namespace: &str) -> PodTerms {
    let term = |raw| AffinityTerm::new(raw, namespace);
    let preferred = raw.preferred.unwrap_or_default().into_iter();
    PodTerms {
        required: raw.required.unwrap_or_default().into_iter().map(term).collect(),
        preferred: preferred.map(|raw| (raw.weight, term(raw.pod_affinity_term))).collect(),
    }
}

fn spread_constraint(raw: RawSpread, labels: &Labels) -> SpreadConstraint {
    let mut selectors = vec![selector(&raw.label_selector)];
    let own = raw.match_label_keys.unwrap_or_default().into_iter().filter_map(|key| {
        let value = labels.get(&key)?.to_owned();
        Requirement::new(&key, Operator::In, vec![value]).ok()
    });
    let own: Vec<Requirement> = own.collect();
    if !own.is_empty() {
        selectors.push(Selector::new(own));
    }
    SpreadConstraint {
        max_skew: raw.max_skew,
        topology_key: raw.topology_key,
        hard: raw.when_unsatisfiable != "ScheduleAnyway",
        selectors,
        min_domains: raw.min_domains.unwrap_or(1),
        honor_affinity: raw.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: raw.node_taints_policy.as_deref() == Some("Honor"),
    }
}

impl SpreadConstraint {
    /// Whether a pod with these labels counts.
    pub fn counts(&self, labels: &Labels) -> bool {
        self.selectors.iter().all(|selector| labels.match_selector(selector))
    }
}
