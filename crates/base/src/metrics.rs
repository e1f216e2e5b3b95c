//! Metrics: counters, gauges and histograms in families, and a registry that is handed in.
//!
//! The registry writes both the Prometheus text format 0.0.4 and OpenMetrics 1.0. Names are as
//! Kubernetes has them, so a counter may or may not end in `_total`; that, and the classic format, is
//! why this is not an OpenMetrics library: those insist on the suffix and write one format only.
//!
//! An observation is a few relaxed atomics. Looking a series up by its labels takes a shared lock
//! and no allocation; whoever observes often keeps the [`Arc`] that the lookup answers.

use std::sync::Arc;

use parking_lot::RwLock;

mod exposition;
mod family;
mod value;

pub use exposition::{Exposition, Format, Kind};
pub use family::{Description, Family, Labelled, MAX_SERIES};
pub use value::{Counter, Gauge, Histogram, Value, exponential};

/// Something that writes families at each scrape.
pub trait Collect: Send + Sync {
    fn collect(&self, out: &mut Exposition);
}

impl<F: Fn(&mut Exposition) + Send + Sync> Collect for F {
    fn collect(&self, out: &mut Exposition) {
        self(out);
    }
}

/// Every family of a process. Cheap to clone; components get it handed in.
#[derive(Clone, Default)]
pub struct Registry {
    sources: Arc<RwLock<Vec<Arc<dyn Collect>>>>,
}

impl Registry {
    /// Adds a source. Two sources must not write the same family.
    pub fn register(&self, source: Arc<dyn Collect>) {
        self.sources.write().push(source);
    }

    /// Adds a family with labels.
    pub fn family<V: Value + 'static>(&self, description: Description) -> Arc<Family<V>> {
        let family = Arc::new(Family::new(description));
        self.register(family.clone());
        family
    }

    /// Adds a metric without labels.
    pub fn single<V: Value + 'static>(&self, description: Description) -> Arc<V> {
        self.family(description).with(&[])
    }

    /// What a scrape answers: every family, sorted by name.
    pub fn encode(&self, format: Format) -> String {
        let mut out = Exposition::new(format);
        let sources = self.sources.read().clone();
        for source in sources {
            source.collect(&mut out);
        }
        out.finish()
    }
}

#[cfg(test)]
mod tests;
