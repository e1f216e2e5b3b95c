//! What a node's network is made of.

use std::net::IpAddr;

use ipnet::IpNet;

/// One node's network as its configuration and its Node object give it; validated by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNetwork {
    /// Name of the bridge that the pods hang on, at most 15 bytes, for instance `sampan0`.
    pub bridge: String,
    /// MTU of the bridge and of the pods' links, in bytes.
    pub mtu: u32,
    /// The range of this node's pods. Its first address is the bridge's, the pods' gateway.
    pub pod_cidr: IpNet,
    /// The range of all nodes' pods; equal to `pod_cidr` or around it.
    pub cluster_cidr: IpNet,
    /// The range of the services' cluster IPs.
    pub service_cidr: IpNet,
    /// Cluster IP of the DNS service, made a local address so that the node's own DNS server can
    /// bind it. No service's rules may take packets for it.
    pub dns_ip: Option<IpAddr>,
    /// Addresses of this node; an endpoint with one of them counts as local.
    pub node_ips: Vec<IpAddr>,
    /// Ranges of local addresses on which others than this node and its pods reach node ports.
    /// Empty: nobody else does.
    pub node_port_addresses: Vec<IpNet>,
    /// Links beside the bridge and loopback that bring in the cluster's own traffic (an overlay
    /// between nodes).
    pub cluster_links: Vec<String>,
    /// Whether packets for the pod and service ranges are let in from any link.
    pub forward_from_outside: bool,
    /// Name of the packet rules' table.
    pub table: String,
}

impl NodeNetwork {
    /// The bridge's own address: the first one of the node's pod range.
    pub fn gateway(&self) -> IpAddr {
        match self.pod_cidr {
            IpNet::V4(cidr) => IpAddr::V4((u32::from(cidr.network()).saturating_add(1)).into()),
            IpNet::V6(cidr) => IpAddr::V6((u128::from(cidr.network()).saturating_add(1)).into()),
        }
    }

    /// Whether an endpoint runs on this node.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.pod_cidr.contains(&address) || self.node_ips.contains(&address)
    }
}

mod setup;

pub use setup::{NodeError, ensure_node, teardown_node};
