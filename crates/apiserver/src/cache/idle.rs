//! Idle objects of large resources are packed.
//!
//! What was written a while ago and lies among megabytes of its like takes an eighth of its memory
//! and is unpacked in passing (see [`sampan_api::object::packed`]). What is new stays plain, since it
//! is what watchers, informers and controllers ask for. Small resources stay plain altogether.
//!
//! No timer runs while nothing is written.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sampan_api::Object;
use sampan_api::object::ObjectRef;
use sampan_api::object::packed::Dictionary;

use super::{Cache, Caches, Snapshot};
use crate::registry::Registry;

/// A resource with less JSON than this stays plain.
const WORTH_BYTES: usize = 8 << 20;
/// How long an object stays plain after its last write.
const IDLE_AFTER: Duration = Duration::from_secs(20);
/// Objects that a dictionary is made of.
const SAMPLES: usize = 6;

/// What a cache knows of its idle objects.
#[derive(Default)]
pub(super) struct Idle {
    /// In the order of their times.
    entered: VecDeque<(Instant, Weak<Object>)>,
    /// Whether everything that did not enter since has been packed.
    swept: bool,
    dictionary: Option<Arc<Dictionary>>,
    /// Objects that this dictionary has packed.
    served: usize,
}

impl Idle {
    pub(super) fn entered(&mut self, object: &ObjectRef) {
        self.entered.push_back((Instant::now(), Arc::downgrade(object)));
    }

    /// Takes what entered before some time.
    fn take(&mut self, before: Instant) -> Vec<ObjectRef> {
        let end = self.entered.partition_point(|(at, _)| *at <= before);
        self.entered.drain(..end).filter_map(|(_, object)| object.upgrade()).collect()
    }

    /// The dictionary for the next objects. It serves as many as the resource has, so that it
    /// follows what its objects look like.
    fn dictionary(&mut self, objects: &Snapshot) -> Arc<Dictionary> {
        if self.served > objects.len() {
            self.dictionary = None;
        }
        let dictionary = self.dictionary.get_or_insert_with(|| {
            self.served = 0;
            dictionary_of(objects)
        });
        dictionary.clone()
    }
}

/// A dictionary of what these objects have in common.
pub(super) fn dictionary_of(objects: &Snapshot) -> Arc<Dictionary> {
    let step = (objects.len() / SAMPLES).max(1);
    Arc::new(Dictionary::of(objects.values().step_by(step).map(|object| object.bytes())))
}

/// Whether so many bytes of a resource's JSON are to be packed.
pub(super) fn is_worth_packing(bytes: usize) -> bool {
    bytes >= WORTH_BYTES
}

impl Cache {
    /// Packs what has not been written since some time. Answers the bytes of memory that it saved.
    fn pack(&self, before: Instant) -> usize {
        let (objects, bytes) = {
            let state = self.state.read();
            (state.objects.clone(), state.bytes)
        };
        let (candidates, dictionary) = {
            let mut idle = self.idle.lock();
            let recent = idle.take(before);
            if !is_worth_packing(bytes) {
                idle.swept = false;
                return 0;
            }
            let all = !std::mem::replace(&mut idle.swept, true);
            let candidates = if all { objects.values().cloned().collect() } else { recent };
            if candidates.is_empty() {
                return 0;
            }
            let dictionary = idle.dictionary(&objects);
            idle.served += candidates.len();
            (candidates, dictionary)
        };
        candidates.iter().map(|object| object.pack(&dictionary)).sum()
    }
}

impl Caches {
    /// Packs what has not been written for a while. Answers the bytes of memory that it saved.
    fn pack(&self) -> usize {
        // What was loaded at the start counts as idle, what is written later after a while.
        let before = Instant::now().checked_sub(IDLE_AFTER).unwrap_or_else(Instant::now);
        let all: Vec<Arc<Cache>> = self.by_prefix.read().values().cloned().collect();
        all.iter().map(|cache| cache.pack(before)).sum()
    }

    /// Returns when something has been written, and a while has passed since.
    async fn written_and_idle(&self) {
        let mut applied = self.applied.subscribe();
        applied.borrow_and_update();
        // The sender is a field of `self`, so that the channel cannot close here.
        let _ = applied.changed().await;
        tokio::time::sleep(IDLE_AFTER).await;
    }
}

impl Registry {
    /// Packs idle objects for as long as it is polled.
    pub async fn pack_idle(self: Arc<Self>) {
        loop {
            let registry = self.clone();
            match tokio::task::spawn_blocking(move || registry.caches.pack()).await {
                Ok(saved) => tracing::debug!(saved, "packed idle objects"),
                Err(error) => {
                    tracing::error!(%error, "idle objects cannot be packed");
                    return;
                }
            }
            self.caches.written_and_idle().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config_map, filled};
    use super::super::with_revision;
    use super::*;

    #[test]
    fn a_large_resource_is_packed_and_a_small_one_is_not() {
        let check = |count: usize, expected: bool| {
            let caches = filled(count);
            let cache = caches.by_prefix.read().values().next().expect("one").clone();
            let before: Vec<_> = cache.snapshot().0.values().map(|object| object.bytes()).collect();
            let saved = cache.pack(Instant::now());
            assert_eq!(saved > WORTH_BYTES / 2, expected, "{count} objects saved {saved}");
            let after: Vec<_> = cache.snapshot().0.values().map(|object| object.bytes()).collect();
            assert!(before == after, "packing changes nothing that is seen");
        };
        check(9_000, true);
        check(100, false);
    }

    #[test]
    fn what_a_start_reads_is_packed_meanwhile() {
        let caches = filled(40_000);
        let cache = caches.by_prefix.read().values().next().expect("one").clone();
        let left = cache.pack(Instant::now());
        assert!((1..WORTH_BYTES).contains(&left), "only what was read first is left to pack: {left}");
        for number in [0, 7, 39_999] {
            let object = cache.get(&format!("default/map-{number}")).expect("stored");
            let expected = with_revision(&config_map(number, "value"), number as u64 + 1);
            assert_eq!(object.bytes(), expected);
        }
    }

    #[test]
    fn what_was_just_written_stays_plain_for_a_while() {
        let caches = filled(9_000);
        let cache = caches.by_prefix.read().values().next().expect("one").clone();
        assert!(cache.pack(Instant::now()) > 0);
        let before = Instant::now();
        let written = config_map(7, "changed");
        caches.apply("/registry/configmaps/default/map-7", Some(&written), 20_000).expect("an object");
        caches.finish(20_000);
        assert_eq!(cache.pack(before), 0);
        assert!(cache.pack(Instant::now()) > 0, "its time has come");
        let object = cache.get("default/map-7").expect("stored");
        assert!(object.decode::<serde_json::Value>().expect("JSON")["data"]["key"] == "changed");
    }
}
