//! The task that schedules: it follows the API, decides on one pod after the other, and has what
//! it decided done by small tasks of which a bounded number runs at a time.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sampan_api::object::ObjectRef;
use sampan_api::selector::Selector;
use sampan_client::events::{EventRecorder, EventSink, EventType};
use sampan_client::typed::Resource;
use sampan_client::{Client, Informer, InformerEvent, ListOptions};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::algorithm::{Algorithm, Decision, Refusal};
use crate::cluster::{Budget, Cluster, NodeChange, WorkloadKind};
use crate::framework::Refusers;
use crate::labels::{Labels, selector};
use crate::metrics::{Attempt, SchedulerMetrics};
use crate::node::NodeSpec;
use crate::pod::{Classes, DEFAULT_SCHEDULER, PodInfo};
use crate::queue::Queue;

mod execute;

use execute::{Finished, Writer};

/// Events that are taken in, and pods that are decided on, before the other gets its turn.
const EVENTS_AT_ONCE: usize = 4096;
const PODS_AT_ONCE: usize = 64;
/// How long writes may take to end when the scheduler is told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// How a scheduler works.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Pods whose `spec.schedulerName` is this are its own.
    pub name: String,
    /// Writes to the API, most of them bindings, at a time.
    pub writes_in_flight: usize,
    pub metrics: SchedulerMetrics,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        SchedulerConfig {
            name: DEFAULT_SCHEDULER.to_owned(),
            writes_in_flight: 128,
            metrics: SchedulerMetrics::default(),
        }
    }
}

/// Schedules until `shutdown` is done; then waits for writes under way. Calls `ready` once it
/// knows the cluster.
pub async fn run(
    client: Client,
    config: SchedulerConfig,
    ready: impl FnOnce() + Send,
    shutdown: impl Future<Output = ()> + Send,
) {
    let (recorder, sink) = EventRecorder::new(client.clone(), &config.name, "");
    let mut feeds = Feeds::start(&client);
    let mut scheduler = Scheduler {
        writer: Writer { client, scheduler: config.name.as_str().into() },
        config,
        recorder,
        cluster: Cluster::default(),
        classes: Classes::default(),
        queue: Queue::default(),
        algorithm: Algorithm::default(),
        tasks: JoinSet::new(),
        minds: Refusers::NONE,
    };
    let mut ready = Some(ready);
    tokio::pin!(shutdown);
    loop {
        scheduler.take_events(&mut feeds);
        let busy = if feeds.unsynced == 0 {
            if let Some(ready) = ready.take() {
                ready();
            }
            scheduler.decide_some()
        } else {
            false
        };
        scheduler.config.metrics.pending(scheduler.queue.counts());
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            () = tokio::task::yield_now(), if busy => {}
            () = scheduler.wait(&mut feeds), if !busy => {}
        }
        while let Some(finished) = scheduler.tasks.try_join_next() {
            scheduler.finish(finished, &feeds);
        }
    }
    scheduler.stop(sink).await;
}

/// Where events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Nodes,
    Namespaces,
    Budgets,
    Workloads(WorkloadKind),
    Pods,
}

struct Feed {
    source: Source,
    informer: Informer,
    events: mpsc::UnboundedReceiver<InformerEvent>,
}

/// Everything that is followed. Pods come last, so that what they refer to is usually known.
struct Feeds {
    feeds: Vec<Feed>,
    /// Taken from its feed while waiting.
    received: Option<(Source, InformerEvent)>,
    unsynced: usize,
}

impl Feeds {
    fn start(client: &Client) -> Self {
        use k8s_openapi::api::{apps::v1 as apps, core::v1 as core, policy::v1 as policy};
        let feed = |source, gvr| {
            let (sender, events) = mpsc::unbounded_channel();
            let informer = Informer::start(client.clone(), gvr, None, ListOptions::default(), sender);
            Feed { source, informer, events }
        };
        let workload = Source::Workloads;
        let feeds = vec![
            feed(Source::Nodes, core::Node::gvr()),
            feed(Source::Namespaces, core::Namespace::gvr()),
            feed(Source::Budgets, policy::PodDisruptionBudget::gvr()),
            feed(workload(WorkloadKind::Service), core::Service::gvr()),
            feed(workload(WorkloadKind::ReplicationController), core::ReplicationController::gvr()),
            feed(workload(WorkloadKind::ReplicaSet), apps::ReplicaSet::gvr()),
            feed(workload(WorkloadKind::StatefulSet), apps::StatefulSet::gvr()),
            feed(Source::Pods, core::Pod::gvr()),
        ];
        Feeds { unsynced: feeds.len(), feeds, received: None }
    }

    fn try_next(&mut self) -> Option<(Source, InformerEvent)> {
        let waiting = |feed: &mut Feed| Some((feed.source, feed.events.try_recv().ok()?));
        self.received.take().or_else(|| self.feeds.iter_mut().find_map(waiting))
    }

    /// Waits until [`Feeds::try_next`] has an event. Cancel safe.
    async fn changed(&mut self) {
        if self.received.is_some() {
            return;
        }
        let (feeds, received) = (&mut self.feeds, &mut self.received);
        poll_fn(|context| {
            for feed in feeds.iter_mut() {
                if let Poll::Ready(Some(event)) = feed.events.poll_recv(context) {
                    *received = Some((feed.source, event));
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// The latest state of a pod.
    fn pod(&self, key: &str) -> Option<ObjectRef> {
        self.feeds.iter().find(|feed| feed.source == Source::Pods)?.informer.get(key)
    }
}

struct Scheduler {
    config: SchedulerConfig,
    writer: Writer,
    recorder: EventRecorder,
    cluster: Cluster,
    classes: Classes,
    queue: Queue,
    algorithm: Algorithm,
    tasks: JoinSet<Finished>,
    /// Of plugins that may have changed their minds since pods were last woken.
    minds: Refusers,
}

impl Scheduler {
    fn take_events(&mut self, feeds: &mut Feeds) {
        for _ in 0..EVENTS_AT_ONCE {
            let Some((source, event)) = feeds.try_next() else { break };
            match event {
                InformerEvent::Applied { new, .. } => self.applied(source, &new),
                InformerEvent::Deleted(object) => self.deleted(source, &object),
                InformerEvent::Synced => feeds.unsynced -= 1,
            }
        }
        if !self.minds.is_empty() {
            self.queue.wake(self.minds, Instant::now());
            self.minds = Refusers::NONE;
        }
    }

    fn applied(&mut self, source: Source, object: &ObjectRef) {
        let result = match source {
            Source::Pods => {
                PodInfo::parse(object, &mut self.classes).map(|pod| self.pod_applied(Arc::new(pod)))
            }
            Source::Nodes => NodeSpec::parse(object).map(|node| {
                let change = self.cluster.set_node(node);
                self.minds = self.minds.and(minds_of(change));
            }),
            Source::Namespaces => {
                let labels: std::collections::BTreeMap<_, _> = object.header.labels.iter().cloned().collect();
                if self.cluster.set_namespace(&object.header.name, Labels::from(labels)) {
                    self.minds = self.minds.and(Refusers::INTER_POD_AFFINITY);
                }
                Ok(())
            }
            Source::Budgets => object.decode::<Value>().map(|value| {
                self.cluster.set_budget(object.key(), budget(object, &value));
            }),
            Source::Workloads(kind) => object.decode::<Value>().map(|value| {
                let key = (kind, object.header.namespace.clone(), object.header.name.clone());
                self.cluster.set_workload(key, workload_selector(kind, &value["spec"]["selector"]));
            }),
        };
        if let Err(error) = result {
            tracing::warn!(?source, object = object.key(), %error, "an object cannot be read and is left out");
        }
    }

    fn deleted(&mut self, source: Source, object: &ObjectRef) {
        match source {
            Source::Pods => self.pod_gone(&object.header.uid),
            Source::Nodes => {
                self.cluster.remove_node(&object.header.name);
                self.minds = self.minds.and(Refusers::POD_TOPOLOGY_SPREAD).and(Refusers::INTER_POD_AFFINITY);
            }
            Source::Namespaces => self.cluster.remove_namespace(&object.header.name),
            Source::Budgets => self.cluster.remove_budget(&object.key()),
            Source::Workloads(kind) => {
                let key = (kind, object.header.namespace.clone(), object.header.name.clone());
                self.cluster.remove_workload(&key);
            }
        }
    }

    fn pod_applied(&mut self, pod: Arc<PodInfo>) {
        if pod.finished {
            return self.pod_gone(&pod.uid);
        }
        if pod.node.is_some() {
            return self.pod_placed(pod);
        }
        if *pod.scheduler != *self.config.name {
            return;
        }
        if pod.terminating {
            return self.pod_gone(&pod.uid);
        }
        // An older state than the binding that is under way.
        if self.cluster.is_assumed(&pod.uid) {
            return;
        }
        let nominated = pod.nominated.clone();
        if self.queue.get(&pod.uid).is_none_or(|old| old.nominated != nominated) {
            self.cluster.nominate(&pod, nominated.as_deref());
        }
        self.queue.set(pod);
    }

    fn pod_placed(&mut self, pod: Arc<PodInfo>) {
        self.queue.remove(&pod.uid);
        self.cluster.forget_nomination(&pod.uid);
        if let Some(old) = self.cluster.pod(&pod.uid) {
            let same = old.node == pod.node
                && old.class == pod.class
                && old.terminating == pod.terminating
                && old.preempted == pod.preempted
                && old.started == pod.started;
            if same {
                return;
            }
            if old.class != pod.class {
                self.minds = self.minds.and(Refusers::NODE_RESOURCES_FIT);
            }
        }
        self.cluster.set_pod(pod);
        self.minds = self.minds.and(Refusers::POD_TOPOLOGY_SPREAD).and(Refusers::INTER_POD_AFFINITY);
    }

    fn pod_gone(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.cluster.forget_nomination(uid);
        if self.cluster.remove_pod(uid).is_some() {
            self.minds = self.minds.and(FREED);
        }
    }

    /// Decides on some pods; answers whether there are more that could be decided on now.
    fn decide_some(&mut self) -> bool {
        for _ in 0..PODS_AT_ONCE {
            if self.tasks.len() >= self.config.writes_in_flight {
                return false;
            }
            let Some(pod) = self.queue.next(Instant::now()) else { return false };
            let began = std::time::Instant::now();
            let decision = self.algorithm.schedule(&self.cluster, &pod);
            self.config.metrics.decided(began);
            match decision {
                Decision::Assign { node } => self.assign(pod, node, began),
                Decision::Refuse(refusal) => {
                    self.config.metrics.attempted(&self.config.name, Attempt::Unschedulable, began);
                    self.refuse(&pod, refusal);
                }
            }
        }
        true
    }

    fn assign(&mut self, pod: Arc<PodInfo>, node: Arc<str>, began: std::time::Instant) {
        self.cluster.forget_nomination(&pod.uid);
        self.cluster.assume(pod.clone(), &node);
        self.minds = self.minds.and(Refusers::INTER_POD_AFFINITY);
        self.tasks.spawn(self.writer.clone().bind(pod, node, began));
    }

    fn refuse(&mut self, pod: &Arc<PodInfo>, refusal: Refusal) {
        self.recorder.event(
            &execute::reference(pod),
            EventType::Warning,
            "FailedScheduling",
            refusal.message.as_str(),
        );
        let nominated: Option<Box<str>> = match &refusal.preemption {
            Some(preemption) => Some((*preemption.node).into()),
            None if refusal.keeps_nomination => pod.nominated.clone(),
            None => None,
        };
        let known = pod.unscheduled.as_ref();
        let told = known.is_some_and(|known| {
            let (reason, message) = &**known;
            **reason == *execute::UNSCHEDULABLE && **message == *refusal.message
        });
        let mut newer = PodInfo::clone(pod);
        newer.nominated = nominated.clone();
        let newer = Arc::new(newer);
        if pod.nominated != nominated || refusal.preemption.is_some() {
            self.cluster.nominate(&newer, nominated.as_deref());
        }
        self.queue.set(newer);
        self.queue.refused(&pod.uid, refusal.refusers, Instant::now());
        if let Some(preemption) = &refusal.preemption {
            for victim in &preemption.victims {
                let text = format!("Preempted by pod {} on node {}", pod.uid, preemption.node);
                self.recorder.event(&execute::reference(victim), EventType::Normal, "Preempted", text);
            }
        }
        if !told || pod.nominated != nominated || refusal.preemption.is_some() {
            let tell = self.writer.clone().refuse(pod.clone(), refusal, nominated);
            self.tasks.spawn(tell);
        }
    }

    fn finish(&mut self, finished: Result<Finished, tokio::task::JoinError>, feeds: &Feeds) {
        match finished {
            Ok(Finished::Bound { pod, node, began, result: Ok(()) }) => {
                self.config.metrics.attempted(&self.config.name, Attempt::Scheduled, began);
                self.queue.remove(&pod.uid);
                let text = format!("Successfully assigned {} to {node}", pod.key());
                self.recorder.event(&execute::reference(&pod), EventType::Normal, "Scheduled", text);
            }
            Ok(Finished::Bound { pod, node, began, result: Err(status) }) => {
                self.config.metrics.attempted(&self.config.name, Attempt::Error, began);
                tracing::info!(pod = pod.key(), %node, %status, "a binding failed");
                self.unbound(&pod, &status, feeds);
            }
            Ok(Finished::Told { retry: false, .. }) => {}
            Ok(Finished::Told { uid, retry: true }) => {
                if !self.cluster.is_assumed(&uid) {
                    self.queue.failed(&uid, Instant::now());
                }
            }
            // Tasks do not panic; if one does, the runtime has said so, and its pod stays assumed
            // until the API says otherwise.
            Err(error) => tracing::error!(%error, "a write ended early"),
        }
    }

    /// Takes a pod off the node that it could not be bound to.
    fn unbound(&mut self, pod: &Arc<PodInfo>, status: &sampan_api::Status, feeds: &Feeds) {
        if !self.cluster.is_assumed(&pod.uid) {
            return; // the API has said meanwhile where it is, or that it is gone
        }
        self.cluster.remove_pod(&pod.uid);
        self.minds = self.minds.and(FREED);
        if status.is_not_found() {
            return self.queue.remove(&pod.uid);
        }
        let text = format!("binding rejected: {status}");
        self.recorder.event(&execute::reference(pod), EventType::Warning, "FailedScheduling", text);
        self.queue.failed(&pod.uid, Instant::now());
        // Changes of the pod while it was assumed were not looked at.
        if let Some(latest) = feeds.pod(&pod.key()).filter(|latest| latest.header.uid == pod.uid) {
            self.applied(Source::Pods, &latest);
        }
    }

    /// Waits for something to do.
    async fn wait(&mut self, feeds: &mut Feeds) {
        let full = self.tasks.len() >= self.config.writes_in_flight;
        let due = self.queue.due().filter(|_| feeds.unsynced == 0 && !full);
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let tasks = &mut self.tasks;
        let finished = async {
            match tasks.join_next().await {
                Some(finished) => finished,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = feeds.changed() => {}
            () = timer => {}
            finished = finished => self.finish(finished, feeds),
        }
    }

    /// Lets writes end, and tells the last events.
    async fn stop(mut self, sink: EventSink) {
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("writes did not end in time and are given up");
            self.tasks.shutdown().await;
        }
        drop(self.recorder);
        let _ = tokio::time::timeout(DRAIN, sink.finish()).await;
    }
}

/// Plugins whose mind can change when a pod leaves its node.
const FREED: Refusers = Refusers::NODE_RESOURCES_FIT
    .and(Refusers::NODE_PORTS)
    .and(Refusers::POD_TOPOLOGY_SPREAD)
    .and(Refusers::INTER_POD_AFFINITY);

fn minds_of(change: NodeChange) -> Refusers {
    let when = |changed: bool, refusers: Refusers| if changed { refusers } else { Refusers::NONE };
    let by_labels =
        Refusers::NODE_AFFINITY.and(Refusers::POD_TOPOLOGY_SPREAD).and(Refusers::INTER_POD_AFFINITY);
    when(change.added, Refusers::ALL)
        .and(when(change.allocatable, Refusers::NODE_RESOURCES_FIT))
        .and(when(change.labels, by_labels))
        .and(when(change.taints, Refusers::TAINT_TOLERATION.and(Refusers::POD_TOPOLOGY_SPREAD)))
        .and(when(change.unschedulable, Refusers::NODE_UNSCHEDULABLE))
}

fn workload_selector(kind: WorkloadKind, value: &Value) -> Selector {
    match kind {
        WorkloadKind::Service | WorkloadKind::ReplicationController => {
            Selector::from_map(value).unwrap_or_else(|_| Selector::nothing())
        }
        WorkloadKind::ReplicaSet | WorkloadKind::StatefulSet => selector(value),
    }
}

fn budget(object: &ObjectRef, value: &Value) -> Budget {
    let disrupted = value["status"]["disruptedPods"].as_object();
    Budget {
        namespace: object.header.namespace.clone(),
        selector: selector(&value["spec"]["selector"]),
        allowed: value["status"]["disruptionsAllowed"].as_i64().unwrap_or_default(),
        disrupted: disrupted
            .into_iter()
            .flat_map(|pods| pods.keys())
            .map(|name| name.as_str().into())
            .collect(),
    }
}

#[cfg(test)]
mod tests;
