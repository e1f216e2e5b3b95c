//! Where faults stand in a document: Kubernetes' decoder tells them in the order in which it meets them.
//!
//! Decoded values have no order any more, so that a body with several faults, and only that, is read
//! once more.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::check::{Path, Step};

/// What strict decoding has against a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    Unknown,
    Duplicate,
}

/// Sorts faults as they stand in `document`; those that are not found there come last, as they were.
pub(super) fn sort(faults: &mut [(Fault, &str)], document: &[u8]) {
    let wanted: HashSet<&str> = faults.iter().map(|(_, path)| *path).collect();
    let mut found = Positions { wanted, next: 0, of: HashMap::new() };
    let mut reader = serde_json::Deserializer::from_slice(document);
    // The document was read before; should this end early, the rest keeps its order.
    let _ = Seed { path: &Path::root(), found: &mut found }.deserialize(&mut reader);
    let of = found.of;
    faults.sort_by_key(|(fault, path)| of.get(&(*fault, (*path).to_owned())).copied().unwrap_or(usize::MAX));
}

struct Positions<'w> {
    wanted: HashSet<&'w str>,
    next: usize,
    of: HashMap<(Fault, String), usize>,
}

impl Positions<'_> {
    fn meet(&mut self, fault: Fault, path: &Path<'_>) {
        let path = path.to_string();
        if self.wanted.contains(path.as_str()) {
            self.of.entry((fault, path)).or_insert(self.next);
            self.next += 1;
        }
    }
}

struct Seed<'a, 'p, 'w> {
    path: &'p Path<'p>,
    found: &'a mut Positions<'w>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0;
        loop {
            let path = self.path.then(Step::Index(index));
            if items.next_element_seed(Seed { path: &path, found: &mut *self.found })?.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = self.path.then(Step::Name(&key));
            let first = seen.insert(key.clone());
            self.found.meet(if first { Fault::Unknown } else { Fault::Duplicate }, &path);
            if first {
                entries.next_value_seed(Seed { path: &path, found: &mut *self.found })?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_stand_as_in_the_document() {
        let check = |document: &str, faults: &[(Fault, &str)], expected: &[&str]| {
            let mut sorted = faults.to_vec();
            sort(&mut sorted, document.as_bytes());
            let paths: Vec<&str> = sorted.iter().map(|(_, path)| *path).collect();
            assert_eq!(paths, expected, "{document}");
        };
        let both = [(Fault::Duplicate, "spec.replicas"), (Fault::Unknown, "spec.foo")];
        check(r#"{"spec": {"foo": 1, "replicas": 2, "replicas": 3}}"#, &both, &["spec.foo", "spec.replicas"]);
        check(r#"{"spec": {"replicas": 2, "foo": 1, "replicas": 3}}"#, &both, &["spec.foo", "spec.replicas"]);
        check(r#"{"spec": {"replicas": 2, "replicas": 3, "foo": 1}}"#, &both, &["spec.replicas", "spec.foo"]);
        let unknown = [(Fault::Unknown, "a"), (Fault::Unknown, "l[1].b"), (Fault::Unknown, "z")];
        check(r#"{"z": null, "l": [{}, {"b": 1.5}], "a": "x"}"#, &unknown, &["z", "l[1].b", "a"]);
        check("{\"z\": 1, broken", &unknown, &["z", "a", "l[1].b"]);
    }
}
