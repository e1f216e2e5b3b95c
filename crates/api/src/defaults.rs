//! What a field is when its author left it out, for every built-in kind, and what a new object
//! starts with.
//!
//! [`apply`] runs on every object that enters, created or changed, and does nothing to what is
//! already there: applied twice it is the same as once. [`prepare_create`] gives a new object the
//! state that only the server may give, and [`prepare_update`] carries over what the server gave
//! before. All take any JSON: a value of the wrong type is left for the schema to refuse.

use serde_json::{Map, Value, json};

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod core;
mod create;
mod fields;
mod networking;
mod pod;
mod quantity;
mod resource;
mod storage;
mod update;
mod volume;

pub use create::{prepare_create, qos_class};
pub use update::prepare_update;

use fields::{each, object, set, set_text, text};

/// Fills in the defaults of an object of the given group, version and kind.
///
/// Kinds that have none, or that are not built in, are left as they are.
pub fn apply(group: &str, version: &str, kind: &str, value: &mut Value) {
    let Value::Object(root) = value else { return };
    match group {
        "" => core::apply(kind, root),
        "apps" => apps::apply(kind, root),
        "batch" => batch::apply(kind, root),
        "autoscaling" => autoscaling::apply(version, kind, root),
        "networking.k8s.io" => networking::apply(kind, root),
        "discovery.k8s.io" => networking::apply_discovery(kind, root),
        "storage.k8s.io" => storage::apply(kind, root),
        "admissionregistration.k8s.io" => admission::apply(kind, root),
        "flowcontrol.apiserver.k8s.io" => admission::apply_flow_control(kind, root),
        "resource.k8s.io" => resource::apply(kind, root),
        "rbac.authorization.k8s.io" => apply_rbac(kind, root),
        "scheduling.k8s.io" if kind == "PriorityClass" => {
            set_text(root, "preemptionPolicy", "PreemptLowerPriority")
        }
        "apiextensions.k8s.io" if kind == "CustomResourceDefinition" => apply_definition(root),
        "apiregistration.k8s.io" if kind == "APIService" => {
            if let Some(service) = object(root, "spec").and_then(|spec| object(spec, "service")) {
                set(service, "port", json!(443));
            }
        }
        _ => {}
    }
}

fn apply_rbac(kind: &str, root: &mut Map<String, Value>) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    if !matches!(kind, "RoleBinding" | "ClusterRoleBinding") {
        return;
    }
    if let Some(role) = object(root, "roleRef") {
        set_text(role, "apiGroup", GROUP);
    }
    each(root, "subjects", |subject| {
        if matches!(text(subject, "kind"), "User" | "Group") {
            set_text(subject, "apiGroup", GROUP);
        }
    });
}

fn apply_definition(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else { return };
    if let Some(names) = object(spec, "names") {
        let kind = text(names, "kind").to_owned();
        if !kind.is_empty() {
            set_text(names, "singular", &kind.to_lowercase());
            set_text(names, "listKind", &format!("{kind}List"));
        }
    }
    set(spec, "conversion", json!({"strategy": "None"}));
    let service = object(spec, "conversion")
        .and_then(|conversion| object(conversion, "webhook"))
        .and_then(|webhook| object(webhook, "clientConfig"))
        .and_then(|config| object(config, "service"));
    if let Some(service) = service {
        set(service, "port", json!(443));
    }
}

#[cfg(test)]
mod tests;
