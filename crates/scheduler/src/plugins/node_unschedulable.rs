//! NodeUnschedulable: cordoned nodes take only pods that tolerate it.

use crate::framework::{Reason, Rejection};
use crate::node::NodeInfo;
use crate::pod::{PodInfo, Taint};

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    if !node.spec.unschedulable {
        return Ok(());
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        value: "".into(),
        effect: "NoSchedule".into(),
    };
    if pod.tolerations.iter().any(|toleration| toleration.tolerates(&taint)) {
        Ok(())
    } else {
        Err(Rejection::unresolvable(Reason::Unschedulable))
    }
}
