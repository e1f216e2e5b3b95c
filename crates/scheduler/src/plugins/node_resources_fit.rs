//! NodeResourcesFit: a node has room for what a pod asks for; the emptier node is better
//! (LeastAllocated).

use crate::framework::{Reason, Rejection};
use crate::node::NodeInfo;
use crate::plugins::MAX_SCORE;
use crate::pod::PodInfo;

pub fn filter(pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
    let (wanted, taken, all) = (&pod.requests, &node.requested, &node.spec.allocatable);
    let too_many = node.pods.len() as i64 + 1 > node.spec.allowed_pods;
    let lacks = |wanted: i64, taken: i64, all: i64| wanted > 0 && wanted > all.saturating_sub(taken);
    let basic = [
        ("cpu", wanted.milli_cpu, taken.milli_cpu, all.milli_cpu),
        ("memory", wanted.memory, taken.memory, all.memory),
        ("ephemeral-storage", wanted.ephemeral_storage, taken.ephemeral_storage, all.ephemeral_storage),
    ];
    let fits = !too_many
        && !basic.iter().any(|(_, wanted, taken, all)| lacks(*wanted, *taken, *all))
        && !wanted.others.iter().any(|(name, wanted)| lacks(*wanted, taken.other(name), all.other(name)));
    if fits {
        return Ok(());
    }
    let mut reasons = Vec::new();
    // Where even the empty node is too small, nobody's removal helps.
    let mut resolvable = true;
    if too_many {
        reasons.push(Reason::TooManyPods);
    }
    let mut check = |name: &str, wanted: i64, taken: i64, all: i64| {
        if lacks(wanted, taken, all) {
            reasons.push(Reason::Insufficient(name.into()));
            resolvable &= wanted <= all;
        }
    };
    for (name, wanted, taken, all) in basic {
        check(name, wanted, taken, all);
    }
    for (name, wanted) in &wanted.others {
        check(name, *wanted, taken.other(name), all.other(name));
    }
    Err(Rejection { reasons, resolvable })
}

/// How much of the node stays free, CPU and memory alike.
pub fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let all = &node.spec.allocatable;
    let free = [
        (node.nonzero.milli_cpu + pod.nonzero.milli_cpu, all.milli_cpu),
        (node.nonzero.memory + pod.nonzero.memory, all.memory),
    ];
    let (mut sum, mut count) = (0, 0);
    for (taken, all) in free {
        if all > 0 {
            sum += i128::from((all - taken).max(0)) * i128::from(MAX_SCORE) / i128::from(all);
            count += 1;
        }
    }
    if count == 0 { 0 } else { sum as i64 / count }
}
