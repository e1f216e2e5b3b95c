//! The transaction that leads from one ruleset to another.

use super::batch::Batch;
use super::model::{Data, Key, Ruleset, Set, Table};

/// None when the tables differ in more than chains, rules and elements: a set's definition or a
/// chain's hook cannot change while others refer to it.
pub(super) fn between(old: &Ruleset, new: &Ruleset) -> Option<Batch> {
    let mut batch = Batch::new();
    if old.tables.len() != new.tables.len() {
        return None;
    }
    for (old, new) in old.tables.iter().zip(&new.tables) {
        if !compatible(old, new) {
            return None;
        }
        add_objects(&mut batch, old, new);
        change_objects(&mut batch, old, new);
        delete_objects(&mut batch, old, new);
    }
    Some(batch)
}

fn compatible(old: &Table, new: &Table) -> bool {
    let sets =
        old.sets.iter().all(|(name, set)| new.sets.get(name).is_none_or(|other| set.same_definition(other)));
    let chains = old
        .chains
        .iter()
        .all(|(name, chain)| new.chains.get(name).is_none_or(|other| chain.base == other.base));
    (old.family, &old.name) == (new.family, &new.name) && sets && chains
}

/// First what others will refer to.
fn add_objects(batch: &mut Batch, old: &Table, new: &Table) {
    for (name, set) in new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
        batch.add_set(new, name, set);
    }
    for (name, chain) in new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
        batch.add_chain(new, name, chain);
    }
}

fn change_objects(batch: &mut Batch, old: &Table, new: &Table) {
    for (name, set) in &old.sets {
        let kept = new.sets.get(name);
        batch.delete_elements(old, name, set, changed(set, kept));
    }
    for (name, set) in new.sets.iter().filter(|(_, set)| set.elements_first()) {
        batch.add_elements(new, name, set, changed(set, old.sets.get(name)));
    }
    for (name, chain) in &new.chains {
        match old.chains.get(name) {
            Some(before) if before.rules == chain.rules => continue,
            Some(_) => batch.flush_chain(new, name),
            None => {}
        }
        batch.add_rules(new, name, &chain.rules);
    }
    for (name, set) in new.sets.iter().filter(|(_, set)| !set.elements_first()) {
        batch.add_elements(new, name, set, changed(set, old.sets.get(name)));
    }
}

/// Last what nobody refers to any more.
fn delete_objects(batch: &mut Batch, old: &Table, new: &Table) {
    let chains = || old.chains.keys().filter(|name| !new.chains.contains_key(*name));
    for name in chains() {
        batch.flush_chain(old, name);
    }
    for name in chains() {
        batch.delete_chain(old, name);
    }
    for name in old.sets.keys().filter(|name| !new.sets.contains_key(*name)) {
        batch.delete_set(old, name);
    }
}

/// The elements of a set that the other one has not, or has with other data.
fn changed<'a>(set: &'a Set, other: Option<&'a Set>) -> impl Iterator<Item = (&'a Key, &'a Data)> {
    set.elements.iter().filter(move |(key, data)| {
        let present = other.and_then(|other| other.elements.get(*key));
        present != Some(*data)
    })
}
