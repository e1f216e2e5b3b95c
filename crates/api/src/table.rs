//! The resource table: one entry per resource that is served.
//!
//! Built-in resources are data (`table/builtin.rs`); a custom resource definition adds entries of
//! the same type at run time. A [`Table`] is a snapshot: changing it makes another one that shares
//! the entries, so that a request sees one table from its beginning to its end.

mod builtin;
mod verbs;

use std::collections::HashMap;
use std::sync::Arc;

use crate::custom::Version;
use crate::resource::Gvr;
use crate::schema::{self, Name, Schema, TypeId};
pub use verbs::{Verb, Verbs};

/// A served resource in one version.
#[derive(Clone, Debug)]
pub struct ResourceDef {
    pub gvr: Gvr,
    pub kind: Name,
    pub list_kind: Name,
    pub singular: Name,
    pub short_names: Vec<Name>,
    pub categories: Vec<Name>,
    pub namespaced: bool,
    pub verbs: Verbs,
    pub subresources: Vec<Subresource>,
    pub schema: SchemaRef,
    /// Fields that a field selector may name, beyond `metadata.name` and `metadata.namespace`.
    /// Resources that share a storage have equally many, in the same order and with equal sources.
    pub fields: Vec<SelectableField>,
    /// Absent for what is answered without being stored, as reviews are.
    pub storage: Option<Storage>,
    /// Whether a custom resource definition added it.
    pub custom: bool,
    /// What that definition says about this version.
    pub version: Option<Arc<Version>>,
}

/// Where the objects of a resource are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Key prefix without a slash at its end, as `/registry/services/specs`. A key goes on with
    /// `/<namespace>/<name>` or `/<name>`.
    pub prefix: Name,
    /// The version whose JSON is stored; differs from the entry's own where a resource is served
    /// in several versions or groups.
    pub stored_as: Gvr,
}

/// The type of a resource's objects.
#[derive(Clone, Debug)]
pub enum SchemaRef {
    /// A type of [`schema::builtin`].
    Builtin(&'static str),
    /// A custom resource's own.
    Custom(Arc<Schema>, TypeId),
}

/// A subresource and the body that it takes.
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: Name,
    pub role: SubresourceRole,
    pub verbs: Verbs,
    /// Group, version and kind of its body.
    pub group: Name,
    pub version: Name,
    pub kind: Name,
    /// Full name of its body's type in the built-in schema; None when it is the resource's own.
    pub schema: Option<&'static str>,
}

/// What a subresource does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubresourceRole {
    /// Writes `status` only.
    Status,
    /// `autoscaling/v1` Scale over these fields (dotted, without a leading dot).
    Scale { spec_replicas: Name, status_replicas: Name, selector: Option<Name> },
    /// Writes one part of the object, as `namespaces/finalize` and
    /// `certificatesigningrequests/approval`.
    Part,
    /// Creates something beside the object: `binding`, `eviction`, `token`.
    Action,
    /// Reads or streams through the node: `log`, `exec`, `attach`, `portforward`, `proxy`.
    Connect,
}

/// A field that a field selector may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// As it stands in a selector: `spec.nodeName`.
    pub name: Name,
    /// Where it is in the stored version's JSON: names separated by `/`, numbers index lists.
    pub path: Name,
    /// Read where `path` has nothing or the empty string.
    pub fallback: Option<Name>,
    /// The value of an absent field: empty, or `false` and `0` for booleans and numbers.
    pub absent: Name,
}

impl SelectableField {
    /// The field's value in an object, as a selector compares it.
    pub fn read(&self, object: &serde_json::Value) -> String {
        let found = read_path(object, &self.path)
            .filter(|value| !value.is_empty())
            .or_else(|| read_path(object, self.fallback.as_deref()?));
        found.unwrap_or_else(|| self.absent.to_string())
    }
}

fn read_path(object: &serde_json::Value, path: &str) -> Option<String> {
    let mut at = object;
    for step in path.split('/') {
        at = match at {
            serde_json::Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
            other => other.get(step)?,
        };
    }
    match at {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Bool(yes) => Some(yes.to_string()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
    }
}

impl ResourceDef {
    /// The subresource of a name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|one| one.name == name)
    }

    /// The schema of its objects; None where the type of a built-in resource is unknown, which a
    /// test rules out.
    pub fn schema(&self) -> Option<(&Schema, TypeId)> {
        match &self.schema {
            SchemaRef::Builtin(name) => {
                let schema = schema::builtin();
                Some((schema, schema.lookup(name)?))
            }
            SchemaRef::Custom(schema, id) => Some((schema, *id)),
        }
    }

    /// Whether a deletion answers with the object where it is gone at once, and not with a status. Clients
    /// that decode by OpenAPI's types expect exactly this; which resources do is upstream's history.
    pub fn deletion_shows_object(&self) -> bool {
        let resource = &*self.gvr.resource;
        match &*self.gvr.group {
            "" => matches!(
                resource,
                "persistentvolumeclaims"
                    | "persistentvolumes"
                    | "pods"
                    | "podtemplates"
                    | "resourcequotas"
                    | "serviceaccounts"
                    | "services"
            ),
            "resource.k8s.io" => true,
            "storage.k8s.io" => resource != "csistoragecapacities",
            _ => false,
        }
    }

    /// The storage key of one object; None for what is not stored.
    pub fn key(&self, namespace: &str, name: &str) -> Option<String> {
        let prefix = &self.storage.as_ref()?.prefix;
        Some(if self.namespaced {
            format!("{prefix}/{namespace}/{name}")
        } else {
            format!("{prefix}/{name}")
        })
    }
}

/// A group as discovery shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Empty for the core group.
    pub name: Name,
    /// Preferred first.
    pub versions: Vec<Name>,
}

/// A snapshot of everything that is served. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Table {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    /// In order of groups, then versions, then names.
    entries: Vec<Arc<ResourceDef>>,
    groups: Vec<Group>,
    by_gvr: HashMap<Gvr, usize>,
}

impl Table {
    /// The table of the built-in resources.
    pub fn builtin() -> Self {
        Table::of(builtin::entries().into_iter().map(Arc::new).collect())
    }

    fn of(mut entries: Vec<Arc<ResourceDef>>) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for entry in &entries {
            let (group, version) = (&entry.gvr.group, &entry.gvr.version);
            let at = groups.iter().position(|one| one.name == *group).unwrap_or_else(|| {
                groups.push(Group { name: group.clone(), versions: Vec::new() });
                groups.len() - 1
            });
            if !groups[at].versions.contains(version) {
                groups[at].versions.push(version.clone());
            }
        }
        groups.sort_by(|a, b| {
            builtin::group_rank(&a.name).cmp(&builtin::group_rank(&b.name)).then(a.name.cmp(&b.name))
        });
        for group in &mut groups {
            group
                .versions
                .sort_by(|a, b| verbs::version_priority(b).cmp(&verbs::version_priority(a)).then(a.cmp(b)));
        }
        let rank = |entry: &ResourceDef| {
            let group = groups.iter().position(|one| one.name == entry.gvr.group).unwrap_or_default();
            let version =
                groups[group].versions.iter().position(|one| *one == entry.gvr.version).unwrap_or_default();
            (group, version)
        };
        entries.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.gvr.resource.cmp(&b.gvr.resource)));
        let by_gvr = entries.iter().enumerate().map(|(at, entry)| (entry.gvr.clone(), at)).collect();
        Table { inner: Arc::new(Inner { entries, groups, by_gvr }) }
    }

    /// Every entry, in the order of discovery.
    pub fn entries(&self) -> &[Arc<ResourceDef>] {
        &self.inner.entries
    }

    /// Groups in the order of discovery, the core group first.
    pub fn groups(&self) -> &[Group] {
        &self.inner.groups
    }

    pub fn group(&self, name: &str) -> Option<&Group> {
        self.inner.groups.iter().find(|group| group.name == name)
    }

    /// The entries of one group and version.
    pub fn version(&self, group: &str, version: &str) -> impl Iterator<Item = &Arc<ResourceDef>> {
        let matches = move |gvr: &Gvr| gvr.group == group && gvr.version == version;
        self.inner.entries.iter().filter(move |entry| matches(&entry.gvr))
    }

    /// By the three parts of a request path.
    pub fn get(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<ResourceDef>> {
        let gvr = Gvr {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            resource: resource.to_owned().into(),
        };
        self.get_gvr(&gvr)
    }

    pub fn get_gvr(&self, gvr: &Gvr) -> Option<&Arc<ResourceDef>> {
        self.inner.by_gvr.get(gvr).map(|at| &self.inner.entries[*at])
    }

    /// By `apiVersion` and `kind` of an object.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<ResourceDef>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.version(group, version).find(|entry| entry.kind == kind)
    }

    /// By what a person types: plural, singular, kind in lower case, or short name, optionally with
    /// `.group` or `.version.group`. Of several the first in the order of discovery.
    pub fn by_name(&self, name: &str) -> Option<&Arc<ResourceDef>> {
        let name = name.to_ascii_lowercase();
        let (name, rest) = name.split_once('.').unwrap_or((&name, ""));
        let named = |entry: &&Arc<ResourceDef>| {
            entry.gvr.resource == name
                || entry.singular == name
                || entry.short_names.iter().any(|short| short == name)
        };
        let grouped = |entry: &&Arc<ResourceDef>| {
            rest.is_empty()
                || entry.gvr.group == rest
                || rest
                    .split_once('.')
                    .is_some_and(|(version, group)| entry.gvr.version == version && entry.gvr.group == group)
        };
        let found = self.inner.entries.iter().filter(named).find(grouped);
        // Versions of one group are in order of preference, so the first found is the preferred.
        found.or_else(|| {
            self.inner
                .entries
                .iter()
                .filter(named)
                .find(|entry| entry.gvr.group.is_empty() && entry.gvr.version == rest)
        })
    }

    /// A table with an entry added, or replaced where its group, version and resource are known.
    pub fn with(&self, entry: ResourceDef) -> Self {
        let mut entries = self.inner.entries.clone();
        entries.retain(|one| one.gvr != entry.gvr);
        entries.push(Arc::new(entry));
        Table::of(entries)
    }

    /// Whether two snapshots are one and the same.
    pub fn is(&self, other: &Table) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// A table without some entries and with others, at once.
    pub fn change(&self, removed: &[Gvr], added: &[Arc<ResourceDef>]) -> Self {
        let mut entries = self.inner.entries.clone();
        entries.retain(|one| !removed.contains(&one.gvr) && !added.iter().any(|new| new.gvr == one.gvr));
        entries.extend(added.iter().cloned());
        Table::of(entries)
    }

    /// A table without an entry.
    pub fn without(&self, gvr: &Gvr) -> Self {
        let mut entries = self.inner.entries.clone();
        entries.retain(|one| one.gvr != *gvr);
        Table::of(entries)
    }
}

#[cfg(test)]
mod tests;
