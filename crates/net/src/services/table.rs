//! The services of a cluster as one node sees them: the input of the planner.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// All services. The order does not matter; the planner sorts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTable {
    pub services: Vec<Service>,
    /// Ports of the node that lead to its own pods.
    pub host_ports: Vec<HostPort>,
}

/// `ports[].hostPort` of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// `hostIP`; `None` is every address of the node, loopback's among them.
    pub address: Option<IpAddr>,
    pub protocol: Protocol,
    pub port: u16,
    /// The pod's address and the container's port.
    pub pod: SocketAddr,
}

/// One service that has cluster IPs (not a headless one, not `ExternalName`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// `spec.clusterIPs`.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip`.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`; empty: anybody.
    pub load_balancer_source_ranges: Vec<IpNet>,
    pub affinity: Affinity,
    /// `spec.internalTrafficPolicy`: for packets to a cluster IP.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`: for packets to node ports, external and load-balancer IPs.
    pub external_traffic_policy: TrafficPolicy,
    pub ports: Vec<ServicePort>,
}

/// One port of a service with the endpoints that may receive for it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    /// `spec.ports[].name`; empty when the service has one port.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
    /// Ready endpoints (or, when none is ready, those that still serve while terminating), with
    /// their target port. Whether one is on this node is told from its address.
    pub endpoints: Vec<SocketAddr>,
}

/// `spec.ports[].protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// As packet rules name it.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// `spec.sessionAffinity` with its configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    #[default]
    None,
    /// A client keeps its endpoint until it was silent for that long.
    ClientIp { timeout_seconds: u32 },
}

/// Whether all endpoints may receive or only those on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    #[default]
    Cluster,
    Local,
}
