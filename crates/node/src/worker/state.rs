//! What a pod worker knows: plain data, changed by events, from which decisions and status follow.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::resize::{self, Allotment, Pending, Resources};
use crate::pod::{self, ContainerKind};
use crate::spec::cgroup::PodLimits;

/// Where a pod is in its life on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Containers are started and kept running.
    Active,
    /// Nothing is started any more; what runs is being stopped.
    Terminating(Termination),
    /// No container runs; sandbox and volumes are being taken down.
    TearingDown(Termination),
    /// Nothing of the pod is left on the node but its logs.
    Finished(Termination),
}

/// Why a pod goes down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Termination {
    /// Every container ended by itself and none is to be started again.
    Completed,
    /// The API server was asked to delete the pod.
    Deleted,
    /// `activeDeadlineSeconds` is over.
    DeadlineExceeded,
    /// The node refused the pod: reason and message.
    Rejected { reason: String, message: String },
}

/// Where one container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not run and nothing is under way. Before its first start it has no `failed_at`.
    Waiting(Waiting),
    /// Its image is looked for or pulled, or it is being created.
    Starting(Waiting),
    Running(Running),
    /// Told to stop; it still runs.
    Stopping(Running),
    Exited(Terminated),
}

/// A container that does not run yet: what its status says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: Option<String>,
    /// Not to be tried before.
    pub until: Option<Timestamp>,
}

impl Waiting {
    pub fn new(reason: &str) -> Self {
        Waiting { reason: reason.to_owned(), message: None, until: None }
    }
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub id: String,
    pub pid: u32,
    pub started_at: Timestamp,
    /// The post-start hook is through (or there is none).
    pub hooked: bool,
    /// The startup probe has succeeded (or there is none).
    pub started: bool,
    /// The readiness probe succeeds (or there is none).
    pub ready: bool,
    /// What it was given; unknown of one that an older version of this program started.
    #[serde(default)]
    pub resources: Option<Resources>,
}

/// A container that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    pub id: String,
    pub exit_code: i32,
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`, `StartError`, …
    pub reason: String,
    pub message: Option<String>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
}

/// The image that a container runs or ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUse {
    /// The name that the status shows.
    pub name: String,
    /// `status.containerStatuses[].imageID`.
    pub id: String,
    pub stop_signal: Option<String>,
}

/// One container of the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRecord {
    pub name: String,
    pub kind: ContainerKind,
    pub phase: Phase,
    /// Of the current or next run.
    pub restart_count: i32,
    /// How the run before the current one ended.
    pub last: Option<Terminated>,
    pub backoff: Backoff,
    pub image_backoff: Backoff,
    pub image: Option<ImageUse>,
    /// It was started at least once and, for a sidecar, its startup was complete then.
    pub was_started: bool,
    /// It was told to stop so that it starts again with other resources.
    pub restarting: bool,
}

impl ContainerRecord {
    pub fn new(name: &str, kind: ContainerKind, waiting: &str) -> Self {
        ContainerRecord {
            name: name.to_owned(),
            kind,
            phase: Phase::Waiting(Waiting::new(waiting)),
            restart_count: 0,
            last: None,
            backoff: Backoff::default(),
            image_backoff: Backoff::default(),
            image: None,
            was_started: false,
            restarting: false,
        }
    }

    /// The process, while there is one.
    pub fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Running(running) | Phase::Stopping(running) => Some(running),
            Phase::Waiting(_) | Phase::Starting(_) | Phase::Exited(_) => None,
        }
    }

    pub fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.phase {
            Phase::Running(running) | Phase::Stopping(running) => Some(running),
            Phase::Waiting(_) | Phase::Starting(_) | Phase::Exited(_) => None,
        }
    }

    /// Its process is gone and nobody saw how it ended.
    pub fn lose(&mut self, now: Timestamp) {
        if let Some(running) = self.running() {
            self.phase = Phase::Exited(Terminated {
                id: running.id.clone(),
                exit_code: 137,
                signal: None,
                reason: "ContainerStatusUnknown".to_owned(),
                message: Some("The container could not be located when the pod was terminated".to_owned()),
                started_at: Some(running.started_at),
                finished_at: now,
            });
        }
    }

    /// The number of the run that its log, when none is asked for, is of; `None` before the first.
    pub fn logged_run(&self) -> Option<i32> {
        match &self.phase {
            Phase::Running(_) | Phase::Stopping(_) | Phase::Exited(_) => Some(self.restart_count),
            // While it backs off, the next run is not counted yet.
            Phase::Waiting(waiting) if self.last.is_some() && waiting.reason == "CrashLoopBackOff" => {
                Some(self.restart_count)
            }
            Phase::Waiting(_) | Phase::Starting(_) => {
                self.last.as_ref().map(|_| (self.restart_count - 1).max(0))
            }
        }
    }

    /// The number of the run whose log is the previous one's.
    pub fn previous_run(&self) -> Option<i32> {
        self.last.as_ref()?;
        match &self.phase {
            Phase::Running(_) | Phase::Stopping(_) | Phase::Exited(_) => {
                Some((self.restart_count - 1).max(0))
            }
            Phase::Waiting(_) | Phase::Starting(_) => self.logged_run(),
        }
    }

    /// Whether something of it is or may soon be in the kernel.
    pub fn is_busy(&self) -> bool {
        match &self.phase {
            Phase::Starting(_) | Phase::Running(_) | Phase::Stopping(_) => true,
            Phase::Waiting(_) | Phase::Exited(_) => false,
        }
    }

    /// How it ended, when it ended and was not started again.
    pub fn terminated(&self) -> Option<&Terminated> {
        match &self.phase {
            Phase::Exited(terminated) => Some(terminated),
            Phase::Waiting(_) => self.last.as_ref(),
            Phase::Starting(_) | Phase::Running(_) | Phase::Stopping(_) => None,
        }
    }
}

/// Everything that a worker knows of its pod.
#[derive(Clone, Debug)]
pub struct PodState {
    pub pod: Arc<Pod>,
    pub stage: Stage,
    /// In the order of starting; those that were added later come last.
    pub containers: Vec<ContainerRecord>,
    /// `status.startTime`.
    pub start_time: Timestamp,
    pub sandbox_ready: bool,
    /// Empty before the sandbox was ready once.
    pub ips: Vec<IpAddr>,
    /// Whether the API server has forgotten the pod.
    pub gone: bool,
    /// What its containers may have; differs from the specification while a change waits.
    pub allotted: Allotment,
    pub resize: ResizeState,
}

/// How far a change of a pod's resources is.
#[derive(Clone, Debug, Default)]
pub struct ResizeState {
    /// Why what is asked for is not allotted.
    pub pending: Option<Pending>,
    /// A change was allotted and its end is not told yet.
    pub begun: bool,
    /// An attempt is under way.
    pub busy: bool,
    pub error: Option<String>,
    /// Not to be tried before.
    pub retry_at: Option<Timestamp>,
    /// The limits of the pod as a whole that are in force; `None` when that is unknown.
    pub limits: Option<PodLimits>,
}

impl PodState {
    /// A pod that the node takes up now.
    pub fn new(pod: Arc<Pod>, now: Timestamp) -> Self {
        let spec = pod::spec(&pod);
        let has_init = spec.init_containers.as_ref().is_some_and(|all| !all.is_empty());
        let waiting = if has_init { "PodInitializing" } else { "ContainerCreating" };
        let containers = pod::containers(spec)
            .map(|(kind, container)| ContainerRecord::new(&container.name, kind, waiting))
            .collect();
        let start_time =
            pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(now, |time| time.0);
        let mut state = PodState {
            stage: Stage::Active,
            containers,
            start_time,
            sandbox_ready: false,
            ips: Vec::new(),
            gone: false,
            allotted: resize::desired(&pod),
            resize: ResizeState { limits: Some(PodLimits::of(&pod, 0)), ..ResizeState::default() },
            pod,
        };
        state.add_ephemeral();
        state
    }

    /// Takes up the ephemeral containers that the pod has got. They come last, so that the others
    /// keep their places.
    pub fn add_ephemeral(&mut self) {
        let pod = self.pod.clone();
        for container in pod::spec(&pod).ephemeral_containers.iter().flatten() {
            if self.index_of(&container.name).is_none() {
                let kind = ContainerKind::Ephemeral;
                self.containers.push(ContainerRecord::new(&container.name, kind, "ContainerCreating"));
            }
        }
    }

    /// The pod with the resources that its containers may have.
    pub fn allotted_pod(&self) -> Arc<Pod> {
        resize::with_resources(&self.pod, &self.allotted)
    }

    pub fn is_deleted(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Whether every init container is through, so that the main ones may start.
    pub fn is_initialized(&self) -> bool {
        self.containers.iter().all(|record| match record.kind {
            ContainerKind::Main | ContainerKind::Ephemeral => true,
            ContainerKind::Init => {
                record.terminated().is_some_and(|ended| ended.exit_code == 0) || self.main_started()
            }
            ContainerKind::Sidecar => record.was_started,
        })
    }

    /// Main containers start only after initialisation, which is not repeated.
    fn main_started(&self) -> bool {
        self.containers.iter().any(|record| record.kind == ContainerKind::Main && record.was_started)
    }

    pub fn termination(&self) -> Option<&Termination> {
        match &self.stage {
            Stage::Active => None,
            Stage::Terminating(why) | Stage::TearingDown(why) | Stage::Finished(why) => Some(why),
        }
    }

    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.containers.iter().position(|record| record.name == name)
    }

    /// Whether a container with this id is known to run.
    pub fn runs(&self, id: &str) -> bool {
        self.containers.iter().any(|record| record.running().is_some_and(|running| running.id == id))
    }

    /// The record whose current run has this container id.
    pub fn by_id(&mut self, id: &str) -> Option<&mut ContainerRecord> {
        self.containers.iter_mut().find(|record| record.running().is_some_and(|running| running.id == id))
    }
}
