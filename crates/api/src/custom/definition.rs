//! From a `CustomResourceDefinition` to entries of the resource table.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::structural::SchemaError;
use super::{Conversion, Structural, Version, columns};
use crate::resource::Gvr;
use crate::schema::{Name, Schema, StructuralError};
use crate::table::{
    ResourceDef, SchemaRef, SelectableField, Storage, Subresource, SubresourceRole, Verb, Verbs,
};

/// A definition that cannot be served.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum DefinitionError {
    #[error("spec.versions: version {version}")]
    Schema {
        version: String,
        #[source]
        source: SchemaError,
    },
    #[error("spec.versions: version {version}")]
    Structural {
        version: String,
        #[source]
        source: StructuralError,
    },
    #[error("spec.versions: no version is stored")]
    NoStorage,
}

const STATUS_VERBS: Verbs = Verbs::of(&[Verb::Get, Verb::Patch, Verb::Update]);
const VERBS_WITHOUT_CREATE: Verbs = Verbs::of(&[
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Update,
    Verb::Watch,
]);

/// Whether the condition of a type has the status True.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    let conditions = definition.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|one| one["type"] == condition && one["status"] == "True")
}

/// Where the instances of a definition are stored, without a slash at the end.
pub fn storage_prefix(definition: &Value) -> String {
    let spec = &definition["spec"];
    format!("/registry/{}/{}", text(spec, "group"), text(&spec["names"], "plural"))
}

/// The table entries of every version that a definition serves; none unless it is established.
pub fn entries(definition: &Value) -> Result<Vec<ResourceDef>, DefinitionError> {
    if !is_true(definition, "Established") {
        return Ok(Vec::new());
    }
    let spec = &definition["spec"];
    let versions = list(spec, "versions");
    let stored =
        versions.iter().find(|version| version["storage"] == true).ok_or(DefinitionError::NoStorage)?;
    let all: Vec<String> = versions.iter().map(|version| text(version, "name").to_owned()).collect();
    let selectable = selectable_fields(versions);
    let served = versions.iter().filter(|version| version["served"] == true);
    served
        .map(|version| {
            let shared = Shared {
                definition,
                group: owned(text(spec, "group")),
                stored: owned(text(stored, "name")),
                versions: &all,
                selectable: &selectable,
            };
            shared.entry(version)
        })
        .collect()
}

/// What the versions of one definition have in common.
struct Shared<'a> {
    definition: &'a Value,
    group: Name,
    stored: Name,
    versions: &'a [String],
    selectable: &'a [String],
}

impl Shared<'_> {
    fn entry(&self, version: &Value) -> Result<ResourceDef, DefinitionError> {
        let (spec, names) = (&self.definition["spec"], &self.definition["status"]["acceptedNames"]);
        let name = text(version, "name");
        let resource = owned(text(names, "plural"));
        let gvr = Gvr { group: self.group.clone(), version: owned(name), resource: resource.clone() };
        let kind = owned(text(names, "kind"));
        let details = self.version(version)?;
        let package: Vec<&str> = self.group.rsplit('.').collect();
        let type_name = format!("{}.{name}.{kind}", package.join("."));
        let (schema, id) = Schema::from_structural(&type_name, &details.source)
            .map_err(|source| DefinitionError::Structural { version: name.to_owned(), source })?;
        Ok(ResourceDef {
            list_kind: owned(text(names, "listKind")),
            singular: owned(text(names, "singular")),
            short_names: names_of(names, "shortNames"),
            categories: names_of(names, "categories"),
            namespaced: spec["scope"] == "Namespaced",
            verbs: if details.terminating { VERBS_WITHOUT_CREATE } else { Verbs::ALL },
            subresources: subresources(&gvr, &kind, &version["subresources"]),
            schema: SchemaRef::Custom(Arc::new(schema), id),
            fields: self.fields(version),
            storage: Some(Storage {
                prefix: owned(&storage_prefix(self.definition)),
                stored_as: Gvr { group: self.group.clone(), version: self.stored.clone(), resource },
            }),
            custom: true,
            version: Some(Arc::new(details)),
            kind,
            gvr,
        })
    }

    fn version(&self, version: &Value) -> Result<Version, DefinitionError> {
        let spec = &self.definition["spec"];
        let name = text(version, "name");
        let source = version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default();
        // A version without a schema keeps everything; only definitions from older servers have one.
        let source = match source {
            Value::Object(_) if spec["preserveUnknownFields"] != true => source,
            Value::Object(mut fields) => {
                fields.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
                Value::Object(fields)
            }
            _ => serde_json::json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        };
        let schema = Structural::compile(&source)
            .map_err(|source| DefinitionError::Schema { version: name.to_owned(), source })?;
        Ok(Version {
            definition: text(&self.definition["metadata"], "name").to_owned(),
            name: name.to_owned(),
            schema,
            columns: columns::read(version),
            conversion: conversion(&spec["conversion"]),
            versions: self.versions.to_vec(),
            deprecation: deprecation(&self.group, version, text(&spec["names"], "kind")),
            terminating: is_true(self.definition, "Terminating")
                || self.definition.pointer("/metadata/deletionTimestamp").is_some(),
            rules: None,
            source,
        })
    }

    /// Fields of all versions at the same places; one that this version cannot select has no name.
    fn fields(&self, version: &Value) -> Vec<SelectableField> {
        let own: Vec<&str> =
            list(version, "selectableFields").iter().map(|one| text(one, "jsonPath")).collect();
        let field = |path: &String| {
            let steps = path.trim_start_matches('.');
            SelectableField {
                name: if own.contains(&path.as_str()) { owned(steps) } else { Cow::Borrowed("") },
                path: owned(&steps.replace('.', "/")),
                fallback: None,
                absent: Cow::Borrowed(""),
            }
        };
        self.selectable.iter().map(field).collect()
    }
}

fn selectable_fields(versions: &[Value]) -> Vec<String> {
    let mut paths: Vec<String> = versions
        .iter()
        .flat_map(|version| list(version, "selectableFields"))
        .map(|one| text(one, "jsonPath").to_owned())
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

fn conversion(conversion: &Value) -> Conversion {
    if conversion["strategy"] != "Webhook" {
        return Conversion::None;
    }
    let webhook = &conversion["webhook"];
    let versions = list(webhook, "conversionReviewVersions").iter().filter_map(Value::as_str);
    Conversion::Webhook {
        client: webhook["clientConfig"].clone(),
        review_versions: versions.map(str::to_owned).collect(),
    }
}

fn deprecation(group: &str, version: &Value, kind: &str) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    let own = version.get("deprecationWarning").and_then(Value::as_str);
    Some(own.map_or_else(|| format!("{group}/{} {kind} is deprecated", text(version, "name")), str::to_owned))
}

fn subresources(gvr: &Gvr, kind: &Name, wanted: &Value) -> Vec<Subresource> {
    let mut found = Vec::new();
    if wanted.get("status").is_some_and(|status| !status.is_null()) {
        found.push(Subresource {
            name: Cow::Borrowed("status"),
            role: SubresourceRole::Status,
            verbs: STATUS_VERBS,
            group: gvr.group.clone(),
            version: gvr.version.clone(),
            kind: kind.clone(),
            schema: None,
        });
    }
    if let Some(scale) = wanted.get("scale").filter(|scale| scale.is_object()) {
        let path = |key: &str| owned(text(scale, key).trim_start_matches('.'));
        found.push(Subresource {
            name: Cow::Borrowed("scale"),
            role: SubresourceRole::Scale {
                spec_replicas: path("specReplicasPath"),
                status_replicas: path("statusReplicasPath"),
                selector: Some(path("labelSelectorPath")).filter(|path| !path.is_empty()),
            },
            verbs: STATUS_VERBS,
            group: Cow::Borrowed("autoscaling"),
            version: Cow::Borrowed("v1"),
            kind: Cow::Borrowed("Scale"),
            schema: Some("io.k8s.api.autoscaling.v1.Scale"),
        });
    }
    found
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn owned(text: &str) -> Name {
    Cow::Owned(text.to_owned())
}

fn names_of(names: &Value, key: &str) -> Vec<Name> {
    list(names, key).iter().filter_map(Value::as_str).map(owned).collect()
}
