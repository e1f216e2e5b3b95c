//! Which images containers use.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;

use super::{ImageStore, Inner, StoreError};
use crate::digest::Digest;

/// Keeps an image from being removed while a container uses it.
///
/// Leases are not written down: a process that adopts containers takes their leases first.
pub struct Lease {
    store: ImageStore,
    id: Digest,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.store.inner.leases.lock();
        if let Some(count) = leases.counts.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                leases.counts.remove(&self.id);
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Leases {
    counts: HashMap<Digest, usize>,
    /// Found unused, and about to leave the catalogue: no new lease is given.
    leaving: HashSet<Digest>,
}

/// Images that are being removed; they can be leased again if that fails.
pub(super) struct Leaving<'a> {
    leases: &'a Mutex<Leases>,
    ids: Vec<Digest>,
}

impl Leaving<'_> {
    /// `Err` is the number of leases that keep the image.
    pub(super) fn add(&mut self, id: &Digest) -> Result<(), usize> {
        let mut leases = self.leases.lock();
        if let Some(count) = leases.counts.get(id) {
            return Err(*count);
        }
        leases.leaving.insert(id.clone());
        self.ids.push(id.clone());
        Ok(())
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut leases = self.leases.lock();
        for id in &self.ids {
            leases.leaving.remove(id);
        }
    }
}

impl ImageStore {
    /// Marks the image as in use until the lease is dropped.
    pub fn lease(&self, id: &Digest) -> Result<Lease, StoreError> {
        let mut leases = self.inner.leases.lock();
        if leases.leaving.contains(id) || !self.inner.snapshot().images.contains_key(id) {
            return Err(StoreError::NotFound(id.to_string()));
        }
        *leases.counts.entry(id.clone()).or_default() += 1;
        Ok(Lease { store: self.clone(), id: id.clone() })
    }
}

impl Inner {
    pub(super) fn leaving(&self) -> Leaving<'_> {
        Leaving { leases: &self.leases, ids: Vec::new() }
    }
}
