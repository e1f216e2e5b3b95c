//! What the server sets in a custom resource definition: the versions that were ever stored, and what
//! holds it back while its instances are deleted.

use jiff::Timestamp;
use sampan_api::custom::{CLEANUP, names};
use serde_json::{Value, json};

use crate::registry::{metadata_of, timestamp};

/// A new definition has stored nothing but its storage version.
pub(super) fn prepare_create(object: &mut Value) {
    object["status"] = json!({
        "acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": [],
    });
    keep_stored_versions(object);
}

/// Adds the storage version to those that may be stored.
pub(super) fn keep_stored_versions(object: &mut Value) {
    let versions = object.pointer("/spec/versions").and_then(Value::as_array);
    let storage = versions.into_iter().flatten().find(|version| version["storage"] == true);
    let Some(name) = storage.and_then(|version| version["name"].as_str()).map(str::to_owned) else { return };
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    let stored = &mut object["status"]["storedVersions"];
    match stored.as_array_mut() {
        Some(stored) if stored.iter().any(|one| *one == name) => {}
        Some(stored) => stored.push(name.into()),
        None => *stored = json!([name]),
    }
}

/// Its instances go first.
pub(super) fn prepare_delete(object: &mut Value, now: Timestamp) {
    let finalizers = metadata_of(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(finalizers) = finalizers.as_array_mut()
        && !finalizers.iter().any(|one| one == CLEANUP)
    {
        finalizers.push(CLEANUP.into());
    }
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    let condition = ["Terminating", "True", "InstanceDeletionPending", message];
    names::set(&mut object["status"], condition, &timestamp(now));
}
