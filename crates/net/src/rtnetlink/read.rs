//! Lists.

use std::net::IpAddr;

use ipnet::IpNet;
use libc::{
    IFA_ADDRESS, IFA_LOCAL, IFLA_IFALIAS, IFLA_IFNAME, IFLA_MASTER, RTA_DST, RTA_PRIORITY, RTM_GETADDR,
    RTM_GETLINK, RTM_GETROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE, RTN_UNREACHABLE,
};

use super::ROUTE_PROTOCOL;
use crate::netlink::wire::{Message, Writer, attribute, number_at, text};
use crate::netlink::{Connection, DUMP, NetlinkError, REQUEST};

/// Sizes of the fixed headers `ifinfomsg`, `ifaddrmsg`, `rtmsg`.
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;

/// A link, as far as we care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub name: String,
    /// Index of the bridge that it is a port of.
    pub master: Option<u32>,
    pub alias: Option<String>,
}

/// A route that carries our protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub destination: IpNet,
    pub priority: u32,
    pub unreachable: bool,
}

fn list<T>(
    connection: &mut Connection,
    kind: u16,
    header: usize,
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> Result<Vec<T>, NetlinkError> {
    let mut request = Writer::new();
    request.begin(kind, REQUEST | DUMP);
    request.raw(&vec![0; header]);
    request.end();
    let mut entries = Vec::new();
    connection.dump(&request, |message| match message {
        None => entries.clear(),
        Some(message) => entries.extend(read(&message)),
    })?;
    Ok(entries)
}

pub(super) fn links(connection: &mut Connection) -> Result<Vec<Link>, NetlinkError> {
    list(connection, RTM_GETLINK, LINK_HEADER, |message| {
        let attributes = message.body.get(LINK_HEADER..).filter(|_| message.kind == RTM_NEWLINK)?;
        Some(Link {
            name: text(attribute(attributes, IFLA_IFNAME)?),
            master: attribute(attributes, IFLA_MASTER).and_then(|value| number_at(value, 0)),
            alias: attribute(attributes, IFLA_IFALIAS).map(text),
        })
    })
}

pub(super) fn addresses(connection: &mut Connection, index: u32) -> Result<Vec<(IpAddr, u8)>, NetlinkError> {
    list(connection, RTM_GETADDR, ADDRESS_HEADER, |message| {
        let attributes = message.body.get(ADDRESS_HEADER..).filter(|_| message.kind == RTM_NEWADDR)?;
        if number_at(message.body, 4) != Some(index) {
            return None;
        }
        let value = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
        Some((address(value)?, message.body[1]))
    })
}

pub(super) fn own_routes(connection: &mut Connection) -> Result<Vec<Route>, NetlinkError> {
    list(connection, RTM_GETROUTE, ROUTE_HEADER, |message| {
        let attributes = message.body.get(ROUTE_HEADER..).filter(|_| message.kind == RTM_NEWROUTE)?;
        if message.body[5] != ROUTE_PROTOCOL {
            return None;
        }
        let destination = address(attribute(attributes, RTA_DST)?)?;
        Some(Route {
            destination: IpNet::new(destination, message.body[1]).ok()?,
            priority: attribute(attributes, RTA_PRIORITY).and_then(|value| number_at(value, 0)).unwrap_or(0),
            unreachable: message.body[7] == RTN_UNREACHABLE,
        })
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}
