//! Making a node's network what it should be, and taking it down.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::link::{full_length, hardware_address};
use crate::netlink::NetlinkError;
use crate::nft::{self, NftError};
use crate::node::NodeNetwork;
use crate::rtnetlink::{Host, Requests, RouteError, RouteSocket, RouteSpec, RouteTarget, link_index};
use crate::services::{self, ServiceTable};

/// Behind every other route, so that a range which is also a link's own leads there.
const LAST_RESORT: u32 = 0x00ff_ffff;
const SERVICE_PRIORITY: u32 = 100;
/// `IFNAMSIZ` less the terminating zero.
const LINK_NAME_LIMIT: usize = 15;

/// Why a node's network could not be set up or taken down.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("{0:?} cannot name a link")]
    LinkName(String),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("cannot write {value} to {}", path.display())]
    Setting { path: PathBuf, value: &'static str, source: io::Error },
    #[error(transparent)]
    Rules(#[from] NftError),
}

impl From<NetlinkError> for NodeError {
    fn from(error: NetlinkError) -> Self {
        NodeError::Route(error.into())
    }
}

/// Makes the bridge, its addresses, the routes of the cluster's ranges, the kernel settings and the
/// base of the packet rules. What is right already is left alone, so that running pods notice
/// nothing; addresses and routes of ours from an earlier configuration are removed.
pub fn ensure_node(node: &NodeNetwork) -> Result<(), NodeError> {
    check_link_name(&node.bridge)?;
    node.cluster_links.iter().try_for_each(|name| check_link_name(name))?;
    // The rules stand before the first packet can be forwarded.
    if !nft::table_exists(&node.table)? {
        let plan = services::plan(node, &ServiceTable::default());
        nft::replace(&plan.ruleset)?;
    }
    let mut socket = RouteSocket::open()?;
    let mac = hardware_address(node.gateway());
    let mut requests = Requests::new();
    requests.add_bridge(&node.bridge, mac);
    requests.configure_bridge(&node.bridge, mac, node.mtu);
    socket.run(requests)?;
    let index = link_index(&node.bridge)?;
    ensure_addresses(&mut socket, index, node)?;
    ensure_routes(&mut socket, index, node)?;
    write_settings(node)
}

/// Removes everything that [`ensure_node`] made but the kernel's forwarding setting, which others
/// may rely on by now. Pods that are still attached lose their links.
pub fn teardown_node(node: &NodeNetwork) -> Result<(), NodeError> {
    check_link_name(&node.bridge)?;
    let mut socket = RouteSocket::open()?;
    let mut requests = Requests::new();
    if let Ok(index) = link_index(&node.bridge) {
        for link in socket.links()?.into_iter().filter(|link| link.master == Some(index)) {
            requests.delete_link(&link.name);
        }
    }
    requests.delete_link(&node.bridge);
    for route in socket.own_routes()?.into_iter().filter(|route| route.unreachable) {
        requests.delete_route(route.destination, route.priority, true);
    }
    socket.run(requests)?;
    Ok(nft::delete_table(&node.table)?)
}

fn check_link_name(name: &str) -> Result<(), NodeError> {
    let printable = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    if name.is_empty() || name.len() > LINK_NAME_LIMIT || !printable || name == "." || name == ".." {
        return Err(NodeError::LinkName(name.to_owned()));
    }
    Ok(())
}

fn ensure_addresses(socket: &mut RouteSocket, index: u32, node: &NodeNetwork) -> Result<(), RouteError> {
    let mut wanted: Vec<(IpAddr, u8, Host)> =
        vec![(node.gateway(), node.pod_cidr.prefix_len(), Host::Global)];
    // For DNS to answer on this node alone: never the source of a packet to somewhere else.
    wanted.extend(node.dns_ip.map(|address| (address, full_length(address), Host::Only)));
    let present = socket.addresses(index)?;
    let mut requests = Requests::new();
    for (address, length) in &present {
        let link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        if !link_local && !wanted.iter().any(|(other, prefix, _)| (other, prefix) == (address, length)) {
            requests.delete_address(index, *address, *length);
        }
    }
    for (address, length, host) in wanted {
        if !present.contains(&(address, length)) {
            requests.add_address(index, address, length, host);
        }
    }
    socket.run(requests)
}

fn ensure_routes(socket: &mut RouteSocket, index: u32, node: &NodeNetwork) -> Result<(), RouteError> {
    let unreachable = RouteTarget::Unreachable;
    let source = Some(node.gateway());
    let wanted = [
        RouteSpec { destination: node.cluster_cidr.trunc(), target: unreachable, priority: LAST_RESORT },
        RouteSpec { destination: node.service_cidr.trunc(), target: unreachable, priority: LAST_RESORT },
        // This machine's own connections to a service need a route before the rules rewrite their
        // destination, and forwarded ones need it to come as far as the rules that refuse them.
        RouteSpec {
            destination: node.service_cidr.trunc(),
            target: RouteTarget::Link { index, source },
            priority: SERVICE_PRIORITY,
        },
    ];
    let mut requests = Requests::new();
    for route in socket.own_routes()? {
        let same = |spec: &RouteSpec| {
            spec.destination == route.destination
                && spec.priority == route.priority
                && (spec.target == RouteTarget::Unreachable) == route.unreachable
        };
        if !wanted.iter().any(same) {
            requests.delete_route(route.destination, route.priority, route.unreachable);
        }
    }
    for route in &wanted {
        requests.set_route(route);
    }
    socket.run(requests)
}

fn write_settings(node: &NodeNetwork) -> Result<(), NodeError> {
    let (family, bridge) = match node.pod_cidr {
        ipnet::IpNet::V4(_) => (Path::new("/proc/sys/net/ipv4"), &node.bridge),
        ipnet::IpNet::V6(_) => (Path::new("/proc/sys/net/ipv6"), &node.bridge),
    };
    let link = family.join("conf").join(bridge);
    let all = family.join("conf/all");
    let settings = match node.pod_cidr {
        ipnet::IpNet::V4(_) => vec![
            (family.join("ip_forward"), "1"),
            // Node ports on 127.0.0.1 lead to pods; the rules drop what only looks like that.
            (link.join("route_localnet"), "1"),
            // Pods must not be told to go around the node's rules; either setting sends redirects.
            (link.join("send_redirects"), "0"),
            (all.join("send_redirects"), "0"),
        ],
        ipnet::IpNet::V6(_) => vec![(all.join("forwarding"), "1"), (link.join("accept_dad"), "0")],
    };
    for (path, value) in settings {
        write_setting(path, value)?;
    }
    Ok(())
}

/// Writes a setting unless it has the value, since writing some has effects on every link.
fn write_setting(path: PathBuf, value: &'static str) -> Result<(), NodeError> {
    let present = fs::read_to_string(&path);
    if present.is_ok_and(|present| present.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| NodeError::Setting { path, value, source })
}
