//! StorageObjectInUseProtection: volumes and claims go only when nobody uses them; controllers take
//! away what is put here.

use serde_json::{Value, json};

use super::{Attributes, Operation};

pub fn mutate(attributes: &Attributes<'_>, object: &mut Value) {
    let finalizer = if attributes.is(Operation::Create, "", "persistentvolumeclaims") {
        "kubernetes.io/pvc-protection"
    } else if attributes.is(Operation::Create, "", "persistentvolumes") {
        "kubernetes.io/pv-protection"
    } else {
        return;
    };
    let finalizers = crate::registry::metadata_of(object).entry("finalizers").or_insert_with(|| json!([]));
    if let Some(finalizers) = finalizers.as_array_mut()
        && !finalizers.iter().any(|known| known == finalizer)
    {
        finalizers.push(finalizer.into());
    }
}
