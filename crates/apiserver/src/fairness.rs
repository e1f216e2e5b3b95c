//! API priority and fairness (KEP-1040): who may be served now, and who waits for how long.
//!
//! A request belongs to the first flow schema that matches it, and with it to a priority level, which has
//! a share of the server's seats. [`plan`] makes a plan of the stored schemas and levels, [`queue_set`]
//! queues fairly within a level, [`allocation`] divides seats between levels that lend and borrow, and
//! [`work`] estimates how many a request needs. All these are pure; [`level`] wakes who waited, and
//! [`feed`] follows the objects.
//!
//! Components of this process ask the registry directly and are not limited. Nothing here runs while
//! nobody waits.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::HeaderName;
use parking_lot::{Mutex, RwLock};
use sampan_base::metrics::{Exposition, Registry};
use tokio::sync::Notify;

use crate::identity::authorization::Attributes;

pub mod allocation;
pub mod dump;
pub mod feed;
pub mod level;
pub mod plan;
pub mod queue_set;
pub mod rules;
pub mod work;

mod metrics;

use allocation::Claim;
pub use level::{Level, Seat};
pub use plan::{Plan, Schema};
pub use queue_set::{Rejection, Work};

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// How often seats are divided anew while somebody waits.
const ADJUSTMENT: Duration = Duration::from_secs(10);
/// How much of the demand seen before remains at each division: half of it after five minutes.
const SMOOTHING: f64 = 0.977;

/// How many requests are served at once; the sum is divided among the levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    pub max_requests_in_flight: u32,
    pub max_mutating_requests_in_flight: u32,
}

impl Default for Concurrency {
    fn default() -> Self {
        Concurrency { max_requests_in_flight: 400, max_mutating_requests_in_flight: 200 }
    }
}

impl Concurrency {
    pub fn total(&self) -> u32 {
        self.max_requests_in_flight.saturating_add(self.max_mutating_requests_in_flight)
    }
}

/// The limits of one server.
pub struct Fairness {
    total: u32,
    plan: RwLock<Arc<Plan>>,
    metrics: metrics::FairnessMetrics,
    hasher: RandomState,
    /// Somebody began to wait.
    contended: Notify,
    /// The smoothed demand of each level.
    demand: Mutex<HashMap<Arc<str>, f64>>,
}

/// A request and what it belongs to.
pub struct Classified {
    plan: Arc<Plan>,
    at: usize,
    hash: u64,
}

impl Fairness {
    /// Limits by the mandatory objects alone, until [`feed`] has read the stored ones.
    pub fn new(concurrency: Concurrency, registry: &Registry) -> Arc<Self> {
        let metrics = metrics::FairnessMetrics::new(registry);
        let total = concurrency.total();
        let plan =
            Plan::build(total, &[], &[], &Plan::default(), |schema, level| metrics.series(schema, level));
        let fairness = Arc::new(Fairness {
            total,
            plan: RwLock::new(Arc::new(plan)),
            metrics,
            hasher: RandomState::new(),
            contended: Notify::new(),
            demand: Mutex::default(),
        });
        fairness.rebalance();
        let weak = Arc::downgrade(&fairness);
        registry.register(Arc::new(move |out: &mut Exposition| {
            if let Some(fairness) = weak.upgrade() {
                metrics::collect(&fairness.plan(), out);
            }
        }));
        fairness
    }

    pub fn plan(&self) -> Arc<Plan> {
        self.plan.read().clone()
    }

    /// Makes a plan of the objects and follows it from now on.
    pub fn configure(&self, schemas: &[plan::FlowSchema], levels: &[plan::PriorityLevel]) -> Arc<Plan> {
        let series = |schema: &str, level: &str| self.metrics.series(schema, level);
        let plan = Arc::new(Plan::build(self.total, schemas, levels, &self.plan(), series));
        *self.plan.write() = plan.clone();
        self.demand.lock().retain(|name, _| plan.levels.contains_key(name));
        self.rebalance();
        plan
    }

    /// Finds what a request belongs to. `namespace` distinguishes flows where the schema says so.
    pub fn classify(&self, request: &Attributes<'_>) -> Classified {
        let plan = self.plan();
        let at = plan.find(request);
        let schema = &plan.schemas[at];
        let hash = self.hasher.hash_one((&*schema.name, schema.distinguisher.read(request)));
        Classified { plan, at, hash }
    }

    /// Divides the seats anew whenever somebody waits, for as long as it is polled.
    pub async fn balance(self: Arc<Self>) {
        loop {
            self.contended.notified().await;
            loop {
                tokio::time::sleep(ADJUSTMENT).await;
                if !self.rebalance() {
                    break;
                }
            }
        }
    }

    /// Divides the seats by what was wanted since the last time. Answers whether somebody lacked some.
    fn rebalance(&self) -> bool {
        let plan = self.plan();
        let mut demand = self.demand.lock();
        let (mut claims, mut lacking) = (Vec::new(), false);
        for level in plan.levels.values() {
            let seen = level.running.take_demand();
            lacking |= seen.highest > f64::from(level.running.look(|set| set.limit()))
                && level.queuing != queue_set::Queuing::Exempt;
            let envelope = seen.average + seen.deviation;
            let smoothed = demand.entry(level.name.clone()).or_default();
            *smoothed = envelope.max(SMOOTHING * *smoothed + (1.0 - SMOOTHING) * envelope);
            let limits = level.limits;
            let lower = f64::from(limits.lower).max(seen.highest.min(f64::from(limits.nominal)));
            claims.push(Claim { lower, upper: f64::from(limits.upper), target: lower.max(*smoothed) });
        }
        let total: u32 = plan.levels.values().map(|level| level.limits.nominal).sum();
        let Some((shares, _)) = allocation::divide(f64::from(total), &claims) else {
            tracing::error!(total, ?claims, "seats cannot be divided; levels keep what they have");
            return lacking;
        };
        for (level, share) in plan.levels.values().zip(shares) {
            level.running.configure(level.queuing, share.round() as u32);
        }
        lacking
    }
}

impl Classified {
    pub fn schema(&self) -> &Schema {
        &self.plan.schemas[self.at]
    }

    pub fn level(&self) -> &Level {
        &self.schema().level
    }

    /// Names what it belongs to by uid: names could tell clients how they are seen.
    pub fn sign(&self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_UID, self.schema().uid.clone());
        headers.insert(LEVEL_UID, self.level().uid.clone());
    }

    /// Waits for a seat, at most `limit`. Answers it, or why there is none, and how long that took.
    pub async fn acquire<T>(
        &self,
        fairness: &Fairness,
        work: Work,
        limit: Duration,
        queued: impl FnOnce() -> T,
    ) -> (Result<Seat, Rejection>, Duration) {
        let (schema, arrived) = (self.schema(), Instant::now());
        let running = &schema.level.running;
        let seat = running.acquire(&schema.series, work, self.hash, limit, || {
            fairness.contended.notify_one();
            queued()
        });
        let seat = seat.await;
        let waited = schema.series.decided(seat.as_ref().err().copied(), arrived);
        (seat, waited)
    }
}

#[cfg(test)]
mod tests;
