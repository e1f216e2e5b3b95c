//! NodePorts: a port of the node is had by one pod.

use crate::framework::{Reason, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let taken = pod.ports.iter().any(|port| node.ports.iter().any(|other| port.conflicts(other)));
    if taken { Err(Rejection::resolvable(Reason::NodePorts)) } else { Ok(()) }
}
