//! Services as packet rules: what the node knows of them, and the rules that follow.

mod table;

pub use table::{Affinity, Protocol, Service, ServicePort, ServiceTable, TrafficPolicy};
