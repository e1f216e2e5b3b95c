//! What every layer may use and what knows none of them: readiness, shutdown, metrics, changes of files.

pub mod directory_watch;
pub mod drain;
pub mod metrics;
pub mod readiness;
