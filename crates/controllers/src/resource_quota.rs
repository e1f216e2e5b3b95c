//! Resource quotas: `status.hard` as the spec wants it, `status.used` as the namespace is.
//!
//! The API server charges creations itself, in their own commits. This counts what it does not:
//! a quota that is new or changed, objects that go, end or get smaller. Only resources that some
//! quota counts are followed. A count is written for the revision of the quota that it began with;
//! since every charge makes a new revision, a count that missed one does not enter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;
use sampan_api::object::ObjectRef;
use sampan_api::quota::{self, Evaluator};
use sampan_api::{Gvr, Status, pod_resources};
use sampan_client::{Informer, InformerEvent, ListOptions, Target, WorkQueue};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Shared;
use crate::discovery::discover;

#[cfg(test)]
mod tests;

/// Quotas that are counted at the same time.
const WORKERS: usize = 4;
/// The delays between attempts to learn what is served.
const RETRY_FROM: Duration = Duration::from_millis(50);
const RETRY_TO: Duration = Duration::from_secs(30);
const QUOTAS: Gvr = Gvr::new("", "v1", "resourcequotas");
const DEFINITIONS: Gvr = Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");

/// The tasks of the controller.
pub(crate) struct ResourceQuotas {
    tasks: JoinSet<()>,
    queue: WorkQueue<String>,
}

/// Keys are quotas.
struct Counter {
    shared: Arc<Shared>,
    queue: WorkQueue<String>,
    quotas: Informer,
    /// Everything that can be counted.
    served: RwLock<Vec<(Gvr, Evaluator)>>,
    /// What some quota counts.
    followed: RwLock<BTreeMap<Gvr, Informer>>,
}

type Feed = mpsc::UnboundedSender<(Gvr, InformerEvent)>;

impl ResourceQuotas {
    pub fn start(shared: Arc<Shared>) -> Self {
        let (feed, events) = mpsc::unbounded_channel();
        let queue = WorkQueue::observed(&shared.config.queues, "resourcequota");
        let counter = Arc::new(Counter {
            quotas: inform(&shared, QUOTAS, &feed),
            shared,
            queue: queue.clone(),
            served: RwLock::default(),
            followed: RwLock::default(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..WORKERS {
            tasks.spawn(work(counter.clone()));
        }
        tasks.spawn(follow(counter, feed, events));
        ResourceQuotas { tasks, queue }
    }

    pub async fn stop(mut self) {
        self.queue.close();
        self.tasks.shutdown().await;
    }
}

fn inform(shared: &Shared, gvr: Gvr, feed: &Feed) -> Informer {
    let (events, mut receiver) = mpsc::unbounded_channel();
    let (feed, of) = (feed.clone(), gvr.clone());
    // Ends with the informer.
    tokio::spawn(async move {
        while let Some(event) = receiver.recv().await {
            if feed.send((of.clone(), event)).is_err() {
                return;
            }
        }
    });
    Informer::start(shared.client.clone(), gvr, None, ListOptions::default(), events)
}

/// Hands changes to the queue, and keeps up with what is served.
async fn follow(
    counter: Arc<Counter>,
    feed: Feed,
    mut events: mpsc::UnboundedReceiver<(Gvr, InformerEvent)>,
) {
    let _definitions = inform(&counter.shared, DEFINITIONS, &feed);
    let (mut delay, mut due) = (RETRY_FROM, Some(Instant::now()));
    loop {
        tokio::select! {
            event = events.recv() => {
                // The loop holds a sender.
                let Some((gvr, event)) = event else { return };
                if gvr == DEFINITIONS {
                    due = Some(Instant::now());
                } else if gvr == QUOTAS {
                    counter.quota_changed(&event, &feed);
                }
                counter.object_changed(&gvr, &event);
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                match counter.learn_what_is_served(&feed).await {
                    Ok(()) => (delay, due) = (RETRY_FROM, None),
                    Err(status) => {
                        tracing::warn!(%status, "the quota controller does not know every resource");
                        due = Some(Instant::now() + delay);
                        delay = (delay * 2).min(RETRY_TO);
                    }
                }
            }
        }
    }
}

async fn work(counter: Arc<Counter>) {
    while let Some(key) = counter.queue.next().await {
        match counter.count(&key).await {
            Ok(again) => {
                counter.queue.forget(&key);
                if let Some(delay) = again {
                    counter.queue.add_after(key.clone(), delay);
                }
            }
            Err(status) => {
                if !status.is_conflict() {
                    tracing::warn!(key, %status, "a quota was not counted");
                }
                counter.queue.retry(key.clone());
            }
        }
        counter.queue.done(&key);
    }
}

impl Counter {
    async fn learn_what_is_served(&self, feed: &Feed) -> Result<(), Status> {
        let discovered = discover(&self.shared.client).await?;
        let countable = discovered.resources.into_iter().filter(|served| {
            served.namespaced && served.listable && served.watchable && served.gvr.resource != "events"
        });
        let mut countable: Vec<(Gvr, Evaluator)> = countable
            .map(|served| (served.gvr.clone(), Evaluator::new(&served.gvr.group, &served.gvr.resource)))
            .collect();
        {
            let mut served = self.served.write();
            if !discovered.failures.is_empty() {
                // A group that could not be asked may well have what it had.
                let missing = served.iter().filter(|(gvr, _)| countable.iter().all(|(one, _)| one != gvr));
                let missing: Vec<_> = missing.cloned().collect();
                countable.extend(missing);
            }
            *served = countable;
        }
        for quota in self.quotas.list("") {
            self.queue.add(quota.key());
        }
        self.follow_what_is_counted(feed);
        match discovered.failures.as_slice() {
            [] => Ok(()),
            failures => Err(Status::unavailable(failures.join(", "))),
        }
    }

    /// Starts to follow resources that a quota counts, and ends to follow those that none does.
    fn follow_what_is_counted(&self, feed: &Feed) {
        let quotas: Vec<Value> =
            self.quotas.list("").iter().filter_map(|quota| quota.decode().ok()).collect();
        let served = self.served.read();
        let counted = served
            .iter()
            .filter(|(gvr, evaluator)| *gvr != QUOTAS && quotas.iter().any(|quota| counts(quota, evaluator)));
        let counted: Vec<&Gvr> = counted.map(|(gvr, _)| gvr).collect();
        let mut followed = self.followed.write();
        followed.retain(|gvr, _| counted.contains(&gvr));
        for gvr in counted {
            followed.entry(gvr.clone()).or_insert_with(|| inform(&self.shared, gvr.clone(), feed));
        }
    }

    fn quota_changed(&self, event: &InformerEvent, feed: &Feed) {
        match event {
            InformerEvent::Applied { old, new } => {
                let (Some(old), Ok(value)) = (old, new.decode::<Value>()) else {
                    self.queue.add(new.key());
                    return self.follow_what_is_counted(feed);
                };
                let before: Value = old.decode().unwrap_or_default();
                if before["spec"] != value["spec"] || value["status"]["hard"] != value["spec"]["hard"] {
                    self.queue.add(new.key());
                    self.follow_what_is_counted(feed);
                }
            }
            InformerEvent::Deleted(_) | InformerEvent::Synced => self.follow_what_is_counted(feed),
        }
    }

    /// Counts anew where an object went, or where what it uses changed.
    fn object_changed(&self, gvr: &Gvr, event: &InformerEvent) {
        let served = self.served.read();
        let Some((_, evaluator)) = served.iter().find(|(one, _)| one == gvr) else { return };
        let now = Timestamp::now();
        match event {
            InformerEvent::Deleted(object) => self.recount(evaluator, object, None, now),
            InformerEvent::Applied { old: Some(old), new } => self.recount(evaluator, new, Some(old), now),
            InformerEvent::Applied { old: None, .. } | InformerEvent::Synced => {}
        }
    }

    fn recount(&self, evaluator: &Evaluator, object: &ObjectRef, old: Option<&ObjectRef>, now: Timestamp) {
        let quotas = self.quotas.list(&object.header.namespace);
        if quotas.is_empty() {
            return;
        }
        let decode = |object: &ObjectRef| object.decode::<Value>().unwrap_or_default();
        let (value, before) = (decode(object), old.map(decode));
        let ends = |value: &Value| quota::charged_until(value);
        for quota in quotas {
            let wanted = decode(&quota);
            let differs = before.as_ref().is_none_or(|before| {
                evaluator.usage(before, now) != evaluator.usage(&value, now)
                    || evaluator.in_scope(&wanted, before) != evaluator.in_scope(&wanted, &value)
                    || ends(before) != ends(&value)
            });
            if differs && counts(&wanted, evaluator) {
                self.queue.add(quota.key());
            }
        }
    }

    /// Counts what a quota counts, and writes it down. Answers when something ends to count by itself.
    async fn count(&self, key: &str) -> Result<Option<Duration>, Status> {
        let Some((namespace, name)) = key.split_once('/') else { return Ok(None) };
        let backend = self.shared.client.backend();
        let target = Target { gvr: &QUOTAS, namespace: Some(namespace), name, subresource: None };
        // Read here and not out of the view: what is listed below must be as new as this.
        let quota = match backend.get(target).await {
            Ok(quota) => quota,
            Err(status) if status.is_not_found() => return Ok(None),
            Err(status) => return Err(status),
        };
        let mut quota: Value = quota.decode().map_err(Status::internal)?;
        let counted: Vec<(Gvr, Evaluator)> = {
            let served = self.served.read();
            served.iter().filter(|(_, evaluator)| counts(&quota, evaluator)).cloned().collect()
        };
        let now = Timestamp::now();
        let mut used = pod_resources::list(&quota["status"]["used"]);
        let mut next: Option<Timestamp> = None;
        for (gvr, evaluator) in counted {
            let list = backend.list(&gvr, Some(namespace), &ListOptions::default()).await?;
            let objects: Vec<Value> = list
                .items
                .iter()
                .map(|object| object.decode())
                .collect::<Result<_, _>>()
                .map_err(Status::internal)?;
            used.extend(quota::usage(&quota, &evaluator, objects.iter(), now));
            let ends = objects.iter().filter_map(quota::charged_until).filter(|until| *until >= now);
            next = ends.chain(next).min();
        }
        let hard = pod_resources::list(&quota["spec"]["hard"]);
        used.retain(|name, _| hard.contains_key(name));
        let again = next.map(|until| delay_until(until, now));
        let was = &quota["status"];
        let began = pod_resources::list(&was["hard"]) != hard;
        if !began && was["used"].is_object() && pod_resources::list(&was["used"]) == used {
            return Ok(again);
        }
        quota["status"] = serde_json::json!({"hard": quota["spec"]["hard"], "used": quota::to_json(&used)});
        let target = Target { subresource: Some("status"), ..target };
        backend.update(target, quota.to_string().into()).await?;
        // What was created before the quota began to count it was not charged: it is counted once more.
        Ok(if began { Some(Duration::ZERO) } else { again })
    }
}

fn delay_until(until: Timestamp, now: Timestamp) -> Duration {
    let left = until.duration_since(now) + SignedDuration::from_millis(1);
    left.unsigned_abs()
}

fn counts(quota: &Value, evaluator: &Evaluator) -> bool {
    let hard = quota["spec"]["hard"].as_object();
    hard.is_some_and(|hard| hard.keys().any(|name| evaluator.counts(name)))
}
