//! What the node is told at start. Validated by the composition root, immutable afterwards.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Taint;
use sampan_net::NodeNetwork;
use sampan_runtime::protocol::LogLimits;

/// The settings of one node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// `metadata.name` of the Node object; a DNS-1123 subdomain.
    pub name: String,
    /// Pods, logs and state live below this directory.
    pub data_dir: PathBuf,
    /// The binary that re-executes itself as a pod's supervisor.
    pub supervisor_exe: PathBuf,
    /// The node's links, address ranges and packet rules.
    pub network: NodeNetwork,
    /// The address that pods find in their `resolv.conf`.
    pub cluster_dns: IpAddr,
    /// `cluster.local` unless set otherwise.
    pub cluster_domain: String,
    /// The node's own address, reported as `InternalIP` and as the pods' `hostIP`.
    pub node_ip: IpAddr,
    /// Additional labels of the Node object.
    pub labels: BTreeMap<String, String>,
    /// Taints that the Node object gets when it is first registered.
    pub taints: Vec<Taint>,
    /// `status.capacity.pods`.
    pub max_pods: u32,
    /// The cgroup below which all pods are placed, absolute in each hierarchy.
    pub cgroup_root: PathBuf,
    /// The host's file that pods with `dnsPolicy: Default` inherit.
    pub resolv_conf: PathBuf,
    /// Where profiles of type `Localhost` are found.
    pub seccomp_dir: PathBuf,
    /// The most that one pod's processes may number; 0 is no limit.
    pub pod_pids_limit: i64,
    /// What is kept of the log of one container's run.
    pub log_limits: LogLimits,
}

impl NodeConfig {
    /// A node with upstream's defaults for everything that is not named.
    pub fn new(
        name: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        supervisor_exe: impl Into<PathBuf>,
        network: NodeNetwork,
        node_ip: IpAddr,
        cluster_dns: IpAddr,
    ) -> Self {
        let data_dir = data_dir.into();
        NodeConfig {
            name: name.into(),
            seccomp_dir: data_dir.join("seccomp"),
            data_dir,
            supervisor_exe: supervisor_exe.into(),
            network,
            cluster_dns,
            cluster_domain: "cluster.local".to_owned(),
            node_ip,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            max_pods: 110,
            cgroup_root: PathBuf::from("/sampan"),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            pod_pids_limit: 0,
            log_limits: LogLimits::default(),
        }
    }

    /// The directory of one pod.
    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }

    /// The directory that holds one directory per pod.
    pub fn pods_dir(&self) -> PathBuf {
        self.data_dir.join("pods")
    }

    /// Where compiled system call filters are kept.
    pub fn filters_dir(&self) -> PathBuf {
        self.data_dir.join("filters")
    }

    /// The directory of one pod's logs: one directory per container in it.
    pub fn log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.data_dir.join("logs/pods").join(format!("{namespace}_{name}_{uid}"))
    }
}
