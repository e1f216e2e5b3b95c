//! What work queues tell about themselves, under the names of client-go.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use sampan_base::metrics::{Counter, Description, Family, Gauge, Histogram, Registry};
use tokio::time::Instant;

const BUCKETS: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
const LABELS: &[&str] = &["name"];
const DEPTH: Description = Description::new("workqueue_depth", "[ALPHA] Keys that wait, by queue.", LABELS);
const ADDS: Description =
    Description::new("workqueue_adds_total", "[ALPHA] Keys that were added, by queue.", LABELS);
const RETRIES: Description =
    Description::new("workqueue_retries_total", "[ALPHA] Keys that are to be tried again, by queue.", LABELS);
const QUEUED: Description = Description::new(
    "workqueue_queue_duration_seconds",
    "[ALPHA] How long keys waited before they were worked on, by queue.",
    LABELS,
)
.buckets(BUCKETS);
const WORKED: Description = Description::new(
    "workqueue_work_duration_seconds",
    "[ALPHA] How long keys were worked on, by queue.",
    LABELS,
)
.buckets(BUCKETS);

/// The families that all queues of a process share.
#[derive(Clone)]
pub struct QueueFamilies {
    depth: Arc<Family<Gauge>>,
    adds: Arc<Family<Counter>>,
    retries: Arc<Family<Counter>>,
    queued: Arc<Family<Histogram>>,
    worked: Arc<Family<Histogram>>,
}

impl QueueFamilies {
    pub fn new(registry: &Registry) -> Self {
        QueueFamilies {
            depth: registry.family(DEPTH),
            adds: registry.family(ADDS),
            retries: registry.family(RETRIES),
            queued: registry.family(QUEUED),
            worked: registry.family(WORKED),
        }
    }

    pub(super) fn of<K>(&self, name: &str) -> Observed<K> {
        let labels = [name];
        Observed {
            depth: self.depth.with(&labels),
            adds: self.adds.with(&labels),
            retries: self.retries.with(&labels),
            queued: self.queued.with(&labels),
            worked: self.worked.with(&labels),
            added: HashMap::new(),
            begun: HashMap::new(),
        }
    }
}

/// Into a registry that nobody reads.
impl Default for QueueFamilies {
    fn default() -> Self {
        QueueFamilies::new(&Registry::default())
    }
}

impl fmt::Debug for QueueFamilies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueFamilies")
    }
}

/// One queue's series, and since when its keys are where they are.
pub(super) struct Observed<K> {
    depth: Arc<Gauge>,
    adds: Arc<Counter>,
    retries: Arc<Counter>,
    queued: Arc<Histogram>,
    worked: Arc<Histogram>,
    added: HashMap<K, Instant>,
    begun: HashMap<K, Instant>,
}

impl<K: Eq + Hash + Clone> Observed<K> {
    pub fn added(&mut self, key: &K) {
        self.adds.inc();
        self.depth.inc();
        self.added.entry(key.clone()).or_insert_with(Instant::now);
    }

    pub fn retried(&self) {
        self.retries.inc();
    }

    pub fn begun(&mut self, key: &K) {
        self.depth.dec();
        let now = Instant::now();
        if let Some(added) = self.added.remove(key) {
            self.queued.observe(now.duration_since(added).as_secs_f64());
        }
        self.begun.insert(key.clone(), now);
    }

    pub fn done(&mut self, key: &K) {
        if let Some(begun) = self.begun.remove(key) {
            self.worked.observe(begun.elapsed().as_secs_f64());
        }
    }
}
