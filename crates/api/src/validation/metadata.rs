//! `metadata`, of every kind.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field::{At, Faults};
use crate::names;

/// All annotations of an object together, keys and values.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// How the objects of a kind may be named.
type NameRule = fn(&str) -> Vec<String>;

fn name_rule(group: &str, kind: &str) -> NameRule {
    match (group, kind) {
        ("", "Service") => names::dns1035_label,
        ("", "Namespace") | ("apps", "StatefulSet") => names::dns1123_label,
        ("rbac.authorization.k8s.io" | "apiregistration.k8s.io" | "certificates.k8s.io", _)
            if kind != "CertificateSigningRequest" =>
        {
            names::path_segment
        }
        ("networking.k8s.io", "IPAddress") => names::ip_address,
        ("", "Event") => names::path_segment,
        _ => names::dns1123_subdomain,
    }
}

pub(super) fn create(group: &str, kind: &str, metadata: &At<'_, '_>, faults: &mut Faults) {
    let rule = name_rule(group, kind);
    let prefix = metadata.get("generateName");
    if !prefix.text().is_empty() {
        faults.named(&prefix, rule(&without_trailing_dash(prefix.text())));
    }
    let name = metadata.get("name");
    if name.text().is_empty() {
        faults.required(&name, "name or generateName is required");
    } else {
        faults.named(&name, rule(name.text()));
    }
    let namespace = metadata.get("namespace");
    if !namespace.text().is_empty() {
        faults.named(&namespace, names::dns1123_label(namespace.text()));
    }
    faults.not_negative(&metadata.get("generation"));
    common(metadata, faults);
}

/// A prefix may end in a dash, as letters follow.
fn without_trailing_dash(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        Some(_) | None => prefix.to_owned(),
    }
}

pub(super) fn update(metadata: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    if before.get("deletionTimestamp").is_set() {
        no_new_finalizers(&metadata.get("finalizers"), &before.get("finalizers"), faults);
    }
    for field in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        // What the client leaves out, the server fills in.
        let now = metadata.get(field);
        if now.is_set() {
            faults.immutable(&now, &before.get(field));
        }
    }
    common(metadata, faults);
}

fn no_new_finalizers(finalizers: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let old: BTreeSet<&str> = before.items().map(|finalizer| finalizer.text()).collect();
    let new: BTreeSet<&str> = finalizers.items().map(|finalizer| finalizer.text()).collect();
    let extra: Vec<String> = new.difference(&old).map(|finalizer| format!("{finalizer:?}")).collect();
    if !extra.is_empty() {
        let found = extra.join(", ");
        let detail = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{found}}}"
        );
        faults.forbidden(finalizers, &detail);
    }
}

/// The finalizers of the kinds of Kubernetes itself must say whose they are. Those of extension kinds
/// and of what extends the API need not: custom ones are warned of instead.
pub(super) fn owned_finalizers(group: &str, metadata: &At<'_, '_>, faults: &mut Faults) {
    const STANDARD: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];
    if matches!(group, "admissionregistration.k8s.io" | "apiextensions.k8s.io") {
        return;
    }
    for finalizer in metadata.get("finalizers").items() {
        let name = finalizer.text();
        let qualified = name.contains('/') || STANDARD.contains(&name);
        if !qualified && names::qualified_name(name).is_empty() {
            faults.invalid(&finalizer, "name is neither a standard finalizer name nor is it fully qualified");
        }
    }
}

/// Of an object inside of another one, which may lack a name.
pub(super) fn embedded(metadata: &At<'_, '_>, faults: &mut Faults) {
    let name = metadata.get("name");
    if !name.text().is_empty() {
        faults.named(&name, names::path_segment(name.text()));
    }
    common(metadata, faults);
}

fn common(metadata: &At<'_, '_>, faults: &mut Faults) {
    labels(&metadata.get("labels"), faults);
    annotations(&metadata.get("annotations"), faults);
    owners(&metadata.get("ownerReferences"), faults);
    finalizers(&metadata.get("finalizers"), faults);
}

/// A map of labels, wherever it stands.
pub(super) fn labels(labels: &At<'_, '_>, faults: &mut Faults) {
    for (key, value) in labels.entries() {
        for message in names::qualified_name(key) {
            faults.invalid_text(labels, key, &message);
        }
        for message in names::label_value(value.as_str().unwrap_or_default()) {
            faults.invalid_value(labels, value, &message);
        }
    }
}

pub(super) fn annotations(annotations: &At<'_, '_>, faults: &mut Faults) {
    let mut size = 0;
    for (key, value) in annotations.entries() {
        for message in names::qualified_name(&key.to_lowercase()) {
            faults.invalid_text(annotations, key, &message);
        }
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_MAX {
        faults.too_long(annotations, ANNOTATIONS_MAX);
    }
}

fn owners(owners: &At<'_, '_>, faults: &mut Faults) {
    let mut controller: Option<String> = None;
    for owner in owners.items() {
        // Upstream reports these at the list, not at the element.
        let version = owner.get("apiVersion").text().rsplit('/').next().unwrap_or_default();
        for (field, missing, detail) in [
            ("apiVersion", version.is_empty(), "version must not be empty"),
            ("kind", owner.get("kind").text().is_empty(), "kind must not be empty"),
            ("name", owner.get("name").text().is_empty(), "name must not be empty"),
            ("uid", owner.get("uid").text().is_empty(), "uid must not be empty"),
        ] {
            if missing {
                faults.invalid_text(&owners.get(field), owner.get(field).text(), detail);
            }
        }
        if owner.get("apiVersion").text() == "v1" && owner.get("kind").text() == "Event" {
            faults.invalid_value(owners, owner.value, "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.get("controller").is_true() {
            let this = format!("{}/{}", owner.get("kind").text(), owner.get("name").text());
            match &controller {
                None => controller = Some(this),
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    faults.invalid(owners, &detail);
                }
            }
        }
    }
}

fn finalizers(finalizers: &At<'_, '_>, faults: &mut Faults) {
    for finalizer in finalizers.items() {
        for message in names::qualified_name(finalizer.text()) {
            faults.invalid_value(finalizers, finalizer.value, &message);
        }
    }
    let has = |name: &str| finalizers.items().any(|finalizer| finalizer.text() == name);
    if has("orphan") && has("foregroundDeletion") {
        faults.invalid(finalizers, "finalizer orphan and foregroundDeletion cannot be both set");
    }
}

/// The first of two equal texts among list elements' fields is fine, the others are duplicates.
pub(super) fn unique<'v>(seen: &mut BTreeSet<&'v str>, at: &At<'v, '_>, faults: &mut Faults) {
    if !at.text().is_empty() && !seen.insert(at.text()) {
        faults.duplicate(at, &Value::from(at.text()));
    }
}
