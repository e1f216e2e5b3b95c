//! `status` of a pod: a pure function of what its worker knows.

mod conditions;
mod containers;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, PodCondition, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::amounts::QosClass;
use crate::pod::{self, ContainerKind, RestartPolicy};
use crate::status::containers::Statuses;
use crate::worker::state::{ContainerRecord, Phase, PodState, Stage, Termination};

/// The prefix of container ids in the API.
pub const ID_PREFIX: &str = "sampan://";

/// `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl PodPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            PodPhase::Pending => "Pending",
            PodPhase::Running => "Running",
            PodPhase::Succeeded => "Succeeded",
            PodPhase::Failed => "Failed",
        }
    }

    fn is_final(self) -> bool {
        match self {
            PodPhase::Succeeded | PodPhase::Failed => true,
            PodPhase::Pending | PodPhase::Running => false,
        }
    }
}

/// The phase that the containers make. It is final only when none of them runs any more, also no sidecar:
/// who waits for the end of a pod may take away what its containers use.
pub fn phase(state: &PodState) -> PodPhase {
    let phase = phase_to_be(state);
    if !phase.is_final() || !state.containers.iter().any(ContainerRecord::is_busy) {
        return phase;
    }
    let ran = |record: &ContainerRecord| {
        record.kind == ContainerKind::Main
            && (record.last.is_some() || record.running().is_some() || record.terminated().is_some())
    };
    if state.containers.iter().any(ran) { PodPhase::Running } else { PodPhase::Pending }
}

/// The phase once nothing runs that is to end.
fn phase_to_be(state: &PodState) -> PodPhase {
    let mains = || state.containers.iter().filter(|record| record.kind == ContainerKind::Main);
    let ended_well = |record: &ContainerRecord| record.terminated().is_some_and(|ended| ended.exit_code == 0);
    match &state.stage {
        Stage::Terminating(Termination::DeadlineExceeded)
        | Stage::TearingDown(Termination::DeadlineExceeded)
        | Stage::Finished(Termination::DeadlineExceeded | Termination::Rejected { .. }) => PodPhase::Failed,
        Stage::Terminating(Termination::Completed) | Stage::TearingDown(_) | Stage::Finished(_) => {
            if mains().all(ended_well) { PodPhase::Succeeded } else { PodPhase::Failed }
        }
        Stage::Terminating(Termination::Rejected { .. }) => PodPhase::Failed,
        Stage::Active | Stage::Terminating(Termination::Deleted) => {
            if !state.is_initialized() {
                return PodPhase::Pending;
            }
            let never_ran = |record: &ContainerRecord| match &record.phase {
                Phase::Waiting(_) | Phase::Starting(_) => record.last.is_none(),
                Phase::Running(_) | Phase::Stopping(_) | Phase::Exited(_) => false,
            };
            if mains().any(never_ran) {
                return PodPhase::Pending;
            }
            if mains().any(|record| record.running().is_some()) {
                return PodPhase::Running;
            }
            match pod::restart_policy(pod::spec(&state.pod)) {
                RestartPolicy::Always => PodPhase::Running,
                RestartPolicy::OnFailure | RestartPolicy::Never if mains().all(ended_well) => {
                    PodPhase::Succeeded
                }
                RestartPolicy::OnFailure => PodPhase::Running,
                RestartPolicy::Never => PodPhase::Failed,
            }
        }
    }
}

/// The status of a pod. Conditions keep the time of their last change from `state.pod`.
pub fn status(state: &PodState, previous: Option<&PodStatus>, host_ip: IpAddr, now: Timestamp) -> PodStatus {
    let spec = pod::spec(&state.pod);
    let phase = phase(state);
    let finished = phase.is_final() && state.termination().is_some();
    let (reason, message) = match state.termination().filter(|_| phase.is_final()) {
        Some(Termination::DeadlineExceeded) => (
            Some("DeadlineExceeded".to_owned()),
            Some("Pod was active on the node longer than the specified deadline".to_owned()),
        ),
        Some(Termination::Rejected { reason, message }) => (Some(reason.clone()), Some(message.clone())),
        Some(Termination::Completed | Termination::Deleted) | None => (None, None),
    };
    let Statuses { init, main, ephemeral } = containers::statuses(state, finished);
    let conditions = conditions::conditions(state, phase, &init, &main, previous, now);
    let ips = if pod::host_network(spec) { vec![host_ip] } else { state.ips.clone() };
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        conditions: Some(conditions),
        reason,
        message,
        host_ip: Some(host_ip.to_string()),
        host_ips: Some(vec![HostIP { ip: host_ip.to_string() }]),
        pod_ip: ips.first().map(IpAddr::to_string),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        start_time: Some(Time(state.start_time)),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        ephemeral_container_statuses: (!ephemeral.is_empty()).then_some(ephemeral),
        qos_class: Some(QosClass::of(spec).as_str().to_owned()),
        observed_generation: state.pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// A strategic merge patch that makes the stored status this one, and fails when the pod was
/// replaced by another of the same name. Conditions of others are left alone. `previous` is what was
/// written before.
pub fn patch(uid: &str, status: &PodStatus, previous: Option<&PodStatus>) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    for name in
        ["reason", "message", "podIP", "podIPs", "initContainerStatuses", "ephemeralContainerStatuses"]
    {
        if value.get(name).is_none() {
            value[name] = Value::Null;
        }
    }
    // Lists of addresses are merged by the server unless told otherwise.
    for condition in value["conditions"].as_array_mut().into_iter().flatten() {
        for name in ["reason", "message"] {
            if condition.get(name).is_none() {
                condition[name] = Value::Null;
            }
        }
    }
    let has = |status: &PodStatus, kind: &str| {
        status.conditions.iter().flatten().any(|condition| condition.type_ == kind)
    };
    for kind in conditions::RESIZE_CONDITIONS {
        if previous.is_some_and(|previous| has(previous, kind))
            && !has(status, kind)
            && let Some(conditions) = value["conditions"].as_array_mut()
        {
            conditions.push(json!({"type": kind, "$patch": "delete"}));
        }
    }
    json!({"metadata": {"uid": uid}, "status": value})
}

/// Whether two statuses say the same.
pub fn same(a: &PodStatus, b: &PodStatus) -> bool {
    let plain = |status: &PodStatus| {
        let conditions: Vec<PodCondition> = status
            .conditions
            .iter()
            .flatten()
            .map(|condition| PodCondition {
                last_probe_time: None,
                last_transition_time: None,
                ..condition.clone()
            })
            .collect();
        (conditions, PodStatus { conditions: None, ..status.clone() })
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests;
