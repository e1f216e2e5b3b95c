//! Volumes, what provides them, and devices.

use serde_json::Value;

use super::{Printer, Row, count, items, scalar, text, text_or};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "PersistentVolume" => persistent_volume,
        "PersistentVolumeClaim" => persistent_volume_claim,
        "StorageClass" => storage_class,
        "VolumeAttributesClass" => volume_attributes_class,
        "VolumeAttachment" => volume_attachment,
        "CSINode" => csi_node,
        "CSIDriver" => csi_driver,
        "CSIStorageCapacity" => csi_storage_capacity,
        "DeviceClass" | "ResourceClaimTemplate" => name_and_age,
        "ResourceClaim" => resource_claim,
        "ResourceSlice" => resource_slice,
        _ => return None,
    })
}

fn access_modes(modes: &Value) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| items(modes).iter().any(|one| one == mode);
    known.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}

/// The class in the annotation that came before the field, or in the field.
fn class<'v>(row: &Row<'v>) -> &'v str {
    let annotation = &row.object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    text_or(annotation, text(&row.spec()["storageClassName"]))
}

fn phase<'v>(row: &Row<'v>) -> &'v str {
    if row.is_terminating() { "Terminating" } else { text(&row.status()["phase"]) }
}

fn persistent_volume(row: &mut Row<'_>) {
    let spec = row.spec();
    let claim = &spec["claimRef"];
    let claim = match claim {
        Value::Object(_) => format!("{}/{}", text(&claim["namespace"]), text(&claim["name"])),
        _ => String::new(),
    };
    row.name();
    row.text("Capacity", scalar(&spec["capacity"]["storage"]));
    row.text("Access Modes", access_modes(&spec["accessModes"]));
    row.text("Reclaim Policy", text(&spec["persistentVolumeReclaimPolicy"]));
    row.text("Status", phase(row));
    row.text("Claim", claim);
    row.text("StorageClass", class(row));
    row.text("VolumeAttributesClass", text_or(&spec["volumeAttributesClassName"], "<unset>"));
    row.text("Reason", text(&row.status()["reason"]));
    row.age();
    row.wide("VolumeMode", text_or(&spec["volumeMode"], "<unset>"));
}

fn persistent_volume_claim(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    let volume = text(&spec["volumeName"]);
    let (capacity, modes) = match volume {
        "" => (String::new(), String::new()),
        _ => (scalar(&status["capacity"]["storage"]), access_modes(&status["accessModes"])),
    };
    row.name();
    row.text("Status", phase(row));
    row.text("Volume", volume);
    row.text("Capacity", capacity);
    row.text("Access Modes", modes);
    row.text("StorageClass", class(row));
    row.text("VolumeAttributesClass", text_or(&spec["volumeAttributesClassName"], "<unset>"));
    row.age();
    row.wide("VolumeMode", text_or(&spec["volumeMode"], "<unset>"));
}

fn storage_class(row: &mut Row<'_>) {
    let class = row.object;
    let annotations = &class["metadata"]["annotations"];
    let is_default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|key| annotations[key] == "true");
    let mark = if is_default { " (default)" } else { "" };
    let name = format!("{}{mark}", text(&class["metadata"]["name"]));
    row.push("Name", "string", "name", 0, name.into());
    row.text("Provisioner", text(&class["provisioner"]));
    row.text("ReclaimPolicy", text_or(&class["reclaimPolicy"], "Delete"));
    row.text("VolumeBindingMode", text_or(&class["volumeBindingMode"], "Immediate"));
    row.text("AllowVolumeExpansion", class["allowVolumeExpansion"] == true);
    row.age();
}

fn volume_attributes_class(row: &mut Row<'_>) {
    row.name();
    row.text("DriverName", text(&row.object["driverName"]));
    row.age();
}

fn volume_attachment(row: &mut Row<'_>) {
    let spec = row.spec();
    row.name();
    row.push("Attacher", "string", "name", 0, text(&spec["attacher"]).into());
    row.text("PV", text(&spec["source"]["persistentVolumeName"]));
    row.text("Node", text(&spec["nodeName"]));
    row.flag("Attached", row.status()["attached"] == true);
    row.age();
}

fn csi_node(row: &mut Row<'_>) {
    row.name();
    row.number("Drivers", count(&row.spec()["drivers"]));
    row.age();
}

fn csi_driver(row: &mut Row<'_>) {
    let spec = row.spec();
    let all =
        |list: &Value, key: fn(&Value) -> &str| items(list).iter().map(key).collect::<Vec<_>>().join(",");
    let tokens = &spec["tokenRequests"];
    let modes = all(&spec["volumeLifecycleModes"], text);
    row.name();
    row.flag("AttachRequired", spec["attachRequired"] != false);
    row.flag("PodInfoOnMount", spec["podInfoOnMount"] == true);
    row.flag("StorageCapacity", spec["storageCapacity"] == true);
    row.text(
        "TokenRequests",
        match tokens {
            Value::Array(_) => all(tokens, |one| text(&one["audience"])),
            _ => "<unset>".to_owned(),
        },
    );
    row.flag("RequiresRepublish", spec["requiresRepublish"] == true);
    row.text("Modes", if modes.is_empty() { "<none>".to_owned() } else { modes });
    row.age();
}

fn csi_storage_capacity(row: &mut Row<'_>) {
    let capacity = &row.object["capacity"];
    row.name();
    row.text("StorageClassName", text(&row.object["storageClassName"]));
    row.text("Capacity", if capacity.is_null() { "<unset>".to_owned() } else { scalar(capacity) });
}

fn name_and_age(row: &mut Row<'_>) {
    row.name();
    row.age();
}

fn resource_claim(row: &mut Row<'_>) {
    let status = row.status();
    let is_reserved = !items(&status["reservedFor"]).is_empty();
    let state = match (row.is_terminating(), status["allocation"].is_object()) {
        (false, false) => "pending",
        (true, false) => "deleted",
        (false, true) if is_reserved => "allocated,reserved",
        (false, true) => "allocated",
        (true, true) if is_reserved => "deleted,allocated,reserved",
        (true, true) => "deleted,allocated,deallocating",
    };
    row.name();
    row.text("State", state);
    row.age();
}

fn resource_slice(row: &mut Row<'_>) {
    let spec = row.spec();
    row.name();
    row.text("Node", text(&spec["nodeName"]));
    row.text("Driver", text(&spec["driver"]));
    row.text("Pool", text(&spec["pool"]["name"]));
    row.age();
}
