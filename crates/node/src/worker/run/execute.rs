//! Carrying out what was decided: each action in a task of its own, which reports with an event.

use std::borrow::Cow;

use sampan_client::events::EventType;

use super::{OwnedTask, Task};
use crate::amounts::Amounts;
use crate::pod;
use crate::probe::Target;
use crate::spec::cgroup::{self, PodLimits};
use crate::worker::apply::Event;
use crate::worker::decide::{Action, StopReason};
use crate::worker::in_place::{Change, InPlace};
use crate::worker::lifecycle::Lifecycle;
use crate::worker::start::Start;
use crate::worker::state::Running;
use crate::worker::stop::Stop;
use crate::worker::teardown;

impl Task {
    pub(super) fn target(&self, id: &str) -> Option<Target> {
        let sandbox = self.sandbox.borrow();
        let sandbox = sandbox.as_ref()?;
        let ip = *sandbox.ips.first()?;
        Some(Target { supervisor: sandbox.supervisor.clone(), id: id.to_owned(), ip })
    }

    /// Starts the hook and the probes of a running container.
    pub(super) fn accompany(&mut self, index: usize, running: Running) {
        let name = &self.state.containers[index].name;
        let container = pod::any_container(pod::spec(&self.state.pod), name).map(Cow::into_owned);
        let (Some(container), Some(target)) = (container, self.target(&running.id)) else { return };
        let lifecycle = Lifecycle {
            shared: self.shared.clone(),
            pod: self.state.pod.clone(),
            container,
            target,
            events: self.events.clone(),
            running: running.clone(),
        };
        self.lifecycles.insert(running.id, OwnedTask(tokio::spawn(lifecycle.run())));
    }

    /// Carries an action out, or starts to. Returns whether the pod is to be removed.
    pub(super) fn execute(&mut self, action: Action) -> bool {
        match action {
            Action::Start { container } => self.start(container),
            Action::Resize { limits, containers } => self.resize(limits, containers),
            Action::Stop { container, grace_seconds, why } => self.stop(container, grace_seconds, why),
            Action::CancelStarts => self.cancelled.cancel(),
            Action::TearDown => self.tear_down(),
            Action::Remove => return true,
            Action::Record { container, warning, reason, message } => {
                let name = container.map(|index| self.state.containers[index].name.as_str());
                let kind = if warning { EventType::Warning } else { EventType::Normal };
                self.shared.tell(&self.state.pod, name, kind, reason, message);
            }
        }
        false
    }

    fn start(&mut self, index: usize) {
        let record = &self.state.containers[index];
        let pod = self.state.allotted_pod();
        let container = pod::any_container(pod::spec(&pod), &record.name).map(Cow::into_owned);
        let Some(container) = container else { return };
        let start = Start {
            shared: self.shared.clone(),
            pod,
            pod_dir: self.pod_dir.clone(),
            index,
            container,
            restart_count: record.restart_count,
            sandbox: self.sandbox.clone(),
            volumes: self.volumes.clone(),
            view: self.view.subscribe(),
            events: self.events.clone(),
            cancelled: self.cancelled.clone(),
        };
        self.starts.spawn(start.run());
    }

    fn resize(&mut self, limits: PodLimits, containers: Vec<usize>) {
        let pod = self.state.allotted_pod();
        let change = |index: usize| {
            let running = self.state.containers[index].running()?;
            let container = pod::container(pod::spec(&pod), &self.state.containers[index].name)?.clone();
            let has = running.resources.as_ref().map(|has| has.requirements(None));
            let memory_limit = Amounts::of(has.as_ref()).memory_limit;
            Some(Change { id: running.id.clone(), container, memory_limit })
        };
        let changes = containers.into_iter().filter_map(change).collect();
        let supervisor = self.sandbox.borrow().as_ref().map(|sandbox| sandbox.supervisor.clone());
        let cgroup = cgroup::pod_path(&self.shared.config.cgroup_root, &pod);
        let events = self.events.clone();
        self.starts.spawn(async move {
            let event = match supervisor {
                Some(supervisor) => InPlace { supervisor, cgroup, limits, changes }.run().await,
                None => Event::Resized { limits: Err("no sandbox".to_owned()), containers: Vec::new() },
            };
            // A worker that is gone has no use for it.
            let _ = events.send(event).await;
        });
    }

    fn stop(&mut self, index: usize, grace_seconds: i64, why: StopReason) {
        let record = &self.state.containers[index];
        let Some(running) = record.running().cloned() else { return };
        let container = pod::any_container(pod::spec(&self.state.pod), &record.name).map(Cow::into_owned);
        let (Some(container), Some(target)) = (container, self.target(&running.id)) else { return };
        let stop = Stop {
            shared: self.shared.clone(),
            pod: self.pod.subscribe(),
            container,
            target,
            stop_signal: record.image.as_ref().and_then(|image| image.stop_signal.clone()),
            grace_seconds,
            why,
            ips: self.state.ips.clone(),
        };
        match why {
            StopReason::PodDeleted | StopReason::PodFinished => {
                // Readiness goes on being probed while the container ends; liveness does not matter.
            }
            StopReason::Unhealthy
            | StopReason::StartupFailed
            | StopReason::HookFailed
            | StopReason::Resized => {
                self.lifecycles.remove(&running.id);
            }
        }
        self.stops.insert(running.id, OwnedTask(tokio::spawn(stop.run())));
    }

    fn tear_down(&mut self) {
        self.lifecycles.clear();
        self.stops.clear();
        self.keepers.abort_all();
        self.ending.cancel();
        let (sandbox_task, sandbox) = (self.sandbox_task.take(), self.sandbox.clone());
        let (shared, pod, mut ips) = (self.shared.clone(), self.state.pod.clone(), self.state.ips.clone());
        let (pod_dir, events) = (self.pod_dir.clone(), self.events.clone());
        self.starts.spawn(async move {
            if let Some(mut task) = sandbox_task {
                // It has no panic of its own to tell, and everything else is in the log.
                let _ = (&mut task.0).await;
            }
            let sandbox = sandbox.borrow().clone();
            // The state does not know yet of one that was just made.
            if let Some(made) = sandbox.as_ref().filter(|_| ips.is_empty()) {
                ips.clone_from(&made.ips);
            }
            teardown::tear_down(&shared, &pod, &pod_dir, sandbox, ips).await;
            // A worker that is gone has no use for it.
            let _ = events.send(Event::TornDown).await;
        });
    }
}
