//! The Node authorizer: a node may read what its own pods need, and write what is its own.
//!
//! A kubelet's rights cannot be a role, since they follow from where pods are. Answers and reasons are
//! those of kube-apiserver's authorizer of this name. What a node writes, the admission plugin
//! NodeRestriction narrows further.
//!
//! Pure: the [`Graph`] is fed from outside.

use super::Attributes;
use super::bootstrap;
use super::rules::PolicyRule;

mod graph;
mod links;
#[cfg(test)]
mod tests;

pub use graph::{Graph, PodLinks, Vertex, VolumeLinks};
pub use links::{of_pod, of_volume};

const LEASES: &str = "kube-node-lease";

/// What a node may do, of which the graph decides a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeDecision {
    Allow,
    /// Others may still allow it.
    NoOpinion(String),
}

/// The rules of every node, and what each one's pods refer to.
pub struct NodeAuthorizer {
    pub graph: Graph,
    rules: Vec<PolicyRule>,
}

impl Default for NodeAuthorizer {
    fn default() -> Self {
        NodeAuthorizer { graph: Graph::default(), rules: bootstrap::node_rules() }
    }
}

fn unless(fine: bool, why: impl Into<String>) -> Result<(), String> {
    if fine { Ok(()) } else { Err(why.into()) }
}

fn one_of(verb: &str, verbs: &str) -> bool {
    verbs.split(' ').any(|known| known == verb)
}

impl NodeAuthorizer {
    /// Decides a request of the node of this name.
    pub fn authorize(&self, node: &str, attributes: &Attributes<'_>) -> NodeDecision {
        if node.is_empty() {
            return NodeDecision::NoOpinion(format!("unknown node for user {:?}", attributes.user.name));
        }
        match self.decide(node, attributes) {
            Ok(()) => NodeDecision::Allow,
            Err(why) => NodeDecision::NoOpinion(why),
        }
    }

    fn decide(&self, node: &str, of: &Attributes<'_>) -> Result<(), String> {
        match (of.group, of.resource) {
            ("", "secrets") => self.read_one(node, Vertex::Secret, of),
            ("", "configmaps") => self.read_one(node, Vertex::ConfigMap, of),
            ("", "persistentvolumeclaims") if of.subresource == "status" => {
                unless(one_of(of.verb, "update patch"), "can only get/update/patch this type")?;
                self.related(node, Vertex::Claim, of)
            }
            ("", "persistentvolumeclaims") => self.get(node, Vertex::Claim, of),
            ("", "persistentvolumes") => self.get(node, Vertex::Volume, of),
            ("resource.k8s.io", "resourceclaims") => self.get(node, Vertex::ResourceClaim, of),
            ("storage.k8s.io", "volumeattachments") => self.get(node, Vertex::VolumeAttachment, of),
            ("", "serviceaccounts") => self.service_account(node, of),
            ("coordination.k8s.io", "leases") => lease(node, of),
            ("storage.k8s.io", "csinodes") => csi_node(node, of),
            ("resource.k8s.io", "resourceslices") => self.resource_slice(node, of),
            ("", "nodes") => own_node(node, of),
            ("", "pods") => self.pod(node, of),
            _ => unless(self.rules.iter().any(|rule| rule.allows(of)), ""),
        }
    }

    /// Whether one of the node's pods refers to the object.
    fn related(&self, node: &str, vertex: Vertex, of: &Attributes<'_>) -> Result<(), String> {
        unless(!of.name.is_empty(), "No Object name found")?;
        let leads = if of.namespace.is_empty() {
            self.graph.leads(vertex, of.name, node)
        } else {
            self.graph.leads(vertex, &format!("{}/{}", of.namespace, of.name), node)
        };
        unless(leads, format!("no relationship found between node '{node}' and this object"))
    }

    fn get(&self, node: &str, vertex: Vertex, of: &Attributes<'_>) -> Result<(), String> {
        unless(of.verb == "get", "can only get individual resources of this type")?;
        unless(of.subresource.is_empty(), "cannot get subresource")?;
        self.related(node, vertex, of)
    }

    fn read_one(&self, node: &str, vertex: Vertex, of: &Attributes<'_>) -> Result<(), String> {
        unless(one_of(of.verb, "get list watch"), "can only read resources of this type")?;
        unless(of.subresource.is_empty(), "cannot read subresource")?;
        unless(!of.namespace.is_empty(), "can only read namespaced object of this type")?;
        self.related(node, vertex, of)
    }

    fn service_account(&self, node: &str, of: &Attributes<'_>) -> Result<(), String> {
        if of.verb == "get" && of.subresource.is_empty() {
            return self.get(node, Vertex::ServiceAccount, of);
        }
        let creates = of.verb == "create" && !of.name.is_empty();
        unless(creates, "can only create tokens for individual service accounts")?;
        unless(of.subresource == "token", "can only create token subresource of serviceaccount")?;
        self.related(node, Vertex::ServiceAccount, of)
    }

    fn resource_slice(&self, node: &str, of: &Attributes<'_>) -> Result<(), String> {
        unless(of.subresource.is_empty(), "cannot authorize ResourceSlice subresources")?;
        match of.verb {
            // NodeRestriction looks at what is created.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(node, Vertex::ResourceSlice, of),
            "watch" | "list" | "deletecollection" => unless(
                of.selects("spec.nodeName") == Some(node),
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => Err("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, \
                      update, patch, delete, deletecollection"
                .to_owned()),
        }
    }

    fn pod(&self, node: &str, of: &Attributes<'_>) -> Result<(), String> {
        match (of.subresource, of.verb) {
            ("", "get") => self.get(node, Vertex::Pod, of),
            ("", "list" | "watch") if of.selects("spec.nodeName") == Some(node) => Ok(()),
            ("", "list" | "watch") if !of.name.is_empty() => self.related(node, Vertex::Pod, of),
            ("", "list" | "watch") => {
                Err("can only list/watch pods with spec.nodeName field selector".to_owned())
            }
            // NodeRestriction looks at whose pods they are.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }
}

fn lease(node: &str, of: &Attributes<'_>) -> Result<(), String> {
    unless(
        one_of(of.verb, "get create update patch delete"),
        "can only get, create, update, patch, or delete a node lease",
    )?;
    unless(of.namespace == LEASES, format!("can only access leases in the {LEASES:?} system namespace"))?;
    // The name of what is created is not known yet; NodeRestriction looks at it.
    unless(
        of.verb == "create" || of.name == node,
        "can only access node lease with the same name as the requesting node",
    )
}

fn csi_node(node: &str, of: &Attributes<'_>) -> Result<(), String> {
    unless(
        one_of(of.verb, "get create update patch delete"),
        "can only get, create, update, patch, or delete a CSINode",
    )?;
    unless(of.subresource.is_empty(), "cannot authorize CSINode subresources")?;
    unless(
        of.verb == "create" || of.name == node,
        "can only access CSINode with the same name as the requesting node",
    )
}

/// Its own object is compared by name, so that a node may look for it before it exists.
fn own_node(node: &str, of: &Attributes<'_>) -> Result<(), String> {
    match (of.subresource, of.verb, of.name) {
        // NodeRestriction looks at which.
        ("", "create" | "update" | "patch", _) | ("status", "update" | "patch", _) => Ok(()),
        ("", "get" | "list" | "watch", name) if name == node => Ok(()),
        ("", "get" | "list" | "watch", "") => {
            Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch", name) => {
            Err(format!("node '{node}' cannot read '{name}', only its own Node object"))
        }
        _ => Err(String::new()),
    }
}
