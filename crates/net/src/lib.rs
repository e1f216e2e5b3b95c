//! The node's network: links, addresses, routes and packet rules, spoken to the kernel through
//! netlink alone (no external binary).
//!
//! Everything here is synchronous and acts on the network namespace of the calling thread; async
//! callers use `spawn_blocking` or a thread of their own.
//!
//! # The way of a packet
//! A pod has one address with a full-length prefix and a default route through the bridge's
//! address, so that every packet of a pod passes the node's IP layer: packet rules see all of
//! it, and answers of a service's endpoint are always translated back. The cluster's pod range is a
//! route to nowhere (of type `unreachable`, so that senders are told) behind the connected ones; the service range leads to the bridge,
//! where the packet rules refuse what no service took, with another route to nowhere behind it.
//!
//! # Signatures that other crates build upon
//! ```text
//! namespace::create(path: &Path) -> Result<(), NamespaceError>          idempotent
//! namespace::delete(path: &Path) -> Result<(), NamespaceError>          idempotent
//! namespace::run_in(path: &Path, || T) -> Result<T, NamespaceError>     on a thread of its own
//! node::ensure_node(&NodeNetwork) -> Result<(), NodeError>              idempotent
//! node::teardown_node(&NodeNetwork) -> Result<(), NodeError>            idempotent
//! link::attach(&NodeNetwork, pod_uid: &str, namespace: &Path, &[IpAddr]) -> Result<Attachment, LinkError>
//! link::detach(pod_uid: &str) -> Result<(), LinkError>                  idempotent
//! link::list(&NodeNetwork) -> Result<Vec<Attachment>, LinkError>        for adoption
//! Ipam::new(pod_cidr: IpNet) / allocate() / reserve(addr) / release(addr)
//! services::plan(&NodeNetwork, &ServiceTable) -> Plan                   pure
//! ServiceRules::new() / apply(&mut self, Plan) -> Result<Applied, ApplyError> / forget()
//! ```
//! `attach` may be repeated for a pod whose attachment was interrupted: it starts over. The first
//! `apply` of a process replaces the whole table in one transaction; later ones send differences.

pub mod conntrack;
pub mod counters;
pub mod ipam;
pub mod link;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod node;
pub mod rtnetlink;
pub mod services;

pub use ipam::{Ipam, IpamError};
pub use ipnet::IpNet;
pub use link::{Attachment, LinkError};
pub use node::{NodeError, NodeNetwork, ensure_node, teardown_node};
pub use services::{
    Affinity, Applied, ApplyError, HostPort, Plan, Protocol, Service, ServicePort, ServiceRules,
    ServiceTable, TrafficPolicy,
};

/// FNV-1a: names that follow from longer ones must be the same in every run and version.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}
