//! NodeResourcesBalancedAllocation: a node is better when the pod leaves its CPU and its memory
//! equally used.

use crate::node::NodeInfo;
use crate::plugins::MAX_SCORE;
use crate::pod::PodInfo;

pub fn score(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let all = &node.spec.allocatable;
    let used = |taken: i64, all: i64| (taken as f64 / all as f64).min(1.0);
    let deviation = if all.milli_cpu > 0 && all.memory > 0 {
        let cpu = used(node.requested.milli_cpu + pod.requests.milli_cpu, all.milli_cpu);
        let memory = used(node.requested.memory + pod.requests.memory, all.memory);
        ((cpu - memory) / 2.0).abs()
    } else {
        0.0
    };
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
