//! NamespaceLifecycle: objects live in namespaces that exist, nothing is added to one that is being
//! deleted, and the system's namespaces stay.

use sampan_api::status::Cause;
use sampan_api::{Gvr, Status};
use serde_json::Value;

use crate::registry::{Registry, Resource};

pub const NAMESPACES: Gvr = Gvr::new("", "v1", "namespaces");
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub fn admit(registry: &Registry, resource: &Resource, object: &Value) -> Result<(), Status> {
    if !resource.def.namespaced {
        return Ok(());
    }
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let found =
        registry.find(&NAMESPACES, namespace).ok_or_else(|| Status::not_found(&NAMESPACES, namespace))?;
    if !found.header.is_terminating() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut status = Status::forbidden(&resource.def.gvr, name, why);
    status.details.get_or_insert_default().causes.push(Cause {
        reason: "NamespaceTerminating".into(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".into(),
    });
    Err(status)
}

pub fn validate_delete(resource: &Resource, name: &str) -> Result<(), Status> {
    if resource.def.gvr == NAMESPACES && IMMORTAL.contains(&name) {
        return Err(Status::forbidden(&NAMESPACES, name, "this namespace may not be deleted"));
    }
    Ok(())
}
