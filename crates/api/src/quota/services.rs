//! Services: themselves, their node ports and their load balancers.

use serde_json::Value;

use super::one;
use crate::pod_resources::ResourceList;
use crate::quantity::{Format, Quantity};

pub(super) fn counts(name: &str) -> bool {
    matches!(name, "services" | "services.nodeports" | "services.loadbalancers")
}

/// Node ports are counted by intent, since they are given out only later.
pub(super) fn usage(service: &Value) -> ResourceList {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let chosen = ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count();
    let (node_ports, balancers) = match spec["type"].as_str() {
        Some("NodePort") => (ports.len(), 0),
        Some("LoadBalancer") if spec["allocateLoadBalancerNodePorts"] == false => (chosen, 1),
        Some("LoadBalancer") => (ports.len(), 1),
        _ => (0, 0),
    };
    let number = |count: usize| Quantity::new(i64::try_from(count).unwrap_or(i64::MAX), Format::DecimalSi);
    ResourceList::from([
        ("services".to_owned(), one()),
        ("services.nodeports".to_owned(), number(node_ports)),
        ("services.loadbalancers".to_owned(), number(balancers)),
    ])
}
