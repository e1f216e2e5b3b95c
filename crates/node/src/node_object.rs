//! The Node object and its lease: what the cluster knows of this machine.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use sampan_api::Status;
use sampan_client::{Client, PatchKind};
use sampan_image::ImageStore;
use serde_json::json;

use crate::config::NodeConfig;
use crate::shared::{boot_id, read_trimmed};

const LEASES: &str = "kube-node-lease";
/// The only timer of an idle node.
const RENEWAL: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
/// The status is written at least that often, so that its heartbeats stay young.
const REPORT: Duration = Duration::from_secs(300);
const RETRY_FROM: Duration = Duration::from_millis(50);
const RETRY_TO: Duration = Duration::from_secs(5);
/// The most images that are reported, the largest first; upstream's default.
const IMAGES: usize = 50;
/// What Kubernetes' version is to those who ask a node.
const KUBELET_VERSION: &str = concat!("v1.35.0+sampan", env!("CARGO_PKG_VERSION"));

/// What the machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub cpu_millis: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of the file system with the data directory.
    pub storage: i64,
}

impl Capacity {
    /// Asks the kernel.
    pub fn of_machine(data_dir: &Path) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let storage = nix::sys::statvfs::statvfs(data_dir)
            .map_or(0, |file_system| file_system.blocks() * file_system.fragment_size());
        Capacity {
            cpu_millis: i64::try_from(cpus).unwrap_or(1) * 1000,
            memory: memory_bytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            storage: i64::try_from(storage).unwrap_or(i64::MAX),
        }
    }
}

fn memory_bytes(meminfo: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes =
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|text| text.parse::<i64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Keeps the Node object and its lease.
pub struct NodeObject {
    pub client: Client,
    pub config: NodeConfig,
    pub capacity: Capacity,
    pub images: ImageStore,
}

impl NodeObject {
    /// Registers the node. Tries until the API server takes it; a node of that name that is there is
    /// taken over, with its labels and taints.
    pub async fn register(&self) -> Node {
        let mut delay = RETRY_FROM;
        loop {
            match self.register_once().await {
                Ok(node) => return node,
                Err(status) => {
                    tracing::debug!(%status, "the node is not registered yet");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY_TO);
                }
            }
        }
    }

    async fn register_once(&self) -> Result<Node, Status> {
        let nodes = self.client.all::<Node>();
        let status = self.status(None, Timestamp::now());
        let node = Node {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                labels: Some(self.labels()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                pod_cidr: Some(self.config.network.pod_cidr.to_string()),
                pod_cidrs: Some(vec![self.config.network.pod_cidr.to_string()]),
                taints: (!self.config.taints.is_empty()).then(|| self.config.taints.clone()),
                ..NodeSpec::default()
            }),
            status: Some(status.clone()),
        };
        match nodes.create(&node).await {
            // The API server resets the status of what is created.
            Ok(_) => {}
            Err(error) if error.is_already_exists() => {
                let labels = json!({"metadata": {"labels": self.labels()}});
                nodes.patch(&self.config.name, PatchKind::Merge, &labels).await?;
            }
            Err(error) => return Err(error),
        }
        nodes.patch_status(&self.config.name, PatchKind::Strategic, &json!({"status": status})).await
    }

    /// Renews lease and status until it is dropped.
    pub async fn run(self: Arc<Self>, node: Node) {
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.config.name.clone(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        };
        let mut reported = node.status.unwrap_or_default();
        let mut reported_at = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(RENEWAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(status) = self.renew(&owner).await {
                tracing::debug!(%status, "the node's lease is not renewed");
            }
            let status = self.status(Some(&reported), Timestamp::now());
            if same(&status, &reported) && reported_at.elapsed() < REPORT {
                continue;
            }
            let nodes = self.client.all::<Node>();
            match nodes
                .patch_status(&self.config.name, PatchKind::Strategic, &json!({"status": status}))
                .await
            {
                Ok(_) => {
                    reported = status;
                    reported_at = tokio::time::Instant::now();
                }
                Err(error) if error.is_not_found() => {
                    reported = self.register().await.status.unwrap_or_default();
                }
                Err(error) => tracing::debug!(%error, "the node's status is not written"),
            }
        }
    }

    async fn renew(&self, owner: &OwnerReference) -> Result<(), Status> {
        let leases = self.client.namespaced::<Lease>(LEASES);
        let now = MicroTime(Timestamp::now());
        let spec = LeaseSpec {
            holder_identity: Some(self.config.name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        };
        let patch = json!({"spec": spec});
        match leases.patch(&self.config.name, PatchKind::Merge, &patch).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.config.name.clone()),
                namespace: Some(LEASES.to_owned()),
                owner_references: Some(vec![owner.clone()]),
                ..ObjectMeta::default()
            },
            spec: Some(spec),
        };
        match leases.create(&lease).await {
            Err(error) if !error.is_already_exists() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.config.labels.clone();
        let arch = sampan_image::host_architecture();
        for (key, value) in [
            ("kubernetes.io/hostname", self.config.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", arch),
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        labels
    }

    fn status(&self, before: Option<&NodeStatus>, now: Timestamp) -> NodeStatus {
        let resources = self.resources();
        let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
        NodeStatus {
            addresses: Some(vec![
                address("InternalIP", self.config.node_ip.to_string()),
                address("Hostname", self.config.name.clone()),
            ]),
            allocatable: Some(resources.clone()),
            capacity: Some(resources),
            conditions: Some(conditions(before, now)),
            daemon_endpoints: Some(NodeDaemonEndpoints::default()),
            images: Some(self.image_list()),
            node_info: Some(node_info()),
            ..NodeStatus::default()
        }
    }

    fn resources(&self) -> BTreeMap<String, Quantity> {
        let mut all = BTreeMap::from([
            ("cpu".to_owned(), Quantity((self.capacity.cpu_millis / 1000).to_string())),
            ("memory".to_owned(), Quantity(format!("{}Ki", self.capacity.memory / 1024))),
            ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", self.capacity.storage / 1024))),
            ("pods".to_owned(), Quantity(self.config.max_pods.to_string())),
        ]);
        all.extend(huge_pages(Path::new("/sys/kernel/mm/hugepages")));
        all
    }

    fn image_list(&self) -> Vec<ContainerImage> {
        let mut images = self.images.list();
        images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        images.truncate(IMAGES);
        let report = |image: sampan_image::Image| ContainerImage {
            names: Some(image.digests.into_iter().chain(image.names).collect()),
            size_bytes: i64::try_from(image.size).ok(),
        };
        images.into_iter().map(report).collect()
    }
}

fn huge_pages(directory: &Path) -> BTreeMap<String, Quantity> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let size = name.strip_prefix("hugepages-").and_then(|rest| rest.strip_suffix("kB"));
        let Some(kilobytes) = size.and_then(|text| text.parse::<u64>().ok()) else { continue };
        let count: u64 = read_trimmed(&entry.path().join("nr_hugepages")).parse().unwrap_or(0);
        let label = if kilobytes >= 1 << 20 {
            format!("{}Gi", kilobytes >> 20)
        } else {
            format!("{}Mi", kilobytes >> 10)
        };
        let amount = if count == 0 { "0".to_owned() } else { format!("{}Ki", count * kilobytes) };
        all.insert(format!("hugepages-{label}"), Quantity(amount));
    }
    all
}

fn node_info() -> NodeSystemInfo {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    NodeSystemInfo {
        architecture: sampan_image::host_architecture().to_owned(),
        boot_id: boot_id(),
        container_runtime_version: concat!("sampan://", env!("CARGO_PKG_VERSION")).to_owned(),
        kernel_version: read_trimmed(Path::new("/proc/sys/kernel/osrelease")),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: read_trimmed(Path::new("/etc/machine-id")),
        operating_system: "linux".to_owned(),
        os_image: os_image(&release),
        system_uuid: read_trimmed(Path::new("/sys/class/dmi/id/product_uuid")),
        ..NodeSystemInfo::default()
    }
}

/// `PRETTY_NAME` of os-release(5).
fn os_image(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map(|name| name.trim_matches(['"', '\'']))
        .filter(|name| !name.is_empty())
        .unwrap_or("Linux")
        .to_owned()
}

fn conditions(before: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| {
        let known = before.and_then(|before| before.conditions.as_ref());
        let known =
            known.and_then(|all| all.iter().find(|known| known.type_ == kind && known.status == status));
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: known
                .and_then(|known| known.last_transition_time.clone())
                .or(Some(Time(now))),
        }
    };
    vec![
        condition(
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ]
}

/// Whether two statuses say the same but for their times.
fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let plain = |status: &NodeStatus| {
        let conditions: std::collections::BTreeSet<_> = status
            .conditions
            .iter()
            .flatten()
            .map(|condition| (condition.type_.clone(), condition.status.clone(), condition.reason.clone()))
            .collect();
        (
            conditions,
            status.addresses.clone(),
            status.capacity.clone(),
            status.images.clone(),
            status.node_info.clone(),
        )
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(memory_bytes("MemFree: 1 kB\nMemTotal:       16 kB\n"), 16 << 10);
        assert_eq!(memory_bytes(""), 0);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian 13\"\n"), "Debian 13");
        assert_eq!(os_image(""), "Linux");
    }

    #[test]
    fn a_condition_keeps_the_time_of_its_change() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let first = NodeStatus { conditions: Some(conditions(None, at(1))), ..NodeStatus::default() };
        let second =
            NodeStatus { conditions: Some(conditions(Some(&first), at(2))), ..NodeStatus::default() };
        let ready = &second.conditions.as_ref().expect("conditions")[3];
        assert_eq!(
            (&ready.last_transition_time, &ready.last_heartbeat_time),
            (&Some(Time(at(1))), &Some(Time(at(2))))
        );
        assert!(same(&first, &second));
    }
}
