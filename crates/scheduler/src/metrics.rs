//! What the scheduler tells about itself, under upstream's names.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use sampan_base::metrics::{Counter, Description, Family, Gauge, Histogram, Registry};

use crate::queue::Counts;

const SECONDS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];
const RESULT: &[&str] = &["profile", "result"];
const ATTEMPTS: Description = Description::new(
    "scheduler_schedule_attempts_total",
    "[STABLE] Attempts to give a pod a node, by how they ended.",
    RESULT,
);
const ATTEMPT: Description = Description::new(
    "scheduler_scheduling_attempt_duration_seconds",
    "[STABLE] How long attempts took, with the binding.",
    RESULT,
)
.buckets(SECONDS);
const ALGORITHM: Description = Description::new(
    "scheduler_scheduling_algorithm_duration_seconds",
    "[ALPHA] How long decisions took.",
    &[],
)
.buckets(SECONDS);
const PENDING: Description =
    Description::new("scheduler_pending_pods", "[STABLE] Pods that wait for a node, by queue.", &["queue"]);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    Scheduled,
    /// No node took the pod.
    Unschedulable,
    /// The binding failed.
    Error,
}

impl Attempt {
    fn as_str(self) -> &'static str {
        match self {
            Attempt::Scheduled => "scheduled",
            Attempt::Unschedulable => "unschedulable",
            Attempt::Error => "error",
        }
    }
}

/// The families of the scheduler.
#[derive(Clone)]
pub struct SchedulerMetrics {
    attempts: Arc<Family<Counter>>,
    attempt: Arc<Family<Histogram>>,
    algorithm: Arc<Histogram>,
    active: Arc<Gauge>,
    backoff: Arc<Gauge>,
    unschedulable: Arc<Gauge>,
    gated: Arc<Gauge>,
}

impl SchedulerMetrics {
    pub fn new(registry: &Registry) -> Self {
        let pending = registry.family(PENDING);
        SchedulerMetrics {
            attempts: registry.family(ATTEMPTS),
            attempt: registry.family(ATTEMPT),
            algorithm: registry.single(ALGORITHM),
            active: pending.with(&["active"]),
            backoff: pending.with(&["backoff"]),
            unschedulable: pending.with(&["unschedulable"]),
            gated: pending.with(&["gated"]),
        }
    }

    /// An attempt for a pod of a profile, which has the name of the scheduler.
    pub fn attempted(&self, profile: &str, attempt: Attempt, began: Instant) {
        let labels = [profile, attempt.as_str()];
        self.attempts.with(&labels).inc();
        self.attempt.with(&labels).observe(began.elapsed().as_secs_f64());
    }

    pub fn decided(&self, began: Instant) {
        self.algorithm.observe(began.elapsed().as_secs_f64());
    }

    pub fn pending(&self, counts: Counts) {
        let set = |gauge: &Gauge, count: usize| gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        set(&self.active, counts.active);
        set(&self.backoff, counts.backoff);
        set(&self.unschedulable, counts.unschedulable);
        set(&self.gated, counts.gated);
    }
}

/// Into a registry that nobody reads.
impl Default for SchedulerMetrics {
    fn default() -> Self {
        SchedulerMetrics::new(&Registry::default())
    }
}

impl fmt::Debug for SchedulerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SchedulerMetrics")
    }
}
