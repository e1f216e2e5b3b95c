//! Config maps and secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::field::{At, Faults, same};
use crate::names;

/// All values of one object together.
const SIZE_MAX: usize = 1024 * 1024;

pub(super) fn config_map(root: &At<'_, '_>, faults: &mut Faults) {
    let (data, binary) = (root.get("data"), root.get("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        keys(&data, key, faults);
        if binary.key(key).is_set() {
            faults.invalid_text(&data.key(key), key, "duplicate of key present in binaryData");
        }
        size += value.as_str().unwrap_or_default().len();
    }
    for (key, value) in binary.entries() {
        keys(&binary, key, faults);
        size += decoded_len(value.as_str().unwrap_or_default());
    }
    if size > SIZE_MAX {
        faults.too_long(&root.get(""), SIZE_MAX);
    }
}

fn keys(data: &At<'_, '_>, key: &str, faults: &mut Faults) {
    for message in names::config_key(key) {
        faults.invalid_text(&data.key(key), key, &message);
    }
}

/// The bytes that a base64 text stands for.
fn decoded_len(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

pub(super) fn secret(root: &At<'_, '_>, faults: &mut Faults) {
    let data = root.get("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        keys(&data, key, faults);
        size += decoded_len(value.as_str().unwrap_or_default());
    }
    if size > SIZE_MAX {
        faults.too_long(&data, SIZE_MAX);
    }
    match root.get("type").text() {
        "kubernetes.io/service-account-token" => {
            let metadata = root.get("metadata");
            let annotations = metadata.get("annotations");
            let account = annotations.key("kubernetes.io/service-account.name");
            if account.text().is_empty() {
                faults.required(&account, "");
            }
        }
        "kubernetes.io/dockercfg" => json_of(&data.key(".dockercfg"), faults),
        "kubernetes.io/dockerconfigjson" => json_of(&data.key(".dockerconfigjson"), faults),
        "kubernetes.io/basic-auth" if !data.key("username").is_set() && !data.key("password").is_set() => {
            faults.required(&data.key("username"), "");
            faults.required(&data.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if data.key("ssh-privatekey").text().is_empty() => {
            faults.required(&data.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if !data.key(key).is_set() {
                    faults.required(&data.key(key), "");
                }
            }
        }
        _ => {}
    }
}

/// A value that must be a JSON object. What it holds is not shown.
fn json_of(at: &At<'_, '_>, faults: &mut Faults) {
    if !at.is_set() {
        faults.required(at, "");
        return;
    }
    let decoded = STANDARD.decode(at.text()).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<serde_json::Map<String, Value>>(&decoded) {
        faults.invalid_text(at, "<secret contents redacted>", &error.to_string());
    }
}

pub(super) fn update(kind: &str, root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    if kind == "Secret" {
        faults.immutable(&root.get("type"), &before.get("type"));
    }
    if !before.get("immutable").is_true() {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if !root.get("immutable").is_true() {
        faults.forbidden(&root.get("immutable"), detail);
    }
    for field in ["data", "binaryData"] {
        if !same(root.get(field).value, before.get(field).value) {
            faults.forbidden(&root.get(field), detail);
        }
    }
}
