//! Containers on this machine: one small supervisor process per pod, and the handle to speak to it.
//!
//! Creating a container forks and changes the working directory, which must never happen inside a
//! multi-threaded process. So the server re-executes its own binary as a single-threaded
//! [supervisor](supervisor::main), which creates, starts, reaps and logs the containers of one pod
//! and outlives the server. A [`Supervisor`] is the server's handle: launch one, or connect to one
//! that a previous server left running and adopt its containers.
//!
//! Invariants:
//! - The supervisor is the parent of every container's first process, so an exit status is never
//!   lost: it stays in the [`protocol::Hello`] that every new connection gets.
//! - The OCI runtime itself runs in a fork of the supervisor, never in the supervisor: it changes its
//!   own `oom_score_adj` and dumpable flag, may block on hooks, and its heap goes away with it.
//! - Output that cannot be written stays in the container's pipe. Nothing is dropped.
//!
//! Not here: images and root file systems, network set-up, and the building of the OCI spec. The
//! caller brings a complete `oci_spec::runtime::Spec`.

mod cgroup;
pub mod cleanup;
pub mod client;
mod descriptors;
pub mod fuzzing;
mod log;
mod oci;
pub mod protocol;
mod record;
pub mod sandbox;
mod socket;
pub mod supervisor;
mod terminal;

pub use cgroup::usage::{CpuUsage, MemoryUsage, Usage, usage};
pub use cleanup::{CleanupError, cleanup};
pub use client::{ConnectError, Exec, LaunchError, RequestError, Streams, Supervisor, resize_terminal};
pub use oci::native::capabilities::NAMES as CAPABILITIES;
pub use protocol::{ContainerConfig, Event, ExecConfig, ExitStatus};
pub use sandbox::{NamespaceMode, PidMode, SandboxConfig};
