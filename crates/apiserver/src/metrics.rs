//! What the API server counts, under kube-apiserver's names.
//!
//! Requests are counted where they are answered ([`requests`]); what can be read at any time (objects,
//! the process, the build) is read at each scrape only.

use std::sync::Arc;

use sampan_base::metrics::{Counter, Description, Exposition, Family, Format, Histogram, Registry};

pub mod requests;

mod admission;
mod build;
mod process;
mod storage;

pub use admission::{AdmissionMetrics, Step};
pub use requests::{Observed, RequestMetrics};

/// The metrics of one API server.
pub struct Metrics {
    registry: Registry,
    /// What `/metrics/slis` shows, and `/metrics` does not: how healthy the server says that it is.
    indicators: Registry,
    pub requests: RequestMetrics,
    pub admission: Arc<AdmissionMetrics>,
    authentication: Arc<Family<Counter>>,
    authentication_seconds: Arc<Family<Histogram>>,
    authenticated_users: Arc<Family<Counter>>,
    authorization: Arc<Family<Counter>>,
    authorization_seconds: Arc<Family<Histogram>>,
    /// Results of health checks: name, livez or readyz, result.
    pub health_checks: Arc<Family<Counter>>,
    pub health_state: Arc<Family<sampan_base::metrics::Gauge>>,
}

const AUTHENTICATION: Description = Description::new(
    "authentication_attempts",
    "[ALPHA] Requests whose credentials were looked at, by result.",
    &["result"],
);
/// The buckets of upstream's durations of authentication and authorisation: a millisecond and its doubles.
const DOUBLING: [f64; 15] = sampan_base::metrics::exponential(0.001, 2.0);
const AUTHENTICATION_SECONDS: Description = Description::new(
    "authentication_duration_seconds",
    "[ALPHA] How long authentication took, by result.",
    &["result"],
)
.buckets(&DOUBLING);
const AUTHENTICATED_USERS: Description = Description::new(
    "authenticated_user_requests",
    "[ALPHA] Authenticated requests, by user; all but a few well-known names are counted as other.",
    &["username"],
);
const AUTHORIZATION: Description = Description::new(
    "authorization_attempts_total",
    "[ALPHA] Requests that were authorised or not, by result.",
    &["result"],
);
const AUTHORIZATION_SECONDS: Description = Description::new(
    "authorization_duration_seconds",
    "[ALPHA] How long authorisation took, by result.",
    &["result"],
)
.buckets(&DOUBLING);
const HEALTH_CHECKS: Description = Description::new(
    "kubernetes_healthchecks_total",
    "[STABLE] This metric records the results of all healthcheck.",
    &["name", "status", "type"],
);
const HEALTH_STATE: Description = Description::new(
    "kubernetes_healthcheck",
    "[STABLE] This metric records the result of a single healthcheck.",
    &["name", "type"],
);

impl Metrics {
    pub fn new(registry: Registry) -> Self {
        registry.register(Arc::new(build::collect));
        registry.register(Arc::new(process::collect));
        let indicators = Registry::default();
        indicators.register(Arc::new(process::collect_start));
        Metrics {
            requests: RequestMetrics::new(&registry),
            admission: Arc::new(AdmissionMetrics::new(&registry)),
            authentication: registry.family(AUTHENTICATION),
            authentication_seconds: registry.family(AUTHENTICATION_SECONDS),
            authenticated_users: registry.family(AUTHENTICATED_USERS),
            authorization: registry.family(AUTHORIZATION),
            authorization_seconds: registry.family(AUTHORIZATION_SECONDS),
            health_checks: indicators.family(HEALTH_CHECKS),
            health_state: indicators.family(HEALTH_STATE),
            registry,
            indicators,
        }
    }

    /// Counts the objects of a registry at each scrape, and what it admits.
    pub fn follow(&self, registry: &Arc<crate::registry::Registry>) {
        let _ = registry.admission_metrics.set(self.admission.clone());
        let registry = Arc::downgrade(registry);
        self.registry.register(Arc::new(move |out: &mut Exposition| {
            if let Some(registry) = registry.upgrade() {
                storage::collect(&registry, out);
            }
        }));
    }

    /// Counts what is encrypted and decrypted on its way to and from the store.
    pub fn follow_encryption(&self, encryption: Arc<sampan_storage::encryption::Encryption>) {
        self.registry
            .register(Arc::new(move |out: &mut Exposition| storage::collect_encryption(&encryption, out)));
    }

    /// The registry, for what else is to be counted.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn authenticated(&self, user: Option<&str>, took: std::time::Duration) {
        let result = if user.is_some() { "success" } else { "failure" };
        self.authentication.with(&[result]).inc();
        self.authentication_seconds.with(&[result]).observe(took.as_secs_f64());
        if let Some(user) = user {
            self.authenticated_users.with(&[well_known(user)]).inc();
        }
    }

    pub fn authorized(&self, allowed: bool, took: std::time::Duration) {
        let result = if allowed { "allowed" } else { "denied" };
        self.authorization.with(&[result]).inc();
        self.authorization_seconds.with(&[result]).observe(took.as_secs_f64());
    }

    pub fn encode(&self, format: Format) -> String {
        self.registry.encode(format)
    }

    /// The service level indicators alone, which are cheap enough to be asked for every few seconds.
    pub fn encode_indicators(&self, format: Format) -> String {
        self.indicators.encode(format)
    }
}

/// The name under which a user's requests are counted: names of people must not become labels.
fn well_known(user: &str) -> &str {
    match user {
        "admin" | "client" | "kube_proxy" | "kubelet" | "system:serviceaccount:kube-system:default" => user,
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
