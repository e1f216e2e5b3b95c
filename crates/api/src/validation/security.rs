//! Security contexts of pods and containers.

use std::collections::BTreeSet;

use super::field::{At, Faults};
use super::metadata::unique;
use super::volume::relative_path;
use crate::names::out_of_range;

const ID_MAX: i64 = i32::MAX as i64;

fn id(at: &At<'_, '_>, faults: &mut Faults) {
    if at.int().is_some_and(|id| !(0..=ID_MAX).contains(&id)) {
        faults.invalid(at, &out_of_range(0, ID_MAX));
    }
}

/// `spec.securityContext`.
pub(super) fn pod(spec: &At<'_, '_>, faults: &mut Faults) {
    let context = spec.get("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&context.get(field), faults);
    }
    for group in context.get("supplementalGroups").items() {
        id(&group, faults);
    }
    let shared = spec.get("shareProcessNamespace");
    if shared.is_true() && spec.get("hostPID").is_true() {
        faults.invalid(&shared, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    let mut seen = BTreeSet::new();
    for sysctl in context.get("sysctls").items() {
        sysctl_name(&sysctl.get("name"), faults);
        unique(&mut seen, &sysctl.get("name"), faults);
    }
    faults.one_of_or_none(&context.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    faults.one_of_or_none(&context.get("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    profiles(&context, faults);
}

fn sysctl_name(name: &At<'_, '_>, faults: &mut Faults) {
    let text = name.text();
    if text.is_empty() {
        faults.required(name, "");
        return;
    }
    let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| {
        part.starts_with(is_edge)
            && part.ends_with(is_edge)
            && part.chars().all(|c| is_edge(c) || c == '-' || c == '_')
    };
    if text.len() > 253 || !text.split(['.', '/']).all(is_part) {
        let regex = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
        faults.invalid(name, &format!("must have at most 253 characters and match regex {regex}"));
    }
}

/// `securityContext` of a container.
pub(super) fn container(context: &At<'_, '_>, faults: &mut Faults) {
    if !context.is_set() {
        return;
    }
    id(&context.get("runAsUser"), faults);
    id(&context.get("runAsGroup"), faults);
    faults.one_of_or_none(&context.get("procMount"), &["Default", "Unmasked"]);
    profiles(context, faults);
    let escalation = context.get("allowPrivilegeEscalation");
    if escalation.value != &serde_json::Value::Bool(false) {
        return;
    }
    if context.get("privileged").is_true() {
        faults.invalid(context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
    }
    let adds_admin =
        context.get("capabilities").get("add").items().any(|name| name.text() == "CAP_SYS_ADMIN");
    if adds_admin {
        faults.invalid(
            context,
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        );
    }
}

fn profiles(context: &At<'_, '_>, faults: &mut Faults) {
    for (field, what) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let profile = context.get(field);
        if !profile.is_set() {
            continue;
        }
        let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
        match kind.text() {
            "" => faults.required(&kind, &format!("type is required when {field} is set")),
            "Localhost" | "RuntimeDefault" | "Unconfined" => {}
            _ => faults.unsupported(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
        }
        if kind.text() == "Localhost" {
            if local.is_set() {
                relative_path(&local, faults);
            } else {
                faults.required(&local, &format!("must be set when {what} type is Localhost"));
            }
        } else if local.is_set() {
            faults.invalid(&local, &format!("can only be set when {what} type is Localhost"));
        }
    }
}
