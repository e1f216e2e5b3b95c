//! What fairness counts: `apiserver_flowcontrol_*`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sampan_base::metrics::{Counter, Description, Exposition, Family, Gauge, Histogram, Kind, Registry};

use super::Plan;
use super::queue_set::Rejection;

const BOTH: &[&str] = &["flow_schema", "priority_level"];
const REJECTED: Description = Description::new(
    "apiserver_flowcontrol_rejected_requests_total",
    "[BETA] Requests that were rejected, by reason.",
    &["flow_schema", "priority_level", "reason"],
);
const DISPATCHED: Description = Description::new(
    "apiserver_flowcontrol_dispatched_requests_total",
    "[BETA] Requests that began to execute.",
    BOTH,
);
const IN_QUEUE: Description = Description::new(
    "apiserver_flowcontrol_current_inqueue_requests",
    "[BETA] Requests that wait in queues.",
    BOTH,
);
const IN_QUEUE_SEATS: Description = Description::new(
    "apiserver_flowcontrol_current_inqueue_seats",
    "[ALPHA] Seats that requests in queues want.",
    BOTH,
);
const EXECUTING: Description = Description::new(
    "apiserver_flowcontrol_current_executing_requests",
    "[BETA] Requests that execute.",
    BOTH,
);
const EXECUTING_SEATS: Description =
    Description::new("apiserver_flowcontrol_current_executing_seats", "[BETA] Seats that are taken.", BOTH);
const SECONDS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];
const WAITED: Description = Description::new(
    "apiserver_flowcontrol_request_wait_duration_seconds",
    "[BETA] How long requests waited, by whether they then executed.",
    &["execute", "flow_schema", "priority_level"],
)
.buckets(SECONDS);
const EXECUTED: Description = Description::new(
    "apiserver_flowcontrol_request_execution_seconds",
    "[ALPHA] How long requests executed; watches until they began.",
    &["flow_schema", "priority_level"],
)
.buckets(SECONDS);
const LENGTHS: Description = Description::new(
    "apiserver_flowcontrol_request_queue_length_after_enqueue",
    "[ALPHA] The length of a request's queue once it joined it.",
    BOTH,
)
.buckets(&[0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0]);
const ESTIMATED: Description = Description::new(
    "apiserver_flowcontrol_work_estimated_seats",
    "[ALPHA] Seats that requests were estimated to need.",
    BOTH,
)
.buckets(&[1.0, 2.0, 4.0, 10.0]);

/// The families of fairness.
pub struct FairnessMetrics {
    rejected: Arc<Family<Counter>>,
    dispatched: Arc<Family<Counter>>,
    in_queue: Arc<Family<Gauge>>,
    in_queue_seats: Arc<Family<Gauge>>,
    executing: Arc<Family<Gauge>>,
    executing_seats: Arc<Family<Gauge>>,
    waited: Arc<Family<Histogram>>,
    executed: Arc<Family<Histogram>>,
    lengths: Arc<Family<Histogram>>,
    estimated: Arc<Family<Histogram>>,
}

/// The series of one flow schema in one level.
pub struct SchemaSeries {
    rejected: [Arc<Counter>; Rejection::ALL.len()],
    dispatched: Arc<Counter>,
    in_queue: Arc<Gauge>,
    in_queue_seats: Arc<Gauge>,
    executing: Arc<Gauge>,
    executing_seats: Arc<Gauge>,
    waited: Arc<Histogram>,
    waited_in_vain: Arc<Histogram>,
    executed: Arc<Histogram>,
    lengths: Arc<Histogram>,
    estimated: Arc<Histogram>,
}

impl FairnessMetrics {
    pub fn new(registry: &Registry) -> Self {
        FairnessMetrics {
            rejected: registry.family(REJECTED),
            dispatched: registry.family(DISPATCHED),
            in_queue: registry.family(IN_QUEUE),
            in_queue_seats: registry.family(IN_QUEUE_SEATS),
            executing: registry.family(EXECUTING),
            executing_seats: registry.family(EXECUTING_SEATS),
            waited: registry.family(WAITED),
            executed: registry.family(EXECUTED),
            lengths: registry.family(LENGTHS),
            estimated: registry.family(ESTIMATED),
        }
    }

    pub fn series(&self, schema: &str, level: &str) -> Arc<SchemaSeries> {
        let both = [schema, level];
        Arc::new(SchemaSeries {
            rejected: Rejection::ALL.map(|why| self.rejected.with(&[schema, level, why.as_str()])),
            dispatched: self.dispatched.with(&both),
            in_queue: self.in_queue.with(&both),
            in_queue_seats: self.in_queue_seats.with(&both),
            executing: self.executing.with(&both),
            executing_seats: self.executing_seats.with(&both),
            waited: self.waited.with(&["true", schema, level]),
            waited_in_vain: self.waited.with(&["false", schema, level]),
            executed: self.executed.with(&both),
            lengths: self.lengths.with(&both),
            estimated: self.estimated.with(&both),
        })
    }
}

impl SchemaSeries {
    pub fn estimated(&self, seats: u32) {
        self.estimated.observe(f64::from(seats));
    }

    /// Counts a request as waiting for as long as the answer lives.
    pub fn wait(&self, seats: u32, queue_length: usize) -> Waits<'_> {
        self.lengths.observe(queue_length as f64);
        self.in_queue.inc();
        self.in_queue_seats.add(i64::from(seats));
        Waits { series: self, seats }
    }

    pub fn began(&self, seats: u32) {
        self.dispatched.inc();
        self.executing.inc();
        self.executing_seats.add(i64::from(seats));
    }

    pub fn ended(&self, seats: u32, took: Duration) {
        self.executing.dec();
        self.executing_seats.add(-i64::from(seats));
        self.executed.observe(took.as_secs_f64());
    }

    /// Requests that wait and that execute.
    pub fn current(&self) -> (i64, i64) {
        (self.in_queue.get(), self.executing.get())
    }

    /// Notes how a request's wait ended.
    pub fn decided(&self, rejection: Option<Rejection>, arrived: Instant) -> Duration {
        let waited = arrived.elapsed();
        match rejection {
            None => self.waited.observe(waited.as_secs_f64()),
            Some(why) => {
                self.rejected[why as usize].inc();
                self.waited_in_vain.observe(waited.as_secs_f64());
            }
        }
        waited
    }
}

/// A request that waits in a queue.
pub struct Waits<'a> {
    series: &'a SchemaSeries,
    seats: u32,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.series.in_queue.dec();
        self.series.in_queue_seats.add(-i64::from(self.seats));
    }
}

/// Writes the limits of every level.
pub fn collect(plan: &Plan, out: &mut Exposition) {
    let mut write = |name: &str, help: &str, read: &dyn Fn(&super::Level) -> f64| {
        out.family(&format!("apiserver_flowcontrol_{name}"), help, Kind::Gauge);
        for level in plan.levels.values() {
            out.sample(&[("priority_level", &*level.name)], read(level));
        }
    };
    write("nominal_limit_seats", "[BETA] Seats that a level has by its share.", &|level| {
        f64::from(level.limits.nominal)
    });
    write("lower_limit_seats", "[ALPHA] Seats that a level keeps when it lends all it may.", &|level| {
        f64::from(level.limits.lower)
    });
    write("upper_limit_seats", "[ALPHA] Seats that a level has when it borrows all it may.", &|level| {
        f64::from(level.limits.upper)
    });
    write("current_limit_seats", "[ALPHA] Seats that a level may use now.", &|level| {
        level.running.look(|set| f64::from(set.limit()))
    });
    write("current_r", "[ALPHA] The virtual time of a level's last change.", &|level| {
        level.running.look(|set| set.virtual_time())
    });
}
