//! Connection tracking's memory (`nfnetlink_conntrack`): forgetting UDP flows whose endpoint is
//! gone.
//!
//! A UDP client that goes on sending keeps its flow alive, so that the choice of an endpoint, or
//! the fact that there was none, would hold for ever.

use std::net::{IpAddr, SocketAddr};

use crate::netlink::wire::{Message, Writer, attribute};
use crate::netlink::{ACK, Connection, DUMP, NETFILTER, NetlinkError, REQUEST, Refusal};
use crate::services::{Frontend, UdpFrontends};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const NESTED: u16 = 1 << 15;
const UDP: u8 = 17;
/// Deletions in one send; their acknowledgements must fit the receive queue.
const DELETIONS: usize = 1000;

/// Why flows could not be forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("the kernel refuses to forget a flow")]
    Refused(#[source] Refusal),
}

/// A flow as it was dumped: what identifies it, and where it leads.
struct Flow {
    family: u8,
    original: Vec<u8>,
    id: Option<Vec<u8>>,
    zone: Option<Vec<u8>>,
    /// Where the client sends to.
    destination: SocketAddr,
    /// Who answers.
    endpoint: SocketAddr,
}

/// Forgets the flows to a front end, present or past, whose endpoint is none of its present ones.
/// Returns how many there were.
pub(crate) fn forget_stale(past: &UdpFrontends, present: &UdpFrontends) -> Result<usize, ConntrackError> {
    let mut connection = Connection::open(NETFILTER)?;
    let stale = |flow: &Flow| is_stale(flow, past, present);
    let flows: Vec<Flow> = udp_flows(&mut connection)?.into_iter().filter(stale).collect();
    for flows in flows.chunks(DELETIONS) {
        delete(&mut connection, flows)?;
    }
    Ok(flows.len())
}

fn is_stale(flow: &Flow, past: &UdpFrontends, present: &UdpFrontends) -> bool {
    let gone = |frontend: &Frontend| match present.get(frontend) {
        Some(endpoints) => !endpoints.contains(&flow.endpoint),
        None => past.contains_key(frontend),
    };
    let address = Frontend::Address(flow.destination);
    if present.contains_key(&address) || past.contains_key(&address) {
        return gone(&address);
    }
    // A node port's number alone says little: flows that were not led elsewhere are somebody else's.
    flow.endpoint != flow.destination && gone(&Frontend::NodePort(flow.destination.port()))
}

fn udp_flows(connection: &mut Connection) -> Result<Vec<Flow>, ConntrackError> {
    let mut request = Writer::new();
    request.begin(SUBSYSTEM << 8 | GET, REQUEST | DUMP);
    request.raw(&[0; 4]);
    request.end();
    let mut flows = Vec::new();
    connection.dump(&request, |message| match message {
        None => flows.clear(),
        Some(message) => flows.extend(read_flow(&message)),
    })?;
    Ok(flows)
}

/// None for what is not UDP.
fn read_flow(message: &Message<'_>) -> Option<Flow> {
    let attributes = message.body.get(4..)?;
    let original = attribute(attributes, TUPLE_ORIGINAL)?;
    let (_, destination) = tuple(original)?;
    let (endpoint, _) = tuple(attribute(attributes, TUPLE_REPLY)?)?;
    Some(Flow {
        family: *message.body.first()?,
        original: original.to_vec(),
        id: attribute(attributes, ID).map(<[u8]>::to_vec),
        zone: attribute(attributes, ZONE).map(<[u8]>::to_vec),
        destination,
        endpoint,
    })
}

/// Source and destination of one direction.
fn tuple(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let addresses = attribute(bytes, TUPLE_ADDRESSES)?;
    let protocol = attribute(bytes, TUPLE_PROTOCOL)?;
    if attribute(protocol, 1)? != [UDP] {
        return None;
    }
    let address = |v4, v6| {
        let v4 = attribute(addresses, v4).and_then(|value| <[u8; 4]>::try_from(value).ok()).map(IpAddr::from);
        v4.or_else(|| {
            attribute(addresses, v6).and_then(|value| <[u8; 16]>::try_from(value).ok()).map(IpAddr::from)
        })
    };
    let port = |kind| Some(u16::from_be_bytes(attribute(protocol, kind)?.try_into().ok()?));
    Some((SocketAddr::new(address(1, 3)?, port(2)?), SocketAddr::new(address(2, 4)?, port(3)?)))
}

fn delete(connection: &mut Connection, flows: &[Flow]) -> Result<(), ConntrackError> {
    let mut requests = Writer::new();
    for flow in flows {
        requests.begin(SUBSYSTEM << 8 | DELETE, REQUEST | ACK);
        requests.raw(&[flow.family, 0, 0, 0]);
        requests.put(TUPLE_ORIGINAL | NESTED, &flow.original);
        if let Some(zone) = &flow.zone {
            requests.put(ZONE, zone);
        }
        // With its number, so that a flow which has the same addresses by now is spared.
        if let Some(id) = &flow.id {
            requests.put(ID, id);
        }
        requests.end();
    }
    for result in connection.request(&requests)? {
        match result {
            Err(refusal) if refusal.errno != libc::ENOENT => return Err(ConntrackError::Refused(refusal)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_flows_to_endpoints_that_are_gone_are_stale() {
        let cluster = Frontend::Address(address("10.96.0.1:53"));
        let removed = Frontend::Address(address("10.96.0.2:53"));
        let endpoints = |text: &str| [address(text)].into();
        let past: UdpFrontends = [(removed, endpoints("10.244.0.9:53"))].into();
        let present: UdpFrontends =
            [(cluster, endpoints("10.244.0.2:53")), (Frontend::NodePort(30053), endpoints("10.244.0.2:53"))]
                .into();
        for (destination, endpoint, stale) in [
            ("10.96.0.1:53", "10.244.0.2:53", false),
            ("10.96.0.1:53", "10.244.0.3:53", true),
            ("10.96.0.1:53", "10.96.0.1:53", true),
            ("10.96.0.2:53", "10.244.0.9:53", true),
            ("127.0.0.1:30053", "10.244.0.2:53", false),
            ("127.0.0.1:30053", "10.244.0.3:53", true),
            ("192.0.2.1:30053", "192.0.2.1:30053", false),
            ("192.0.2.1:53", "192.0.2.1:53", false),
            ("192.0.2.1:53", "192.0.2.7:53", false),
        ] {
            let (destination, endpoint) = (address(destination), address(endpoint));
            let flow = Flow { family: 2, original: Vec::new(), id: None, zone: None, destination, endpoint };
            assert_eq!(is_stale(&flow, &past, &present), stale, "{destination} led to {endpoint}");
        }
    }
}
