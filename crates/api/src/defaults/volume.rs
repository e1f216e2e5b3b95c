//! Volumes of pods and of persistent volumes, and claims.

use serde_json::{Map, Value, json};

use super::fields::{each, object, set, set_text, text};
use super::pod::{field_sources, pull_policy};
use super::quantity::{canonical, canonical_list, canonical_resources};

/// The mode of projected files: 0644.
const FILE_MODE: i64 = 0o644;

/// A volume of a pod.
pub(super) fn volume(volume: &mut Map<String, Value>) {
    if volume.iter().all(|(key, value)| key == "name" || value.is_null()) {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = object(volume, kind) {
            set(source, "defaultMode", json!(FILE_MODE));
        }
    }
    if let Some(downward) = object(volume, "downwardAPI") {
        each(downward, "items", field_sources);
    }
    if let Some(projected) = object(volume, "projected") {
        each(projected, "sources", projection);
    }
    if let Some(directory) = object(volume, "emptyDir") {
        canonical(directory, "sizeLimit");
    }
    if let Some(image) = object(volume, "image") {
        let policy = pull_policy(text(image, "reference"));
        set_text(image, "pullPolicy", policy);
    }
    if let Some(template) =
        object(volume, "ephemeral").and_then(|source| object(source, "volumeClaimTemplate"))
        && let Some(spec) = object(template, "spec")
    {
        claim_spec(spec);
    }
    source(volume);
}

fn projection(source: &mut Map<String, Value>) {
    if let Some(downward) = object(source, "downwardAPI") {
        each(downward, "items", field_sources);
    }
    if let Some(token) = object(source, "serviceAccountToken") {
        set(token, "expirationSeconds", json!(3600));
    }
    if let Some(certificate) = object(source, "podCertificate") {
        set(certificate, "maxExpirationSeconds", json!(86400));
    }
}

/// The sources that volumes of pods and persistent volumes share.
fn source(holder: &mut Map<String, Value>) {
    if let Some(path) = object(holder, "hostPath") {
        set(path, "type", json!(""));
    }
    if let Some(iscsi) = object(holder, "iscsi") {
        set_text(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = object(holder, "rbd") {
        set_text(rbd, "pool", "rbd");
        set_text(rbd, "user", "admin");
        set_text(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = object(holder, "azureDisk") {
        set(disk, "cachingMode", json!("ReadWrite"));
        set(disk, "kind", json!("Shared"));
        set(disk, "fsType", json!("ext4"));
        set(disk, "readOnly", json!(false));
    }
    if let Some(scale_io) = object(holder, "scaleIO") {
        set_text(scale_io, "storageMode", "ThinProvisioned");
        set_text(scale_io, "fsType", "xfs");
    }
}

pub(super) fn persistent_volume(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else { return };
    set_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    set(spec, "volumeMode", json!("Filesystem"));
    canonical_list(spec, "capacity");
    source(spec);
}

pub(super) fn claim(root: &mut Map<String, Value>) {
    if let Some(spec) = object(root, "spec") {
        claim_spec(spec);
    }
    if let Some(status) = object(root, "status") {
        canonical_list(status, "capacity");
        canonical_list(status, "allocatedResources");
    }
}

fn claim_spec(spec: &mut Map<String, Value>) {
    set(spec, "volumeMode", json!("Filesystem"));
    set(spec, "resources", json!({}));
    canonical_resources(spec, "resources");
    mirror_data_source(spec);
}

/// `dataSource` and `dataSourceRef` say the same, unless the reference names a namespace.
fn mirror_data_source(spec: &mut Map<String, Value>) {
    let source = spec.get("dataSource").filter(|value| !value.is_null()).cloned();
    let reference = spec.get("dataSourceRef").filter(|value| !value.is_null()).cloned();
    match (source, reference) {
        (Some(source), None) => {
            spec.insert("dataSourceRef".to_owned(), source);
        }
        (None, Some(reference)) => {
            let group = reference["apiGroup"].as_str().unwrap_or_default();
            let kind = reference["kind"].as_str().unwrap_or_default();
            let was_allowed = matches!(
                (group, kind),
                ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
            );
            if was_allowed && reference["namespace"].as_str().unwrap_or_default().is_empty() {
                spec.insert("dataSource".to_owned(), reference);
            }
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}
