//! Services as packet rules.
//!
//! [`plan`] turns what the node knows of services into a ruleset, without I/O; [`ServiceRules`]
//! brings it into the kernel. A packet finds its service in one look-up by address, protocol and
//! port, whatever the number of services, and one chain per service port holds the choice among
//! endpoints, so that a change of endpoints is a transaction of a few messages.

mod apply;
mod base;
mod plan;
mod rule;
mod table;

pub use apply::{Applied, ApplyError, ServiceRules};
pub use plan::{Frontend, Plan, UdpFrontends, plan};
pub use table::{Affinity, HostPort, Protocol, Service, ServicePort, ServiceTable, TrafficPolicy};

#[cfg(test)]
mod tests;
