//! Probes and life-cycle hooks.

use serde_json::Value;

use super::field::{At, Faults};
use crate::names;

pub(super) fn liveness(probe: &At<'_, '_>, faults: &mut Faults) {
    if !probe.is_set() {
        return;
    }
    common(probe, faults);
    let threshold = probe.get("successThreshold");
    if threshold.int().is_some_and(|threshold| threshold != 1) {
        faults.invalid(&threshold, "must be 1");
    }
}

pub(super) fn readiness(probe: &At<'_, '_>, faults: &mut Faults) {
    if !probe.is_set() {
        return;
    }
    common(probe, faults);
    let grace = probe.get("terminationGracePeriodSeconds");
    if grace.is_set() {
        faults.invalid(&grace, "must not be set for readinessProbes");
    }
}

fn common(probe: &At<'_, '_>, faults: &mut Faults) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], faults);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        faults.not_negative(&probe.get(field));
    }
    let grace = probe.get("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|seconds| seconds <= 0) {
        faults.invalid(&grace, "must be greater than 0");
    }
}

pub(super) fn lifecycle(lifecycle: &At<'_, '_>, faults: &mut Faults) {
    for hook in ["postStart", "preStop"] {
        let hook = lifecycle.get(hook);
        if hook.is_set() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], faults);
        }
    }
    let signal = lifecycle.get("stopSignal");
    if signal.is_set() && !signal.text().starts_with("SIG") {
        faults.invalid(&signal, "must be the name of a signal");
    }
}

/// Exactly one of the handlers of the given kinds.
fn handler(holder: &At<'_, '_>, kinds: &[&str], faults: &mut Faults) {
    let mut found = false;
    for kind in kinds {
        let action = holder.get(kind);
        if !action.is_set() {
            continue;
        }
        if found {
            faults.forbidden(&action, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" => {
                if action.get("command").is_empty() {
                    faults.required(&action.get("command"), "");
                }
            }
            "httpGet" => http_get(&action, faults),
            "tcpSocket" | "grpc" => port(&action.get("port"), faults),
            _ => faults.not_negative(&action.get("seconds")),
        }
    }
    if !found {
        faults.required(holder, "must specify a handler type");
    }
}

fn http_get(action: &At<'_, '_>, faults: &mut Faults) {
    if action.get("path").text().is_empty() {
        faults.required(&action.get("path"), "");
    }
    port(&action.get("port"), faults);
    let scheme = action.get("scheme");
    if !matches!(scheme.text(), "HTTP" | "HTTPS") {
        faults.unsupported(&scheme, &["HTTP", "HTTPS"]);
    }
    for header in action.get("httpHeaders").items() {
        let name = header.get("name");
        for message in names::http_header_name(name.text()) {
            faults.invalid_text(&action.get("httpHeaders"), name.text(), &message);
        }
    }
}

/// A port by number or by name.
pub(super) fn port(port: &At<'_, '_>, faults: &mut Faults) {
    match port.value {
        Value::String(name) => faults.named(port, names::port_name(name)),
        Value::Number(number) => faults.named(port, names::port_number(number.as_i64().unwrap_or(-1))),
        // A port that is left out is 0.
        Value::Null => {
            for message in names::port_number(0) {
                faults.invalid_value(port, &Value::from(0), &message);
            }
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
    }
}
