//! What every layer may use and what knows none of them: readiness and shutdown.

pub mod drain;
pub mod readiness;
