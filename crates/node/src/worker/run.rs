//! The worker's task: takes events in, decides, carries out, and lets others see.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use sampan_client::events::EventType;
use sampan_runtime::Supervisor;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::apply::{Event, apply};
use super::decide::{Action, StopReason, decide};
use super::lifecycle::Lifecycle;
use super::publish::{Publication, Publisher};
use super::sandbox::{Sandbox, SandboxTask};
use super::start::{self, Start};
use super::state::{ContainerRecord, PodState, Running, Stage, Terminated};
use super::stop::Stop;
use super::store::Stored;
use super::teardown;
use crate::images::chain;
use crate::pod;
use crate::probe::Target;
use crate::shared::Shared;
use crate::spec::fields::NodeFacts;
use crate::volumes::keeper::{Keeper, Volumes};

/// Events that may wait for a worker.
const QUEUE: usize = 256;

/// What others see of a pod on this node.
#[derive(Clone)]
pub struct View {
    pub pod: Arc<Pod>,
    pub containers: Vec<ContainerRecord>,
    pub sandbox: Option<Sandbox>,
}

/// A worker that runs.
pub struct Worker {
    pub events: mpsc::Sender<Event>,
    pub view: watch::Receiver<View>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Whether the pod is gone from the node.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Stops to look after the pod; its containers go on.
    pub async fn abandon(mut self) {
        self.task.abort();
        // It was aborted, or had ended before.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A supervisor that an earlier process left, and its events.
pub type Adopted = (Supervisor, mpsc::Receiver<sampan_runtime::Event>);

/// Starts a worker for a pod in a given state. `done` hears the pod's uid when nothing of it is left.
pub fn spawn(
    shared: Arc<Shared>,
    state: PodState,
    adopted: Option<Adopted>,
    done: mpsc::UnboundedSender<String>,
) -> Worker {
    let (events, receiver) = mpsc::channel(QUEUE);
    let view = View { pod: state.pod.clone(), containers: state.containers.clone(), sandbox: None };
    let (view_sender, view) = watch::channel(view);
    let task = Task::new(shared, state, events.clone(), view_sender);
    Worker { events, view, task: tokio::spawn(task.run(receiver, adopted, done)) }
}

struct Task {
    shared: Arc<Shared>,
    state: PodState,
    pod_dir: PathBuf,
    events: mpsc::Sender<Event>,
    view: watch::Sender<View>,
    pod: watch::Sender<Arc<Pod>>,
    facts: watch::Sender<NodeFacts>,
    sandbox: watch::Receiver<Option<Sandbox>>,
    sandbox_sender: Option<watch::Sender<Option<Sandbox>>>,
    volumes: watch::Receiver<Volumes>,
    volumes_sender: Option<watch::Sender<Volumes>>,
    cancelled: CancellationToken,
    /// Sandbox and volume keeper: dropped when the pod is taken down.
    keepers: JoinSet<()>,
    starts: JoinSet<()>,
    /// Hook and probes of running containers, by container id.
    lifecycles: HashMap<String, OwnedTask>,
    stops: HashMap<String, OwnedTask>,
    /// Containers that ended, until they are known to have run.
    ends: HashMap<String, sampan_runtime::ExitStatus>,
    publisher: Publisher,
    stored: Option<Vec<u8>>,
    removing: bool,
}

/// A task that ends with its owner.
struct OwnedTask(JoinHandle<()>);

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Task {
    fn new(
        shared: Arc<Shared>,
        state: PodState,
        events: mpsc::Sender<Event>,
        view: watch::Sender<View>,
    ) -> Self {
        let (sandbox_sender, sandbox) = watch::channel(None);
        let (volumes_sender, volumes) = watch::channel(Volumes::default());
        Task {
            pod_dir: shared.config.pod_dir(pod::uid(&state.pod)),
            pod: watch::channel(state.pod.clone()).0,
            facts: watch::channel(shared.facts(state.ips.clone())).0,
            publisher: Publisher::start(&shared, &state.pod),
            shared,
            state,
            events,
            view,
            sandbox,
            sandbox_sender: Some(sandbox_sender),
            volumes,
            volumes_sender: Some(volumes_sender),
            cancelled: CancellationToken::new(),
            keepers: JoinSet::new(),
            starts: JoinSet::new(),
            lifecycles: HashMap::new(),
            stops: HashMap::new(),
            ends: HashMap::new(),
            stored: None,
            removing: false,
        }
    }

    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        adopted: Option<Adopted>,
        done: mpsc::UnboundedSender<String>,
    ) {
        let (raw_sender, mut raw) = mpsc::channel(QUEUE);
        match self.state.stage {
            Stage::Active if !self.state.is_deleted() || adopted.is_some() => {
                self.set_up(raw_sender, adopted)
            }
            Stage::Active | Stage::Terminating(_) | Stage::TearingDown(_) | Stage::Finished(_) => {}
        }
        let mut volumes = self.volumes.clone();
        loop {
            let (actions, wake) = decide(&mut self.state, Timestamp::now());
            let mut removed = false;
            for action in actions {
                removed |= self.execute(action);
            }
            self.persist().await;
            self.show();
            if removed {
                self.remove().await;
                // A node that stops does not listen any more.
                let _ = done.send(pod::uid(&self.state.pod).to_owned());
                return;
            }
            let timer = async {
                match wake {
                    Some(at) => {
                        let delay = at.duration_since(Timestamp::now());
                        tokio::time::sleep(Duration::try_from(delay).unwrap_or(Duration::ZERO)).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                Some(event) = raw.recv() => self.take_raw(event),
                Ok(()) = volumes.changed() => self.tell_volumes(&volumes.borrow_and_update().clone()),
                () = timer => {}
            }
            // What came meanwhile is decided upon at once.
            while let Ok(event) = events.try_recv() {
                self.take(event);
            }
            while let Ok(event) = raw.try_recv() {
                self.take_raw(event);
            }
            self.take_ends().await;
        }
    }

    /// Starts to make the sandbox and the volumes.
    fn set_up(&mut self, raw: mpsc::Sender<sampan_runtime::Event>, adopted: Option<Adopted>) {
        let (Some(handle), Some(state)) = (self.sandbox_sender.take(), self.volumes_sender.take()) else {
            return;
        };
        let sandbox = SandboxTask {
            shared: self.shared.clone(),
            pod: self.state.pod.clone(),
            pod_dir: self.pod_dir.clone(),
            events: self.events.clone(),
            raw,
            handle,
            ips: self.state.ips.clone(),
            adopted,
        };
        let keeper = Keeper {
            client: self.shared.client.clone(),
            tracker: self.shared.tracker.clone(),
            pod_dir: self.pod_dir.clone(),
            pod: self.pod.subscribe(),
            node: self.facts.subscribe(),
            state,
        };
        self.keepers.spawn(sandbox.run());
        self.keepers.spawn(keeper.run());
    }

    fn take(&mut self, event: Event) {
        match &event {
            Event::Pod(pod) => {
                self.pod.send_replace(pod.clone());
            }
            Event::SandboxReady { ips } => {
                self.facts.send_replace(self.shared.facts(ips.clone()));
            }
            Event::Gone
            | Event::SandboxLost
            | Event::Progress { .. }
            | Event::Image { .. }
            | Event::Started { .. }
            | Event::StartFailed { .. }
            | Event::StartCancelled { .. }
            | Event::CannotRun { .. }
            | Event::PostStart { .. }
            | Event::Exited { .. }
            | Event::Probe { .. }
            | Event::TornDown => {}
        }
        let ready = matches!(event, Event::SandboxReady { .. });
        let lost = matches!(event, Event::SandboxLost);
        let started = match &event {
            Event::Started { container, running } => Some((*container, running.clone())),
            _ => None,
        };
        for action in apply(&mut self.state, event, Timestamp::now()) {
            self.execute(action);
        }
        if lost {
            self.lifecycles.clear();
            self.stops.clear();
        }
        if let Some((index, running)) = started {
            self.accompany(index, running);
        }
        if ready {
            // Adopted containers have no companion yet.
            for index in 0..self.state.containers.len() {
                if let Some(running) = self.state.containers[index].running().cloned()
                    && !self.lifecycles.contains_key(&running.id)
                {
                    self.accompany(index, running);
                }
            }
        }
    }

    /// Keeps the ends of containers until their starts are known: the two come by different ways.
    fn take_raw(&mut self, event: sampan_runtime::Event) {
        match event {
            sampan_runtime::Event::Exited { id, status } => {
                self.ends.insert(id, status);
            }
            sampan_runtime::Event::Started { .. }
            | sampan_runtime::Event::ExecExited { .. }
            | sampan_runtime::Event::LogRotated { .. } => {}
        }
    }

    /// Takes in the ends of containers that are known to run.
    async fn take_ends(&mut self) {
        let known: Vec<String> = self.ends.keys().filter(|id| self.state.runs(id)).cloned().collect();
        for id in known {
            if let Some(status) = self.ends.remove(&id) {
                self.ended(id, status).await;
            }
        }
    }

    /// A container ended: reads its last words, and removes what it leaves behind.
    async fn ended(&mut self, id: String, status: sampan_runtime::ExitStatus) {
        let Some(record) = self.state.by_id(&id) else { return };
        let (name, restart_count) = (record.name.clone(), record.restart_count);
        let started_at = record.running().map(|running| running.started_at);
        self.lifecycles.remove(&id);
        self.stops.remove(&id);
        let message = self.last_words(&name, &id, restart_count, status.exit_code).await;
        let reason = match (status.oom_killed, status.exit_code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        let ended = Terminated {
            id: id.clone(),
            exit_code: status.exit_code,
            signal: status.signal,
            reason: reason.to_owned(),
            message,
            started_at,
            finished_at: status.finished_at,
        };
        self.take(Event::Exited { ended });
        let sandbox = self.sandbox.borrow().clone();
        if let Some(sandbox) = sandbox {
            let (shared, pod_dir) = (self.shared.clone(), self.pod_dir.clone());
            self.keepers.spawn(async move {
                if let Err(error) = sandbox.supervisor.remove(&id, false).await {
                    tracing::debug!(container = id, error = chain(&error), "an ended container stays");
                }
                start::remove_container_files(&shared, &pod_dir, &id).await;
            });
        }
        self.forget_old_logs(&name, restart_count);
    }

    async fn last_words(&self, name: &str, id: &str, restart_count: i32, exit_code: i32) -> Option<String> {
        let container = pod::any_container(pod::spec(&self.state.pod), name)?;
        let policy = container.termination_message_policy.as_deref();
        let file = start::termination_log(&self.pod_dir, id);
        let from_log = policy == Some("FallbackToLogsOnError") && exit_code != 0;
        let log = from_log.then(|| crate::logs::path(&self.log_dir(), name, restart_count));
        let read = move || super::capture::termination_message(&file, log.as_deref());
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Only the current and the previous run can be asked for.
    fn forget_old_logs(&mut self, name: &str, restart_count: i32) {
        let oldest = restart_count - 1;
        if oldest <= 0 {
            return;
        }
        let directory = self.log_dir().join(name);
        self.keepers.spawn_blocking(move || {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let file_name = entry.file_name();
                let run = file_name
                    .to_str()
                    .and_then(|text| text.split('.').next())
                    .and_then(|run| run.parse().ok());
                if run.is_some_and(|run: i32| run < oldest) {
                    // Removed with the pod at the latest.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        });
    }

    fn log_dir(&self) -> PathBuf {
        let pod = &self.state.pod;
        self.shared.config.log_dir(pod::namespace(pod), pod::name(pod), pod::uid(pod))
    }

    fn target(&self, id: &str) -> Option<Target> {
        let sandbox = self.sandbox.borrow();
        let sandbox = sandbox.as_ref()?;
        let ip = *sandbox.ips.first()?;
        Some(Target { supervisor: sandbox.supervisor.clone(), id: id.to_owned(), ip })
    }

    /// Starts the hook and the probes of a running container.
    fn accompany(&mut self, index: usize, running: Running) {
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
    fn execute(&mut self, action: Action) -> bool {
        match action {
            Action::Start { container } => self.start(container),
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
        let Some(container) =
            pod::any_container(pod::spec(&self.state.pod), &record.name).map(Cow::into_owned)
        else {
            return;
        };
        let start = Start {
            shared: self.shared.clone(),
            pod: self.state.pod.clone(),
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
            StopReason::Unhealthy | StopReason::StartupFailed | StopReason::HookFailed => {
                self.lifecycles.remove(&running.id);
            }
        }
        self.stops.insert(running.id, OwnedTask(tokio::spawn(stop.run())));
    }

    fn tear_down(&mut self) {
        self.lifecycles.clear();
        self.stops.clear();
        self.keepers.abort_all();
        let sandbox = self.sandbox.borrow().clone();
        let (shared, pod, ips) = (self.shared.clone(), self.state.pod.clone(), self.state.ips.clone());
        let (pod_dir, events) = (self.pod_dir.clone(), self.events.clone());
        self.starts.spawn(async move {
            teardown::tear_down(&shared, &pod, &pod_dir, sandbox, ips).await;
            // A worker that is gone has no use for it.
            let _ = events.send(Event::TornDown).await;
        });
    }

    /// Writes what has to survive a restart, when it changed.
    async fn persist(&mut self) {
        if self.removing {
            return;
        }
        let stored = Stored::of(&self.state, &self.shared.boot_id);
        let Ok(text) = serde_json::to_vec(&(&stored.ips, &stored.finished, &stored.containers)) else {
            return;
        };
        let unchanged = self.stored.as_ref() == Some(&text);
        if unchanged {
            return;
        }
        self.stored = Some(text);
        let pod_dir = self.pod_dir.clone();
        let written = tokio::task::spawn_blocking(move || stored.write(&pod_dir)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(error = chain(&error), "a pod's state is not written");
        }
    }

    /// Lets status and streams follow.
    fn show(&mut self) {
        let view = View {
            pod: self.state.pod.clone(),
            containers: self.state.containers.clone(),
            sandbox: self.sandbox.borrow().clone(),
        };
        self.view.send_replace(view);
        self.publisher.publish(Publication::of(&self.state, self.shared.config.node_ip));
    }

    fn tell_volumes(&self, volumes: &Volumes) {
        match volumes {
            Volumes::Failed(message) => {
                self.shared.tell(&self.state.pod, None, EventType::Warning, "FailedMount", message.clone());
            }
            Volumes::Pending | Volumes::Ready(_) => {}
        }
    }

    /// The last of a pod: its files, then its object. When that is gone, nothing is left.
    async fn remove(&mut self) {
        self.removing = true;
        // What still cleans up after containers must not come between.
        self.keepers.shutdown().await;
        let (pod_dir, log_dir) = (self.pod_dir.clone(), self.log_dir());
        teardown::remove_files(pod_dir, log_dir).await;
        self.publisher.finish(self.state.gone).await;
    }
}
