//! What every layer may use and what knows none of them: readiness, shutdown, metrics.

pub mod drain;
pub mod metrics;
pub mod readiness;
