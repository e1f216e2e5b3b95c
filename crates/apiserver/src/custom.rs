//! Custom resource definitions at work: their conditions, the end of their instances, and conversion.
//!
//! That their resources are served is the registry's doing, which follows them with the store's events.

pub mod conversion;
pub mod rules;

mod controller;

pub use controller::follow;
