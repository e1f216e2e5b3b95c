//! A family: one name, many series by their labels.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Collect, Exposition, Value};

/// The most series of one family. What comes on top is counted in one series whose labels are all
/// [`OVERFLOW`], so that nobody can fill the memory with label values.
pub const MAX_SERIES: usize = 20_000;
const OVERFLOW: &str = "overflow";

/// What a family is: as upstream writes it, the help begins with its stability.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// In full; a counter's `_total` included where it has one.
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    /// The upper bounds of a histogram, ascending, without infinity.
    pub buckets: &'static [f64],
}

impl Description {
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Description { name, help, labels, buckets: &[] }
    }

    pub const fn buckets(self, buckets: &'static [f64]) -> Self {
        Description { buckets, ..self }
    }
}

/// Values by their labels. Looking one up allocates nothing.
pub struct Labelled<T> {
    hasher: RandomState,
    /// By the hash of their label values.
    entries: RwLock<HashMap<u64, Vec<Entry<T>>>>,
}

struct Entry<T> {
    labels: Box<[Box<str>]>,
    value: Arc<T>,
}

impl<T> Entry<T> {
    fn is(&self, labels: &[&str]) -> bool {
        self.labels.iter().map(|label| &**label).eq(labels.iter().copied())
    }
}

impl<T> Default for Labelled<T> {
    fn default() -> Self {
        Labelled { hasher: RandomState::new(), entries: RwLock::default() }
    }
}

impl<T> Labelled<T> {
    pub fn get(&self, labels: &[&str]) -> Option<Arc<T>> {
        let entries = self.entries.read();
        let same = entries.get(&self.hasher.hash_one(labels))?;
        same.iter().find(|entry| entry.is(labels)).map(|entry| entry.value.clone())
    }

    /// The value of these labels; made when it is new.
    pub fn get_or_make(&self, labels: &[&str], make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(value) = self.get(labels) {
            return value;
        }
        let hash = self.hasher.hash_one(labels);
        let mut entries = self.entries.write();
        if let Some(entry) = entries.get(&hash).and_then(|same| same.iter().find(|entry| entry.is(labels))) {
            return entry.value.clone();
        }
        if entries.len() >= MAX_SERIES && labels.iter().any(|label| *label != OVERFLOW) {
            drop(entries);
            return self.get_or_make(&vec![OVERFLOW; labels.len()], make);
        }
        let value = Arc::new(make());
        let labels = labels.iter().map(|label| Box::from(*label)).collect();
        entries.entry(hash).or_default().push(Entry { labels, value: value.clone() });
        value
    }

    /// Forgets a value. Whoever still holds it observes into nothing.
    pub fn remove(&self, labels: &[&str]) {
        let mut entries = self.entries.write();
        let hash = self.hasher.hash_one(labels);
        if let Some(same) = entries.get_mut(&hash) {
            same.retain(|entry| !entry.is(labels));
            if same.is_empty() {
                entries.remove(&hash);
            }
        }
    }
}

/// Series of one kind of value.
pub struct Family<V> {
    description: Description,
    series: Labelled<V>,
}

impl<V: Value> Family<V> {
    pub fn new(description: Description) -> Self {
        Family { description, series: Labelled::default() }
    }

    /// The series with these label values, in the order of the description; made when it is new.
    pub fn with(&self, labels: &[&str]) -> Arc<V> {
        debug_assert_eq!(labels.len(), self.description.labels.len(), "{}", self.description.name);
        self.series.get_or_make(labels, || V::new(&self.description))
    }

    /// Forgets a series. Whoever still holds it observes into nothing.
    pub fn remove(&self, labels: &[&str]) {
        self.series.remove(labels);
    }
}

impl<V: Value> Collect for Family<V> {
    fn collect(&self, out: &mut Exposition) {
        let series = self.series.entries.read();
        out.family(self.description.name, self.description.help, V::KIND);
        for series in series.values().flatten() {
            let values = series.labels.iter().map(|label| &**label);
            let labels: Vec<(&str, &str)> = self.description.labels.iter().copied().zip(values).collect();
            series.value.write(&labels, out);
        }
    }
}
