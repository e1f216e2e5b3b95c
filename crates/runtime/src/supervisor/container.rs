//! One container as the supervisor holds it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use jiff::Timestamp;

use super::Caller;
use super::events::ChildExit;
use super::streams::Streams;
use crate::protocol::{ContainerState, ContainerStatus};
use crate::record::ContainerRecord;

/// Where it is, finer than what the outside sees: jobs take time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Creating,
    Created,
    /// The start is in flight; the process may end before that is known.
    Starting {
        exited: Option<ChildExit>,
    },
    Running,
    Exited,
    Deleting,
}

/// A removal that waits for the processes to end.
#[derive(Clone, Copy, Debug)]
pub struct Removal {
    pub caller: Option<Caller>,
}

pub struct Container {
    pub phase: Phase,
    pub status: ContainerStatus,
    pub cgroup: PathBuf,
    /// Its processes do not all end with the first.
    pub shares_processes: bool,
    pub stdin: bool,
    pub streams: Streams,
    pub removal: Option<Removal>,
    /// Kept from creation to start, where a runtime gives it.
    pub start: Option<OwnedFd>,
}

impl Container {
    pub fn new(id: String, cgroup: PathBuf, log_path: Option<PathBuf>, streams: Streams) -> Container {
        let status = ContainerStatus {
            id,
            state: ContainerState::Created,
            pid: 0,
            created_at: Timestamp::now(),
            started_at: None,
            exit: None,
            log_path,
        };
        Container {
            phase: Phase::Creating,
            status,
            cgroup,
            shares_processes: true,
            stdin: false,
            streams,
            removal: None,
            start: None,
        }
    }

    /// Whether others may know of it.
    pub fn is_visible(&self) -> bool {
        match self.phase {
            Phase::Creating => false,
            Phase::Created | Phase::Starting { .. } | Phase::Running | Phase::Exited | Phase::Deleting => {
                true
            }
        }
    }

    /// Whether it has a first process that was not reaped yet.
    pub fn has_process(&self) -> bool {
        match &self.phase {
            Phase::Created | Phase::Running => true,
            Phase::Starting { exited } => exited.is_none(),
            Phase::Creating | Phase::Exited | Phase::Deleting => false,
        }
    }

    pub fn record(&self) -> ContainerRecord {
        ContainerRecord {
            cgroup: self.cgroup.clone(),
            status: self.is_visible().then(|| self.status.clone()),
        }
    }
}
