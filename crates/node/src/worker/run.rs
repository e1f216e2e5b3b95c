//! The worker's task: takes events in, decides, has decisions carried out, and lets others see.

mod ends;
mod execute;

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
use super::decide::decide;
use super::publish::{Publication, Publisher};
use super::resize::{self, Allotment};
use super::sandbox::{Sandbox, SandboxTask};
use super::state::{ContainerRecord, PodState, Stage};
use super::store::Stored;
use super::teardown;
use crate::amounts::Amounts;
use crate::images::chain;
use crate::pod;
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
    /// Makes and keeps the sandbox until `ending`.
    sandbox_task: Option<OwnedTask>,
    ending: CancellationToken,
    /// The keeper of volumes, and what cleans up after containers: dropped when the pod is taken down.
    keepers: JoinSet<()>,
    starts: JoinSet<()>,
    /// Hook and probes of running containers, by container id.
    lifecycles: HashMap<String, OwnedTask>,
    stops: HashMap<String, OwnedTask>,
    /// Containers that ended, until they are known to have run.
    ends: HashMap<String, sampan_runtime::ExitStatus>,
    publisher: Publisher,
    /// What the node counts the pod with.
    counted: Option<Allotment>,
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
            sandbox_task: None,
            ending: CancellationToken::new(),
            keepers: JoinSet::new(),
            starts: JoinSet::new(),
            lifecycles: HashMap::new(),
            stops: HashMap::new(),
            ends: HashMap::new(),
            counted: None,
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
        let mut room = self.shared.allotments.subscribe();
        loop {
            self.consider_resize();
            let (actions, wake) = decide(&mut self.state, Timestamp::now());
            // First, so that the next process knows of what is begun now.
            self.persist().await;
            let mut removed = false;
            for action in actions {
                removed |= self.execute(action);
            }
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
                // Room that a change of resources waits for.
                Ok(()) = room.changed(), if self.state.resize.pending.is_some() => {}
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

    /// Takes up a change of resources when the node has room for it, and counts the pod with what it has.
    fn consider_resize(&mut self) {
        let uid = pod::uid(&self.state.pod).to_owned();
        match self.state.stage {
            Stage::Active | Stage::Terminating(_) => {}
            Stage::TearingDown(_) | Stage::Finished(_) => return self.shared.allotments.remove(&uid),
        }
        let room = self.shared.allotments.room(&uid, &self.shared.capacity);
        for action in resize::consider(&mut self.state, room) {
            self.execute(action);
        }
        if self.counted.as_ref() != Some(&self.state.allotted) {
            let amounts = Amounts::of_pod(pod::spec(&self.state.allotted_pod()));
            self.shared.allotments.set(&uid, amounts);
            self.counted = Some(self.state.allotted.clone());
        }
    }

    /// Starts to make the sandbox and the volumes.
    fn set_up(&mut self, raw: mpsc::Sender<sampan_runtime::Event>, adopted: Option<Adopted>) {
        let (Some(handle), Some(state)) = (self.sandbox_sender.take(), self.volumes_sender.take()) else {
            return;
        };
        let sandbox = SandboxTask {
            shared: self.shared.clone(),
            pod: self.state.allotted_pod(),
            pod_dir: self.pod_dir.clone(),
            events: self.events.clone(),
            raw,
            handle,
            ips: self.state.ips.clone(),
            adopted,
            ending: self.ending.clone(),
        };
        let keeper = Keeper {
            client: self.shared.client.clone(),
            tracker: self.shared.tracker.clone(),
            pod_dir: self.pod_dir.clone(),
            pod: self.pod.subscribe(),
            node: self.facts.subscribe(),
            state,
        };
        self.sandbox_task = Some(OwnedTask(tokio::spawn(sandbox.run())));
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
            | Event::Resized { .. }
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

    /// Writes what has to survive a restart, when it changed.
    async fn persist(&mut self) {
        if self.removing {
            return;
        }
        let stored = Stored::of(&self.state, &self.shared.boot_id);
        let Ok(text) =
            serde_json::to_vec(&(&stored.ips, &stored.finished, &stored.containers, &stored.allotted))
        else {
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
