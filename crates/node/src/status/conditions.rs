//! `status.conditions`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::PodPhase;
use crate::pod::{self, ContainerKind};
use crate::worker::state::PodState;

struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Verdict { status: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: Option<String>) -> Self {
        Verdict { status: false, reason: Some(reason), message }
    }
}

/// Conditions that are there only while they hold.
pub const RESIZE_CONDITIONS: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// The node's conditions of a pod.
pub fn conditions(
    state: &PodState,
    phase: PodPhase,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    previous: Option<&PodStatus>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let sandbox = Verdict { status: state.sandbox_ready, reason: None, message: None };
    let mut all = vec![
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized(state, phase, init)),
        ("Ready", ready(state, phase, main)),
        ("ContainersReady", containers_ready(state, phase, main)),
        ("PodScheduled", Verdict::yes()),
    ];
    all.extend(resize_pending(state).map(|verdict| (RESIZE_CONDITIONS[0], verdict)));
    all.extend(resize_in_progress(state).map(|verdict| (RESIZE_CONDITIONS[1], verdict)));
    let stored = state.pod.status.as_ref();
    let known = |kind: &str| {
        let find = |status: Option<&PodStatus>| {
            status?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind).cloned()
        };
        find(previous).or_else(|| find(stored))
    };
    let build = |(kind, verdict): (&str, Verdict)| {
        let status = if verdict.status { "True" } else { "False" };
        let since = known(kind).filter(|old| old.status == status).and_then(|old| old.last_transition_time);
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.map(str::to_owned),
            message: verdict.message,
            last_probe_time: None,
            last_transition_time: Some(since.unwrap_or(Time(now))),
            observed_generation: state.pod.metadata.generation,
        }
    };
    all.into_iter().map(build).collect()
}

fn resize_pending(state: &PodState) -> Option<Verdict> {
    let pending = state.resize.pending.as_ref()?;
    let message = Some(pending.message.clone());
    Some(Verdict { status: true, reason: Some(pending.reason.as_str()), message })
}

fn resize_in_progress(state: &PodState) -> Option<Verdict> {
    if !state.resize.begun {
        return None;
    }
    let message = state.resize.error.clone();
    Some(Verdict { status: true, reason: message.as_ref().map(|_| "Error"), message })
}

fn initialized(state: &PodState, phase: PodPhase, init: &[ContainerStatus]) -> Verdict {
    if phase == PodPhase::Succeeded {
        return Verdict { status: true, reason: Some("PodCompleted"), message: None };
    }
    if state.is_initialized() {
        return Verdict::yes();
    }
    let incomplete: Vec<&str> = init
        .iter()
        .zip(&state.containers)
        .filter(|(status, record)| match record.kind {
            ContainerKind::Sidecar => !record.was_started,
            ContainerKind::Init | ContainerKind::Main | ContainerKind::Ephemeral => !status.ready,
        })
        .map(|(status, _)| status.name.as_str())
        .collect();
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Verdict::no("ContainersNotInitialized", Some(message))
}

fn containers_ready(state: &PodState, phase: PodPhase, main: &[ContainerStatus]) -> Verdict {
    match phase {
        PodPhase::Succeeded => return Verdict::no("PodCompleted", None),
        PodPhase::Failed => return Verdict::no("PodFailed", None),
        PodPhase::Pending | PodPhase::Running => {}
    }
    let sidecars = state
        .containers
        .iter()
        .filter(|record| record.kind == ContainerKind::Sidecar && !super::containers::is_ready(record))
        .map(|record| record.name.as_str());
    let mains = main.iter().filter(|status| !status.ready).map(|status| status.name.as_str());
    let unready: Vec<&str> = sidecars.chain(mains).collect();
    if unready.is_empty() {
        return Verdict::yes();
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Verdict::no("ContainersNotReady", Some(message))
}

/// Ready containers and readiness gates.
fn ready(state: &PodState, phase: PodPhase, main: &[ContainerStatus]) -> Verdict {
    let containers = containers_ready(state, phase, main);
    if !containers.status {
        return containers;
    }
    let mut complaints = Vec::new();
    for gate in pod::spec(&state.pod).readiness_gates.iter().flatten() {
        let name = &gate.condition_type;
        let conditions = state.pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        match conditions.and_then(|all| all.iter().find(|condition| &condition.type_ == name)) {
            None => complaints
                .push(format!("corresponding condition of pod readiness gate \"{name}\" does not exist.")),
            Some(condition) if condition.status != "True" => complaints.push(format!(
                "the status of pod readiness gate \"{name}\" is not \"True\", but {}",
                condition.status
            )),
            Some(_) => {}
        }
    }
    if complaints.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ReadinessGatesNotReady", Some(complaints.join(", ")))
}
