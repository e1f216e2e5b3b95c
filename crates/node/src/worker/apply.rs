//! What events change in a worker's knowledge. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::decide::{Action, StopReason};
use super::resize::Resources;
use super::state::{
    ContainerRecord, ImageUse, Phase, PodState, Running, Stage, Terminated, Termination, Waiting,
};
use crate::pod;
use crate::spec::cgroup::PodLimits;

/// What a worker hears of.
#[derive(Clone, Debug)]
pub enum Event {
    /// The pod's object changed.
    Pod(Arc<Pod>),
    /// The API server has no such pod any more.
    Gone,
    SandboxReady {
        ips: Vec<IpAddr>,
    },
    SandboxLost,
    /// A start is under way and this is why it takes time.
    Progress {
        container: usize,
        waiting: Waiting,
    },
    Image {
        container: usize,
        image: ImageUse,
    },
    Started {
        container: usize,
        running: Running,
    },
    /// Nothing was created; try again at `waiting.until`.
    StartFailed {
        container: usize,
        waiting: Waiting,
        image: bool,
    },
    /// A start was given up because the pod goes down.
    StartCancelled {
        container: usize,
    },
    /// The container was created but its process could not be started.
    CannotRun {
        container: usize,
        ended: Terminated,
    },
    PostStart {
        id: String,
        failed: bool,
    },
    Exited {
        ended: Terminated,
    },
    Probe {
        id: String,
        probe: ProbeKind,
        success: bool,
        grace_seconds: Option<i64>,
    },
    /// An attempt to bring the pod to what is allotted to it is over.
    Resized {
        limits: Result<PodLimits, String>,
        /// By container id.
        containers: Vec<(String, Result<Resources, String>)>,
    },
    TornDown,
}

/// The three probes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    /// As the messages of events name it.
    pub fn title(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }
}

/// Takes an event in. The actions are those that the event itself demands.
pub fn apply(state: &mut PodState, event: Event, now: Timestamp) -> Vec<Action> {
    match event {
        Event::Pod(pod) => {
            state.pod = pod;
            state.add_ephemeral();
            Vec::new()
        }
        Event::Gone => {
            state.gone = true;
            Vec::new()
        }
        Event::SandboxReady { ips } => {
            state.sandbox_ready = true;
            state.ips = ips;
            Vec::new()
        }
        Event::SandboxLost => sandbox_lost(state, now),
        Event::Progress { container, waiting } => {
            if let Some(ContainerRecord { phase: Phase::Starting(shown), .. }) =
                state.containers.get_mut(container)
            {
                *shown = waiting;
            }
            Vec::new()
        }
        Event::Image { container, image } => {
            if let Some(record) = state.containers.get_mut(container) {
                record.image = Some(image);
            }
            Vec::new()
        }
        Event::Started { container, running } => started(state, container, running),
        Event::StartFailed { container, waiting, image } => {
            if let Some(record) = state.containers.get_mut(container) {
                if image {
                    record.image_backoff.lengthen(now, now);
                }
                record.phase = Phase::Waiting(waiting);
            }
            Vec::new()
        }
        Event::StartCancelled { container } => {
            if let Some(record) = state.containers.get_mut(container) {
                record.phase = Phase::Waiting(Waiting::new("ContainerCreating"));
            }
            Vec::new()
        }
        Event::CannotRun { container, ended } => {
            if let Some(record) = state.containers.get_mut(container) {
                record.phase = Phase::Exited(ended);
            }
            Vec::new()
        }
        Event::PostStart { id, failed } => post_start(state, &id, failed),
        Event::Exited { ended } => {
            if let Some(record) = state.by_id(&ended.id) {
                record.phase = Phase::Exited(ended);
            }
            Vec::new()
        }
        Event::Probe { id, probe, success, grace_seconds } => {
            probed(state, &id, probe, success, grace_seconds)
        }
        Event::Resized { limits, containers } => resized(state, limits, containers, now),
        Event::TornDown => {
            state.sandbox_ready = false;
            if let Stage::TearingDown(why) = &state.stage {
                state.stage = Stage::Finished(why.clone());
            }
            Vec::new()
        }
    }
}

fn started(state: &mut PodState, container: usize, running: Running) -> Vec<Action> {
    if let Some(record) = state.containers.get_mut(container) {
        record.was_started |=
            record.kind != pod::ContainerKind::Sidecar || (running.hooked && running.started);
        record.phase = Phase::Running(running);
    }
    Vec::new()
}

fn post_start(state: &mut PodState, id: &str, failed: bool) -> Vec<Action> {
    if failed {
        return stop(state, id, StopReason::HookFailed, None, |_| "FailedPostStartHook".to_owned());
    }
    if let Some(record) = state.by_id(id)
        && let Some(running) = record.running_mut()
    {
        running.hooked = true;
        let complete = running.started;
        record.was_started |= complete;
    }
    Vec::new()
}

fn probed(
    state: &mut PodState,
    id: &str,
    probe: ProbeKind,
    success: bool,
    grace_seconds: Option<i64>,
) -> Vec<Action> {
    match (probe, success) {
        (ProbeKind::Readiness, ready) => {
            if let Some(running) = state.by_id(id).and_then(ContainerRecord::running_mut) {
                running.ready = ready;
            }
            Vec::new()
        }
        (ProbeKind::Startup, true) => {
            if let Some(record) = state.by_id(id)
                && let Some(running) = record.running_mut()
            {
                running.started = true;
                let complete = running.hooked;
                record.was_started |= complete;
            }
            Vec::new()
        }
        (ProbeKind::Liveness, true) => Vec::new(),
        (ProbeKind::Startup, false) => stop(state, id, StopReason::StartupFailed, grace_seconds, |name| {
            format!("Container {name} failed startup probe, will be restarted")
        }),
        (ProbeKind::Liveness, false) => stop(state, id, StopReason::Unhealthy, grace_seconds, |name| {
            format!("Container {name} failed liveness probe, will be restarted")
        }),
    }
}

/// The delay before a resize that failed is tried again.
const RESIZE_RETRY: SignedDuration = SignedDuration::from_secs(10);

fn resized(
    state: &mut PodState,
    limits: Result<PodLimits, String>,
    containers: Vec<(String, Result<Resources, String>)>,
    now: Timestamp,
) -> Vec<Action> {
    let mut error = None;
    match limits {
        Ok(limits) => state.resize.limits = Some(limits),
        Err(message) => error = Some(message),
    }
    for (id, result) in containers {
        match result {
            Ok(resources) => {
                if let Some(running) = state.by_id(&id).and_then(ContainerRecord::running_mut) {
                    running.resources = Some(resources);
                }
            }
            Err(message) => error = Some(message),
        }
    }
    let is_news = error.is_some() && error != state.resize.error;
    let actions = error.iter().filter(|_| is_news);
    let actions =
        actions.map(|message| super::resize::record(true, "ResizeError", message.clone())).collect();
    state.resize.busy = false;
    state.resize.retry_at = error.as_ref().and_then(|_| now.saturating_add(RESIZE_RETRY).ok());
    state.resize.error = error;
    actions
}

/// Tells one container to stop while the pod goes on.
fn stop(
    state: &mut PodState,
    id: &str,
    why: StopReason,
    grace_seconds: Option<i64>,
    message: impl Fn(&str) -> String,
) -> Vec<Action> {
    let grace = grace_seconds.unwrap_or_else(|| pod::grace_seconds(&state.pod));
    let found = state.containers.iter_mut().enumerate().find_map(|(index, record)| match &record.phase {
        Phase::Running(running) if running.id == id => Some((index, running.clone(), record)),
        Phase::Running(_)
        | Phase::Waiting(_)
        | Phase::Starting(_)
        | Phase::Stopping(_)
        | Phase::Exited(_) => None,
    });
    let Some((index, running, record)) = found else { return Vec::new() };
    record.phase = Phase::Stopping(running);
    let message = message(&record.name);
    vec![
        Action::Stop { container: index, grace_seconds: grace, why },
        Action::Record { container: Some(index), warning: false, reason: "Killing", message },
    ]
}

/// The supervisor died and with it every container: what ran has ended with an unknown status.
fn sandbox_lost(state: &mut PodState, now: Timestamp) -> Vec<Action> {
    state.sandbox_ready = false;
    state.resize.limits = None;
    state.containers.iter_mut().for_each(|record| record.lose(now));
    Vec::new()
}

/// Takes up a pod that the node refuses to run.
pub fn reject(state: &mut PodState, reason: &str, message: String) {
    state.stage = Stage::Finished(Termination::Rejected { reason: reason.to_owned(), message });
}
