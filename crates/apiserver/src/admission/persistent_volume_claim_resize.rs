//! PersistentVolumeClaimResize: a claim grows only where its class lets it.

use sampan_api::Status;
use sampan_api::quantity::Quantity;
use serde_json::Value;

use super::default_storage_class::STORAGE_CLASSES;
use super::{Attributes, Operation};

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub fn validate(attributes: &Attributes<'_>, claim: &Value) -> Result<(), Status> {
    let Some(old) = attributes.old.filter(|_| attributes.is(Operation::Update, "", "persistentvolumeclaims"))
    else {
        return Ok(());
    };
    let size = |claim: &Value| {
        Quantity::from_json(&claim["spec"]["resources"]["requests"]["storage"]).unwrap_or_default()
    };
    if size(claim) <= size(old) {
        return Ok(());
    }
    let refused = |why: &str| Status::forbidden(attributes.resource.gvr(), attributes.name, why);
    if old["status"]["phase"] != "Bound" {
        return Err(refused("Only bound persistent volume claims can be expanded"));
    }
    let class = class(claim);
    let grows = !class.is_empty()
        && class == self::class(old)
        && match attributes.registry.find(&STORAGE_CLASSES, class) {
            Some(class) => class.decode::<Value>().map_err(Status::internal)?["allowVolumeExpansion"] == true,
            None => false,
        };
    if grows {
        return Ok(());
    }
    Err(refused(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ))
}

fn class(claim: &Value) -> &str {
    let annotated = claim["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    annotated.or_else(|| claim["spec"]["storageClassName"].as_str()).unwrap_or_default()
}
