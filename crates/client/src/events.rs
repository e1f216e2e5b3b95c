//! Events: what a component tells people about an object (`core/v1` Event).
//!
//! Telling never waits and never fails. A repeat of an event raises the count of the stored one.
//! What one component says about one object is limited as upstream limits it: a burst, then one
//! event each five minutes. What does not fit in the queue is dropped: events are hints, and the
//! truth is in the objects' status.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use sampan_api::Status;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{Client, PatchKind, typed::Resource};

/// Events that wait to be sent; more are dropped.
const QUEUE: usize = 1024;
/// Events, and objects, whose repeats are recognised.
const REMEMBERED: usize = 4096;
/// Events about one object before they are limited, and how long one more takes to be allowed.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);
/// The longest message, in bytes.
const MESSAGE_BYTES: usize = 1024;

/// Whether an event is business as usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// Tells events under the name of one component. Cheap to clone.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<Told>,
}

/// The task that sends what recorders tell.
pub struct EventSink {
    task: JoinHandle<()>,
}

impl EventSink {
    /// Waits until everything told is sent; every recorder must have been dropped.
    pub async fn finish(self) {
        // A panic in the sink has been reported by the runtime, and events are only hints.
        let _ = self.task.await;
    }
}

struct Told {
    key: Key,
    at: Timestamp,
}

/// What makes two events the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    object: Involved,
    kind: EventType,
    reason: String,
    message: String,
}

/// An `ObjectReference` that can be compared.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Involved {
    api_version: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    field_path: Option<String>,
}

impl EventRecorder {
    /// `component` is what `kubectl describe` shows as an event's origin; `host` is the node that
    /// it runs on, empty when that means nothing. The sink ends when every recorder is gone.
    pub fn new(client: Client, component: &str, host: &str) -> (EventRecorder, EventSink) {
        let (queue, told) = mpsc::channel(QUEUE);
        let sender = Sender {
            client,
            component: component.to_owned(),
            host: host.to_owned(),
            sent: HashMap::new(),
            budgets: HashMap::new(),
        };
        (EventRecorder { queue }, EventSink { task: tokio::spawn(sender.run(told)) })
    }

    /// Tells something about an object. `reason` is one UpperCamelCase word that does not vary.
    pub fn event(&self, object: &ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        let mut message = message.into();
        if message.len() > MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MESSAGE_BYTES - 3));
            message.push_str("...");
        }
        let object = Involved {
            api_version: object.api_version.clone(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
            field_path: object.field_path.clone(),
        };
        let key = Key { object, kind, reason: reason.to_owned(), message };
        if self.queue.try_send(Told { key, at: Timestamp::now() }).is_err() {
            tracing::debug!(reason, "an event was dropped: the queue is full");
        }
    }
}

/// A reference to an object, as events name it.
pub fn reference<T: Resource>(object: &T) -> ObjectReference {
    let metadata = object.metadata();
    ObjectReference {
        api_version: Some(T::API_VERSION.to_owned()),
        kind: Some(T::KIND.to_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

struct Sender {
    client: Client,
    component: String,
    host: String,
    sent: HashMap<Key, Sent>,
    budgets: HashMap<Involved, Budget>,
}

/// A stored event.
struct Sent {
    name: String,
    count: i32,
    last: Timestamp,
}

/// How much more may be said about one object.
struct Budget {
    left: f64,
    at: Instant,
}

impl Sender {
    async fn run(mut self, mut told: mpsc::Receiver<Told>) {
        while let Some(Told { key, at }) = told.recv().await {
            if !self.allows(&key.object) {
                continue;
            }
            if let Err(status) = self.send(key, at).await {
                tracing::debug!(%status, "an event was not stored");
            }
        }
    }

    fn allows(&mut self, object: &Involved) -> bool {
        let now = Instant::now();
        if self.budgets.len() >= REMEMBERED {
            // A full budget is the same as none.
            self.budgets.retain(|_, budget| budget.refilled(now) < BURST);
            if self.budgets.len() >= REMEMBERED {
                self.budgets.clear();
            }
        }
        let budget = self.budgets.entry(object.clone()).or_insert(Budget { left: BURST, at: now });
        *budget = Budget { left: budget.refilled(now), at: now };
        let allowed = budget.left >= 1.0;
        if allowed {
            budget.left -= 1.0;
        }
        allowed
    }

    async fn send(&mut self, key: Key, at: Timestamp) -> Result<(), Status> {
        let namespace = key.object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let events = self.client.namespaced::<Event>(&namespace);
        if let Some(sent) = self.sent.get_mut(&key) {
            sent.count = sent.count.saturating_add(1);
            sent.last = at;
            let repeat = json!({ "count": sent.count, "lastTimestamp": Time(at), "message": key.message });
            match events.patch(&sent.name, PatchKind::Merge, &repeat).await {
                Err(status) if status.is_not_found() => {} // it has expired
                other => return other.map(drop),
            }
        }
        let event = self.event(&key, &namespace, at);
        let name = event.metadata.name.clone().unwrap_or_default();
        events.create(&event).await?;
        self.remember(key, Sent { name, count: 1, last: at });
        Ok(())
    }

    fn event(&self, key: &Key, namespace: &str, at: Timestamp) -> Event {
        let object = key.object.clone();
        let name = format!("{}.{:x}", object.name.as_deref().unwrap_or_default(), at.as_nanosecond());
        let host = Some(self.host.clone()).filter(|host| !host.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: object.api_version,
                kind: object.kind,
                namespace: object.namespace,
                name: object.name,
                uid: object.uid,
                field_path: object.field_path,
                resource_version: None,
            },
            reason: Some(key.reason.clone()),
            message: Some(key.message.clone()),
            type_: Some(key.kind.as_str().to_owned()),
            source: Some(EventSource { component: Some(self.component.clone()), host: host.clone() }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: host,
            first_timestamp: Some(Time(at)),
            last_timestamp: Some(Time(at)),
            count: Some(1),
            ..Event::default()
        }
    }

    fn remember(&mut self, key: Key, sent: Sent) {
        if self.sent.len() >= REMEMBERED {
            let mut ages: Vec<Timestamp> = self.sent.values().map(|sent| sent.last).collect();
            let middle = ages.len() / 2;
            let median = *ages.select_nth_unstable(middle).1;
            self.sent.retain(|_, sent| sent.last > median);
        }
        self.sent.insert(key, sent);
    }
}

impl Budget {
    fn refilled(&self, now: Instant) -> f64 {
        let earned = now.duration_since(self.at).as_secs_f64() / REFILL.as_secs_f64();
        (self.left + earned).min(BURST)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::ListOptions;
    use crate::testing::MemoryBackend;

    fn pod(name: &str) -> ObjectReference {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("n".to_owned()),
            ..ObjectMeta::default()
        };
        reference(&Pod { metadata, ..Pod::default() })
    }

    async fn told(tell: impl AsyncFnOnce(&EventRecorder)) -> Vec<Event> {
        let client = Client::new(MemoryBackend::new());
        let (recorder, sink) = EventRecorder::new(client.clone(), "tester", "");
        tell(&recorder).await;
        drop(recorder);
        sink.finish().await;
        client.namespaced::<Event>("n").list(&ListOptions::default()).await.expect("works")
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_are_counted() {
        let events = told(async |recorder| {
            for message in ["same", "same", "other", "same"] {
                recorder.event(&pod("a"), EventType::Warning, "Failed", message);
            }
            recorder.event(&pod("b"), EventType::Normal, "Failed", "same");
        })
        .await;
        let mut counts: Vec<_> = events
            .iter()
            .map(|event| {
                let name = event.involved_object.name.as_deref().unwrap_or_default();
                (name, event.message.as_deref().unwrap_or_default(), event.count)
            })
            .collect();
        counts.sort_unstable();
        assert_eq!(counts, [("a", "other", Some(1)), ("a", "same", Some(3)), ("b", "same", Some(1))]);
        assert!(events.iter().all(|event| event.involved_object.kind.as_deref() == Some("Pod")));
    }

    #[tokio::test(start_paused = true)]
    async fn one_object_is_limited_and_others_are_not() {
        let events = told(async |recorder| {
            for index in 0..100 {
                recorder.event(&pod("a"), EventType::Normal, "Said", format!("{index}"));
            }
            recorder.event(&pod("b"), EventType::Normal, "Said", "x".repeat(5000));
        })
        .await;
        assert_eq!(events.len(), BURST as usize + 1);
        let longest = events.iter().filter_map(|event| event.message.as_ref()).map(String::len).max();
        assert_eq!(longest, Some(MESSAGE_BYTES));
    }

    #[tokio::test]
    async fn telling_never_waits() {
        let events = told(async |recorder| {
            for index in 0..QUEUE * 2 {
                recorder.event(&pod(&index.to_string()), EventType::Normal, "Said", "x");
            }
        })
        .await;
        assert_eq!(events.len(), QUEUE, "the rest is dropped");
    }
}
