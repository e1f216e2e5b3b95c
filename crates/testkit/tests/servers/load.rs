//! Writes at a steady rate through every server, and what became of each.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sampan_client::remote::RemoteBackend;
use sampan_client::{Backend as _, PatchKind};
use sampan_testkit::Servers;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::api::{CONFIG_MAPS, DEPLOYMENTS, PATIENCE, at, connect, in_hub};

/// Writes of one server that wait for an answer at once.
const UNDER_WAY: usize = 400;
/// How often somebody who may ask any server writes, and a deployment is scaled.
const ANYWHERE_EVERY: Duration = Duration::from_millis(100);
/// The patience of one who can go to another server.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(60);

/// What a client knows of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Acknowledged,
    /// It was told that it did not happen.
    Refused,
    Unknown,
}

/// One write.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Its number, which what it creates carries.
    pub number: u64,
    pub ended: Instant,
    pub known: Known,
    /// Of the one who may ask any server.
    pub anywhere: bool,
    /// An increment of the counter of all, instead of a creation.
    pub increment: bool,
}

pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Receiver<()>,
    workers: Vec<JoinHandle<Vec<Outcome>>>,
}

#[derive(Clone)]
struct Control {
    stop: Arc<AtomicBool>,
    numbers: Arc<AtomicU64>,
    acknowledged: Sender<()>,
}

impl Control {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn ended(&self, outcome: Outcome) -> Outcome {
        if outcome.known == Known::Acknowledged && outcome.anywhere {
            let _ = self.acknowledged.send(());
        }
        outcome
    }
}

impl Load {
    /// Writes `rate` times per second, through all servers alike.
    pub fn start(servers: &Servers, rate: u64) -> Load {
        let kubeconfigs: Vec<PathBuf> = (0..servers.count()).map(|index| servers.kubeconfig(index)).collect();
        let (sender, acknowledged) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let control = Control { stop: stop.clone(), numbers: Arc::default(), acknowledged: sender };
        set_up(servers, kubeconfigs[0].clone());
        let mut workers = Vec::new();
        for kubeconfig in kubeconfigs.clone() {
            let control = control.clone();
            let every = Duration::from_secs(1) * kubeconfigs.len() as u32 / rate as u32;
            workers.push(in_hub(servers.hub(), move || creations(connect(&kubeconfig), control, every)));
        }
        for kubeconfig in kubeconfigs.clone() {
            let control = control.clone();
            workers.push(in_hub(servers.hub(), move || increments(connect(&kubeconfig), control)));
        }
        workers.push(in_hub(servers.hub(), move || anywhere(kubeconfigs, control)));
        Load { stop, acknowledged, workers }
    }

    /// Returns when `more` writes of the one who may ask any server were acknowledged.
    #[track_caller]
    pub fn progress(&self, more: usize) {
        while self.acknowledged.try_recv().is_ok() {}
        for _ in 0..more {
            self.acknowledged.recv_timeout(DEADLINE).expect("writes go on");
        }
    }

    pub fn finish(self) -> Vec<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.into_iter().flat_map(|worker| worker.join().expect("does not panic")).collect()
    }
}

/// A counter, and a deployment whose pods fit nowhere: work for the controllers and the scheduler alone.
fn set_up(servers: &Servers, kubeconfig: PathBuf) {
    let setting_up = in_hub(servers.hub(), move || async move {
        let backend = connect(&kubeconfig);
        let counter = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counter"},
            "data": {"count": "0"}});
        backend.create(at(&CONFIG_MAPS, ""), counter.to_string().into()).await.expect("is new");
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "busy"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "busy"}}, "template": {
                "metadata": {"labels": {"app": "busy"}},
                "spec": {"nodeSelector": {"nowhere": "here"}, "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "c", "image": "none"}]}}}});
        backend.create(at(&DEPLOYMENTS, ""), deployment.to_string().into()).await.expect("is new");
    });
    setting_up.join().expect("the cluster works");
}

/// What an answer, or none, says of a write.
fn known<T>(answer: &Result<Result<T, sampan_api::Status>, tokio::time::error::Elapsed>) -> Known {
    match answer {
        Ok(Ok(_)) => Known::Acknowledged,
        Ok(Err(status)) if (400..500).contains(&status.code) => Known::Refused,
        Ok(Err(_)) | Err(_) => Known::Unknown,
    }
}

fn new_object(number: u64) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"generateName": "write-", "labels": {"load": "", "number": number.to_string()}}})
    .to_string()
}

async fn creations(backend: RemoteBackend, control: Control, every: Duration) -> Vec<Outcome> {
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut ticks = tokio::time::interval(every);
    let mut under_way = tokio::task::JoinSet::new();
    while control.goes_on() {
        ticks.tick().await;
        let (backend, control) = (backend.clone(), control.clone());
        let room = room.clone().acquire_owned().await.expect("is open");
        under_way.spawn(async move {
            let number = control.number();
            let creating = backend.create(at(&CONFIG_MAPS, ""), new_object(number).into());
            let known = known(&tokio::time::timeout(PATIENCE, creating).await);
            drop(room);
            Outcome { number, ended: Instant::now(), known, anywhere: false, increment: false }
        });
    }
    under_way.join_all().await
}

/// Counts up by comparing and swapping, against the same of the other servers.
async fn increments(backend: RemoteBackend, control: Control) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while control.goes_on() {
        tokio::time::sleep(ANYWHERE_EVERY).await;
        let reading = tokio::time::timeout(PATIENCE, backend.get(at(&CONFIG_MAPS, "counter"))).await;
        let Ok(Ok(stored)) = reading else { continue };
        let mut counter: Value = stored.decode().expect("an object");
        let count: u64 = counter["data"]["count"].as_str().expect("text").parse().expect("a number");
        counter["data"]["count"] = (count + 1).to_string().into();
        let updating = backend.update(at(&CONFIG_MAPS, "counter"), counter.to_string().into());
        let known = known(&tokio::time::timeout(PATIENCE, updating).await);
        let number = control.number();
        outcomes.push(Outcome { number, ended: Instant::now(), known, anywhere: false, increment: true });
    }
    outcomes
}

/// One who goes to the next server when one does not answer, as clients behind a load balancer do.
async fn anywhere(kubeconfigs: Vec<PathBuf>, control: Control) -> Vec<Outcome> {
    let backends: Vec<RemoteBackend> = kubeconfigs.iter().map(|path| connect(path)).collect();
    let (mut outcomes, mut at_server) = (Vec::new(), 0);
    while control.goes_on() {
        tokio::time::sleep(ANYWHERE_EVERY).await;
        let number = control.number();
        let creating = backends[at_server].create(at(&CONFIG_MAPS, ""), new_object(number).into());
        let known = known(&tokio::time::timeout(SHORT_PATIENCE, creating).await);
        let outcome = Outcome { number, ended: Instant::now(), known, anywhere: true, increment: false };
        outcomes.push(control.ended(outcome));
        if known != Known::Acknowledged {
            at_server = (at_server + 1) % backends.len();
        }
        if number.is_multiple_of(5) {
            let scale = json!({"spec": {"replicas": 1 + number % 6}}).to_string();
            let patching =
                backends[at_server].patch(at(&DEPLOYMENTS, "busy"), PatchKind::Merge, scale.into());
            // The controllers have something to do, or will with the next one.
            let _ = tokio::time::timeout(SHORT_PATIENCE, patching).await;
        }
    }
    outcomes
}
