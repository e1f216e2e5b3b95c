//! NodeName: a pod that names its node goes nowhere else.

use crate::framework::{Reason, Rejection};
use crate::node::NodeInfo;
use crate::pod::PodInfo;

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    match &pod.node {
        Some(name) if **name != *node.name() => Err(Rejection::unresolvable(Reason::NodeName)),
        Some(_) | None => Ok(()),
    }
}
