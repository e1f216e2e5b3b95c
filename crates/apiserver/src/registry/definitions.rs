//! Custom resources come and go with their definitions.
//!
//! Called by the feed alone, in the order of the store's events: whoever sees a definition established
//! finds its resources served, also right after a start.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sampan_api::Gvr;
use sampan_api::custom::{self, Version, definition};
use sampan_api::table::ResourceDef;
use serde_json::Value;

use super::{Registry, StartError};
use crate::cache::Filling;
use crate::fields::FieldReader;

/// The prefix of the keys of definitions.
pub(super) const PREFIX: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/";

/// The definitions that are followed, by name.
#[derive(Default)]
pub(super) struct Definitions {
    followed: Mutex<HashMap<String, Followed>>,
}

/// What one definition made of the table.
struct Followed {
    /// Everything of the definition that the table depends on.
    source: Value,
    prefix: String,
    entries: Vec<Arc<ResourceDef>>,
}

/// The name of the definition at a key of the store; None for other keys.
pub(super) fn name_of(key: &str) -> Option<&str> {
    key.strip_prefix(PREFIX)
}

/// The served versions of one definition, with their `apiVersion`.
type ByApiVersion = Vec<(String, Arc<Version>)>;

/// Brings stored objects into the form that their definition asks for now.
#[derive(Default)]
pub(super) struct Normaliser {
    /// By prefix of the keys, sorted.
    versions: Vec<(String, ByApiVersion)>,
}

impl Normaliser {
    fn add(&mut self, followed: &Followed) {
        let versions = followed
            .entries
            .iter()
            .filter_map(|entry| Some((entry.gvr.api_version(), entry.version.clone()?)))
            .collect();
        self.versions.push((format!("{}/", followed.prefix), versions));
    }

    fn sort(&mut self) {
        self.versions.sort_by(|a, b| a.0.cmp(&b.0));
    }

    /// The value as it is read: pruned and with its defaults, where its version is served.
    pub fn value(&self, key: &str, value: &Bytes) -> Bytes {
        let at = self.versions.partition_point(|(prefix, _)| prefix.as_str() <= key);
        let Some((_, versions)) =
            at.checked_sub(1).map(|at| &self.versions[at]).filter(|(prefix, _)| key.starts_with(prefix))
        else {
            return value.clone();
        };
        let Ok(mut object) = serde_json::from_slice::<Value>(value) else { return value.clone() };
        let before = object.clone();
        let version = versions.iter().find(|(version, _)| object["apiVersion"] == version.as_str());
        if let Some((_, version)) = version {
            version.normalise(&mut object);
        }
        if object == before { value.clone() } else { object.to_string().into() }
    }
}

impl Registry {
    /// Serves the definitions of a whole snapshot of the store, and no others.
    pub(super) fn adopt_definitions<'e>(
        &self,
        definitions: impl Iterator<Item = (&'e str, &'e Bytes)>,
    ) -> Normaliser {
        let mut fresh = HashMap::new();
        let mut normaliser = Normaliser::default();
        for (name, value) in definitions {
            if let Some(followed) = self.read_definition(name, value) {
                normaliser.add(&followed);
                fresh.insert(name.to_owned(), followed);
            }
        }
        normaliser.sort();
        let old = std::mem::take(&mut *self.definitions.followed.lock());
        let removed: Vec<Gvr> = old.values().flat_map(Followed::gvrs).collect();
        for (name, old) in &old {
            // What is read as before is shown until it has been read again.
            if !fresh.get(name).is_some_and(|fresh| fresh.reads_like(old)) {
                self.caches.forget(&old.prefix);
            }
        }
        let added: Vec<Arc<ResourceDef>> =
            fresh.values().flat_map(|followed| followed.entries.iter().cloned()).collect();
        self.change_table(&removed, &added, false);
        *self.definitions.followed.lock() = fresh;
        normaliser
    }

    /// Takes over what a definition says now; `None` when it is gone.
    pub(super) async fn follow_definition(
        &self,
        name: &str,
        value: Option<&Bytes>,
    ) -> Result<(), StartError> {
        let fresh = value.and_then(|value| self.read_definition(name, value));
        let old = self.definitions.followed.lock().remove(name);
        let same = match (&old, &fresh) {
            (Some(old), Some(fresh)) => old.source == fresh.source,
            (None, None) => true,
            _ => false,
        };
        if same {
            self.definitions.followed.lock().extend(old.map(|old| (name.to_owned(), old)));
            return Ok(());
        }
        let removed: Vec<Gvr> = old.iter().flat_map(Followed::gvrs).collect();
        match fresh {
            None => {
                self.change_table(&removed, &[], false);
                self.converters.forget(name);
                if let Some(old) = old {
                    self.caches.forget(&old.prefix);
                }
            }
            Some(fresh) => {
                let keeps = old.as_ref().is_some_and(|old| fresh.differs_in_life_only(old));
                if !old.is_some_and(|old| fresh.reads_like(&old)) {
                    self.fill_cache(&fresh).await?;
                }
                self.change_table(&removed, &fresh.entries, keeps);
                self.definitions.followed.lock().insert(name.to_owned(), fresh);
            }
        }
        Ok(())
    }

    /// Reads what is stored of a definition's objects.
    async fn fill_cache(&self, followed: &Followed) -> Result<(), StartError> {
        let snapshot = self.stored(&format!("{}/", followed.prefix)).await?;
        let mut normaliser = Normaliser::default();
        normaliser.add(followed);
        // What is stored has the fields of its own version; no header has those of the others.
        let is_stored = |entry: &&Arc<ResourceDef>| {
            entry.storage.as_ref().is_some_and(|storage| storage.stored_as == entry.gvr)
        };
        let stored = followed.entries.iter().find(is_stored);
        let fields = stored.map(|entry| entry.fields.clone()).unwrap_or_default();
        let cache = self.caches.replace(&followed.prefix, FieldReader::new(fields));
        let start = followed.prefix.len() + 1;
        let mut filling = Filling::default();
        for entry in &snapshot.entries {
            let value = normaliser.value(&entry.key, &entry.value);
            cache.read_into(&mut filling, &entry.key[start..], &value, entry.revision)?;
        }
        cache.fill(filling, snapshot.revision);
        Ok(())
    }

    /// `keeps` is whether the resources stay what they are, so that their watches go on.
    fn change_table(&self, removed: &[Gvr], added: &[Arc<ResourceDef>], keeps: bool) {
        let mut table = self.table.write();
        *table = table.change(removed, added);
        if keeps {
            let mut resources = self.resources.write();
            for entry in added {
                if let Some(served) = resources.get_mut(&entry.gvr) {
                    served.resource.def = entry.clone();
                }
            }
            return;
        }
        {
            let mut resources = self.resources.write();
            removed.iter().for_each(|gvr| {
                resources.remove(gvr);
            });
        }
        added.iter().for_each(|entry| self.serve(entry.clone()));
    }

    /// What a definition serves; None where that is nothing.
    fn read_definition(&self, name: &str, value: &Bytes) -> Option<Followed> {
        let stored: Value = serde_json::from_slice(value).ok()?;
        let entries = match custom::entries(&stored) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(definition = name, error = &error as &dyn std::error::Error, "not served");
                return None;
            }
        };
        let table = self.table();
        let is_builtin = |entry: &ResourceDef| {
            table.entries().iter().any(|one| {
                !one.custom && one.gvr.group == entry.gvr.group && one.gvr.resource == entry.gvr.resource
            })
        };
        let with_rules = |mut entry: ResourceDef| {
            if let Some(version) = entry.version.as_mut().map(Arc::make_mut) {
                version.rules = crate::custom::rules::of(version);
            }
            Arc::new(entry)
        };
        let entries: Vec<_> =
            entries.into_iter().filter(|entry| !is_builtin(entry)).map(with_rules).collect();
        let first = entries.first()?;
        let terminating = first.version.as_ref().is_some_and(|version| version.terminating);
        Some(Followed {
            source: serde_json::json!({
                "spec": stored["spec"], "names": stored["status"]["acceptedNames"], "terminating": terminating,
            }),
            prefix: definition::storage_prefix(&stored),
            entries,
        })
    }
}

impl Followed {
    fn gvrs(&self) -> impl Iterator<Item = Gvr> {
        self.entries.iter().map(|entry| entry.gvr.clone())
    }

    /// Whether one of them is being deleted, and that is all.
    fn differs_in_life_only(&self, other: &Followed) -> bool {
        ["spec", "names"].into_iter().all(|part| self.source[part] == other.source[part])
    }

    /// Whether stored objects read the same under both: same schemas, same selectable fields.
    fn reads_like(&self, other: &Followed) -> bool {
        self.prefix == other.prefix
            && self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).all(|(new, old)| {
                let source =
                    |entry: &ResourceDef| entry.version.as_ref().map(|version| version.source.clone());
                new.gvr == old.gvr && new.fields == old.fields && source(new) == source(old)
            })
    }
}
