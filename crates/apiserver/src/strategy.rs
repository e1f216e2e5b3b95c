//! What differs by kind in the generic pipeline: the initial status, which parts an update may
//! change, generations, grace periods.
//!
//! Each hook is a function of values; what must look at other objects is admission.

use jiff::Timestamp;
use sampan_api::custom::DEFINITIONS;
use sampan_api::defaults;
use serde_json::{Map, Value, json};

use crate::identity::User;
use crate::registry::{Part, Resource, differs_in_spec, metadata_of};

pub mod service;

mod certificate;
mod definition;
mod pod;

/// Kinds without a `metadata.generation`, as upstream's strategies leave it at zero.
const WITHOUT_GENERATION: [&str; 22] = [
    "bindings",
    "configmaps",
    "endpoints",
    "events",
    "limitranges",
    "namespaces",
    "nodes",
    "persistentvolumes",
    "persistentvolumeclaims",
    "podtemplates",
    "resourcequotas",
    "secrets",
    "serviceaccounts",
    "services",
    "controllerrevisions",
    "leases",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "certificatesigningrequests",
    "storageclasses",
];

/// Kinds that a PUT creates where they do not exist.
const CREATED_ON_UPDATE: [&str; 10] = [
    "endpoints",
    "events",
    "leases",
    "limitranges",
    "resourcequotas",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "services",
];

fn core(resource: &Resource, name: &str) -> bool {
    resource.def.gvr.group.is_empty() && resource.def.gvr.resource == name
}

/// Whether the objects of a resource define custom resources.
pub fn is_definition(resource: &Resource) -> bool {
    resource.def.gvr == DEFINITIONS
}

fn is_signing_request(resource: &Resource) -> bool {
    let gvr = &resource.def.gvr;
    gvr.group == "certificates.k8s.io" && gvr.resource == "certificatesigningrequests"
}

fn has_status(resource: &Resource) -> bool {
    resource.def.subresource("status").is_some()
}

/// Whether what an object owns outlives it unless its deletion says otherwise: with resources that are older than the
/// garbage collector.
pub fn orphans_by_default(resource: &Resource) -> bool {
    core(resource, "replicationcontrollers") || is_job(resource)
}

/// What a client is told that deletes an object without saying what becomes of what it owns.
pub fn orphan_warning(resource: &Resource) -> Option<&'static str> {
    const WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background \
        to remove them or set propagationPolicy=Orphan to suppress this warning";
    is_job(resource).then_some(WARNING)
}

fn is_job(resource: &Resource) -> bool {
    let gvr = &resource.def.gvr;
    gvr.group == "batch" && gvr.resource == "jobs"
}

pub fn counts_generations(resource: &Resource) -> bool {
    resource.def.custom || !WITHOUT_GENERATION.contains(&resource.def.gvr.resource.as_ref())
}

pub fn creates_on_update(resource: &Resource) -> bool {
    !resource.def.custom && CREATED_ON_UPDATE.contains(&resource.def.gvr.resource.as_ref())
}

/// Sets what a new object starts with. The status is the controllers' to write, not the client's;
/// nodes alone register themselves with theirs.
pub fn prepare_create(resource: &Resource, object: &mut Value, user: &User) {
    if counts_generations(resource) {
        metadata_of(object).insert("generation".into(), 1.into());
    }
    if has_status(resource)
        && !core(resource, "nodes")
        && let Some(fields) = object.as_object_mut()
    {
        fields.remove("status");
    }
    if is_definition(resource) {
        definition::prepare_create(object);
    }
    if is_signing_request(resource) {
        certificate::prepare_create(object, user);
    }
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default().to_owned();
    defaults::prepare_create(&resource.def.gvr.group, &resource.def.kind, &uid, object);
}

/// Puts back what the written part does not own.
pub fn keep_other_parts(resource: &Resource, part: Part<'_>, new: &mut Value, old: &Value) {
    let (Some(fields), Some(stored)) = (new.as_object_mut(), old.as_object()) else { return };
    if is_signing_request(resource) {
        certificate::keep_other_parts(part, fields, stored);
    }
    match part {
        Part::Main if has_status(resource) => put_back(fields, stored, "status"),
        Part::Subresource(name) if core(resource, "pods") => pod::keep_other_parts(name, fields, stored),
        Part::Main | Part::Subresource(_) => {}
        Part::Status => {
            let others: Vec<String> = fields
                .keys()
                .chain(stored.keys())
                .filter(|name| !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
                .cloned()
                .collect();
            for name in others {
                put_back(fields, stored, &name);
            }
            keep_metadata(resource, fields, stored);
        }
    }
}

/// Whether an update changed what `metadata.generation` counts.
pub fn is_next_generation(resource: &Resource, new: &Value, old: &Value) -> bool {
    if !counts_generations(resource) {
        return false;
    }
    // Without a subresource for it, the status of a custom resource is a field like any other.
    let counts_status = resource.def.custom && !has_status(resource);
    differs_in_spec(new, old) || (counts_status && new.get("status") != old.get("status"))
}

/// A status update may not move an object to other owners or selectors.
fn keep_metadata(resource: &Resource, fields: &mut Map<String, Value>, stored: &Map<String, Value>) {
    let Some(Value::Object(old)) = stored.get("metadata") else { return };
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        if resource.def.custom {
            // All of it stays, except for whose fields are whose.
            let managers = metadata.remove("managedFields");
            let revision = metadata.remove("resourceVersion");
            *metadata = old.clone();
            for (name, value) in [("managedFields", managers), ("resourceVersion", revision)] {
                match value {
                    Some(value) => metadata.insert(name.to_owned(), value),
                    None => metadata.remove(name),
                };
            }
            return;
        }
        for name in ["labels", "ownerReferences", "finalizers"] {
            put_back(metadata, old, name);
        }
    }
}

fn put_back(fields: &mut Map<String, Value>, stored: &Map<String, Value>, name: &str) {
    match stored.get(name) {
        Some(value) => {
            fields.insert(name.to_owned(), value.clone());
        }
        None => {
            fields.remove(name);
        }
    }
}

/// Hooks of updates, after defaulting.
pub fn prepare_update(resource: &Resource, part: Part<'_>, new: &mut Value, old: &Value) {
    if is_signing_request(resource) {
        certificate::prepare_update(part, new, old, Timestamp::now());
    }
    match part {
        Part::Main => {
            if core(resource, "services") {
                service::release(new, old);
            }
            if is_definition(resource) {
                definition::keep_stored_versions(new);
            }
            defaults::prepare_update(&resource.def.gvr.group, &resource.def.kind, new, old);
        }
        Part::Status if core(resource, "pods") => pod::keep_quality_of_service(new, old),
        Part::Status | Part::Subresource(_) => {}
    }
}

/// Finalizers beyond `metadata.finalizers`.
pub fn spec_finalizers<'a>(resource: &Resource, object: &'a Value) -> Vec<&'a str> {
    if !core(resource, "namespaces") {
        return Vec::new();
    }
    let list = object.pointer("/spec/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// How long a deleted object stays, in seconds. Only pods take time to end.
pub fn grace_seconds(resource: &Resource, object: &Value, asked: Option<i64>) -> i64 {
    if core(resource, "pods") { pod::grace_seconds(object, asked) } else { 0 }
}

/// What the deletion of an object sets in it before it is known whether it goes at once.
pub fn prepare_delete(resource: &Resource, object: &mut Value, now: Timestamp) {
    if is_definition(resource) {
        definition::prepare_delete(object, now);
    }
}

/// Shows in the status that the object is being deleted.
pub fn mark_terminating(resource: &Resource, object: &mut Value) {
    if core(resource, "namespaces")
        && let Some(fields) = object.as_object_mut()
        && let Some(status) = fields.entry("status").or_insert_with(|| json!({})).as_object_mut()
    {
        status.insert("phase".into(), "Terminating".into());
    }
}
