//! How long admission takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sampan_base::metrics::{Description, Family, Histogram, Registry};

const BUCKETS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const STEP_SECONDS: Description = Description::new(
    "apiserver_admission_step_admission_duration_seconds",
    "[STABLE] How long the phases of admission took, by operation.",
    &["operation", "rejected", "type"],
)
.buckets(BUCKETS);
const CONTROLLER_SECONDS: Description = Description::new(
    "apiserver_admission_controller_admission_duration_seconds",
    "[STABLE] How long the plugins of admission took, by plugin and operation.",
    &["name", "operation", "rejected", "type"],
)
.buckets(BUCKETS);
const WEBHOOK_SECONDS: Description = Description::new(
    "apiserver_admission_webhook_admission_duration_seconds",
    "[STABLE] How long the webhooks of admission took, by webhook and operation.",
    &["name", "operation", "rejected", "type"],
)
.buckets(&[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0]);

/// The families of admission.
pub struct AdmissionMetrics {
    step: Arc<Family<Histogram>>,
    controller: Arc<Family<Histogram>>,
    webhook: Arc<Family<Histogram>>,
}

/// One phase: `admit` mutates, `validate` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Admit,
    Validate,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Step::Admit => "admit",
            Step::Validate => "validate",
        }
    }
}

impl AdmissionMetrics {
    pub fn new(registry: &Registry) -> Self {
        AdmissionMetrics {
            step: registry.family(STEP_SECONDS),
            controller: registry.family(CONTROLLER_SECONDS),
            webhook: registry.family(WEBHOOK_SECONDS),
        }
    }

    /// A whole phase; `operation` is `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub fn step(&self, step: Step, operation: &str, rejected: bool, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        self.step.with(&[operation, flag(rejected), step.as_str()]).observe(seconds);
    }

    /// One plugin in a phase.
    pub fn controller(&self, name: &str, step: Step, operation: &str, rejected: bool, began: Instant) {
        let seconds = began.elapsed().as_secs_f64();
        self.controller.with(&[name, operation, flag(rejected), step.as_str()]).observe(seconds);
    }

    /// One webhook in a phase.
    pub fn webhook(&self, name: &str, step: Step, operation: &str, rejected: bool, took: Duration) {
        self.webhook.with(&[name, operation, flag(rejected), step.as_str()]).observe(took.as_secs_f64());
    }
}

fn flag(rejected: bool) -> &'static str {
    if rejected { "true" } else { "false" }
}
