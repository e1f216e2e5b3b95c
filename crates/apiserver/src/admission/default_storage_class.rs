//! DefaultStorageClass: a claim that names no class gets the one that is marked as the default.

use sampan_api::{Gvr, Status};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::registry::Registry;

pub const STORAGE_CLASSES: Gvr = Gvr::new("storage.k8s.io", "v1", "storageclasses");
const MARKS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub fn mutate(attributes: &Attributes<'_>, claim: &mut Value) -> Result<(), Status> {
    let named = claim["metadata"]["annotations"].get(CLASS_ANNOTATION).is_some()
        || claim["spec"]["storageClassName"].is_string();
    if !attributes.is(Operation::Create, "", "persistentvolumeclaims") || named {
        return Ok(());
    }
    if let Some(class) = newest_default(attributes.registry, &STORAGE_CLASSES, &MARKS)?
        && let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.insert("storageClassName".into(), class.into());
    }
    Ok(())
}

/// The class that a mark makes the default; of several the newest, of equally new the first by name.
pub fn newest_default(registry: &Registry, gvr: &Gvr, marks: &[&str]) -> Result<Option<String>, Status> {
    let (classes, _) = registry.resource(gvr)?.cache.snapshot();
    let mut newest: Option<(&str, &str)> = None;
    for class in classes.values() {
        let value: Value = class.decode().map_err(Status::internal)?;
        let (created, name) = (class.header.creation_timestamp.as_ref(), class.header.name.as_ref());
        let marked = marks.iter().any(|mark| value["metadata"]["annotations"][*mark] == "true");
        if marked && newest.is_none_or(|(at, _)| created > at) {
            newest = Some((created, name));
        }
    }
    Ok(newest.map(|(_, name)| name.to_owned()))
}
