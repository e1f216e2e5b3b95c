//! A pod's link: a pair of virtual Ethernet ends, one a port of the node's bridge, the other the
//! pod's `eth0`.
//!
//! The node's end is named after the pod's uid and carries the uid and the addresses in its alias,
//! so that a restarted process finds all it needs in the kernel. A hardware address is made from
//! the address it stands for: whoever remembers the pair of an earlier pod is still right.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::namespace::{self, NamespaceError};
use crate::netlink::NetlinkError;
use crate::node::NodeNetwork;
use crate::rtnetlink::{Host, Requests, RouteError, RouteSocket, RouteSpec, RouteTarget, Veth, link_index};

/// The name of a pod's link inside the pod.
pub const POD_LINK: &str = "eth0";
const ALIAS: &str = "sampan";
/// The kernel keeps 255 bytes of alias; addresses need at most 80 of them.
const UID_LIMIT: usize = 128;

/// A pod's place on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub pod_uid: String,
    pub addresses: Vec<IpAddr>,
    /// The node's end.
    pub host_link: String,
}

/// Why a pod could not be attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("pod uid {0:?} cannot name a link")]
    Uid(String),
    #[error("pod {0} has no address")]
    NoAddress(String),
    #[error("cannot open the network namespace {}", path.display())]
    OpenNamespace { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Route(#[from] RouteError),
}

impl From<NetlinkError> for LinkError {
    fn from(error: NetlinkError) -> Self {
        LinkError::Route(error.into())
    }
}

/// Gives the namespace a link to the node's bridge, with addresses and a default route. What an
/// earlier attempt for the same pod left is replaced.
pub fn attach(
    node: &NodeNetwork,
    pod_uid: &str,
    namespace: &Path,
    addresses: &[IpAddr],
) -> Result<Attachment, LinkError> {
    if pod_uid.is_empty() || pod_uid.len() > UID_LIMIT || !pod_uid.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(LinkError::Uid(pod_uid.to_owned()));
    }
    let first = *addresses.first().ok_or_else(|| LinkError::NoAddress(pod_uid.to_owned()))?;
    let host_link = host_link_name(pod_uid);
    let file = File::open(namespace)
        .map_err(|source| LinkError::OpenNamespace { path: namespace.to_owned(), source })?;
    let veth = Veth {
        name: &host_link,
        bridge: link_index(&node.bridge)?,
        mtu: node.mtu,
        peer_name: POD_LINK,
        peer_mac: hardware_address(first),
        peer_namespace: file.as_fd(),
    };
    let alias = alias(pod_uid, addresses);
    let mut socket = RouteSocket::open()?;
    let pair = || {
        let mut requests = Requests::new();
        requests.add_veth(&veth);
        requests.configure_port(&host_link, &alias);
        requests
    };
    match socket.run(pair()) {
        Err(RouteError::Refused { source, .. }) if source.errno == libc::EEXIST => {
            let mut requests = Requests::new();
            requests.delete_link(&host_link);
            socket.run(requests)?;
            socket.run(pair())?;
        }
        result => result?,
    }
    namespace::run_in(namespace, || configure_pod(node, addresses))??;
    Ok(Attachment { pod_uid: pod_uid.to_owned(), addresses: addresses.to_vec(), host_link })
}

/// Removes a pod's link, both ends at once. One that is not there is no error. This waits until no
/// packet is on its way through the link, some tens of milliseconds; removing the pod's namespace
/// does the same in the background.
pub fn detach(pod_uid: &str) -> Result<(), LinkError> {
    let mut requests = Requests::new();
    requests.delete_link(&host_link_name(pod_uid));
    Ok(RouteSocket::open()?.run(requests)?)
}

/// The pods that are attached to the node's bridge, for adoption after a restart.
pub fn list(node: &NodeNetwork) -> Result<Vec<Attachment>, LinkError> {
    let bridge = link_index(&node.bridge)?;
    let links = RouteSocket::open()?.links()?;
    let ours = links.into_iter().filter(|link| link.master == Some(bridge));
    Ok(ours.filter_map(|link| read_alias(&link.name, link.alias.as_deref()?)).collect())
}

/// What runs inside the pod's namespace: address, link and routes in one call.
fn configure_pod(node: &NodeNetwork, addresses: &[IpAddr]) -> Result<(), RouteError> {
    let index = link_index(POD_LINK)?;
    let gateway = node.gateway();
    let mut requests = Requests::new();
    for address in addresses {
        requests.add_address(index, *address, full_length(*address), Host::Global);
    }
    requests.raise_link(POD_LINK);
    let on_link = RouteTarget::Link { index, source: None };
    let router = IpNet::new(gateway, full_length(gateway)).expect("a full prefix is a valid one");
    requests.set_route(&RouteSpec { destination: router, target: on_link, priority: 0 });
    let everything = match gateway {
        IpAddr::V4(_) => IpNet::V4(ipnet::Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(ipnet::Ipv6Net::default()),
    };
    let target = RouteTarget::Gateway { index, gateway };
    requests.set_route(&RouteSpec { destination: everything, target, priority: 0 });
    RouteSocket::open()?.run(requests)
}

pub(crate) fn full_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A locally administered hardware address that follows from an IP address.
pub(crate) fn hardware_address(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let octets = address.octets();
            [octets[12], octets[13], octets[14], octets[15]]
        }
    };
    [0x0a, 0x58, a, b, c, d]
}

/// 15 bytes at most, as the kernel allows: a prefix and 64 bits of hash in base 32.
pub(crate) fn host_link_name(pod_uid: &str) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hash = crate::hash(pod_uid.as_bytes());
    let mut name = String::from("sp");
    for _ in 0..13 {
        name.push(char::from(DIGITS[(hash & 31) as usize]));
        hash >>= 5;
    }
    name
}

fn alias(pod_uid: &str, addresses: &[IpAddr]) -> String {
    let mut alias = format!("{ALIAS} {pod_uid}");
    for address in addresses {
        alias.push(' ');
        alias.push_str(&address.to_string());
    }
    alias
}

fn read_alias(host_link: &str, alias: &str) -> Option<Attachment> {
    let mut words = alias.split(' ');
    if words.next() != Some(ALIAS) {
        return None;
    }
    let pod_uid = words.next()?.to_owned();
    let addresses = words.map(|word| word.parse().ok()).collect::<Option<Vec<IpAddr>>>()?;
    Some(Attachment { pod_uid, addresses, host_link: host_link.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_follow_the_uid() {
        let uids = ["0b5f3a5e-3d70-4b0c-9f1c-6f3c6d2f9a11", "0b5f3a5e-3d70-4b0c-9f1c-6f3c6d2f9a12", "x"];
        let names: std::collections::BTreeSet<_> = uids.map(host_link_name).into();
        assert_eq!(names.len(), uids.len());
        assert!(names.iter().all(|name| name.len() == 15 && name.is_ascii()), "{names:?}");
        assert_eq!(host_link_name(uids[0]), host_link_name(uids[0]));
    }

    #[test]
    fn an_alias_is_read_back() {
        let addresses: Vec<IpAddr> = vec!["10.1.0.2".parse().expect("v4"), "fd00::2".parse().expect("v6")];
        let attachment = Attachment {
            pod_uid: "a-b".to_owned(),
            addresses: addresses.clone(),
            host_link: "spx".to_owned(),
        };
        assert_eq!(read_alias("spx", &alias("a-b", &addresses)), Some(attachment));
        for foreign in ["", "sampan", "eth a-b 10.1.0.2", "sampan a-b 10.1.0"] {
            assert_eq!(read_alias("spx", foreign), None, "{foreign:?}");
        }
    }
}
