//! Discovery: what a server tells about the groups, versions and resources that it serves.
//!
//! Two generations of documents are made from the resource table: one per group and version
//! (`/api`, `/apis`, `/apis/<group>`, `/apis/<group>/<version>`), and the aggregated ones that
//! clients since Kubernetes 1.26 ask for in `Accept` and that answer everything at `/api` and
//! `/apis`. All functions are pure; whoever serves the documents caches them per table.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::resource::Gvr;
use crate::table::{Group, ResourceDef, Subresource, Table, Verbs};

/// Which generation of documents a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A document per group and version.
    Legacy,
    /// `apidiscovery.k8s.io/v2`.
    AggregatedV2,
    /// `apidiscovery.k8s.io/v2beta1`.
    AggregatedV2Beta1,
}

impl Format {
    /// The first acceptable one of an `Accept` header; the legacy form where it names none.
    pub fn negotiate(accept: &str) -> Self {
        accept.split(',').find_map(Format::of_media_type).unwrap_or(Format::Legacy)
    }

    fn of_media_type(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next()?;
        let (mut group, mut version, mut kind) = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("g", value)) => group = value,
                Some(("v", value)) => version = value,
                Some(("as", value)) => kind = value,
                Some(_) | None => {}
            }
        }
        match (media_type, group, version, kind) {
            ("application/json", "apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList") => {
                Some(Format::AggregatedV2)
            }
            ("application/json", "apidiscovery.k8s.io", "v2beta1", "APIGroupDiscoveryList") => {
                Some(Format::AggregatedV2Beta1)
            }
            ("application/json" | "application/*" | "*/*", "", "", "") => Some(Format::Legacy),
            _ => None,
        }
    }

    /// The `Content-Type` of a document of this form.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Legacy => "application/json",
            Format::AggregatedV2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Format::AggregatedV2Beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }
}

/// The two places where aggregated documents are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `/api`: the core group.
    Core,
    /// `/apis`: every other group.
    Groups,
}

/// `/api`: the versions of the core group. `server_address` is `host:port` as clients reach it.
pub fn api_versions(table: &Table, server_address: &str) -> Vec<u8> {
    let versions = table.group("").map(|group| group.versions.clone()).unwrap_or_default();
    bytes(&json!({
        "kind": "APIVersions",
        "versions": versions,
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    }))
}

/// `/apis`: every group but the core one.
pub fn group_list(table: &Table) -> Vec<u8> {
    let groups: Vec<Value> =
        table.groups().iter().filter(|group| !group.name.is_empty()).map(group_value).collect();
    bytes(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
}

/// `/apis/<group>`; None for a group that is not served.
pub fn group(table: &Table, name: &str) -> Option<Vec<u8>> {
    let mut value = group_value(table.group(name).filter(|group| !group.name.is_empty())?);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(bytes(&value))
}

/// `/api/v1` and `/apis/<group>/<version>`; None for a version that is not served.
pub fn resource_list(table: &Table, group: &str, version: &str) -> Option<Vec<u8>> {
    let mut resources = Vec::new();
    for entry in table.version(group, version) {
        resources.push(resource_value(entry));
        let mut subresources: Vec<&Subresource> = entry.subresources.iter().collect();
        subresources.sort_by(|a, b| a.name.cmp(&b.name));
        resources.extend(subresources.into_iter().map(|one| subresource_value(entry, one)));
    }
    if resources.is_empty() {
        return None;
    }
    Some(bytes(&json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version(group, version),
        "resources": resources,
    })))
}

/// `/api` or `/apis` in an aggregated form; the legacy form has no such document.
pub fn aggregated(table: &Table, root: Root, format: Format) -> Option<Vec<u8>> {
    let api_version = match format {
        Format::Legacy => return None,
        Format::AggregatedV2 => "apidiscovery.k8s.io/v2",
        Format::AggregatedV2Beta1 => "apidiscovery.k8s.io/v2beta1",
    };
    let wanted = |group: &&Group| group.name.is_empty() == (root == Root::Core);
    let items: Vec<Value> =
        table.groups().iter().filter(wanted).map(|group| group_discovery_value(table, group)).collect();
    Some(bytes(
        &json!({"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items}),
    ))
}

/// Changes when the version in which a kind is stored changes; clients compare it only.
pub fn storage_version_hash(stored_as: &Gvr, kind: &str) -> String {
    let digest = Sha256::digest(format!("{}/{}/{kind}", stored_as.group, stored_as.version));
    STANDARD.encode(&digest[..8])
}

fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn verbs_value(verbs: Verbs) -> Value {
    verbs.iter().map(|verb| verb.as_str()).collect()
}

fn group_value(group: &Group) -> Value {
    let version_value =
        |version: &str| json!({"groupVersion": api_version(&group.name, version), "version": version});
    let versions: Vec<Value> = group.versions.iter().map(|version| version_value(version)).collect();
    json!({"name": group.name, "preferredVersion": versions.first(), "versions": versions})
}

fn resource_value(entry: &ResourceDef) -> Value {
    let mut value = json!({
        "name": entry.gvr.resource,
        "singularName": entry.singular,
        "namespaced": entry.namespaced,
        "kind": entry.kind,
        "verbs": verbs_value(entry.verbs),
    });
    if !entry.short_names.is_empty() {
        value["shortNames"] = json!(entry.short_names);
    }
    if !entry.categories.is_empty() {
        value["categories"] = json!(entry.categories);
    }
    if let Some(storage) = &entry.storage {
        value["storageVersionHash"] = storage_version_hash(&storage.stored_as, &entry.kind).into();
    }
    value
}

fn subresource_value(entry: &ResourceDef, subresource: &Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", entry.gvr.resource, subresource.name),
        "singularName": "",
        "namespaced": entry.namespaced,
        "kind": subresource.kind,
        "verbs": verbs_value(subresource.verbs),
    });
    if (&subresource.group, &subresource.version) != (&entry.gvr.group, &entry.gvr.version) {
        value["group"] = json!(subresource.group);
        value["version"] = json!(subresource.version);
    }
    value
}

fn group_discovery_value(table: &Table, group: &Group) -> Value {
    let mut metadata = json!({"creationTimestamp": null});
    if !group.name.is_empty() {
        metadata["name"] = json!(group.name);
    }
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| {
            let resources: Vec<Value> =
                table.version(&group.name, version).map(|entry| resource_discovery_value(entry)).collect();
            json!({"version": version, "resources": resources, "freshness": "Current"})
        })
        .collect();
    json!({"metadata": metadata, "versions": versions})
}

fn resource_discovery_value(entry: &ResourceDef) -> Value {
    let gvr = &entry.gvr;
    let mut value = json!({
        "resource": gvr.resource,
        "responseKind": {"group": gvr.group, "version": gvr.version, "kind": entry.kind},
        "scope": if entry.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": entry.singular,
        "verbs": verbs_value(entry.verbs),
    });
    if !entry.short_names.is_empty() {
        value["shortNames"] = json!(entry.short_names);
    }
    if !entry.categories.is_empty() {
        value["categories"] = json!(entry.categories);
    }
    if !entry.subresources.is_empty() {
        let mut subresources: Vec<&Subresource> = entry.subresources.iter().collect();
        subresources.sort_by(|a, b| a.name.cmp(&b.name));
        let subresource_value = |one: &Subresource| {
            json!({
                "subresource": one.name,
                "responseKind": {"group": one.group, "version": one.version, "kind": one.kind},
                "verbs": verbs_value(one.verbs),
            })
        };
        value["subresources"] = subresources.into_iter().map(subresource_value).collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("JSON")
    }

    #[test]
    fn accept_headers_are_negotiated() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let v2beta1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        for (accept, format) in [
            ("", Format::Legacy),
            ("*/*", Format::Legacy),
            ("application/json", Format::Legacy),
            (v2, Format::AggregatedV2),
            (v2beta1, Format::AggregatedV2Beta1),
            (&format!("application/json, {v2}"), Format::Legacy),
            (&format!("{v2},{v2beta1},application/json"), Format::AggregatedV2),
            (&format!("application/vnd.kubernetes.protobuf, {v2beta1}"), Format::AggregatedV2Beta1),
            ("application/json;g=apidiscovery.k8s.io;v=v3;as=APIGroupDiscoveryList", Format::Legacy),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept}");
        }
    }

    #[test]
    fn legacy_documents() {
        let table = Table::builtin();
        assert_eq!(parse(&api_versions(&table, "a:1"))["versions"], json!(["v1"]));
        let groups = parse(&group_list(&table));
        assert_eq!(groups["groups"].as_array().map(Vec::len), Some(20));
        let autoscaling = parse(&group(&table, "autoscaling").expect("a group"));
        assert_eq!(autoscaling["preferredVersion"]["groupVersion"], "autoscaling/v2");
        assert!(group(&table, "").is_none() && group(&table, "x").is_none());
        let core = parse(&resource_list(&table, "", "v1").expect("a version"));
        let find = |name: &str| {
            core["resources"]
                .as_array()
                .and_then(|all| all.iter().find(|one| one["name"] == name))
                .expect("listed")
        };
        assert_eq!(core["groupVersion"], "v1");
        assert_eq!(find("configmaps")["storageVersionHash"], "qFsyl6wFWjQ=");
        assert_eq!(find("pods")["shortNames"], json!(["po"]));
        assert_eq!(find("pods/eviction")["group"], "policy");
        assert_eq!(find("pods/log")["verbs"], json!(["get"]));
        assert!(find("bindings").get("storageVersionHash").is_none());
        assert!(resource_list(&table, "apps", "v2").is_none());
    }

    #[test]
    fn aggregated_documents() {
        let table = Table::builtin();
        let core = parse(&aggregated(&table, Root::Core, Format::AggregatedV2).expect("a document"));
        assert_eq!(core["items"].as_array().map(Vec::len), Some(1));
        assert_eq!(core["items"][0]["versions"][0]["resources"].as_array().map(Vec::len), Some(17));
        let groups = parse(&aggregated(&table, Root::Groups, Format::AggregatedV2Beta1).expect("a document"));
        assert_eq!(groups["apiVersion"], "apidiscovery.k8s.io/v2beta1");
        assert_eq!(groups["items"].as_array().map(Vec::len), Some(20));
        assert!(aggregated(&table, Root::Core, Format::Legacy).is_none());
    }
}
