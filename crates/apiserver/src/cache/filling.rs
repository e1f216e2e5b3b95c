//! Caches are filled from the store part by part, and packed meanwhile: a start takes no more memory than what it
//! is for.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use sampan_api::object::ObjectRef;
use sampan_api::object::packed::Dictionary;

use super::{Cache, Caches, LoadError, Snapshot};

/// What a cache will hold once the store has been read.
#[derive(Default)]
pub(crate) struct Filling {
    objects: Snapshot,
    bytes: usize,
    /// What packs the next objects, once there are so many that it is worth it.
    dictionary: Option<Arc<Dictionary>>,
}

impl Filling {
    fn insert(&mut self, key: Arc<str>, object: ObjectRef) {
        self.bytes += object.len();
        self.objects.insert(key, object.clone());
        if self.dictionary.is_none() && super::idle::is_worth_packing(self.bytes) {
            self.dictionary = Some(super::idle::dictionary_of(&self.objects));
        }
        if let Some(dictionary) = &self.dictionary {
            object.pack(dictionary);
        }
    }
}

impl Cache {
    /// Reads an object of the store for what it will hold.
    pub(crate) fn read_into(
        &self,
        filling: &mut Filling,
        key: &str,
        value: &Bytes,
        revision: u64,
    ) -> Result<(), LoadError> {
        let object =
            self.read_object(value, revision).map_err(|source| LoadError { key: key.to_owned(), source })?;
        filling.insert(Arc::from(key), object);
        Ok(())
    }

    /// Holds what was read of a snapshot of the store; its window begins anew. Who waits for an event is woken:
    /// some may be missing.
    pub(crate) fn fill(&self, filling: Filling, revision: u64) {
        {
            let mut state = self.state.write();
            state.objects = filling.objects;
            state.bytes = filling.bytes;
            state.revision = revision;
            state.oldest = revision;
            state.loaded = revision;
            state.window.clear();
            state.window_bytes = 0;
            state.pins.all_left(revision);
        }
        self.frames.batches.forget();
        self.latest.send_replace(revision);
    }
}

/// What every cache will hold once a snapshot of the store has been read.
pub(crate) struct Fillings<'c> {
    caches: &'c Caches,
    by_prefix: BTreeMap<String, (Arc<Cache>, Filling)>,
}

impl Caches {
    /// Begins to read a snapshot of the store for every cache that there is.
    pub(crate) fn fillings(&self) -> Fillings<'_> {
        let caches = self.by_prefix.read();
        let empty =
            |(prefix, cache): (&String, &Arc<Cache>)| (prefix.clone(), (cache.clone(), Filling::default()));
        Fillings { caches: self, by_prefix: caches.iter().map(empty).collect() }
    }
}

impl Fillings<'_> {
    pub(crate) fn read(&mut self, key: &str, value: &Bytes, revision: u64) -> Result<(), LoadError> {
        let before = (Bound::Unbounded, Bound::Included(key));
        match self.by_prefix.range_mut::<str, _>(before).next_back() {
            Some((prefix, (cache, filling))) if key.starts_with(prefix.as_str()) => {
                cache.read_into(filling, &key[prefix.len()..], value, revision)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Shows what was read, of this revision.
    pub(crate) fn finish(self, revision: u64) {
        for (cache, filling) in self.by_prefix.into_values() {
            cache.fill(filling, revision);
        }
        self.caches.applied.send_replace(revision);
    }
}
