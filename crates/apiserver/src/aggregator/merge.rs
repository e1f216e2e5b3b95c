//! Our documents with what remote servers say of themselves. Pure functions of JSON.

use std::cmp::Reverse;
use std::sync::Arc;

use bytes::Bytes;
use sampan_api::discovery::Format;
use serde_json::{Map, Value, json};

/// One remote group and version.
#[derive(Clone, Debug, Default)]
pub struct Described {
    pub group: String,
    pub version: String,
    pub group_priority: i64,
    pub version_priority: i64,
    pub available: bool,
    /// Its `APIResourceList`.
    pub resources: Option<Arc<Value>>,
    /// Its document of OpenAPI v3.
    pub v3: Option<Bytes>,
    /// Its document of OpenAPI v2, of which only its own paths count.
    pub v2: Option<Arc<Value>>,
}

impl Described {
    pub(super) fn order(&self) -> (Reverse<i64>, &str, Reverse<i64>, &str) {
        (Reverse(self.group_priority), &self.group, Reverse(self.version_priority), &self.version)
    }

    fn group_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// `apis/<group>/<version>`.
    fn path(&self) -> String {
        format!("apis/{}", self.group_version())
    }
}

/// The document at a path, given ours (none where we do not serve it).
pub fn document(path: &str, format: Format, ours: Option<Vec<u8>>, remotes: &[Described]) -> Option<Vec<u8>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let edit = |ours: Option<Vec<u8>>, change: &dyn Fn(&mut Value)| -> Option<Vec<u8>> {
        let mut value: Value = serde_json::from_slice(&ours?).ok()?;
        change(&mut value);
        Some(value.to_string().into_bytes())
    };
    match (parts.as_slice(), format) {
        (["apis"], Format::Legacy) => edit(ours, &|list| add_groups(list, remotes)),
        (["apis"], _) => edit(ours, &|list| add_discovery(list, remotes)),
        (["apis", group], _) => {
            let of_group: Vec<&Described> = remotes.iter().filter(|one| one.group == *group).collect();
            if of_group.is_empty() {
                return ours;
            }
            let mut value = match ours {
                Some(ours) => serde_json::from_slice(&ours).ok()?,
                None => json!({"kind": "APIGroup", "apiVersion": "v1", "name": group, "versions": []}),
            };
            of_group.into_iter().for_each(|one| add_version(&mut value, one));
            Some(value.to_string().into_bytes())
        }
        (["apis", group, version], _) if ours.is_none() => {
            let remote = remotes.iter().find(|one| one.group == *group && one.version == *version)?;
            Some(remote.resources.as_ref()?.to_string().into_bytes())
        }
        (["openapi", "v3"], _) => edit(ours, &|root| add_v3(root, remotes)),
        (["openapi", "v3", "apis", group, version], _) => {
            let remote = remotes.iter().find(|one| one.group == *group && one.version == *version);
            remote.map_or(ours, |remote| remote.v3.as_ref().map(|document| document.to_vec()))
        }
        (["openapi", "v2"], _) => edit(ours, &|document| add_v2(document, remotes)),
        _ => ours,
    }
}

/// `APIGroupList`.
fn add_groups(list: &mut Value, remotes: &[Described]) {
    let Some(groups) = list["groups"].as_array_mut() else { return };
    for remote in remotes {
        let at = groups.iter().position(|group| group["name"] == *remote.group).unwrap_or_else(|| {
            groups.push(json!({"name": remote.group, "versions": []}));
            groups.len() - 1
        });
        add_version(&mut groups[at], remote);
    }
}

/// `APIGroup`: the versions that it has come first.
fn add_version(group: &mut Value, remote: &Described) {
    let version = json!({"groupVersion": remote.group_version(), "version": remote.version});
    if let Some(versions) = group["versions"].as_array_mut()
        && !versions.contains(&version)
    {
        versions.push(version.clone());
    }
    if group["preferredVersion"].is_null() {
        group["preferredVersion"] = version;
    }
}

/// `APIGroupDiscoveryList`.
fn add_discovery(list: &mut Value, remotes: &[Described]) {
    let Some(items) = list["items"].as_array_mut() else { return };
    for remote in remotes {
        let at =
            items.iter().position(|item| item["metadata"]["name"] == *remote.group).unwrap_or_else(|| {
                items.push(
                    json!({"metadata": {"name": remote.group, "creationTimestamp": null}, "versions": []}),
                );
                items.len() - 1
            });
        let Some(versions) = items[at]["versions"].as_array_mut() else { continue };
        versions.retain(|version| version["version"] != *remote.version);
        let freshness = if remote.available { "Current" } else { "Stale" };
        versions.push(json!({"version": remote.version, "resources": discovery_resources(remote), "freshness": freshness}));
    }
}

/// The resources of an `APIResourceList` in the form of aggregated discovery.
fn discovery_resources(remote: &Described) -> Vec<Value> {
    let list = remote.resources.as_deref().and_then(|list| list["resources"].as_array());
    let list = list.map(Vec::as_slice).unwrap_or_default();
    let name = |one: &Value| one["name"].as_str().unwrap_or_default().to_owned();
    let kind = |one: &Value| {
        let part = |field: &str, fallback: &str| {
            one[field].as_str().filter(|text| !text.is_empty()).unwrap_or(fallback).to_owned()
        };
        json!({"group": part("group", &remote.group), "version": part("version", &remote.version), "kind": one["kind"]})
    };
    let mut resources = Vec::new();
    for one in list.iter().filter(|one| !name(one).contains('/')) {
        let scope = if one["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut resource = json!({"resource": one["name"], "responseKind": kind(one), "scope": scope,
            "singularResource": one["singularName"], "verbs": one["verbs"]});
        for field in ["shortNames", "categories"] {
            if one[field].is_array() {
                resource[field] = one[field].clone();
            }
        }
        let prefix = format!("{}/", name(one));
        let subresources: Vec<Value> = list
            .iter()
            .filter_map(|sub| Some((name(sub).strip_prefix(&prefix)?.to_owned(), sub)))
            .map(|(sub, one)| json!({"subresource": sub, "responseKind": kind(one), "verbs": one["verbs"]}))
            .collect();
        if !subresources.is_empty() {
            resource["subresources"] = subresources.into();
        }
        resources.push(resource);
    }
    resources
}

fn add_v3(root: &mut Value, remotes: &[Described]) {
    for remote in remotes {
        let path = remote.path();
        let Some(document) = &remote.v3 else { continue };
        let digest = ring::digest::digest(&ring::digest::SHA256, document);
        let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        root["paths"][&path] = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")});
    }
}

/// Paths below a remote server's own, and the types that we do not know ourselves.
pub fn add_v2(document: &mut Value, remotes: &[Described]) {
    for remote in remotes {
        let Some(theirs) = &remote.v2 else { continue };
        let path = format!("/{}", remote.path());
        let own = |candidate: &str| {
            candidate.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        merge(document, theirs, "paths", own);
        merge(document, theirs, "definitions", |_| true);
    }
}

fn merge(ours: &mut Value, theirs: &Value, field: &str, wanted: impl Fn(&str) -> bool) {
    if !ours[field].is_object() {
        ours[field] = Value::Object(Map::new());
    }
    let (Some(ours), Some(theirs)) = (ours[field].as_object_mut(), theirs[field].as_object()) else { return };
    for (key, value) in theirs.iter().filter(|(key, _)| wanted(key)) {
        ours.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Described {
        Described {
            group: "g.example".into(),
            version: "v1".into(),
            available: true,
            resources: Some(Arc::new(json!({"resources": [
                {"name": "roses", "singularName": "rose", "namespaced": true, "kind": "Rose", "verbs": ["get"], "shortNames": ["ro"]},
                {"name": "roses/status", "namespaced": true, "kind": "Rose", "verbs": ["update"]},
            ]}))),
            v3: Some("{}".into()),
            v2: Some(Arc::new(json!({"paths": {"/apis/g.example/v1/roses": {"a": 1}, "/apis/other": {}},
                "definitions": {"Rose": {}, "Known": {"theirs": 1}}}))),
            ..Described::default()
        }
    }

    fn check(path: &str, format: Format, ours: Option<Value>, expected: Value) {
        let ours = ours.map(|value| value.to_string().into_bytes());
        let merged = document(path, format, ours, &[remote()]).expect("a document");
        assert_eq!(serde_json::from_slice::<Value>(&merged).expect("JSON"), expected, "{path}");
    }

    #[test]
    fn remote_versions_are_discovered_with_ours() {
        let version = json!({"groupVersion": "g.example/v1", "version": "v1"});
        let group = json!({"name": "g.example", "versions": [version], "preferredVersion": version});
        check(
            "/apis",
            Format::Legacy,
            Some(json!({"groups": [{"name": "apps"}]})),
            json!({"groups": [{"name": "apps"}, group]}),
        );
        let mut alone = group.clone();
        alone["kind"] = "APIGroup".into();
        alone["apiVersion"] = "v1".into();
        check("/apis/g.example", Format::Legacy, None, alone);
        let kind = json!({"group": "g.example", "version": "v1", "kind": "Rose"});
        let resource = json!({"resource": "roses", "responseKind": kind, "scope": "Namespaced", "singularResource": "rose",
            "verbs": ["get"], "shortNames": ["ro"],
            "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["update"]}]});
        check(
            "/apis",
            Format::AggregatedV2,
            Some(json!({"items": []})),
            json!({"items": [{
            "metadata": {"name": "g.example", "creationTimestamp": null},
            "versions": [{"version": "v1", "resources": [resource], "freshness": "Current"}]}]}),
        );
    }

    #[test]
    fn openapi_gets_their_paths_and_types_and_keeps_ours() {
        check(
            "/openapi/v2",
            Format::Legacy,
            Some(json!({"paths": {"/a": {}}, "definitions": {"Known": {"ours": 1}}})),
            json!({"paths": {"/a": {}, "/apis/g.example/v1/roses": {"a": 1}}, "definitions": {"Known": {"ours": 1}, "Rose": {}}}),
        );
        check("/openapi/v3/apis/g.example/v1", Format::Legacy, None, json!({}));
        let root = document("/openapi/v3", Format::Legacy, Some(b"{\"paths\":{}}".to_vec()), &[remote()])
            .expect("a document");
        assert!(String::from_utf8_lossy(&root).contains("/openapi/v3/apis/g.example/v1?hash=44136FA3"));
    }
}
