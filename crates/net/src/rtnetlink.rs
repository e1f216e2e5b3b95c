//! Links, addresses and routes (`rtnetlink(7)`): the few requests that a node needs.

mod read;
mod write;

pub(crate) use read::{Link, Route};
pub(crate) use write::{Host, Requests, RouteSpec, RouteTarget, Veth};

use std::net::IpAddr;

use nix::net::if_::if_nametoindex;

use crate::netlink::{Connection, NetlinkError, ROUTE, Refusal};

/// Marks the routes that are ours; not among the numbers that other programs have claimed.
pub(crate) const ROUTE_PROTOCOL: u8 = 83;

/// Why links, addresses or routes are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("cannot {operation}")]
    Refused { operation: String, source: Refusal },
    #[error("there is no link {0}")]
    NoLink(String),
}

/// A connection for links, addresses and routes of the thread's network namespace.
pub(crate) struct RouteSocket {
    connection: Connection,
}

impl RouteSocket {
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Ok(RouteSocket { connection: Connection::open(ROUTE)? })
    }

    /// Sends all requests in one call. The first refusal that the request does not tolerate is the
    /// error; the kernel has tried the others nevertheless.
    pub(crate) fn run(&mut self, requests: Requests) -> Result<(), RouteError> {
        if requests.operations.is_empty() {
            return Ok(());
        }
        let results = self.connection.request(&requests.writer)?;
        for (result, (operation, tolerated)) in results.into_iter().zip(requests.operations) {
            match result {
                Err(source) if !tolerated.contains(&source.errno) => {
                    return Err(RouteError::Refused { operation, source });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// All links.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        read::links(&mut self.connection)
    }

    /// All addresses of one link, with their prefix lengths.
    pub(crate) fn addresses(&mut self, index: u32) -> Result<Vec<(IpAddr, u8)>, NetlinkError> {
        read::addresses(&mut self.connection, index)
    }

    /// The routes that carry our protocol number.
    pub(crate) fn own_routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        read::own_routes(&mut self.connection)
    }
}

/// The index of a link in the thread's network namespace.
pub(crate) fn link_index(name: &str) -> Result<u32, RouteError> {
    if_nametoindex(name).map_err(|_| RouteError::NoLink(name.to_owned()))
}
