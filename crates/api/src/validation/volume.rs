//! Volumes of pods, and their mounts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::container::{field_reference, resource_reference};
use super::field::{At, Faults};
use super::metadata::unique;
use super::storage::claim_spec;
use crate::names;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Fields a pod may project into files, besides labels and annotations.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// The valid volumes of a pod by name, and whether each can be used as a block device.
pub(super) type Volumes<'v> = BTreeMap<&'v str, bool>;

pub(super) fn volumes<'v>(volumes: &At<'v, '_>, faults: &mut Faults) -> Volumes<'v> {
    let mut valid = Volumes::new();
    for volume in volumes.items() {
        let before = faults.count();
        source(&volume, faults);
        let name = volume.get("name");
        if name.text().is_empty() {
            faults.required(&name, "");
        } else {
            faults.named(&name, names::dns1123_label(name.text()));
        }
        if valid.contains_key(name.text()) {
            faults.duplicate(&name, name.value);
        }
        if faults.count() == before {
            let is_claim = volume.get("persistentVolumeClaim").is_set() || volume.get("ephemeral").is_set();
            valid.insert(name.text(), is_claim);
        }
    }
    valid
}

fn source(volume: &At<'_, '_>, faults: &mut Faults) {
    let mut kinds =
        volume.entries().filter(|(key, value)| *key != "name" && !value.is_null()).map(|(key, _)| key);
    let Some(first) = kinds.next() else {
        faults.required(volume, "must specify a volume type");
        return;
    };
    for other in kinds {
        faults.forbidden(&volume.get(other), "may not specify more than 1 volume type");
    }
    let source = volume.get(first);
    match first {
        "emptyDir" => {
            let size = source.get("sizeLimit");
            if size.quantity().is_some_and(|size| size.is_negative()) {
                faults.forbidden(&size, "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => host_path(&source, faults),
        "secret" => files(&source, "secretName", faults),
        "configMap" => files(&source, "name", faults),
        "persistentVolumeClaim" => required(&source, &["claimName"], faults),
        "nfs" => {
            required(&source, &["server", "path"], faults);
            let path = source.get("path");
            if !path.text().is_empty() && !path.text().starts_with('/') {
                faults.invalid(&path, "must be an absolute path");
            }
        }
        "downwardAPI" => {
            mode(&source.get("defaultMode"), faults);
            for file in source.get("items").items() {
                downward_file(&file, faults);
            }
        }
        "projected" => {
            mode(&source.get("defaultMode"), faults);
            projected(&source, faults);
        }
        "csi" => required(&source, &["driver"], faults),
        "iscsi" => required(&source, &["targetPortal", "iqn"], faults),
        "image" => {
            required(&source, &["reference"], faults);
            faults.one_of_or_none(&source.get("pullPolicy"), &["Always", "IfNotPresent", "Never"]);
        }
        "ephemeral" => {
            let template = source.get("volumeClaimTemplate");
            if template.is_set() {
                claim_spec(&template.get("spec"), faults);
            } else {
                faults.required(&template, "");
            }
        }
        _ => {}
    }
}

fn required(source: &At<'_, '_>, fields: &[&str], faults: &mut Faults) {
    for field in fields {
        if source.get(field).text().is_empty() {
            faults.required(&source.get(field), "");
        }
    }
}

fn host_path(source: &At<'_, '_>, faults: &mut Faults) {
    let path = source.get("path");
    if path.text().is_empty() {
        faults.required(&path, "");
        return;
    }
    no_backsteps(&path, faults);
    let kinds =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    faults.one_of_or_none(&source.get("type"), &kinds);
}

fn mode(mode: &At<'_, '_>, faults: &mut Faults) {
    if mode.int().is_some_and(|bits| !(0..=0o777).contains(&bits)) {
        faults.invalid(mode, MODE);
    }
}

fn files(source: &At<'_, '_>, name: &str, faults: &mut Faults) {
    required(source, &[name], faults);
    mode(&source.get("defaultMode"), faults);
    for item in source.get("items").items() {
        key_to_path(&item, faults);
    }
}

fn key_to_path(item: &At<'_, '_>, faults: &mut Faults) {
    required(item, &["key", "path"], faults);
    unreserved_path(&item.get("path"), faults);
    mode(&item.get("mode"), faults);
}

fn downward_file(file: &At<'_, '_>, faults: &mut Faults) {
    required(file, &["path"], faults);
    unreserved_path(&file.get("path"), faults);
    let (field, resource) = (file.get("fieldRef"), file.get("resourceFieldRef"));
    if field.is_set() {
        field_reference(&field, &FILE_FIELDS, faults);
        if resource.is_set() {
            faults.invalid_text(
                file,
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            );
        }
    } else if resource.is_set() {
        resource_reference(&resource, true, faults);
    } else {
        faults.required(file, "one of fieldRef and resourceFieldRef is required");
    }
    mode(&file.get("mode"), faults);
}

fn projected<'v>(projection: &At<'v, '_>, faults: &mut Faults) {
    let mut paths: BTreeSet<&'v str> = BTreeSet::new();
    for source in projection.get("sources").items() {
        let kinds = source.entries().filter(|(_, value)| !value.is_null()).count();
        if kinds > 1 {
            faults.forbidden(&source, "may not specify more than 1 volume type");
        }
        for kind in ["secret", "configMap", "downwardAPI"] {
            let at = source.get(kind);
            if !at.is_set() {
                continue;
            }
            if kind != "downwardAPI" {
                required(&at, &["name"], faults);
            }
            for item in at.get("items").items() {
                if kind == "downwardAPI" {
                    downward_file(&item, faults);
                } else {
                    key_to_path(&item, faults);
                }
                let path = item.get("path").text();
                if !path.is_empty() && !paths.insert(path) {
                    let shown = if kind == "downwardAPI" { path } else { at.get("name").text() };
                    faults.invalid_text(projection, shown, "conflicting duplicate paths");
                }
            }
        }
        let token = source.get("serviceAccountToken");
        if token.is_set() {
            let expiration = token.get("expirationSeconds");
            if expiration.int().is_some_and(|seconds| seconds < 600) {
                faults.invalid(&expiration, "may not specify a duration less than 10 minutes");
            }
            if expiration.int().is_some_and(|seconds| seconds > 1 << 32) {
                faults.invalid(&expiration, "may not specify a duration larger than 2^32 seconds");
            }
            required(&token, &["path"], faults);
        }
    }
}

/// A path that stays below where it starts.
pub(super) fn relative_path(path: &At<'_, '_>, faults: &mut Faults) {
    if path.text().starts_with('/') {
        faults.invalid(path, "must be a relative path");
    }
    no_backsteps(path, faults);
}

fn no_backsteps(path: &At<'_, '_>, faults: &mut Faults) {
    if path.text().split('/').any(|step| step == "..") {
        faults.invalid(path, "must not contain '..'");
    }
}

/// A path of a projected file; names that begin with two dots are the writer's own.
fn unreserved_path(path: &At<'_, '_>, faults: &mut Faults) {
    relative_path(path, faults);
    if path.text().starts_with("..") && !path.text().starts_with("../") {
        faults.invalid(path, "must not start with '..'");
    }
}

/// `volumeMounts` and `volumeDevices` of a container.
pub(super) fn mounts(container: &At<'_, '_>, volumes: &Volumes<'_>, faults: &mut Faults) {
    let (mounts, devices) = (container.get("volumeMounts"), container.get("volumeDevices"));
    let mut mount_paths = BTreeSet::new();
    for mount in mounts.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        if name.text().is_empty() {
            faults.required(&name, "");
        }
        if !volumes.contains_key(name.text()) {
            faults.not_found(&name);
        }
        if path.text().is_empty() {
            faults.required(&path, "");
        }
        if !mount_paths.insert(path.text()) {
            faults.invalid(&path, "must be unique");
        }
        for device in devices.items() {
            if device.get("name").text() == name.text() {
                faults.invalid(&name, "must not already exist in volumeDevices");
            }
            if device.get("devicePath").text() == path.text() {
                faults.invalid(&path, "must not already exist as a path in volumeDevices");
            }
        }
        let (sub_path, expression) = (mount.get("subPath"), mount.get("subPathExpr"));
        relative_path(&sub_path, faults);
        relative_path(&expression, faults);
        if !sub_path.text().is_empty() && !expression.text().is_empty() {
            faults.invalid(&expression, "subPathExpr and subPath are mutually exclusive");
        }
        propagation(&mount, container, faults);
    }
    let mut device_names = BTreeSet::new();
    for device in devices.items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        if name.text().is_empty() {
            faults.required(&name, "");
        }
        match volumes.get(name.text()) {
            None => faults.not_found(&name),
            Some(false) => faults.invalid(
                &name,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ),
            Some(true) => {}
        }
        if path.text().is_empty() {
            faults.required(&path, "");
        }
        unique(&mut device_names, &name, faults);
    }
}

fn propagation(mount: &At<'_, '_>, container: &At<'_, '_>, faults: &mut Faults) {
    let propagation = mount.get("mountPropagation");
    faults.one_of_or_none(&propagation, &["Bidirectional", "HostToContainer", "None"]);
    let privileged = container.value["securityContext"]["privileged"] == Value::Bool(true);
    if propagation.text() == "Bidirectional" && !privileged {
        faults.forbidden(
            &propagation,
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
    let recursive = mount.get("recursiveReadOnly");
    faults.one_of_or_none(&recursive, &["Disabled", "Enabled", "IfPossible"]);
    if matches!(recursive.text(), "Enabled" | "IfPossible") && !mount.get("readOnly").is_true() {
        faults.forbidden(&recursive, "may only be specified when readOnly is true");
    }
}
