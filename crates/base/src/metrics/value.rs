//! What a series holds.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::{Description, Exposition, Kind};

/// A kind of value that a [`super::Family`] has many of.
pub trait Value: Send + Sync {
    const KIND: Kind;

    fn new(description: &Description) -> Self;

    /// Writes the samples of one series.
    fn write(&self, labels: &[(&str, &str)], out: &mut Exposition);
}

/// Counts up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Value for Counter {
    const KIND: Kind = Kind::Counter;

    fn new(_: &Description) -> Self {
        Counter::default()
    }

    fn write(&self, labels: &[(&str, &str)], out: &mut Exposition) {
        out.sample(labels, self.get() as f64);
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn add(&self, value: i64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Value for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn new(_: &Description) -> Self {
        Gauge::default()
    }

    fn write(&self, labels: &[(&str, &str)], out: &mut Exposition) {
        out.sample(labels, self.get() as f64);
    }
}

/// Counts observations by size. A scrape during an observation may see it in part, as with every
/// histogram that takes no lock.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds; not cumulative.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, value: f64) {
        self.observe_times(value, 1);
    }

    /// The same value so many times.
    pub fn observe_times(&self, value: f64, times: u64) {
        if times == 0 {
            return;
        }
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(times, Ordering::Relaxed);
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| {
            Some((f64::from_bits(bits) + value * times as f64).to_bits())
        });
    }

    /// The number of observations.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Value for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn new(description: &Description) -> Self {
        let counts = (0..=description.buckets.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds: description.buckets, counts, sum: AtomicU64::new(0f64.to_bits()) }
    }

    fn write(&self, labels: &[(&str, &str)], out: &mut Exposition) {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        out.histogram(labels, self.bounds, &counts, f64::from_bits(self.sum.load(Ordering::Relaxed)));
    }
}

/// `count` bounds that begin at `start` and grow by `factor`.
pub const fn exponential<const COUNT: usize>(start: f64, factor: f64) -> [f64; COUNT] {
    let mut bounds = [start; COUNT];
    let mut at = 1;
    while at < COUNT {
        bounds[at] = bounds[at - 1] * factor;
        at += 1;
    }
    bounds
}
