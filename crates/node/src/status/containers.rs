//! `containerStatuses`, `initContainerStatuses` and `ephemeralContainerStatuses`.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ID_PREFIX;
use crate::pod::{self, ContainerKind};
use crate::worker::resize::Resources;
use crate::worker::state::{ContainerRecord, Phase, PodState, Terminated, Waiting};

/// The statuses of a pod's containers by kind, in the order of the specification.
#[derive(Debug, Default)]
pub struct Statuses {
    /// Sidecars among them.
    pub init: Vec<ContainerStatus>,
    pub main: Vec<ContainerStatus>,
    pub ephemeral: Vec<ContainerStatus>,
}

/// The statuses of all containers. `finished` is whether the pod has its final phase.
pub fn statuses(state: &PodState, finished: bool) -> Statuses {
    let spec = pod::spec(&state.pod);
    let mut all = Statuses::default();
    for record in &state.containers {
        let container = pod::any_container(spec, &record.name);
        let allotted = state.allotted.get(&record.name);
        let status = status(record, container.as_deref(), allotted, finished);
        match record.kind {
            ContainerKind::Init | ContainerKind::Sidecar => all.init.push(status),
            ContainerKind::Main => all.main.push(status),
            ContainerKind::Ephemeral => all.ephemeral.push(status),
        }
    }
    all
}

fn status(
    record: &ContainerRecord,
    container: Option<&Container>,
    allotted: Option<&Resources>,
    finished: bool,
) -> ContainerStatus {
    let (current, last) = match &record.phase {
        Phase::Waiting(waiting) | Phase::Starting(waiting) if finished => match &record.last {
            // It will not be started again: how it ended is its state.
            Some(ended) => (terminated(ended), None),
            None => (waiting_state(waiting), None),
        },
        Phase::Waiting(waiting) | Phase::Starting(waiting) => (waiting_state(waiting), record.last.as_ref()),
        Phase::Running(running) | Phase::Stopping(running) => {
            let running = ContainerStateRunning { started_at: Some(Time(running.started_at)) };
            let current = ContainerState { running: Some(running), ..ContainerState::default() };
            (current, record.last.as_ref())
        }
        Phase::Exited(ended) => (terminated(ended), record.last.as_ref()),
    };
    let id = record.running().map(|running| running.id.as_str());
    let id = id.or(match &record.phase {
        Phase::Exited(ended) => Some(ended.id.as_str()),
        Phase::Waiting(_) | Phase::Starting(_) => record.last.as_ref().map(|ended| ended.id.as_str()),
        Phase::Running(_) | Phase::Stopping(_) => None,
    });
    let own = container.and_then(|container| container.resources.as_ref());
    // What can be resized says what it may have and has, be it nothing.
    let may_have = allotted
        .map(|allotted| allotted.requirements(own))
        .or_else(|| own.filter(|own| own.limits.is_some() || own.requests.is_some()).cloned());
    let has = record.running().and_then(|running| running.resources.as_ref());
    let has = has.filter(|_| allotted.is_some()).map(|has| has.requirements(own));
    let image = record.image.as_ref();
    let spec_image = container.and_then(|container| container.image.clone()).unwrap_or_default();
    ContainerStatus {
        name: record.name.clone(),
        image: image.map(|image| image.name.clone()).filter(|name| !name.is_empty()).unwrap_or(spec_image),
        image_id: image.map(|image| image.id.clone()).unwrap_or_default(),
        container_id: id.filter(|id| !id.is_empty()).map(|id| format!("{ID_PREFIX}{id}")),
        ready: is_ready(record),
        // Of ephemeral containers nobody asks whether they are up.
        started: (record.kind != ContainerKind::Ephemeral)
            .then(|| record.running().is_some_and(|running| running.started && running.hooked)),
        restart_count: record.restart_count,
        state: Some(current),
        last_state: Some(last.map(terminated).unwrap_or_default()),
        resources: record.running().and(has.or_else(|| may_have.clone())),
        allocated_resources: may_have.and_then(|all| all.requests),
        volume_mounts: container.and_then(mounts),
        ..ContainerStatus::default()
    }
}

fn mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_deref().filter(|mounts| !mounts.is_empty())?;
    let status = |mount: &k8s_openapi::api::core::v1::VolumeMount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| "Disabled".to_owned()),
    };
    Some(mounts.iter().map(status).collect())
}

/// An init container is ready when it succeeded; any other while it is up and its probes agree.
pub fn is_ready(record: &ContainerRecord) -> bool {
    match (&record.phase, record.kind) {
        (Phase::Exited(ended), ContainerKind::Init) => ended.exit_code == 0,
        (
            Phase::Running(running) | Phase::Stopping(running),
            ContainerKind::Main | ContainerKind::Sidecar,
        ) => running.started && running.hooked && running.ready,
        (Phase::Running(_) | Phase::Stopping(_), ContainerKind::Init)
        | (Phase::Exited(_), ContainerKind::Main | ContainerKind::Sidecar)
        | (_, ContainerKind::Ephemeral)
        | (Phase::Waiting(_) | Phase::Starting(_), _) => false,
    }
}

fn waiting_state(waiting: &Waiting) -> ContainerState {
    let waiting =
        ContainerStateWaiting { reason: Some(waiting.reason.clone()), message: waiting.message.clone() };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(ended: &Terminated) -> ContainerState {
    let terminated = ContainerStateTerminated {
        container_id: (!ended.id.is_empty()).then(|| format!("{ID_PREFIX}{}", ended.id)),
        exit_code: ended.exit_code,
        signal: None,
        reason: Some(ended.reason.clone()),
        message: ended.message.clone(),
        started_at: ended.started_at.map(Time),
        finished_at: Some(Time(ended.finished_at)),
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}
