//! NodeRestriction: a node writes its own object, the status of its own pods, and little else.
//!
//! The Node authorizer lets a node write pods and nodes at large, since it cannot see what is written;
//! this plugin looks at it.

use std::collections::BTreeSet;

use sampan_api::{Gvr, Status};
use serde_json::{Map, Value};

use super::{Attributes, Operation};
use crate::identity::authorization;
use crate::identity::authorization::node::{Vertex, of_pod};
use crate::registry::Context;

mod audience;
#[cfg(test)]
mod tests;

const MIRROR: &str = "kubernetes.io/config.mirror";
const LEASES: &str = "kube-node-lease";
const PODS: Gvr = Gvr::new("", "v1", "pods");
const NODES: Gvr = Gvr::new("", "v1", "nodes");

/// The labels under Kubernetes' own names that a node may set for itself.
const KUBELET_LABELS: [&str; 13] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.kubernetes.io/zone",
    "failure-domain.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
];
const KUBELET_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

/// What a node that is refused is told.
type Fault = Result<(), String>;

/// Refuses what a node may not do; others pass. `object` is absent of deletions.
pub fn admit(attributes: &Attributes<'_>, object: Option<&Value>, context: &Context) -> Result<(), Status> {
    let Some(node) = context.user.node_name() else { return Ok(()) };
    let gvr = attributes.resource.gvr();
    let refused = |why: String| Status::forbidden(gvr, attributes.name, why);
    if node.is_empty() {
        return Err(refused(format!("could not determine node from user {:?}", context.user.name)));
    }
    let asked = Asked { attributes, node, object };
    let fault = match (gvr.group.as_ref(), gvr.resource.as_ref(), attributes.subresource) {
        ("", "pods", "") => asked.pod()?,
        ("", "pods", "status") => asked.pod_status(),
        ("", "pods", "eviction") => asked.eviction()?,
        ("", "pods", other) => {
            Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
        }
        ("", "nodes", _) => asked.node(),
        ("", "persistentvolumeclaims", "status") => asked.claim_status(),
        ("", "persistentvolumeclaims", _) => Err("may only update PVC status".to_owned()),
        ("", "serviceaccounts", "token") => asked.token(context)?,
        ("coordination.k8s.io", "leases", _) => asked.lease(),
        ("storage.k8s.io", "csinodes", _) => asked.named_like_node("CSINode"),
        ("resource.k8s.io", "resourceslices", _) => asked.resource_slice(),
        _ => Ok(()),
    };
    fault.map_err(refused)
}

/// A request of a node.
struct Asked<'a> {
    attributes: &'a Attributes<'a>,
    node: &'a str,
    object: Option<&'a Value>,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn unless(fine: bool, why: impl FnOnce() -> String) -> Fault {
    if fine { Ok(()) } else { Err(why()) }
}

/// A list or map that may be absent.
fn same(old: &Value, new: &Value, pointer: &str) -> bool {
    let part = |value: &Value| match value.pointer(pointer) {
        None | Some(Value::Null) => None,
        Some(Value::Array(items)) if items.is_empty() => None,
        Some(Value::Object(fields)) if fields.is_empty() => None,
        Some(other) => Some(other.clone()),
    };
    part(old) == part(new)
}

impl Asked<'_> {
    fn new_object(&self) -> &Value {
        self.object.unwrap_or(&Value::Null)
    }

    fn old_object(&self) -> &Value {
        self.attributes.old.unwrap_or(&Value::Null)
    }

    /// Outer errors are answered as they are, inner ones as refusals.
    fn pod(&self) -> Result<Fault, Status> {
        let node = self.node;
        Ok(match self.attributes.operation {
            Operation::Create => return self.mirror_pod(),
            Operation::Delete => unless(text(self.old_object(), "/spec/nodeName") == node, || {
                format!("node {node:?} can only delete pods with spec.nodeName set to itself")
            }),
            other => {
                let operation = other.as_str();
                Err(format!(
                    "unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods"
                ))
            }
        })
    }

    fn mirror_pod(&self) -> Result<Fault, Status> {
        let (node, pod) = (self.node, self.new_object());
        if let Err(why) = mirror_faults(node, pod) {
            return Ok(Err(why));
        }
        let known =
            self.attributes.registry.find(&NODES, node).ok_or_else(|| Status::not_found(&NODES, node))?;
        let (uid, told) = (&*known.header.uid, text(pod, "/metadata/ownerReferences/0/uid"));
        if uid != told {
            return Ok(Err(format!("node {node} UID mismatch: expected {told} got {uid}")));
        }
        Ok(references_nothing(node, pod))
    }

    fn pod_status(&self) -> Fault {
        let (node, old, new) = (self.node, self.old_object(), self.new_object());
        self.only(Operation::Update)?;
        unless(text(old, "/spec/nodeName") == node, || {
            format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")
        })?;
        unless(same(old, new, "/metadata/labels"), || {
            format!("node {node:?} cannot update labels through pod status")
        })?;
        let claims = ["/status/resourceClaimStatuses", "/status/extendedResourceClaimStatus"];
        unless(claims.iter().all(|claims| same(old, new, claims)), || {
            format!("node {node:?} cannot update resource claim statuses")
        })
    }

    fn eviction(&self) -> Result<Fault, Status> {
        if let Err(why) = self.only(Operation::Create) {
            return Ok(Err(why));
        }
        let pod = self.find_pod(self.attributes.name)?;
        Ok(unless(text(&pod, "/spec/nodeName") == self.node, || {
            format!("node {} can only evict pods with spec.nodeName set to itself", self.node)
        }))
    }

    fn find_pod(&self, name: &str) -> Result<Value, Status> {
        let key = format!("{}/{name}", self.attributes.namespace.unwrap_or_default());
        let pod = self.attributes.registry.find(&PODS, &key).ok_or_else(|| Status::not_found(&PODS, name))?;
        pod.decode().map_err(Status::internal)
    }

    fn only(&self, operation: Operation) -> Fault {
        let asked = self.attributes.operation;
        unless(asked == operation, || format!("unexpected operation {:?}", asked.as_str()))
    }

    fn node(&self) -> Fault {
        let (node, new, old) = (self.node, self.new_object(), self.old_object());
        let attributes = self.attributes;
        unless(attributes.name == node, || {
            format!("node {node:?} is not allowed to modify node {:?}", attributes.name)
        })?;
        let forbidden = forbidden_labels(new, old);
        match attributes.operation {
            Operation::Create => {
                unless(new.pointer("/spec/configSource").is_none_or(Value::is_null), || {
                    format!("node {node:?} is not allowed to create pods with a non-nil configSource")
                })?;
                unless(forbidden.is_empty(), || {
                    format!("node {node:?} is not allowed to set the following labels: {forbidden}")
                })
            }
            Operation::Update => {
                let source = "/spec/configSource";
                unless(new.pointer(source).is_none_or(Value::is_null) || same(old, new, source), || {
                    format!(
                        "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                    )
                })?;
                unless(same(old, new, "/spec/taints"), || {
                    format!("node {node:?} is not allowed to modify taints")
                })?;
                unless(forbidden.is_empty(), || format!("is not allowed to modify labels: {forbidden}"))?;
                // An owner that does not exist would have the garbage collector delete the node.
                unless(same(old, new, "/metadata/ownerReferences"), || {
                    format!("node {node:?} is not allowed to modify ownerReferences")
                })
            }
            Operation::Delete | Operation::Connect => Ok(()),
        }
    }

    fn claim_status(&self) -> Fault {
        self.only(Operation::Update)?;
        let rest = |claim: &Value| {
            let mut claim = claim.clone();
            for (part, fields) in [
                ("/metadata", &["resourceVersion", "managedFields"][..]),
                (
                    "/status",
                    &[
                        "capacity",
                        "conditions",
                        "allocatedResourceStatuses",
                        "allocatedResources",
                        "modifyVolumeStatus",
                    ],
                ),
            ] {
                if let Some(part) = claim.pointer_mut(part).and_then(Value::as_object_mut) {
                    fields.iter().for_each(|field| drop(part.remove(*field)));
                }
            }
            if claim["status"].as_object().is_some_and(Map::is_empty) {
                claim["status"] = Value::Null;
            }
            claim
        };
        unless(rest(self.old_object()) == rest(self.new_object()), || {
            format!(
                "node {:?} is not allowed to update fields other than status.capacity and status.conditions",
                self.node
            )
        })
    }

    fn token(&self, context: &Context) -> Result<Fault, Status> {
        if self.attributes.operation != Operation::Create {
            return Ok(Ok(()));
        }
        let reference = &self.new_object()["spec"]["boundObjectRef"];
        let (name, uid) = (text(reference, "/name"), text(reference, "/uid"));
        if text(reference, "/apiVersion") != "v1" || text(reference, "/kind") != "Pod" || name.is_empty() {
            return Ok(Err("node requested token not bound to a pod".to_owned()));
        }
        if uid.is_empty() {
            return Ok(Err("node requested token with a pod binding without a uid".to_owned()));
        }
        let pod = self.find_pod(name)?;
        if uid != text(&pod, "/metadata/uid") {
            return Ok(Err(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            )));
        }
        if text(&pod, "/spec/nodeName") != self.node {
            return Ok(Err("node requested token bound to a pod scheduled on a different node".to_owned()));
        }
        Ok(self.audience(&pod, context))
    }

    /// A node may ask for the audiences that its pod's volumes name; for others it needs a right.
    fn audience(&self, pod: &Value, context: &Context) -> Fault {
        let asked = self.new_object()["spec"]["audiences"].as_array().map(Vec::as_slice).unwrap_or_default();
        let audience = match asked {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return Err("node may only request 0 or 1 audiences".to_owned()),
        };
        let attributes = self.attributes;
        if audience::is_referenced(attributes.registry, pod, audience) {
            return Ok(());
        }
        let user = &context.user;
        let allowed = attributes.registry.allows(&authorization::Attributes {
            version: "v1",
            resource: audience,
            namespace: attributes.namespace.unwrap_or_default(),
            name: attributes.name,
            ..authorization::Attributes::path(user, "request-serviceaccounts-token-audience", "")
        });
        unless(allowed && !audience.is_empty(), || {
            format!(
                "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for \
                 this audience",
                user.name
            )
        })
    }

    fn lease(&self) -> Fault {
        unless(self.attributes.namespace == Some(LEASES), || {
            format!("can only access leases in the {LEASES:?} system namespace")
        })?;
        self.named_like_node("node lease")
    }

    fn named_like_node(&self, what: &str) -> Fault {
        unless(self.attributes.name == self.node, || {
            format!("can only access {what} with the same name as the requesting node")
        })
    }

    fn resource_slice(&self) -> Fault {
        let (old, new) = (self.old_object(), self.new_object());
        let its = |slice: &Value| text(slice, "/spec/nodeName") == self.node;
        match self.attributes.operation {
            Operation::Create => unless(its(new), || {
                "can only create ResourceSlice with the same NodeName as the requesting node".into()
            }),
            Operation::Update => unless(its(old) && its(new), || {
                "can only update ResourceSlice with the same NodeName as the requesting node".into()
            }),
            Operation::Delete => unless(its(old), || {
                "can only delete ResourceSlice with the same NodeName as the requesting node".into()
            }),
            Operation::Connect => Ok(()),
        }
    }
}

/// What a pod that shows a node's own manifest must be.
fn mirror_faults(node: &str, pod: &Value) -> Fault {
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    unless(annotations.is_some_and(|annotations| annotations.contains_key(MIRROR)), || {
        format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods")
    })?;
    unless(text(pod, "/spec/nodeName") == node, || {
        format!("node {node:?} can only create pods with spec.nodeName set to itself")
    })?;
    let none = Vec::new();
    let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array).unwrap_or(&none);
    let own = || format!("node {node:?} can only create pods with an owner reference set to itself");
    let owner = match owners.as_slice() {
        [one] => one,
        [] => return Err(own()),
        _ => {
            return Err(format!(
                "node {node:?} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    let itself = owner["apiVersion"] == "v1" && owner["kind"] == "Node" && owner["name"] == node;
    unless(itself, own)?;
    unless(owner["controller"] == true, || {
        format!("node {node:?} can only create pods with a controller owner reference set to itself")
    })?;
    unless(owner["blockOwnerDeletion"] != true, || {
        format!("node {node:?} must not set blockOwnerDeletion on an owner reference")
    })
}

/// A node must not give itself anything by a pod that it makes.
fn references_nothing(node: &str, pod: &Value) -> Fault {
    // What the graph would take it for, were it no mirror.
    let mut seen = pod.clone();
    if let Some(annotations) = seen.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(MIRROR);
    }
    let links = of_pod(seen.to_string().as_bytes()).unwrap_or_default();
    let refused = |what: &str| Err(format!("node {node:?} can not create pods that reference {what}"));
    for (vertex, what) in [
        (Vertex::ServiceAccount, "a service account"),
        (Vertex::Secret, "secrets"),
        (Vertex::ConfigMap, "configmaps"),
        (Vertex::Claim, "persistentvolumeclaims"),
    ] {
        if links.objects.iter().any(|(linked, _)| *linked == vertex) {
            return refused(what);
        }
    }
    let none = Vec::new();
    let list = |pointer: &str| pod.pointer(pointer).and_then(Value::as_array).unwrap_or(&none);
    if !list("/spec/resourceClaims").is_empty() {
        return refused("resourceclaims");
    }
    let sources = list("/spec/volumes").iter().filter_map(|volume| volume["projected"]["sources"].as_array());
    if sources.flatten().any(|source| !source["clusterTrustBundle"].is_null()) {
        return refused("clustertrustbundles");
    }
    Ok(())
}

/// The labels that a node may neither set, change nor remove, and would; joined.
fn forbidden_labels(new: &Value, old: &Value) -> String {
    let none = Map::new();
    let labels = |node: &'_ Value| node.pointer("/metadata/labels").and_then(Value::as_object).cloned();
    let (new, old) = (labels(new).unwrap_or_else(|| none.clone()), labels(old).unwrap_or(none));
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let forbidden =
        keys.into_iter().filter(|key| new.get(*key) != old.get(*key)).filter(|key| is_forbidden(key));
    forbidden.map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn is_forbidden(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return false };
    let within = |parent: &str| {
        domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'))
    };
    let own = KUBELET_LABELS.contains(&label) || KUBELET_DOMAINS.iter().any(|domain| within(domain));
    within(RESTRICTED_DOMAIN) || ((within("kubernetes.io") || within("k8s.io")) && !own)
}
