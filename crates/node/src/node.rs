//! The node: starts its parts, gives each pod a worker, and takes the worker away when nothing of
//! the pod is left.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use sampan_api::object::ObjectRef;
use sampan_client::events::{EventRecorder, EventSink};
use sampan_client::typed::Resource;
use sampan_client::{Client, DeleteOptions, Informer, InformerEvent, ListOptions};
use sampan_image::ImageStore;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::adoption::{self, Found};
use crate::allotments::Allotments;
use crate::config::NodeConfig;
use crate::host_ports;
use crate::images::{Images, Puller, chain};
use crate::network::{PodNetwork, PodNetworkError};
use crate::node_object::{Capacity, NodeObject};
use crate::objects::ObjectTracker;
use crate::pod;
use crate::proxy::{self, ServiceView};
use crate::shared::{Shared, boot_id};
use crate::usage::Meter;
use crate::worker::apply::Event;
use crate::worker::run::{self, View, Worker};
use crate::worker::sandbox::supervisor_dir;
use crate::worker::state::PodState;
use crate::worker::store::Stored;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("cannot use the node's data directory")]
    Data(#[source] std::io::Error),
    #[error("cannot set up the node's network")]
    Network(#[source] sampan_net::NodeError),
    #[error("cannot set up the network of pods")]
    PodNetwork(#[from] PodNetworkError),
    #[error("a task of the start did not end")]
    Task(#[from] tokio::task::JoinError),
}

type Workers = Arc<Mutex<HashMap<String, Worker>>>;

/// A node that runs.
pub struct Node {
    shared: Arc<Shared>,
    workers: Workers,
    ready: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
    _events: EventSink,
}

impl Node {
    /// Starts the node, under its own identity and, for services, the proxy's. Returns when its network
    /// stands; registration and adoption go on: see [`Node::ready`]. Acts on the network namespace of the
    /// calling process.
    pub async fn start(
        config: NodeConfig,
        client: Client,
        proxy: Client,
        images: ImageStore,
        puller: Arc<dyn Puller>,
    ) -> Result<Node, NodeError> {
        let network = config.network.clone();
        let data = config.clone();
        let (found, capacity) = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&data.data_dir).map_err(NodeError::Data)?;
            sampan_net::ensure_node(&network).map_err(NodeError::Network)?;
            let mut found = adoption::find(&data).map_err(NodeError::Data)?;
            adoption::complete(&mut found, &data).map_err(PodNetworkError::from)?;
            Ok::<_, NodeError>((found, Capacity::of_machine(&data.data_dir)))
        })
        .await??;
        let pod_network = Arc::new(PodNetwork::new(config.network.clone())?);
        reserve(&pod_network, &found);
        let (recorder, events) = EventRecorder::new(client.clone(), "kubelet", &config.name);
        let services = Arc::new(ServiceView::default());
        keep_host_ports(&services, &found);
        let shared = Arc::new(Shared {
            images: Images { store: images.clone(), puller, client: client.clone() },
            tracker: Arc::new(ObjectTracker::new(client.clone())),
            recorder,
            network: pod_network,
            services: services.clone(),
            capacity,
            allotments: Allotments::default(),
            meter: Meter::default(),
            boot_id: boot_id(),
            leases: Mutex::default(),
            attach_lock: Arc::default(),
            client: client.clone(),
            config: config.clone(),
        });
        let (ready_sender, ready) = watch::channel(false);
        let workers = Workers::default();
        let object =
            Arc::new(NodeObject { client: client.clone(), config: config.clone(), capacity, images });
        let registered = {
            let shared = shared.clone();
            let workers = workers.clone();
            async move {
                let (sender, adopted) = tokio::sync::oneshot::channel();
                let (dispatcher, ended) = Dispatcher::new(shared.clone(), workers, found);
                let dispatching = tokio::spawn(dispatcher.run(ended, sender));
                let node = object.register().await;
                let keeping = tokio::spawn(object.run(node));
                let _owned = (Owned(dispatching), Owned(keeping));
                // The dispatcher says so, or is gone with the node.
                let _ = adopted.await;
                shared.services.ready().await;
                ready_sender.send_replace(true);
                std::future::pending::<()>().await;
            }
        };
        let tasks = vec![
            tokio::spawn(proxy::run(proxy, config.network.clone(), services, true)),
            tokio::spawn(registered),
        ];
        Ok(Node { shared, workers, ready, tasks, _events: events })
    }

    /// Waits until the node is registered, what ran before is adopted and services are carried.
    pub async fn ready(&self) {
        let mut ready = self.ready.clone();
        // The sender lives as long as the node's task.
        let _ = ready.wait_for(|ready| *ready).await;
    }

    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// What the node knows of services: the records of its DNS follow from it.
    pub fn services(&self) -> Arc<ServiceView> {
        self.shared.services.clone()
    }

    /// Stops to look after the pods. Containers and connections go on; the next start adopts them.
    pub async fn shutdown(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            // It was aborted, or had ended before.
            let _ = task.await;
        }
        let workers = std::mem::take(&mut *self.workers.lock());
        for worker in workers.into_values() {
            worker.abandon().await;
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Every pod, as its worker sees it.
    pub(crate) fn views(&self) -> Vec<watch::Receiver<View>> {
        self.workers.lock().values().map(|worker| worker.view.clone()).collect()
    }

    /// The pod with this name, and uid where one is given, as its worker sees it.
    pub(crate) fn view(&self, namespace: &str, name: &str, uid: &str) -> Option<watch::Receiver<View>> {
        let workers = self.workers.lock();
        let found = workers.values().find(|worker| {
            let view = worker.view.borrow();
            pod::namespace(&view.pod) == namespace
                && pod::name(&view.pod) == name
                && (uid.is_empty() || pod::uid(&view.pod) == uid)
        });
        found.map(|worker| worker.view.clone())
    }
}

impl Drop for Node {
    /// As [`Node::shutdown`], without waiting.
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.workers.lock().clear();
    }
}

/// A task that ends with its owner.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Takes the addresses of pods that may still run.
fn reserve(network: &PodNetwork, found: &[Found]) {
    for stored in found.iter().filter_map(|found| found.stored.as_ref()) {
        if stored.finished.is_some() || pod::host_network(pod::spec(&stored.pod)) {
            continue;
        }
        for ip in &stored.ips {
            if let Err(error) = network.reserve(*ip) {
                tracing::warn!(pod = pod::full_name(&stored.pod), %error, "a pod's address is not kept");
            }
        }
    }
}

/// Keeps the ports of pods that may still run: what the first rules of this process lack is closed.
fn keep_host_ports(services: &ServiceView, found: &[Found]) {
    for stored in found.iter().filter_map(|found| found.stored.as_ref()) {
        if stored.finished.is_none() {
            let ports = host_ports::of_pod(&stored.pod, &stored.ips);
            services.host_ports.set(pod::uid(&stored.pod), ports);
        }
    }
}

/// Follows the pods that are bound to the node.
struct Dispatcher {
    shared: Arc<Shared>,
    workers: Workers,
    /// Pods of an earlier process that are not taken up yet, by uid.
    left: HashMap<String, Stored>,
    litter: Vec<std::path::PathBuf>,
    done: mpsc::UnboundedSender<String>,
}

impl Dispatcher {
    fn new(
        shared: Arc<Shared>,
        workers: Workers,
        found: Vec<Found>,
    ) -> (Self, mpsc::UnboundedReceiver<String>) {
        let (done, ended) = mpsc::unbounded_channel();
        let mut left = HashMap::new();
        let mut litter = Vec::new();
        for Found { dir, stored } in found {
            match stored {
                Some(stored) => {
                    left.insert(pod::uid(&stored.pod).to_owned(), stored);
                }
                None => litter.push(dir),
            }
        }
        (Dispatcher { shared, workers, left, litter, done }, ended)
    }

    async fn run(
        mut self,
        mut ended: mpsc::UnboundedReceiver<String>,
        adopted: tokio::sync::oneshot::Sender<()>,
    ) {
        let (sender, mut events) = mpsc::unbounded_channel();
        let selection = ListOptions {
            field_selector: Some(format!("spec.nodeName={}", self.shared.config.name)),
            ..ListOptions::default()
        };
        let _informer = Informer::start(self.shared.client.clone(), Pod::gvr(), None, selection, sender);
        let mut adopted = Some(adopted);
        loop {
            tokio::select! {
                Some(event) = events.recv() => match event {
                    InformerEvent::Applied { old, new } => self.applied(old, &new).await,
                    InformerEvent::Deleted(object) => self.gone(&object.header.uid).await,
                    InformerEvent::Synced => {
                        self.take_orphans().await;
                        if let Some(adopted) = adopted.take() {
                            // Nobody waits when the node stops.
                            let _ = adopted.send(());
                        }
                    }
                },
                // Its worker removes itself from memory last.
                Some(uid) = ended.recv() => drop(self.workers.lock().remove(&uid)),
            }
        }
    }

    async fn applied(&mut self, old: Option<ObjectRef>, new: &ObjectRef) {
        if let Some(old) = old.filter(|old| old.header.uid != new.header.uid) {
            self.gone(&old.header.uid).await;
        }
        let pod: Arc<Pod> = match new.decode::<Pod>() {
            Ok(pod) => Arc::new(pod),
            Err(error) => {
                tracing::error!(pod = new.key(), %error, "a pod cannot be decoded");
                return;
            }
        };
        let uid = pod::uid(&pod).to_owned();
        let known = self.workers.lock().get(&uid).map(|worker| worker.events.clone());
        if let Some(events) = known {
            // A worker that is gone has removed the pod.
            let _ = events.send(Event::Pod(pod)).await;
            return;
        }
        if let Some(stored) = self.left.remove(&uid) {
            let (state, adopted) = adoption::adopt(&self.shared, &stored, Some(pod)).await;
            return self.start(uid, state, adopted);
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if let Some("Succeeded" | "Failed") = phase {
            if pod.metadata.deletion_timestamp.is_some() {
                self.delete(&pod).await;
            }
            return;
        }
        self.start(uid, PodState::new(pod, Timestamp::now()), None);
    }

    fn start(&self, uid: String, state: PodState, adopted: Option<run::Adopted>) {
        let worker = run::spawn(self.shared.clone(), state, adopted, self.done.clone());
        self.workers.lock().insert(uid, worker);
    }

    async fn gone(&self, uid: &str) {
        let known = self.workers.lock().get(uid).map(|worker| worker.events.clone());
        if let Some(events) = known {
            // A worker that is gone has removed the pod.
            let _ = events.send(Event::Gone).await;
        }
    }

    /// Removes the object of a pod that ended, of which nothing is on the node.
    async fn delete(&self, pod: &Pod) {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: pod.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        let pods = self.shared.client.namespaced::<Pod>(pod::namespace(pod));
        if let Err(status) = pods.delete(pod::name(pod), &options).await
            && !status.is_not_found()
        {
            tracing::warn!(pod = pod::full_name(pod), %status, "a pod that ended is not deleted");
        }
    }

    /// Takes down what the API server has forgotten.
    async fn take_orphans(&mut self) {
        for (uid, stored) in std::mem::take(&mut self.left) {
            let (state, adopted) = adoption::adopt(&self.shared, &stored, None).await;
            self.start(uid, state, adopted);
        }
        for dir in std::mem::take(&mut self.litter) {
            let uid = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let network = self.shared.network.clone();
            let cleaned = {
                let dir = dir.clone();
                tokio::task::spawn_blocking(move || sampan_runtime::cleanup(&supervisor_dir(&dir)))
            };
            if let Ok(Err(error)) = cleaned.await {
                tracing::warn!(error = chain(&error), "a dead sandbox stays");
            }
            if let Err(error) = network.detach(&uid, &dir, Vec::new()).await {
                tracing::warn!(error = chain(&error), "a dead pod's network stays");
            }
            let removed = tokio::task::spawn_blocking(move || {
                crate::volumes::unmount_below(&dir)?;
                std::fs::remove_dir_all(&dir)
            });
            if let Ok(Err(error)) = removed.await {
                tracing::warn!(%error, "a dead pod's directory stays");
            }
        }
    }
}
