//! The worker of one pod: one task that owns the pod's state machine and its supervisor.
//!
//! Flow: an [event](apply::Event) changes the [state](state::PodState); [`decide`](decide::decide)
//! turns it into actions; the [executor](execute) carries them out in tasks of their own, which
//! report with events. Status and the file that survives a restart follow from the state.

pub mod apply;
pub mod backoff;
pub mod capture;
pub mod decide;
pub mod state;
