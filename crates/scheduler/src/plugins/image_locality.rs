//! ImageLocality: a node that holds the pod's images is better, the more so the more nodes hold
//! them, so that one node with an image does not draw every pod.

use crate::cluster::Cluster;
use crate::node::NodeInfo;
use crate::plugins::MAX_SCORE;
use crate::pod::PodInfo;

/// Images below this many bytes do not matter.
const FROM_BYTES: i64 = 23 << 20;
/// Images above this many bytes, per container, matter no more than this.
const TO_BYTES: i64 = 1000 << 20;

pub fn score(cluster: &Cluster, pod: &PodInfo, node: &NodeInfo) -> i64 {
    if node.spec.images.is_empty() || pod.images.is_empty() {
        return 0;
    }
    let nodes = cluster.nodes().len().max(1) as f64;
    let held = pod.images.iter().filter_map(|image| Some((image, *node.spec.images.get(image)?)));
    let bytes: i64 =
        held.map(|(image, size)| (size as f64 * (cluster.image_nodes(image) as f64 / nodes)) as i64).sum();
    let to = TO_BYTES * pod.images.len() as i64;
    MAX_SCORE * (bytes.clamp(FROM_BYTES, to) - FROM_BYTES) / (to - FROM_BYTES)
}
