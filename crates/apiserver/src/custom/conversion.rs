//! Custom resources between the versions of their definition.

use sampan_api::custom::Conversion;
use sampan_api::table::ResourceDef;
use sampan_api::{Gvr, Status};
use serde_json::Value;

use crate::registry::Registry;

/// Converts objects of one resource to a version, in their order. Those that are in it stay as they are.
pub async fn convert(
    _registry: &Registry,
    def: &ResourceDef,
    to: &Gvr,
    mut objects: Vec<Value>,
) -> Result<Vec<Value>, Status> {
    let version = def.version.as_ref().ok_or_else(|| Status::internal("not a custom resource"))?;
    match &version.conversion {
        Conversion::None => {
            for object in &mut objects {
                object["apiVersion"] = to.api_version().into();
            }
            Ok(objects)
        }
        Conversion::Webhook { .. } => Err(Status::internal("webhooks cannot be called yet")),
    }
}
