//! Time to live: finished jobs go when their time is over.

use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use sampan_api::Status;
use sampan_client::{DeleteOptions, InformerEvent, WorkQueue};

use crate::Shared;
use crate::controller::Controller;
use crate::job::finished;
use crate::view::Kind;

/// Keys are jobs.
pub(crate) struct TtlAfterFinished;

#[async_trait]
impl Controller for TtlAfterFinished {
    fn name(&self) -> &'static str {
        "ttl-after-finished"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        if let (Kind::Job, InformerEvent::Applied { new, .. }) = (kind, event) {
            queue.add(new.key());
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let job: Option<Job> = shared.view.get(Kind::Job, key);
        let Some((job, (namespace, name))) = job.zip(key.split_once('/')) else { return Ok(None) };
        let Some(left) = time_left(&job, Timestamp::now()) else { return Ok(None) };
        if !left.is_zero() {
            return Ok(Some(left));
        }
        let options = DeleteOptions {
            propagation_policy: Some("Foreground"),
            uid: job.metadata.uid,
            revision: job.metadata.resource_version.and_then(|text| text.parse().ok()),
            ..DeleteOptions::default()
        };
        match shared.client.namespaced::<Job>(namespace).delete(name, &options).await {
            Err(status) if !status.is_not_found() => Err(status),
            Ok(()) | Err(_) => Ok(None),
        }
    }
}

/// How long a job stays; absent where nothing limits that, or it is being deleted.
fn time_left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job
        .spec
        .as_ref()?
        .ttl_seconds_after_finished
        .filter(|_| job.metadata.deletion_timestamp.is_none())?;
    let finished = finished(job)?.last_transition_time.as_ref()?.0;
    let left = SignedDuration::from_secs(i64::from(ttl)) - now.duration_since(finished);
    Some(if left.is_negative() { Duration::ZERO } else { left.unsigned_abs() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_time_counts_from_the_end() {
        let end =
            json!([{"type": "Complete", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"}]);
        let now: Timestamp = "2024-01-01T00:00:04Z".parse().expect("a time");
        for (ttl, conditions, expected) in [
            (json!(10), end.clone(), Some(Duration::from_secs(6))),
            (json!(3), end.clone(), Some(Duration::ZERO)),
            (json!(null), end, None),
            (json!(10), json!([]), None),
        ] {
            let job: Job =
                serde_json::from_value(json!({"spec": {"template": {}, "ttlSecondsAfterFinished": ttl},
                "status": {"conditions": conditions}}))
                .expect("a job");
            assert_eq!(time_left(&job, now), expected);
        }
    }
}
