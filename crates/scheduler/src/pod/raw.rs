//! The JSON of a pod, as far as the scheduler reads it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::labels::{RawAffinityTerm, RawNodeTerm};
use crate::resources::RawResources;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawSpread {
    pub(super) max_skew: i64,
    pub(super) topology_key: Box<str>,
    pub(super) when_unsatisfiable: String,
    pub(super) label_selector: Value,
    pub(super) min_domains: Option<usize>,
    pub(super) node_affinity_policy: Option<String>,
    pub(super) node_taints_policy: Option<String>,
    pub(super) match_label_keys: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawPod<'a> {
    pub(super) metadata: RawMetadata,
    #[serde(borrow)]
    pub(super) spec: RawSpec<'a>,
    #[serde(borrow)]
    pub(super) status: RawStatus<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawMetadata {
    pub(super) labels: Option<BTreeMap<Box<str>, Box<str>>>,
}

/// Parts that are large and the same for many pods are kept as text, to be hashed before they are
/// read.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawSpec<'a> {
    pub(super) node_name: Option<Box<str>>,
    pub(super) scheduler_name: Option<Box<str>>,
    pub(super) priority: Option<i32>,
    pub(super) preemption_policy: Option<String>,
    pub(super) scheduling_gates: Option<Vec<Value>>,
    pub(super) host_network: Option<bool>,
    #[serde(borrow)]
    pub(super) containers: Option<Vec<RawContainer<'a>>>,
    #[serde(borrow)]
    pub(super) init_containers: Option<Vec<RawContainer<'a>>>,
    #[serde(borrow)]
    pub(super) overhead: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) resources: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tolerations: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) node_selector: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) affinity: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) topology_spread_constraints: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawContainer<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Cow<'a, str>>,
    pub(super) image: Option<String>,
    pub(super) restart_policy: Option<String>,
    #[serde(borrow)]
    pub(super) resources: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) ports: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawRequirements {
    pub(super) requests: Option<RawResources>,
    pub(super) limits: Option<RawResources>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawPort {
    #[serde(rename = "hostIP")]
    pub(super) host_ip: Option<String>,
    pub(super) host_port: Option<u16>,
    pub(super) protocol: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawAffinity {
    pub(super) node_affinity: Option<RawNodeAffinity>,
    pub(super) pod_affinity: Option<RawPodAffinity>,
    pub(super) pod_anti_affinity: Option<RawPodAffinity>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawNodeAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub(super) required: Option<RawNodeSelector>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub(super) preferred: Option<Vec<RawPreferredNode>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawNodeSelector {
    pub(super) node_selector_terms: Option<Vec<RawNodeTerm>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawPreferredNode {
    pub(super) weight: i64,
    pub(super) preference: RawNodeTerm,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawPodAffinity {
    #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
    pub(super) required: Option<Vec<RawAffinityTerm>>,
    #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
    pub(super) preferred: Option<Vec<RawWeightedTerm>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawWeightedTerm {
    pub(super) weight: i64,
    pub(super) pod_affinity_term: RawAffinityTerm,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawStatus<'a> {
    pub(super) phase: Option<String>,
    pub(super) start_time: Option<Box<str>>,
    pub(super) nominated_node_name: Option<Box<str>>,
    pub(super) conditions: Option<Vec<RawCondition>>,
    #[serde(borrow)]
    pub(super) container_statuses: Option<Vec<RawContainerStatus<'a>>>,
    #[serde(borrow)]
    pub(super) init_container_statuses: Option<Vec<RawContainerStatus<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct RawContainerStatus<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) allocated_resources: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) resources: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct RawCondition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<Box<str>>,
    pub(super) message: Option<Box<str>>,
}

impl RawContainer<'_> {
    pub(super) fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

/// Reads a part that was kept as text; an absent one and `null` are the default.
pub(super) fn read<T: for<'de> Deserialize<'de> + Default>(
    raw: Option<&RawValue>,
) -> Result<T, serde_json::Error> {
    raw.map_or_else(
        || Ok(T::default()),
        |raw| Ok(serde_json::from_str::<Option<T>>(raw.get())?.unwrap_or_default()),
    )
}
