//! Custom resource definitions.
//!
//! Kubernetes validates an internal form, into which what all versions have in common is moved up:
//! `spec.validation`, `spec.subresources`, `spec.additionalPrinterColumns`. Its paths are what people see,
//! so that the same form is made here first ([`internal`]).

mod conversion;
mod default_values;
mod names;
mod schema;
mod structure;
mod versions;

use serde_json::{Map, Value};

use super::field::{At, Faults};
use crate::custom::names as approval;
use crate::names::{dns1035_label, dns1123_subdomain};

const APPROVED: &str = "api-approved.kubernetes.io";

/// What holds of a definition at any time.
pub(super) fn content(root: &At<'_, '_>, faults: &mut Faults) {
    let internal = internal(root.value);
    let root = At::root(&internal);
    let (spec, metadata) = (root.get("spec"), root.get("metadata"));
    let names = spec.get("names");
    let name = metadata.get("name");
    if name.text() != format!("{}.{}", names.get("plural").text(), spec.get("group").text()) {
        faults.invalid(&name, "must be spec.names.plural+\".\"+spec.group");
    }
    group(&spec.get("group"), faults);
    faults.one_of(&spec.get("scope"), &["Cluster", "Namespaced"]);
    if spec.get("preserveUnknownFields").is_true() {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                      spec.versions[*].schema instead";
        faults.invalid(&spec.get("preserveUnknownFields"), detail);
    }
    versions::versions(&spec, faults);
    for field in ["plural", "singular", "kind", "listKind"] {
        if names.get(field).text().is_empty() {
            faults.required(&names.get(field), "");
        }
    }
    names::names(&names, faults);
    conversion::conversion(&spec.get("conversion"), faults);
    stored_versions(&root, faults);
}

/// What holds of a new definition.
pub(super) fn create(root: &At<'_, '_>, faults: &mut Faults) {
    check_approval(root, None, faults);
}

/// What a change of a definition may not do.
pub(super) fn update(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    let (names, old_names) = (spec.get("names"), old.get("names"));
    if crate::custom::definition::is_true(before.value, "Established") {
        faults.immutable(&spec.get("scope"), &old.get("scope"));
        faults.immutable(&names.get("kind"), &old_names.get("kind"));
    }
    faults.immutable(&spec.get("group"), &old.get("group"));
    faults.immutable(&names.get("plural"), &old_names.get("plural"));
    check_approval(root, Some(before), faults);
}

/// APIs of Kubernetes' own groups need to be approved; what was stored without stays as it is.
fn check_approval(root: &At<'_, '_>, before: Option<&At<'_, '_>>, faults: &mut Faults) {
    let Some((_, reason, message)) = approval::approval(root.value) else { return };
    let old = before.and_then(|before| approval::approval(before.value)).map(|(_, reason, _)| reason);
    if old == Some(reason) {
        return;
    }
    let (metadata, annotations) = (root.get("metadata"), "annotations");
    let annotations = metadata.get(annotations);
    let annotation = annotations.key(APPROVED);
    match reason {
        "MissingAnnotation" => faults.required(&annotation, &message),
        "InvalidAnnotation" => faults.invalid(&annotation, &message),
        _ => {}
    }
}

fn group(group: &At<'_, '_>, faults: &mut Faults) {
    let messages = dns1123_subdomain(group.text());
    if group.text().is_empty() {
        faults.required(group, "");
    } else if !messages.is_empty() {
        faults.invalid(group, &messages.join(","));
    } else if !group.text().contains('.') {
        faults.invalid(group, "should be a domain with at least one dot");
    }
}

fn stored_versions(root: &At<'_, '_>, faults: &mut Faults) {
    let (status, spec) = (root.get("status"), root.get("spec"));
    let (stored, versions) = (status.get("storedVersions"), spec.get("versions"));
    if stored.is_empty() {
        faults.invalid(&stored, "must have at least one stored version");
        return;
    }
    for version in versions.items().filter(|version| version.get("storage").is_true()) {
        let name = version.get("name").text();
        if !stored.items().any(|one| one.text() == name) {
            faults.invalid(&stored, &format!("must have the storage version {name}"));
        }
    }
    for one in stored.items() {
        if !versions.items().any(|version| version.get("name").text() == one.text()) {
            faults.invalid(&one, "must appear in spec.versions");
        }
    }
}

/// A name of a field in the dot notation.
fn dotted(path: &At<'_, '_>, faults: &mut Faults) -> bool {
    if path.text().is_empty() {
        faults.invalid(path, "must not be empty");
    } else if !path.text().starts_with('.') {
        faults.invalid(path, "must be a simple json path starting with .");
    } else {
        return true;
    }
    false
}

fn label(at: &At<'_, '_>, faults: &mut Faults) {
    let messages = dns1035_label(at.text());
    if !messages.is_empty() {
        faults.invalid(at, &messages.join(","));
    }
}

/// The form that Kubernetes validates.
fn internal(definition: &Value) -> Value {
    let mut definition = definition.clone();
    let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) else { return definition };
    rename_conversion(spec);
    let Some(Value::Array(versions)) = spec.get_mut("versions") else { return definition };
    let mut moved = Map::new();
    for (from, to) in [
        ("schema", "validation"),
        ("subresources", "subresources"),
        ("additionalPrinterColumns", "additionalPrinterColumns"),
        ("selectableFields", "selectableFields"),
    ] {
        let Some(first) = versions.first().and_then(|version| version.get(from)).cloned() else { continue };
        if versions.iter().all(|version| version.get(from) == Some(&first)) {
            for version in versions.iter_mut().filter_map(Value::as_object_mut) {
                version.remove(from);
            }
            moved.insert(to.to_owned(), first);
        }
    }
    spec.extend(moved);
    definition
}

fn rename_conversion(spec: &mut Map<String, Value>) {
    let Some(conversion) = spec.get_mut("conversion").and_then(Value::as_object_mut) else { return };
    let Some(Value::Object(mut webhook)) = conversion.remove("webhook") else { return };
    for (from, to) in
        [("clientConfig", "webhookClientConfig"), ("conversionReviewVersions", "conversionReviewVersions")]
    {
        if let Some(value) = webhook.remove(from) {
            conversion.insert(to.to_owned(), value);
        }
    }
}
