//! Which objects name which owner.

use std::collections::{BTreeSet, HashMap};

use sampan_api::Gvr;
use sampan_api::object::OwnerReference;

/// An object: its resource, and its key there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Item {
    pub gvr: Gvr,
    /// `namespace/name`, or `name` for objects of the cluster.
    pub key: String,
}

impl Item {
    /// Absent for objects of the cluster.
    pub fn namespace(&self) -> Option<&str> {
        self.key.split_once('/').map(|(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&self.key, |(_, name)| name)
    }
}

/// The key of an owner, which is in the same namespace or in none. Absent where an object of the
/// cluster names an owner in a namespace, which means nothing.
pub(super) fn owner_key(item: &Item, namespaced: bool, name: &str) -> Option<String> {
    match (namespaced, item.namespace()) {
        (false, _) => Some(name.to_owned()),
        (true, Some(namespace)) => Some(format!("{namespace}/{name}")),
        (true, None) => None,
    }
}

/// Dependents by the uid of the owner.
#[derive(Default)]
pub(super) struct Graph {
    dependents: HashMap<Box<str>, BTreeSet<Item>>,
}

impl Graph {
    /// An object names other owners than before.
    pub fn update(&mut self, item: &Item, before: &[OwnerReference], after: &[OwnerReference]) {
        for owner in before {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(item);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        for owner in after {
            self.dependents.entry(owner.uid.clone()).or_default().insert(item.clone());
        }
    }

    pub fn dependents(&self, uid: &str) -> impl Iterator<Item = &Item> {
        self.dependents.get(uid).into_iter().flatten()
    }

    pub fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.contains_key(uid)
    }
}
