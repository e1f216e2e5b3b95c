//! Events live for an hour after they were last written, as upstream's do, or as long as they are given.
//!
//! Upstream has etcd's leases do it; here one task follows the events and deletes what is due, on
//! condition that nobody wrote it meanwhile, so that several servers may do it at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sampan_api::Gvr;
use sampan_api::object::ObjectRef;
use sampan_storage::CommitError;
use serde::Deserialize;
use tokio::time::Instant;

use crate::cache::Change;
use crate::registry::{Registry, Resource};

/// How long an event stays unless told otherwise: upstream's `--event-ttl`.
pub const EVENT_TTL: Duration = Duration::from_secs(3600);
/// How long to wait after the store refused a deletion.
const RETRY: Duration = Duration::from_secs(10);

/// An event, and when it is due if it stays as it is.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    at: Instant,
    key: String,
    revision: u64,
}

/// The times of an event's object.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Times {
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    series: Option<Series>,
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Series {
    last_observed_time: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    creation_timestamp: Option<Timestamp>,
}

/// How much of its life an event that was there already has left.
fn remaining(object: &ObjectRef, now: Timestamp, ttl: Duration) -> Duration {
    let times: Times = serde_json::from_slice(&object.bytes()).unwrap_or_default();
    let series = times.series.and_then(|series| series.last_observed_time);
    let all = [times.last_timestamp, times.event_time, series, times.metadata.creation_timestamp];
    let Some(last) = all.into_iter().flatten().max() else { return ttl };
    // A time ahead of this clock counts as now.
    let age = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    ttl.saturating_sub(age)
}

/// Deletes events when they are due, for as long as it is polled.
pub async fn follow(registry: Arc<Registry>, ttl: Duration) {
    let Ok(resource) = registry.resource(&Gvr::new("", "v1", "events")) else { return };
    let mut changed = resource.cache.subscribe();
    let mut queue = VecDeque::new();
    let mut cursor = adopt(&resource, &mut queue, ttl);
    loop {
        changed.borrow_and_update();
        match resource.cache.events_after(cursor, usize::MAX) {
            Ok((events, complete)) => {
                let at = Instant::now() + ttl;
                for event in events {
                    if let Change::Created(new) | Change::Updated { new, .. } = &event.change {
                        queue.push_back(Due { at, key: new.key(), revision: new.header.revision });
                    }
                }
                cursor = complete;
            }
            // The window moved on: everything anew, from what is stored now.
            Err(_) => cursor = adopt(&resource, &mut queue, ttl),
        }
        let due = delete_due(&registry, &resource, &mut queue).await;
        tokio::select! {
            alive = changed.changed() => if alive.is_err() { return },
            // Nothing is due while there is nothing.
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
    }
}

/// Notes every event that is there; answers the revision at which that is so.
fn adopt(resource: &Resource, queue: &mut VecDeque<Due>, ttl: Duration) -> u64 {
    let (objects, revision) = resource.cache.snapshot();
    let (now, wall) = (Instant::now(), Timestamp::now());
    let mut found: Vec<Due> = objects
        .iter()
        .map(|(_, object)| Due {
            at: now + remaining(object, wall, ttl),
            key: object.key(),
            revision: object.header.revision,
        })
        .collect();
    found.sort_by_key(|due| due.at);
    *queue = found.into();
    revision
}

/// Deletes what is due; answers when the next one is.
async fn delete_due(registry: &Registry, resource: &Resource, queue: &mut VecDeque<Due>) -> Option<Instant> {
    while let Some(due) = queue.front() {
        if due.at > Instant::now() {
            return Some(due.at);
        }
        let stored = resource.cache.get(&due.key).filter(|stored| stored.header.revision == due.revision);
        if let Some(stored) = stored {
            match registry.expire(resource, &due.key, &stored).await {
                // Somebody else wrote it, and it is in the queue again.
                Ok(_) | Err(CommitError::Mismatch { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, event = due.key, "an event outlives its time");
                    return Some(Instant::now() + RETRY);
                }
            }
        }
        queue.pop_front();
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::TestServer;

    async fn create(server: &TestServer, name: &str, last: Option<Timestamp>) {
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"namespace": "default"}, "lastTimestamp": last,
        });
        server.create("/api/v1/namespaces/default/events", &event).await;
    }

    #[tokio::test]
    async fn events_end_an_hour_after_they_were_last_written() {
        let server = TestServer::start().await;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        server.create("/api/v1/namespaces", &namespace).await;
        let registry = server.server.registry.clone();
        let cache = registry.resource(&Gvr::new("", "v1", "events")).expect("is built in").cache;
        create(&server, "new", Some(Timestamp::now())).await;
        let (mut queue, resource) = (VecDeque::new(), registry.resource(&Gvr::new("", "v1", "events")));
        adopt(&resource.expect("is built in"), &mut queue, EVENT_TTL);
        let left = queue[0].at - Instant::now();
        assert!(left > EVENT_TTL - Duration::from_secs(60) && left <= EVENT_TTL, "{left:?}");
        let mut changed = cache.subscribe();
        let following = tokio::spawn(follow(registry.clone(), EVENT_TTL));
        tokio::task::yield_now().await;
        assert_eq!(cache.len(), 1);
        tokio::time::pause();
        tokio::time::advance(EVENT_TTL).await;
        tokio::time::resume();
        changed.wait_for(|_| cache.is_empty()).await.expect("the server runs");
        following.abort();
    }

    #[tokio::test]
    async fn what_ended_while_no_server_ran_goes_at_the_start() {
        let server = TestServer::start().await;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        server.create("/api/v1/namespaces", &namespace).await;
        let registry = server.server.registry.clone();
        let cache = registry.resource(&Gvr::new("", "v1", "events")).expect("is built in").cache;
        create(&server, "new", None).await;
        let object = cache.get("default/new").expect("is there");
        let later = Timestamp::now() + jiff::SignedDuration::from_hours(2);
        assert_eq!(remaining(&object, later, EVENT_TTL), Duration::ZERO);
        assert!(remaining(&object, Timestamp::now(), EVENT_TTL) > Duration::ZERO);
    }
}
