//! Bootstrap tokens that have expired go: their secrets are deleted.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use sampan_api::Status;
use sampan_client::{InformerEvent, WorkQueue};

use crate::Shared;
use crate::controller::{Controller, delete_seen};
use crate::view::Kind;

/// Keys are secrets of bootstrap tokens.
pub(crate) struct TokenCleaner;

#[async_trait]
impl Controller for TokenCleaner {
    fn name(&self) -> &'static str {
        "token-cleaner"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        if let (Kind::BootstrapToken, InformerEvent::Applied { new, .. }) = (kind, event) {
            queue.add(new.key());
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(secret) = shared.view.get::<Secret>(Kind::BootstrapToken, key) else { return Ok(None) };
        match time_left(&secret, Timestamp::now()) {
            Some(Duration::ZERO) => delete_seen(shared, &secret).await.map(|()| None),
            left => Ok(left),
        }
    }
}

/// How long a token is valid; absent where nothing limits that. One whose end cannot be read is over, as
/// it is for authentication.
fn time_left(secret: &Secret, now: Timestamp) -> Option<Duration> {
    let end = &secret.data.as_ref()?.get("expiration")?.0;
    if end.is_empty() {
        return None;
    }
    let end = std::str::from_utf8(end).ok().and_then(|text| text.parse::<Timestamp>().ok());
    Some(end.map_or(Duration::ZERO, |end| end.duration_since(now).try_into().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::Fleet;
    use crate::testing::Bench;

    #[test]
    fn a_token_lasts_until_its_expiration() {
        let now: Timestamp = "2024-01-01T00:00:00Z".parse().expect("a time");
        for (expiration, expected) in [
            (Some("2024-01-01T00:01:30Z"), Some(Duration::from_secs(90))),
            (Some("2024-01-01T01:00:10+01:00"), Some(Duration::from_secs(10))),
            (Some("2024-01-01T00:00:00Z"), Some(Duration::ZERO)),
            (Some("2023-01-01T00:00:00Z"), Some(Duration::ZERO)),
            (Some("tomorrow"), Some(Duration::ZERO)),
            (Some(""), None),
            (None, None),
        ] {
            let data = expiration
                .map(|text| ("expiration".to_owned(), k8s_openapi::ByteString(text.as_bytes().to_vec())));
            let secret = Secret { data: Some(data.into_iter().collect()), ..Secret::default() };
            assert_eq!(time_left(&secret, now), expected, "{expiration:?}");
        }
    }

    #[tokio::test]
    async fn expired_tokens_go_and_others_stay() {
        let mut bench = Bench::start().await;
        let mut fleet = Fleet::default();
        fleet.add_with(bench.shared.clone(), TokenCleaner);
        let running = fleet.start(bench.take_feed());
        let create = async |name: &str, kind: &str| {
            let secret = json!({"metadata": {"name": name}, "type": kind, "data": {"expiration": "MjAyMC0wMS0wMVQwMDowMDowMFo="}});
            bench.create("", "v1", "secrets", "kube-system", secret).await;
        };
        create("another", "Opaque").await;
        create("bootstrap-token-abc123", "bootstrap.kubernetes.io/token").await;
        while bench.find("", "v1", "secrets", "kube-system", "bootstrap-token-abc123").await.is_some() {
            tokio::task::yield_now().await;
        }
        assert!(bench.find("", "v1", "secrets", "kube-system", "another").await.is_some());
        running.stop().await;
    }
}
