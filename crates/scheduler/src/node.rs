//! A node as the scheduler sees it, with the pods that are or soon will be on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sampan_api::Object;
use serde::Deserialize;

use crate::labels::Labels;
use crate::pod::{HostPort, PodInfo, Taint, image_name};
use crate::resources::{RawResources, Resources};

/// What the API says of a node. Shared, never changed: heartbeats that change nothing of it are
/// not seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NodeSpec {
    pub name: Arc<str>,
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    /// How many pods it takes.
    pub allowed_pods: i64,
    /// Bytes of the images that it holds, by each of their names.
    pub images: HashMap<Box<str>, i64>,
}

/// A node and what is taken of it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub spec: Arc<NodeSpec>,
    pub pods: Vec<Arc<PodInfo>>,
    pub requested: Resources,
    pub nonzero: Resources,
    pub ports: Vec<HostPort>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawNode {
    metadata: RawMetadata,
    spec: RawSpec,
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawMetadata {
    labels: Option<BTreeMap<Box<str>, Box<str>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSpec {
    taints: Option<Vec<Taint>>,
    unschedulable: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    allocatable: Option<RawResources>,
    images: Option<Vec<RawImage>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawImage {
    names: Option<Vec<String>>,
    size_bytes: Option<i64>,
}

impl NodeSpec {
    pub fn parse(object: &Object) -> Result<Self, serde_json::Error> {
        let raw: RawNode = object.decode()?;
        let allocatable = raw.status.allocatable.unwrap_or_default();
        let pods = allocatable.get("pods").map(sampan_api::quantity::Quantity::from_json);
        let mut images = HashMap::new();
        for image in raw.status.images.unwrap_or_default() {
            for name in image.names.unwrap_or_default() {
                images.insert(image_name(&name), image.size_bytes.unwrap_or_default());
            }
        }
        Ok(NodeSpec {
            name: (&*object.header.name).into(),
            labels: raw.metadata.labels.unwrap_or_default().into(),
            taints: raw.spec.taints.unwrap_or_default(),
            unschedulable: raw.spec.unschedulable.unwrap_or_default(),
            allocatable: Resources::new(&allocatable),
            allowed_pods: pods.and_then(Result::ok).map_or(0, |pods| pods.value()),
            images,
        })
    }
}

impl NodeInfo {
    pub fn new(spec: Arc<NodeSpec>) -> Self {
        NodeInfo { spec, ..NodeInfo::default() }
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.spec.labels.get(key)
    }

    /// Puts a pod on the node.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.nonzero.add(&pod.nonzero);
        self.ports.extend(pod.ports.iter().cloned());
        self.pods.push(pod);
    }

    /// Takes a pod off the node.
    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let at = self.pods.iter().position(|pod| *pod.uid == *uid)?;
        let pod = self.pods.swap_remove(at);
        self.requested.subtract(&pod.requests);
        self.nonzero.subtract(&pod.nonzero);
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|candidate| candidate == port) {
                self.ports.swap_remove(at);
            }
        }
        Some(pod)
    }
}
