//! Admission: the checks and changes that look at other objects than the one that is written.
//!
//! One file per plugin, with upstream's names.

use sampan_api::Status;
use serde_json::Value;

use crate::registry::{Registry, Resource};

mod default_toleration_seconds;
mod namespace_lifecycle;
mod priority;
mod service_account;

/// Runs on a new object after defaulting and before validation.
pub fn admit_create(registry: &Registry, resource: &Resource, object: &mut Value) -> Result<(), Status> {
    namespace_lifecycle::admit_create(registry, resource, object)?;
    if resource.def.gvr.group.is_empty() && resource.def.gvr.resource == "pods" {
        service_account::admit(registry, object)?;
        priority::admit(registry, object)?;
        default_toleration_seconds::admit(object);
    }
    Ok(())
}

/// Runs before an object is deleted.
pub fn admit_delete(resource: &Resource, name: &str) -> Result<(), Status> {
    namespace_lifecycle::admit_delete(resource, name)
}
