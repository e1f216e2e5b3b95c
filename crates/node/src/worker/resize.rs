//! In-place changes of a pod's resources (KEP-1287): what is asked for, what the node has allotted, and
//! what the containers have. Pure.
//!
//! A change is taken up as a whole or not at all. What is taken up is *allotted*: it counts on the node,
//! and containers are brought to it one after another, in place or by a new start, as their
//! `resizePolicy` says.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

use super::decide::Action;
use super::state::{ContainerRecord, PodState, Stage};
use crate::amounts::Amounts;
use crate::pod::{self, ContainerKind};
use crate::spec::cgroup::PodLimits;

/// What one container asks for or has: quantities by name, as the API writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub requests: BTreeMap<String, String>,
    pub limits: BTreeMap<String, String>,
}

impl Resources {
    pub fn of(resources: Option<&ResourceRequirements>) -> Self {
        let texts = |list: Option<&BTreeMap<String, Quantity>>| {
            list.into_iter().flatten().map(|(name, amount)| (name.clone(), amount.0.clone())).collect()
        };
        Resources {
            requests: texts(resources.and_then(|all| all.requests.as_ref())),
            limits: texts(resources.and_then(|all| all.limits.as_ref())),
        }
    }

    /// In the form of the API; claims are `like` those that the container has.
    pub fn requirements(&self, like: Option<&ResourceRequirements>) -> ResourceRequirements {
        let list = |texts: &BTreeMap<String, String>| {
            let list = texts.iter().map(|(name, text)| (name.clone(), Quantity(text.clone())));
            (!texts.is_empty()).then(|| list.collect())
        };
        ResourceRequirements {
            claims: like.and_then(|all| all.claims.clone()),
            limits: list(&self.limits),
            requests: list(&self.requests),
        }
    }

    fn differ_in(&self, other: &Resources, name: &str) -> bool {
        self.requests.get(name) != other.requests.get(name) || self.limits.get(name) != other.limits.get(name)
    }
}

/// Resources by the name of the container.
pub type Allotment = BTreeMap<String, Resources>;

/// Why a change that is asked for is not taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub reason: PendingReason,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PendingReason {
    /// There is no room now, and there may be when other pods go.
    Deferred,
    /// The node is too small for it.
    Infeasible,
}

impl PendingReason {
    pub fn as_str(self) -> &'static str {
        match self {
            PendingReason::Deferred => "Deferred",
            PendingReason::Infeasible => "Infeasible",
        }
    }
}

/// What the node has, and what its other pods have of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub cpu_millis: i64,
    pub memory: i64,
    pub used_cpu_millis: i64,
    pub used_memory: i64,
}

/// What a pod asks for, of the containers that can be resized.
pub fn desired(pod: &Pod) -> Allotment {
    let spec = pod::spec(pod);
    let resizable = pod::containers(spec).filter(|(kind, _)| match kind {
        ContainerKind::Sidecar | ContainerKind::Main => true,
        ContainerKind::Init | ContainerKind::Ephemeral => false,
    });
    resizable
        .map(|(_, container)| (container.name.clone(), Resources::of(container.resources.as_ref())))
        .collect()
}

/// The pod with other resources than it asks for.
pub fn with_resources(pod: &Arc<Pod>, allotment: &Allotment) -> Arc<Pod> {
    if desired(pod) == *allotment {
        return pod.clone();
    }
    let mut pod = (**pod).clone();
    if let Some(spec) = &mut pod.spec {
        let init = spec.init_containers.iter_mut().flatten();
        for container in init.chain(&mut spec.containers) {
            if let Some(resources) = allotment.get(&container.name) {
                container.resources = Some(resources.requirements(container.resources.as_ref()));
            }
        }
    }
    Arc::new(pod)
}

/// Takes up the change that is asked for, when the node has room for it.
pub fn consider(state: &mut PodState, room: Room) -> Vec<Action> {
    let wanted = desired(&state.pod);
    if wanted == state.allotted {
        state.resize.pending = None;
        return Vec::new();
    }
    match state.stage {
        Stage::Active if !state.is_deleted() => {}
        Stage::Active | Stage::Terminating(_) | Stage::TearingDown(_) | Stage::Finished(_) => {
            return Vec::new();
        }
    }
    let pending = hindrance(Amounts::of_pod(pod::spec(&state.pod)), room);
    let reason = |pending: &Option<Pending>| pending.as_ref().map(|pending| pending.reason);
    let is_news = reason(&pending) != reason(&state.resize.pending);
    state.resize.pending.clone_from(&pending);
    match pending {
        None => {
            state.allotted = wanted;
            state.resize.error = None;
            state.resize.retry_at = None;
            state.resize.begun = true;
            vec![record(false, "ResizeStarted", "Pod resize started".to_owned())]
        }
        Some(pending) if is_news => {
            let reason = match pending.reason {
                PendingReason::Deferred => "ResizeDeferred",
                PendingReason::Infeasible => "ResizeInfeasible",
            };
            vec![record(true, reason, format!("Pod resize {}: {}", pending.reason.as_str(), pending.message))]
        }
        Some(_) => Vec::new(),
    }
}

pub fn record(warning: bool, reason: &'static str, message: String) -> Action {
    Action::Record { container: None, warning, reason, message }
}

fn hindrance(asked: Amounts, room: Room) -> Option<Pending> {
    let (cpu, memory) = (asked.cpu_request_millis.unwrap_or(0), asked.memory_request.unwrap_or(0));
    let infeasible = |what: &str, asked: i64, capacity: i64| Pending {
        reason: PendingReason::Infeasible,
        message: format!(
            "Node didn't have enough capacity: {what}, requested: {asked}, capacity: {capacity}"
        ),
    };
    let deferred = |what: &str, asked: i64, used: i64, capacity: i64| Pending {
        reason: PendingReason::Deferred,
        message: format!(
            "Node didn't have enough resource: {what}, requested: {asked}, used: {used}, capacity: {capacity}"
        ),
    };
    if memory > room.memory {
        Some(infeasible("memory", memory, room.memory))
    } else if cpu > room.cpu_millis {
        Some(infeasible("cpu", cpu, room.cpu_millis))
    } else if cpu + room.used_cpu_millis > room.cpu_millis {
        Some(deferred("cpu", cpu, room.used_cpu_millis, room.cpu_millis))
    } else if memory + room.used_memory > room.memory {
        Some(deferred("memory", memory, room.used_memory, room.memory))
    } else {
        None
    }
}

/// How a running container comes to what is allotted to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    InPlace,
    Restart,
}

/// What must be done for a running container; `None` when it has what is allotted.
pub fn way(state: &PodState, record: &ContainerRecord) -> Option<Way> {
    let has = record.running()?.resources.as_ref()?;
    let allotted = state.allotted.get(&record.name).filter(|allotted| *allotted != has)?;
    let container = pod::container(pod::spec(&state.pod), &record.name)?;
    let restarts = ["cpu", "memory"]
        .iter()
        .any(|name| has.differ_in(allotted, name) && policy(container, name) == Some("RestartContainer"));
    Some(if restarts { Way::Restart } else { Way::InPlace })
}

fn policy<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    let mut policies = container.resize_policy.iter().flatten();
    policies.find(|policy| policy.resource_name == name).map(|policy| policy.restart_policy.as_str())
}

/// Whether a change that was taken up is not through yet.
pub fn is_under_way(state: &PodState) -> bool {
    state.resize.busy && state.resize.begun
        || state.containers.iter().any(|record| way(state, record).is_some())
}

/// The limits of the pod as a whole: what is allotted, and the greater of that and of what is in force
/// while a container still has what it had before.
pub fn limits(state: &PodState) -> PodLimits {
    let allotted = PodLimits::of(&with_resources(&state.pod, &state.allotted), 0);
    if !is_under_way(state) {
        return allotted;
    }
    let mut had = state.allotted.clone();
    for record in &state.containers {
        if let Some(resources) = record.running().and_then(|running| running.resources.clone()) {
            had.insert(record.name.clone(), resources);
        }
    }
    allotted.max(PodLimits::of(&with_resources(&state.pod, &had), 0))
}

#[cfg(test)]
#[path = "resize/tests.rs"]
mod tests;
