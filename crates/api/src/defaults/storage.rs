//! `storage.k8s.io`.

use serde_json::{Map, Value, json};

use super::fields::{empty, object, set};
use super::quantity::canonical;

pub(super) fn apply(kind: &str, root: &mut Map<String, Value>) {
    match kind {
        "StorageClass" => {
            set(root, "reclaimPolicy", json!("Delete"));
            set(root, "volumeBindingMode", json!("Immediate"));
        }
        "CSIStorageCapacity" => {
            canonical(root, "capacity");
            canonical(root, "maximumVolumeSize");
        }
        "CSIDriver" => {
            let Some(spec) = object(root, "spec") else { return };
            set(spec, "attachRequired", json!(true));
            set(spec, "fsGroupPolicy", json!("ReadWriteOnceWithFSType"));
            for flag in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
                set(spec, flag, json!(false));
            }
            if empty(spec, "volumeLifecycleModes") {
                spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
            }
        }
        _ => {}
    }
}
