//! The worker of one pod: one task that owns the pod's state machine and its supervisor.
//!
//! Flow: an [event](apply::Event) changes the [state](state::PodState); [`decide`](decide::decide)
//! turns it into actions; [`run`] carries them out in tasks of their own, which report with events.
//! Status and the file that survives a restart follow from the state.

pub mod apply;
pub mod backoff;
pub mod capture;
pub mod decide;
mod in_place;
pub mod lifecycle;
mod publish;
pub mod resize;
pub mod run;
pub mod sandbox;
pub mod start;
pub mod state;
pub mod stop;
pub mod store;
mod teardown;
