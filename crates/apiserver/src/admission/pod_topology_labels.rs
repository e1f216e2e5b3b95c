//! PodTopologyLabels: a pod shows the zone and the region of its node, for those who cannot read
//! nodes.

use sampan_api::{Gvr, Status};
use serde_json::{Value, json};

use super::{Attributes, Operation};

const NODES: Gvr = Gvr::new("", "v1", "nodes");
const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub fn mutate(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let gvr = attributes.resource.gvr();
    let is_pod = gvr.group.is_empty() && gvr.resource == "pods";
    let binds = is_pod && attributes.operation == Operation::Update && attributes.subresource == "binding";
    if !binds && !attributes.is(Operation::Create, "", "pods") {
        return Ok(());
    }
    let Some(node) = pod["spec"]["nodeName"].as_str().and_then(|name| attributes.registry.find(&NODES, name))
    else {
        return Ok(());
    };
    for name in LABELS {
        if let Some(value) = node.header.label(name) {
            let labels = crate::registry::metadata_of(pod).entry("labels").or_insert_with(|| json!({}));
            labels[name] = value.into();
        }
    }
    Ok(())
}
