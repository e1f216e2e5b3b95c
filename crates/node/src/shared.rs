//! What all parts of a node share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use parking_lot::Mutex;
use sampan_client::Client;
use sampan_client::events::{EventRecorder, EventType, reference};
use sampan_image::Lease;

use crate::allotments::Allotments;
use crate::attach_lock::AttachLock;
use crate::config::NodeConfig;
use crate::images::Images;
use crate::network::PodNetwork;
use crate::node_object::Capacity;
use crate::objects::ObjectTracker;
use crate::proxy::ServiceView;
use crate::spec::fields::NodeFacts;
use crate::usage::Meter;

/// The parts of a node that a pod's worker uses.
pub struct Shared {
    pub config: NodeConfig,
    pub client: Client,
    pub images: Images,
    pub tracker: Arc<ObjectTracker>,
    pub recorder: EventRecorder,
    pub network: Arc<PodNetwork>,
    pub services: Arc<ServiceView>,
    pub capacity: Capacity,
    pub allotments: Allotments,
    pub meter: Meter,
    /// The kernel's `boot_id`: another one means that nothing that ran before runs now.
    pub boot_id: String,
    /// Images in use, by container id.
    pub leases: Mutex<BTreeMap<String, Lease>>,
    pub attach_lock: Arc<AttachLock>,
}

impl Shared {
    /// Tells something about a pod or one of its containers.
    pub fn tell(
        &self,
        pod: &Pod,
        container: Option<&str>,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.recorder.event(&object(pod, container), kind, reason, message);
    }

    /// What the downward API of a pod with these addresses says of the node.
    pub fn facts(&self, pod_ips: Vec<IpAddr>) -> NodeFacts {
        NodeFacts {
            host_ip: self.config.node_ip,
            pod_ips,
            allocatable_cpu_millis: self.capacity.cpu_millis,
            allocatable_memory: self.capacity.memory,
            allocatable_storage: self.capacity.storage,
        }
    }
}

/// How events name a pod, or a container in it.
fn object(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let mut object = reference(pod);
    object.field_path = container.map(|name| {
        let spec = crate::pod::spec(pod);
        let init = spec.init_containers.iter().flatten().any(|container| container.name == name);
        let list = match (init, crate::pod::ephemeral(spec, name)) {
            (true, _) => "initContainers",
            (false, Some(_)) => "ephemeralContainers",
            (false, None) => "containers",
        };
        format!("spec.{list}{{{name}}}")
    });
    object
}

/// The kernel's identity of this boot; empty where it cannot be read.
pub fn boot_id() -> String {
    read_trimmed(Path::new("/proc/sys/kernel/random/boot_id"))
}

/// A small file of the kernel without its line end; empty where it cannot be read.
pub fn read_trimmed(path: &Path) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}
