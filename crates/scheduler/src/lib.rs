//! kube-scheduler's job: gives each pod that has no node the best one.
//!
//! [`cluster`] holds what decisions are made from and follows the API event by event;
//! [`algorithm`] decides, synchronously and without I/O; [`scheduler`] is the task that feeds the
//! one, asks the other and tells the API. A pod that was given a node counts as being there at
//! once, while its binding is under way; if that fails, it is taken off again and tried anew.
//!
//! It places pods by their resources, ports, taints, affinities and spreading, and preempts by
//! priority. It does not know volumes' topology, resource claims or extenders.

pub mod algorithm;
pub mod cluster;
#[cfg(test)]
mod fixtures;
pub mod framework;
pub mod labels;
pub mod metrics;
pub mod node;
pub mod plugins;
pub mod pod;
pub mod queue;
pub mod resources;
pub mod scheduler;

pub use metrics::SchedulerMetrics;
pub use scheduler::{SchedulerConfig, run};
