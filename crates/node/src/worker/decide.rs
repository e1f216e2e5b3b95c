//! The decisions of a pod worker: from what it knows to what must be done now.
//!
//! Pure: no I/O and no clock of its own. Every action is emitted once; that it is under way is
//! part of the state afterwards, and its outcome comes back as an event.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::backoff;
use super::resize::{self, Way};
use super::state::{ContainerRecord, Phase, PodState, Stage, Terminated, Termination, Waiting};
use crate::pod::{self, ContainerKind, RestartPolicy};
use crate::spec::cgroup::PodLimits;

/// What the executor has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Find the image, create and start the container. Answered by `Started` or `StartFailed`.
    Start { container: usize },
    /// Write the limits of the pod, then those of containers, to what is allotted to them. Answered by
    /// `Resized`.
    Resize { limits: PodLimits, containers: Vec<usize> },
    /// Run the pre-stop hook, signal, wait, kill. Answered by `Exited`.
    Stop { container: usize, grace_seconds: i64, why: StopReason },
    /// Give up starts that have not come to creating a container yet.
    CancelStarts,
    /// Remove containers, sandbox, network and mounts. Answered by `TornDown`.
    TearDown,
    /// Remove what is left on disk and the API object.
    Remove,
    /// An event about a container (or the pod, without one).
    Record { container: Option<usize>, warning: bool, reason: &'static str, message: String },
}

/// Why a container is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    PodDeleted,
    PodFinished,
    Unhealthy,
    StartupFailed,
    HookFailed,
    /// It is to start again with other resources.
    Resized,
}

/// Decides. Also returns when to decide again without any event.
pub fn decide(state: &mut PodState, now: Timestamp) -> (Vec<Action>, Option<Timestamp>) {
    let mut decision = Decision { actions: Vec::new(), wake: None, now };
    // Each stage is left at most once per call.
    for _ in 0..4 {
        let before = std::mem::discriminant(&state.stage);
        match state.stage.clone() {
            Stage::Active => decision.active(state),
            Stage::Terminating(why) => decision.terminating(state, why),
            Stage::TearingDown(_) => {}
            Stage::Finished(_) => decision.finished(state),
        }
        if std::mem::discriminant(&state.stage) == before {
            break;
        }
    }
    (decision.actions, decision.wake)
}

const CRASH_LOOP: &str = "CrashLoopBackOff";

/// What a start after the end of a run has to wait for.
enum Restart {
    Never,
    Now,
    Later(Waiting, Timestamp),
}

struct Decision {
    actions: Vec<Action>,
    wake: Option<Timestamp>,
    now: Timestamp,
}

impl Decision {
    fn active(&mut self, state: &mut PodState) {
        if state.is_deleted() {
            self.terminate(state, Termination::Deleted);
        } else if let Some(deadline) = deadline(state) {
            if deadline <= self.now {
                self.record(
                    None,
                    false,
                    "DeadlineExceeded",
                    "Pod was active on the node longer than the specified deadline".into(),
                );
                self.terminate(state, Termination::DeadlineExceeded);
            } else {
                self.wake_at(deadline);
                self.resize(state);
                self.keep_running(state);
            }
        } else {
            self.resize(state);
            self.keep_running(state);
        }
    }

    /// Brings what runs to what is allotted: first in place, then by new starts.
    fn resize(&mut self, state: &mut PodState) {
        if !state.sandbox_ready || state.resize.busy {
            return;
        }
        if let Some(until) = state.resize.retry_at.filter(|until| *until > self.now) {
            return self.wake_at(until);
        }
        let limits = resize::limits(state);
        let is = |record: &ContainerRecord, way: Way| {
            matches!(record.phase, Phase::Running(_)) && resize::way(state, record) == Some(way)
        };
        let find = |way: Way| -> Vec<usize> {
            (0..state.containers.len()).filter(|index| is(&state.containers[*index], way)).collect()
        };
        let (containers, restarts) = (find(Way::InPlace), find(Way::Restart));
        if state.resize.limits != Some(limits) || !containers.is_empty() {
            state.resize.busy = true;
            return self.actions.push(Action::Resize { limits, containers });
        }
        for index in restarts {
            let grace_seconds = pod::grace_seconds(&state.pod);
            let record = &mut state.containers[index];
            let Phase::Running(running) = &record.phase else { continue };
            record.phase = Phase::Stopping(running.clone());
            record.restarting = true;
            let message = format!("Container {} resize requires restart", record.name);
            self.actions.push(Action::Stop { container: index, grace_seconds, why: StopReason::Resized });
            self.record(Some(index), false, "Killing", message);
        }
        if state.resize.begun && !resize::is_under_way(state) {
            state.resize.begun = false;
            self.record(None, false, "ResizeCompleted", "Pod resize completed".to_owned());
        }
    }

    fn terminate(&mut self, state: &mut PodState, why: Termination) {
        self.actions.push(Action::CancelStarts);
        state.stage = Stage::Terminating(why);
    }

    fn keep_running(&mut self, state: &mut PodState) {
        if self.is_completed(state) {
            return self.terminate(state, Termination::Completed);
        }
        // Whoever debugs a pod may have come for the very thing that keeps it from starting.
        for index in 0..state.containers.len() {
            if state.containers[index].kind == ContainerKind::Ephemeral && has_target(state, index) {
                self.keep_container(state, index);
            }
        }
        for index in 0..state.containers.len() {
            let record = &state.containers[index];
            if record.kind == ContainerKind::Main && !state.is_initialized() {
                return;
            }
            let gate_open = match record.kind {
                ContainerKind::Main => true,
                ContainerKind::Ephemeral => continue,
                ContainerKind::Init => {
                    let passed = state.containers[index + 1..].iter().any(|later| later.was_started);
                    if passed || record.terminated().is_some_and(|ended| ended.exit_code == 0) {
                        continue;
                    }
                    false
                }
                ContainerKind::Sidecar => record.was_started,
            };
            self.keep_container(state, index);
            if !gate_open {
                return;
            }
        }
    }

    /// Starts a container that should run and does not.
    fn keep_container(&mut self, state: &mut PodState, index: usize) {
        let pod = state.pod.clone();
        let record = &mut state.containers[index];
        match &record.phase {
            Phase::Waiting(waiting) => match waiting.until.filter(|until| *until > self.now) {
                Some(until) => self.wake_at(until),
                None => self.end_of_wait(&pod, record, index, &waiting.clone()),
            },
            Phase::Starting(_) | Phase::Running(_) | Phase::Stopping(_) => {}
            Phase::Exited(terminated) => match self.restart(&pod, record, terminated) {
                Restart::Never => {}
                Restart::Now => {
                    let ended = terminated.clone();
                    // An end that the node brought about is no failure.
                    if !std::mem::take(&mut record.restarting) {
                        record.backoff.lengthen(ended.finished_at, self.now);
                    }
                    record.last = Some(ended);
                    record.restart_count += 1;
                    self.start(record, index);
                }
                Restart::Later(waiting, until) => {
                    let message = format!(
                        "Back-off restarting failed container {} in pod {}",
                        record.name,
                        pod::full_name(&pod)
                    );
                    record.last = Some(terminated.clone());
                    record.phase = Phase::Waiting(waiting);
                    self.wake_at(until);
                    self.record(Some(index), true, "BackOff", message);
                }
            },
        }
    }

    /// Starts what waited, unless a failed pull has a longer wait before it.
    fn end_of_wait(&mut self, pod: &Pod, record: &mut ContainerRecord, index: usize, waiting: &Waiting) {
        if let ("ErrImagePull", Some(until)) = (waiting.reason.as_str(), record.image_backoff.holds(self.now))
        {
            let image = spec_container(pod, &record.name).and_then(|container| container.image.as_deref());
            let event = format!("Back-off pulling image \"{}\"", image.unwrap_or_default());
            let message =
                format!("{event}: ErrImagePull: {}", waiting.message.as_deref().unwrap_or_default());
            record.phase = Phase::Waiting(Waiting {
                reason: "ImagePullBackOff".to_owned(),
                message: Some(message),
                until: Some(until),
            });
            self.wake_at(until);
            return self.record(Some(index), false, "BackOff", event);
        }
        // A start that failed after that is tried again as the same run.
        if let (CRASH_LOOP, Some(ended)) = (waiting.reason.as_str(), &record.last) {
            record.backoff.lengthen(ended.finished_at, self.now);
            record.restart_count += 1;
        }
        self.start(record, index);
    }

    fn start(&mut self, record: &mut ContainerRecord, index: usize) {
        let shown = match (&record.phase, record.last.is_some()) {
            // Until the outcome is known the status goes on saying why it waited.
            (Phase::Waiting(waiting), true) => waiting.clone(),
            (Phase::Waiting(waiting), false) if waiting.message.is_some() => waiting.clone(),
            _ => Waiting::new("ContainerCreating"),
        };
        record.phase = Phase::Starting(Waiting { until: None, ..shown });
        self.actions.push(Action::Start { container: index });
    }

    fn restart(&self, pod: &Pod, record: &ContainerRecord, ended: &Terminated) -> Restart {
        if !wants_restart(pod, record, ended.exit_code) {
            return Restart::Never;
        }
        match record.backoff.waits(ended.finished_at, self.now).filter(|_| !record.restarting) {
            None => Restart::Now,
            Some((delay, until)) => {
                let message = format!(
                    "back-off {} restarting failed container={} pod={}",
                    backoff::display(delay),
                    record.name,
                    pod::full_name(pod)
                );
                let waiting =
                    Waiting { reason: CRASH_LOOP.into(), message: Some(message), until: Some(until) };
                Restart::Later(waiting, until)
            }
        }
    }

    /// Whether every container ended for good, or an init container failed for good.
    fn is_completed(&self, state: &PodState) -> bool {
        let final_end = |record: &ContainerRecord| match &record.phase {
            Phase::Exited(ended) => !wants_restart(&state.pod, record, ended.exit_code),
            Phase::Waiting(_) | Phase::Starting(_) | Phase::Running(_) | Phase::Stopping(_) => false,
        };
        let failed_init = state.containers.iter().any(|record| {
            record.kind == ContainerKind::Init
                && final_end(record)
                && record.terminated().is_some_and(|ended| ended.exit_code != 0)
        });
        let mut mains =
            state.containers.iter().filter(|record| record.kind == ContainerKind::Main).peekable();
        failed_init || (mains.peek().is_some() && mains.all(final_end))
    }

    fn terminating(&mut self, state: &mut PodState, why: Termination) {
        let reason = match why {
            Termination::Deleted => StopReason::PodDeleted,
            Termination::Completed | Termination::DeadlineExceeded | Termination::Rejected { .. } => {
                StopReason::PodFinished
            }
        };
        let grace_seconds = if state.gone { 0 } else { pod::grace_seconds(&state.pod) };
        // Sidecars serve the others to the end, and go in the reverse order of their start.
        let others_busy =
            state.containers.iter().any(|record| record.kind != ContainerKind::Sidecar && record.is_busy());
        let last_sidecar = state
            .containers
            .iter()
            .rposition(|record| record.kind == ContainerKind::Sidecar && record.is_busy());
        for index in 0..state.containers.len() {
            let record = &mut state.containers[index];
            let turn = match record.kind {
                ContainerKind::Sidecar => !others_busy && last_sidecar == Some(index),
                ContainerKind::Init | ContainerKind::Main | ContainerKind::Ephemeral => true,
            };
            // What an earlier process left is reached only once its sandbox is found again.
            let turn = turn && state.sandbox_ready;
            if let (true, Phase::Running(running)) = (turn, &record.phase) {
                record.phase = Phase::Stopping(running.clone());
                let message = format!("Stopping container {}", record.name);
                self.actions.push(Action::Stop { container: index, grace_seconds, why: reason });
                self.record(Some(index), false, "Killing", message);
            }
        }
        if !state.containers.iter().any(ContainerRecord::is_busy) {
            self.actions.push(Action::TearDown);
            state.stage = Stage::TearingDown(why);
        }
    }

    fn finished(&mut self, state: &mut PodState) {
        if state.is_deleted() {
            self.actions.push(Action::Remove);
        }
    }

    fn record(&mut self, container: Option<usize>, warning: bool, reason: &'static str, message: String) {
        self.actions.push(Action::Record { container, warning, reason, message });
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |known| known.min(at)));
    }
}

/// Whether the processes run that an ephemeral container is to see. One without a target sees its own
/// (or the pod's) and waits for nobody; one whose target is gone for good does not start.
fn has_target(state: &PodState, index: usize) -> bool {
    let record = &state.containers[index];
    let container = pod::ephemeral(pod::spec(&state.pod), &record.name);
    let target = container.and_then(|container| container.target_container_name.as_deref());
    match target.filter(|target| !target.is_empty()) {
        None => true,
        Some(target) => {
            let target = state.containers.iter().find(|record| record.name == target);
            target.is_some_and(|target| target.running().is_some())
        }
    }
}

/// When `activeDeadlineSeconds` is over.
fn deadline(state: &PodState) -> Option<Timestamp> {
    let seconds = pod::spec(&state.pod).active_deadline_seconds?;
    state.start_time.saturating_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether a container that ended is started again.
fn wants_restart(pod: &Pod, record: &ContainerRecord, exit_code: i32) -> bool {
    if record.restarting {
        return true;
    }
    let spec = pod::spec(pod);
    let by_policy = |policy: RestartPolicy| match policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        RestartPolicy::Never => false,
    };
    match record.kind {
        ContainerKind::Sidecar => true,
        ContainerKind::Ephemeral => false,
        ContainerKind::Init => match own_policy(spec_container(pod, &record.name), exit_code) {
            Some(policy) => exit_code != 0 && by_policy(policy),
            None => exit_code != 0 && pod::restart_policy(spec) != RestartPolicy::Never,
        },
        ContainerKind::Main => {
            let own = own_policy(spec_container(pod, &record.name), exit_code);
            by_policy(own.unwrap_or_else(|| pod::restart_policy(spec)))
        }
    }
}

fn spec_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    pod::container(pod::spec(pod), name)
}

/// The container's own restart rules and policy (KEP-5307), where it has any.
fn own_policy(container: Option<&Container>, exit_code: i32) -> Option<RestartPolicy> {
    let container = container?;
    let matched = container.restart_policy_rules.iter().flatten().any(|rule| {
        let Some(codes) = rule.exit_codes.as_ref().filter(|_| rule.action == "Restart") else { return false };
        let listed = codes.values.as_ref().is_some_and(|values| values.contains(&exit_code));
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    });
    if matched {
        return Some(RestartPolicy::Always);
    }
    match container.restart_policy.as_deref()? {
        "Always" => Some(RestartPolicy::Always),
        "OnFailure" => Some(RestartPolicy::OnFailure),
        "Never" => Some(RestartPolicy::Never),
        _ => None,
    }
}

#[cfg(test)]
#[path = "decide/tests.rs"]
mod tests;
