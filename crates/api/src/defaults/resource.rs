//! `resource.k8s.io`: claims on devices.

use serde_json::{Map, Value};

use super::fields::{each, object, set_number, set_text, text};

pub(super) fn apply(kind: &str, root: &mut Map<String, Value>) {
    let spec = match kind {
        "ResourceClaim" => object(root, "spec"),
        "ResourceClaimTemplate" => object(root, "spec").and_then(|template| object(template, "spec")),
        _ => None,
    };
    let Some(devices) = spec.and_then(|spec| object(spec, "devices")) else { return };
    each(devices, "requests", |request| {
        if let Some(exactly) = object(request, "exactly") {
            device_request(exactly);
        }
        each(request, "firstAvailable", device_request);
    });
}

fn device_request(request: &mut Map<String, Value>) {
    set_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        set_number(request, "count", 1);
    }
    each(request, "tolerations", |toleration| set_text(toleration, "operator", "Equal"));
}
