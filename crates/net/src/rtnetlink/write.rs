//! Requests.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use libc::{
    IFA_ADDRESS, IFA_LOCAL, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD, RT_SCOPE_HOST, RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE, RT_TABLE_MAIN, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTM_DELADDR,
    RTM_DELLINK, RTM_DELROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE, RTN_UNICAST, RTN_UNREACHABLE,
};

use super::ROUTE_PROTOCOL;
use crate::netlink::wire::Writer;
use crate::netlink::{ACK, CREATE, EXCLUSIVE, REPLACE, REQUEST};

const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const BRIDGE_FORWARD_DELAY: u16 = 1;
const BRIDGE_STP_STATE: u16 = 5;
const BRIDGE_PORT_HAIRPIN: u16 = 4;
const INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_MODE_NONE: u8 = 1;
const ADDRESS_FLAGS: u16 = 8;
/// `IFA_F_NODAD`: usable at once, without asking the link for duplicates.
const ADDRESS_NO_DAD: u32 = 2;

/// Requests to be sent together, each with what it does and which refusals are fine.
#[derive(Default)]
pub(crate) struct Requests {
    pub(super) writer: Writer,
    pub(super) operations: Vec<(String, &'static [i32])>,
}

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// Known to the link's neighbours.
    Global,
    /// Of this machine alone, and never chosen as the source of a packet.
    Only,
}

/// A pair of links, one end here, one in another namespace.
pub(crate) struct Veth<'a> {
    pub name: &'a str,
    /// Index of the bridge that the end here is a port of.
    pub bridge: u32,
    pub mtu: u32,
    pub peer_name: &'a str,
    pub peer_mac: [u8; 6],
    pub peer_namespace: BorrowedFd<'a>,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteTarget {
    /// Nowhere: packets die here, and who sent them is told so at once.
    Unreachable,
    /// The link itself, with the source address that this machine's own packets take.
    Link { index: u32, source: Option<IpAddr> },
    /// A router on the link.
    Gateway { index: u32, gateway: IpAddr },
}

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteSpec {
    pub destination: IpNet,
    pub target: RouteTarget,
    /// The smaller number wins among routes to the same range.
    pub priority: u32,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Requests::default()
    }

    fn add(
        &mut self,
        operation: String,
        tolerated: &'static [i32],
        (kind, flags): (u16, u16),
        fill: impl FnOnce(&mut Writer),
    ) {
        self.operations.push((operation, tolerated));
        self.writer.begin(kind, REQUEST | ACK | flags);
        fill(&mut self.writer);
        self.writer.end();
    }

    /// No IPv6 link-local address: it would be probed for duplicates, and nothing here needs one. A
    /// link without IPv6 (switched off, or an MTU below 1280) is as good.
    fn no_link_local_address(&mut self, name: &str) {
        let operation = format!("keep {name} from making addresses");
        self.add(operation, &[libc::EAFNOSUPPORT], (RTM_NEWLINK, 0), |writer| {
            link_header(writer, 0, 0);
            writer.text(IFLA_IFNAME, name);
            writer.nest(IFLA_AF_SPEC, |writer| {
                writer.nest(libc::AF_INET6 as u16, |writer| {
                    writer.put(INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
                });
            });
        });
    }

    /// Makes a bridge that forwards at once; one that is there stays.
    pub(crate) fn add_bridge(&mut self, name: &str, mac: [u8; 6]) {
        let kind = (RTM_NEWLINK, CREATE | EXCLUSIVE);
        self.add(format!("make bridge {name}"), &[libc::EEXIST], kind, |writer| {
            link_header(writer, 0, 0);
            writer.text(IFLA_IFNAME, name);
            writer.put(IFLA_ADDRESS, &mac);
            writer.nest(IFLA_LINKINFO, |writer| {
                writer.text(IFLA_INFO_KIND, "bridge");
                writer.nest(IFLA_INFO_DATA, |writer| {
                    writer.u32(BRIDGE_FORWARD_DELAY, 0);
                    writer.u32(BRIDGE_STP_STATE, 0);
                });
            });
        });
    }

    /// Sets a bridge's address and MTU, and brings it up.
    pub(crate) fn configure_bridge(&mut self, name: &str, mac: [u8; 6], mtu: u32) {
        self.no_link_local_address(name);
        self.add(format!("configure bridge {name}"), &[], (RTM_NEWLINK, 0), |writer| {
            link_header(writer, IFF_UP, IFF_UP);
            writer.text(IFLA_IFNAME, name);
            writer.put(IFLA_ADDRESS, &mac);
            writer.u32(IFLA_MTU, mtu);
        });
    }

    /// Makes a pair of links whose other end is born in its namespace.
    pub(crate) fn add_veth(&mut self, veth: &Veth<'_>) {
        let kind = (RTM_NEWLINK, CREATE | EXCLUSIVE);
        self.add(format!("make link {} with {}", veth.name, veth.peer_name), &[], kind, |writer| {
            link_header(writer, 0, 0);
            writer.text(IFLA_IFNAME, veth.name);
            writer.u32(IFLA_MTU, veth.mtu);
            writer.u32(IFLA_MASTER, veth.bridge);
            writer.nest(IFLA_LINKINFO, |writer| {
                writer.text(IFLA_INFO_KIND, "veth");
                writer.nest(IFLA_INFO_DATA, |writer| {
                    writer.nest(VETH_INFO_PEER, |writer| {
                        link_header(writer, 0, 0);
                        writer.text(IFLA_IFNAME, veth.peer_name);
                        writer.put(IFLA_ADDRESS, &veth.peer_mac);
                        writer.u32(IFLA_MTU, veth.mtu);
                        let namespace = veth.peer_namespace.as_raw_fd();
                        writer.u32(IFLA_NET_NS_FD, namespace.cast_unsigned());
                    });
                });
            });
        });
    }

    /// Brings up a port of a bridge, lets the bridge send a frame back to where it came from, and
    /// notes `alias` on it.
    pub(crate) fn configure_port(&mut self, name: &str, alias: &str) {
        self.no_link_local_address(name);
        self.add(format!("configure link {name}"), &[], (RTM_NEWLINK, 0), |writer| {
            link_header(writer, IFF_UP, IFF_UP);
            writer.text(IFLA_IFNAME, name);
            writer.text(IFLA_IFALIAS, alias);
            writer.nest(IFLA_LINKINFO, |writer| {
                writer.text(INFO_SLAVE_KIND, "bridge");
                writer.nest(INFO_SLAVE_DATA, |writer| writer.put(BRIDGE_PORT_HAIRPIN, &[1]));
            });
        });
    }

    /// Brings a link up without an address that the kernel would make by itself.
    pub(crate) fn raise_link(&mut self, name: &str) {
        self.no_link_local_address(name);
        self.add(format!("bring up {name}"), &[], (RTM_NEWLINK, 0), |writer| {
            link_header(writer, IFF_UP, IFF_UP);
            writer.text(IFLA_IFNAME, name);
        });
    }

    /// Brings loopback up.
    pub(crate) fn raise_loopback(&mut self) {
        self.add("bring up lo".to_owned(), &[], (RTM_NEWLINK, 0), |writer| {
            link_header(writer, IFF_UP, IFF_UP);
            writer.text(IFLA_IFNAME, "lo");
        });
    }

    /// Removes a link, with its other end if it has one; one that is not there is fine.
    pub(crate) fn delete_link(&mut self, name: &str) {
        self.add(format!("remove link {name}"), &[libc::ENODEV], (RTM_DELLINK, 0), |writer| {
            link_header(writer, 0, 0);
            writer.text(IFLA_IFNAME, name);
        });
    }

    /// Gives a link an address; one that it has is fine.
    pub(crate) fn add_address(&mut self, index: u32, address: IpAddr, prefix_length: u8, host: Host) {
        let scope = match host {
            Host::Global => RT_SCOPE_UNIVERSE,
            Host::Only => RT_SCOPE_HOST,
        };
        let kind = (RTM_NEWADDR, CREATE | REPLACE);
        self.add(format!("set address {address}/{prefix_length}"), &[libc::EEXIST], kind, |writer| {
            address_body(writer, index, address, prefix_length, scope);
            if address.is_ipv6() {
                writer.u32(ADDRESS_FLAGS, ADDRESS_NO_DAD);
            }
        });
    }

    /// Takes an address from a link.
    pub(crate) fn delete_address(&mut self, index: u32, address: IpAddr, prefix_length: u8) {
        let tolerated = &[libc::EADDRNOTAVAIL, libc::ENODEV];
        let operation = format!("remove address {address}/{prefix_length}");
        self.add(operation, tolerated, (RTM_DELADDR, 0), |writer| {
            address_body(writer, index, address, prefix_length, RT_SCOPE_UNIVERSE);
        });
    }

    /// Sets a route, in the place of one to the same range with the same priority.
    pub(crate) fn set_route(&mut self, route: &RouteSpec) {
        let operation = format!("set the route to {}", route.destination);
        self.add(operation, &[], (RTM_NEWROUTE, CREATE | REPLACE), |writer| route_body(writer, route));
    }

    /// Removes a route of ours; one that is not there is fine.
    pub(crate) fn delete_route(&mut self, destination: IpNet, priority: u32, unreachable: bool) {
        let operation = format!("remove the route to {destination}");
        self.add(operation, &[libc::ESRCH], (RTM_DELROUTE, 0), |writer| {
            let kind = if unreachable { RTN_UNREACHABLE } else { RTN_UNICAST };
            // Scope "nowhere" matches any in a removal.
            route_header(writer, destination, libc::RT_SCOPE_NOWHERE, kind);
            writer.u32(RTA_PRIORITY, priority);
        });
    }
}

fn link_header(writer: &mut Writer, flags: i32, change: i32) {
    writer.raw(&[0; 8]);
    writer.raw(&flags.to_ne_bytes());
    writer.raw(&change.to_ne_bytes());
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn put_address(writer: &mut Writer, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => writer.put(kind, &address.octets()),
        IpAddr::V6(address) => writer.put(kind, &address.octets()),
    }
}

fn address_body(writer: &mut Writer, index: u32, address: IpAddr, prefix_length: u8, scope: u8) {
    writer.raw(&[family(address), prefix_length, 0, scope]);
    writer.raw(&index.to_ne_bytes());
    put_address(writer, IFA_LOCAL, address);
    put_address(writer, IFA_ADDRESS, address);
}

fn route_header(writer: &mut Writer, destination: IpNet, scope: u8, kind: u8) {
    let table = RT_TABLE_MAIN;
    let length = destination.prefix_len();
    writer.raw(&[family(destination.addr()), length, 0, 0, table, ROUTE_PROTOCOL, scope, kind]);
    writer.raw(&[0; 4]);
    if length > 0 {
        put_address(writer, RTA_DST, destination.network());
    }
}

fn route_body(writer: &mut Writer, route: &RouteSpec) {
    match route.target {
        RouteTarget::Unreachable => {
            route_header(writer, route.destination, RT_SCOPE_UNIVERSE, RTN_UNREACHABLE)
        }
        RouteTarget::Link { index, source } => {
            route_header(writer, route.destination, RT_SCOPE_LINK, RTN_UNICAST);
            writer.u32(RTA_OIF, index);
            if let Some(source) = source {
                put_address(writer, RTA_PREFSRC, source);
            }
        }
        RouteTarget::Gateway { index, gateway } => {
            route_header(writer, route.destination, RT_SCOPE_UNIVERSE, RTN_UNICAST);
            writer.u32(RTA_OIF, index);
            put_address(writer, RTA_GATEWAY, gateway);
        }
    }
    if route.priority > 0 {
        writer.u32(RTA_PRIORITY, route.priority);
    }
}
