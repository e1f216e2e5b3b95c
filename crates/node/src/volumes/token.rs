//! Tokens of service accounts for projected volumes: bound to the pod, renewed before they expire.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use sampan_api::Status;
use sampan_client::Client;

use crate::pod;

/// The life that a token gets when the pod does not say.
const DEFAULT_SECONDS: i64 = 3600;
/// No token is kept longer than that before it is renewed.
const LONGEST_USE: SignedDuration = SignedDuration::from_hours(24);

struct Held {
    token: String,
    renew_at: Timestamp,
}

/// The tokens of one pod.
pub struct Tokens {
    client: Client,
    held: HashMap<(String, i64), Held>,
}

impl Tokens {
    pub fn new(client: Client) -> Self {
        Tokens { client, held: HashMap::new() }
    }

    /// The token for one projection: the one held, or a new one when its time has come.
    pub async fn get(
        &mut self,
        pod: &Pod,
        wanted: &ServiceAccountTokenProjection,
        now: Timestamp,
    ) -> Result<String, Status> {
        let audience = wanted.audience.clone().unwrap_or_default();
        let seconds = wanted.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
        let key = (audience, seconds);
        if let Some(held) = self.held.get(&key).filter(|held| now < held.renew_at) {
            return Ok(held.token.clone());
        }
        let held = self.request(pod, &key.0, seconds, now).await?;
        let token = held.token.clone();
        self.held.insert(key, held);
        Ok(token)
    }

    /// When the first of the tokens has to be renewed.
    pub fn renew_at(&self) -> Option<Timestamp> {
        self.held.values().map(|held| held.renew_at).min()
    }

    async fn request(&self, pod: &Pod, audience: &str, seconds: i64, now: Timestamp) -> Result<Held, Status> {
        let account = pod::spec(pod).service_account_name.as_deref().filter(|name| !name.is_empty());
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: if audience.is_empty() { Vec::new() } else { vec![audience.to_owned()] },
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            },
            ..TokenRequest::default()
        };
        let accounts = self.client.namespaced::<ServiceAccount>(pod::namespace(pod));
        let answer = accounts.create_subresource(account.unwrap_or("default"), "token", &request).await?;
        let answer: TokenRequest = answer.decode().map_err(Status::internal)?;
        let status = answer.status.ok_or_else(|| Status::internal("the token request has no status"))?;
        Ok(Held { renew_at: renew_at(now, status.expiration_timestamp.0), token: status.token })
    }
}

/// After four fifths of the token's life, or a day.
fn renew_at(now: Timestamp, expires: Timestamp) -> Timestamp {
    let life = expires.duration_since(now);
    let used = SignedDuration::from_secs(life.as_secs() * 4 / 5).min(LONGEST_USE);
    now.saturating_add(used).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_renewed_in_time() {
        let now = Timestamp::from_second(1_700_000_000).expect("in range");
        for (life, used) in [(600, 480), (3600, 2880), (100 * 86400, 86400), (0, 0)] {
            let expires = now.saturating_add(SignedDuration::from_secs(life)).expect("in range");
            assert_eq!(renew_at(now, expires).duration_since(now).as_secs(), used, "{life}");
        }
    }
}
