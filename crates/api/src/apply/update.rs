//! How ownership moves: what an update takes, what an apply claims, gives up and prunes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::extract::field_set;
use super::managed::{Managed, Manager, Owned};
use super::merge::merge;
use super::path::Element;
use super::remove::remove;
use super::set::{FieldSet, fields};
use super::typed::{ItemError, Typed};

/// Fields that the server sets, and that tell which object it is: owned by nobody.
static STRIPPED: LazyLock<FieldSet> = LazyLock::new(|| {
    fields([
        "apiVersion",
        "kind",
        "metadata.name",
        "metadata.namespace",
        "metadata.creationTimestamp",
        "metadata.selfLink",
        "metadata.uid",
        "metadata.clusterName",
        "metadata.generation",
        "metadata.managedFields",
        "metadata.resourceVersion",
    ])
});

/// The metadata itself is owned by nobody either; what is in it is.
static METADATA: LazyLock<FieldSet> = LazyLock::new(|| fields(["metadata"]));

/// The versions of a kind, for managers that wrote at another one than the request's.
pub trait Versions {
    /// The type of the kind at a version, as `apps/v1`; None where it is not served.
    fn typed(&self, api_version: &str) -> Option<Typed<'_>>;

    /// An object of one version in another; None where that is not served.
    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>>;

    /// Fields that a write at this place does not change, whoever sends them, at a version.
    fn ignored(&self, api_version: &str) -> FieldSet;
}

/// A field that another manager owns and the applied configuration would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub manager: Manager,
    pub path: Vec<Element>,
}

/// Why owners could not be worked out.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpdateError {
    #[error(transparent)]
    Item(#[from] ItemError),
    #[error("{0} is not served")]
    Version(String),
    #[error("{} conflicts", .0.len())]
    Conflicts(Vec<Conflict>),
}

/// Two states of an object at a version.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub versions: &'a dyn Versions,
    pub api_version: &'a str,
}

impl<'a> Step<'a> {
    fn typed(&self) -> Result<Typed<'a>, UpdateError> {
        self.versions.typed(self.api_version).ok_or_else(|| UpdateError::Version(self.api_version.to_owned()))
    }

    /// Leaves out the fields that nobody owns at this place.
    fn owned(&self, comparison: Comparison, api_version: &str) -> Comparison {
        comparison.without(&STRIPPED).without(&self.versions.ignored(api_version))
    }

    /// Gives a manager what it changed between two states, and takes it from all others. Returns
    /// whether there was anything to take.
    pub fn update(
        &self,
        old: &Value,
        new: &Value,
        managed: &mut Managed,
        manager: &Manager,
    ) -> Result<bool, UpdateError> {
        let typed = self.typed()?;
        let comparison = self.owned(compare(typed, old, new)?, self.api_version);
        if comparison.is_same() {
            return Ok(false);
        }
        self.reconcile(managed);
        self.take(old, new, &comparison, managed, manager, true)?;
        let before = managed.entries.remove(manager);
        let time = before.as_ref().and_then(|owned| owned.time.clone());
        let mut fields = before.map(|owned| owned.fields).unwrap_or_default();
        fields.subtract(&comparison.removed);
        let mut taken = comparison.into_changed();
        taken.subtract(&METADATA);
        let took = !taken.is_empty();
        fields.merge(taken);
        if !fields.is_empty() {
            let owned = Owned { fields, api_version: self.api_version.to_owned(), time };
            managed.entries.insert(manager.clone(), owned);
        }
        Ok(took)
    }

    /// Merges a configuration into the live object, prunes what its manager no longer mentions, and
    /// settles ownership. The live object carries no `managedFields`.
    pub fn apply(
        &self,
        live: &Value,
        config: &Value,
        managed: &mut Managed,
        manager: &Manager,
        force: bool,
    ) -> Result<Value, UpdateError> {
        let typed = self.typed()?;
        self.reconcile(managed);
        let merged = merge(typed, live, config)?;
        let mut fields = field_set(typed, config)?;
        fields.subtract_recursively(&self.versions.ignored(self.api_version));
        // What everybody writes and nobody owns holds the metadata in its place while the rest is pruned.
        fields.merge(METADATA.clone());
        let last = managed.entries.remove(manager);
        let time = last.as_ref().and_then(|last| last.time.clone());
        managed
            .entries
            .insert(manager.clone(), Owned { fields, api_version: self.api_version.to_owned(), time });
        let object = match last.filter(|last| !last.fields.is_empty()) {
            Some(last) => {
                let pruned = self.prune(merged, managed, &last)?;
                // What the configuration has empty stays, also when all that was in it went.
                if has_empty(config) { merge(typed, &pruned, config)? } else { pruned }
            }
            None => merged,
        };
        if let Some(owned) = managed.entries.get_mut(manager) {
            owned.fields.subtract_recursively(&STRIPPED);
            owned.fields.subtract(&METADATA);
        }
        let comparison = self.owned(compare(typed, live, &object)?, self.api_version);
        self.take(live, &object, &comparison, managed, manager, force)?;
        Ok(object)
    }

    /// Takes what changed from all managers but one. Without force, what they own and would lose is
    /// a conflict.
    fn take(
        &self,
        old: &Value,
        new: &Value,
        comparison: &Comparison,
        managed: &mut Managed,
        manager: &Manager,
        force: bool,
    ) -> Result<(), UpdateError> {
        let mut elsewhere: BTreeMap<&str, Option<Comparison>> = BTreeMap::new();
        let mut conflicts = Vec::new();
        let mut left: Vec<(Manager, FieldSet)> = Vec::new();
        for (other, owned) in &managed.entries {
            if other == manager {
                continue;
            }
            let version = owned.api_version.as_str();
            if version != self.api_version && !elsewhere.contains_key(version) {
                elsewhere.insert(version, self.compare_at(version, old, new)?);
            }
            let there =
                if version == self.api_version { Some(comparison) } else { elsewhere[version].as_ref() };
            // Who wrote at a version that is no longer served owns nothing.
            let Some(there) = there else {
                left.push((other.clone(), FieldSet::default()));
                continue;
            };
            let mut lost = owned.fields.intersection(&there.modified);
            lost.merge(owned.fields.intersection(&there.added));
            conflicts.extend(lost.paths().into_iter().map(|path| Conflict { manager: other.clone(), path }));
            if !lost.is_empty() || !there.removed.is_empty() {
                let mut kept = owned.fields.clone();
                kept.subtract(&lost);
                kept.subtract(&there.removed);
                left.push((other.clone(), kept));
            }
        }
        if !force && !conflicts.is_empty() {
            return Err(UpdateError::Conflicts(conflicts));
        }
        for (other, kept) in left {
            if let Some(owned) = managed.entries.get_mut(&other) {
                owned.fields = kept;
            }
        }
        managed.entries.retain(|_, owned| !owned.fields.is_empty());
        Ok(())
    }

    fn compare_at(&self, version: &str, old: &Value, new: &Value) -> Result<Option<Comparison>, UpdateError> {
        let (Some(typed), Some(old), Some(new)) =
            (self.versions.typed(version), self.convert(old, version), self.convert(new, version))
        else {
            return Ok(None);
        };
        Ok(Some(self.owned(compare(typed, &old, &new)?, version)))
    }

    fn convert<'v>(&self, object: &'v Value, to: &str) -> Option<Cow<'v, Value>> {
        if to == self.api_version {
            return Some(Cow::Borrowed(object));
        }
        self.versions.convert(object, self.api_version, to)
    }

    /// Follows types whose lists or maps became atomic since they were owned.
    fn reconcile(&self, managed: &mut Managed) {
        for owned in managed.entries.values_mut() {
            if let Some(typed) = self.versions.typed(&owned.api_version) {
                owned.fields.reconcile(typed);
            }
        }
    }

    /// Removes what the manager applied last time, unless it or anybody else still owns it.
    fn prune(&self, merged: Value, managed: &Managed, last: &Owned) -> Result<Value, UpdateError> {
        let version = last.api_version.as_str();
        let (Some(typed), Some(at_last)) = (self.versions.typed(version), self.convert(&merged, version))
        else {
            return Ok(merged);
        };
        let last_fields = last.fields.with_named_fields(Some(typed));
        let pruned = remove(typed, &at_last, &last_fields);
        let pruned = self.add_back_owned(&at_last, pruned, version, managed)?;
        // Only what was this manager's goes: what nobody owns stays.
        let named = |object: &Value| -> Result<FieldSet, ItemError> {
            Ok(field_set(typed, object)?.with_named_fields(Some(typed)))
        };
        let gone = named(&at_last)?.difference(&named(&pruned)?).intersection(&last_fields);
        let result = remove(typed, &at_last, &gone);
        if version == self.api_version {
            return Ok(result);
        }
        let back = self.versions.convert(&result, version, self.api_version).map(Cow::into_owned);
        Ok(back.unwrap_or(merged))
    }

    /// Puts back what others own, or the manager's new configuration. The last version comes first,
    /// as others may not be reachable from an object that lacks required parts.
    fn add_back_owned(
        &self,
        merged: &Value,
        pruned: Value,
        version: &str,
        managed: &Managed,
    ) -> Result<Value, UpdateError> {
        let mut by_version: BTreeMap<&str, FieldSet> = BTreeMap::new();
        for owned in managed.entries.values() {
            by_version.entry(&owned.api_version).or_default().merge(owned.fields.clone());
        }
        let mut order: Vec<&str> = by_version.keys().copied().collect();
        order.sort_by_key(|one| *one != version);
        let mut pruned = pruned;
        for at in order {
            let (Some(typed), Some(merged_at), Some(pruned_at)) = (
                self.versions.typed(at),
                self.between(merged, version, at),
                self.between(&pruned, version, at),
            ) else {
                continue;
            };
            let all = field_set(typed, &merged_at)?.with_named_fields(Some(typed));
            let left = field_set(typed, &pruned_at)?.with_named_fields(Some(typed));
            let owned = by_version[at].with_named_fields(Some(typed));
            let kept = remove(typed, &merged_at, &all.difference(&left.union(&owned)));
            pruned = match self.between(&kept, at, version) {
                Some(kept) => kept.into_owned(),
                None => continue,
            };
        }
        Ok(pruned)
    }

    fn between<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        if from == to { Some(Cow::Borrowed(object)) } else { self.versions.convert(object, from, to) }
    }
}

/// Whether a list or a map in a value is empty.
fn has_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty() || items.iter().any(has_empty),
        Value::Object(fields) => fields.is_empty() || fields.values().any(has_empty),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
