//! What pods have in common: those of one template differ in their names and places only.
//!
//! A cluster has far fewer classes than pods, so that each is parsed and kept once.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock, Weak};

use sampan_api::Header;
use sampan_api::object::OwnerReference;
use sampan_api::selector::{Operator, Requirement, Selector};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::raw::{
    RawAffinity, RawContainer, RawNodeAffinity, RawPodAffinity, RawPort, RawRequirements, RawSpec, RawSpread,
    read,
};
use super::{DEFAULT_SCHEDULER, HostPort, PodTerms, SpreadConstraint, Toleration, image_name};
use crate::labels::{AffinityTerm, Labels, NodeTerm, selector};
use crate::resources::{ContainerRequests, PodRequests, Resources};

/// What pods have in common that no plugin can tell apart.
#[derive(Debug)]
pub struct PodClass {
    /// The same for all of them, another one for all others.
    pub class: u64,
    pub labels: Labels,
    pub scheduler: Box<str>,
    pub priority: i32,
    pub may_preempt: bool,
    /// The kind and name of their controller.
    pub controller: Option<(Box<str>, Box<str>)>,
    pub requests: Resources,
    pub nonzero: Resources,
    pub ports: Vec<HostPort>,
    /// Of their containers, with the tag that an absent one means.
    pub images: Vec<Box<str>>,
    pub tolerations: Vec<Toleration>,
    pub node_selector: BTreeMap<Box<str>, Box<str>>,
    /// `None` lets every node be; otherwise one of the terms must match.
    pub required_nodes: Option<Vec<NodeTerm>>,
    pub preferred_nodes: Vec<(i64, NodeTerm)>,
    pub affinity: PodTerms,
    pub anti_affinity: PodTerms,
    pub spread: Vec<SpreadConstraint>,
}

impl PodClass {
    /// Whether other pods matter to it, or it to them, beyond the resources that they take.
    pub fn has_pod_terms(&self) -> bool {
        !(self.affinity.is_empty() && self.anti_affinity.is_empty())
    }

    fn parse(
        class: u64,
        header: &Header,
        labels: Labels,
        spec: RawSpec<'_>,
    ) -> Result<Self, serde_json::Error> {
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
        let scheduler = spec.scheduler_name.filter(|name| !name.is_empty());
        Ok(PodClass {
            class,
            spread: spread.into_iter().map(|raw| spread_constraint(raw, &labels)).collect(),
            labels,
            scheduler: scheduler.unwrap_or_else(|| DEFAULT_SCHEDULER.into()),
            priority: spec.priority.unwrap_or_default(),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
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
        })
    }
}

/// The classes of the pods that are known.
#[derive(Default)]
pub struct Classes {
    known: HashMap<u64, Weak<PodClass>>,
    /// How many there may be before those without pods are forgotten.
    room: usize,
}

/// The least of that.
const ROOM: usize = 256;

impl Classes {
    /// The class of a pod.
    pub(super) fn of(
        &mut self,
        header: &Header,
        labels: BTreeMap<Box<str>, Box<str>>,
        spec: RawSpec<'_>,
    ) -> Result<Arc<PodClass>, serde_json::Error> {
        let labels = Labels::from(labels);
        let class = Self::hash(header, &labels, &spec);
        if let Some(known) = self.known.get(&class).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(PodClass::parse(class, header, labels, spec)?);
        if self.known.len() >= self.room {
            self.known.retain(|_, class| class.strong_count() > 0);
            self.room = (self.known.len() * 2).max(ROOM);
        }
        self.known.insert(class, Arc::downgrade(&made));
        Ok(made)
    }

    /// Hashes everything that a decision depends on.
    fn hash(header: &Header, labels: &Labels, spec: &RawSpec<'_>) -> u64 {
        // One for all of this process, so that a class is the same wherever it was made.
        static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let mut hasher = STATE.build_hasher();
        let controller = header.controller().map(|OwnerReference { kind, name, .. }| (kind, name));
        (&header.namespace, labels, controller, &spec.scheduler_name).hash(&mut hasher);
        (spec.priority, &spec.preemption_policy, spec.host_network).hash(&mut hasher);
        for containers in [&spec.containers, &spec.init_containers] {
            for container in containers.iter().flatten() {
                (&container.image, &container.restart_policy).hash(&mut hasher);
                (container.resources.map(RawValue::get), container.ports.map(RawValue::get))
                    .hash(&mut hasher);
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
