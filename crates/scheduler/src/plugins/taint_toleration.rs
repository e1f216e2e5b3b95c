//! TaintToleration: taints keep pods away that do not tolerate them.

use crate::framework::{Reason, Rejection};
use crate::node::NodeInfo;
use crate::pod::{PodInfo, Taint};

/// The first taint that keeps the pod off the node.
pub fn untolerated<'a>(pod: &PodInfo, node: &'a NodeInfo) -> Option<&'a Taint> {
    node.spec.taints.iter().find(|taint| {
        matches!(&*taint.effect, "NoSchedule" | "NoExecute")
            && !pod.tolerations.iter().any(|toleration| toleration.tolerates(taint))
    })
}

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    match untolerated(pod, node) {
        None => Ok(()),
        Some(taint) => {
            let reason = Reason::Taint { key: taint.key.clone(), value: taint.value.clone() };
            Err(Rejection::unresolvable(reason))
        }
    }
}

/// The number of taints that make the node less wanted; fewer is better.
pub fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let tolerated = |taint: &Taint| {
        let mut tolerations = pod.tolerations.iter().filter(|toleration| toleration.covers_preferences());
        tolerations.any(|toleration| toleration.tolerates(taint))
    };
    let disliked = node.spec.taints.iter().filter(|taint| *taint.effect == *"PreferNoSchedule");
    disliked.filter(|taint| !tolerated(taint)).count() as i64
}
