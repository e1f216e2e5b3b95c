//! Tokens that a webhook knows: a `TokenReview` (authentication.k8s.io/v1) to the server of a kubeconfig file.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::VerifiedToken;
use crate::identity::cache::{Answers, key};
use crate::identity::{AUTHENTICATED_GROUP, User};
use crate::webhook::{CallError, Webhook};

/// How long one question may take, how often it is asked, and the pauses between: upstream's.
const TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const FACTOR: f64 = 1.5;
/// The most answers that are kept.
const MAX_ANSWERS: usize = 4096;

/// A server that knows tokens.
pub struct TokenWebhook {
    webhook: Webhook,
    /// How long its answers are kept.
    ttl: Duration,
    answers: Answers<Option<VerifiedToken>>,
}

/// Why nothing is known of a token.
#[derive(Debug, thiserror::Error)]
pub enum WebhookTokenError {
    #[error("the token webhook does not answer")]
    Call(#[from] CallError),
    #[error("the token webhook's answer is no TokenReview")]
    Answer(#[source] serde_json::Error),
    #[error("the token webhook says: {0}")]
    Told(String),
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: UserInfo,
    audiences: Option<Vec<String>>,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct UserInfo {
    username: String,
    uid: String,
    groups: Option<Vec<String>>,
    extra: Option<std::collections::BTreeMap<String, Vec<String>>>,
}

impl TokenWebhook {
    pub fn new(webhook: Webhook, ttl: Duration) -> Self {
        TokenWebhook { webhook, ttl, answers: Answers::new(MAX_ANSWERS) }
    }

    /// The user of a token that is for any of `audiences`; none where the webhook does not know it.
    /// `own` are the audiences of this server, which is what a webhook that tells none means.
    pub async fn verify(
        &self,
        token: &str,
        audiences: &[String],
        own: &[String],
    ) -> Result<Option<VerifiedToken>, WebhookTokenError> {
        let parts = std::iter::once(token).chain(audiences.iter().map(String::as_str));
        self.answers.get_or_ask(key(parts), |_| self.ttl, self.ask(token, audiences, own)).await
    }

    async fn ask(
        &self,
        token: &str,
        audiences: &[String],
        own: &[String],
    ) -> Result<Option<VerifiedToken>, WebhookTokenError> {
        let question = json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"creationTimestamp": null}, "spec": {"token": token, "audiences": audiences}, "status": {"user": {}}});
        let bytes = bytes::Bytes::from(question.to_string());
        let (mut pause, mut attempt) = (FIRST_PAUSE, 1);
        let answer = loop {
            match self.webhook.post(bytes.clone(), TIMEOUT).await {
                Ok(answer) => break answer,
                Err(error) if attempt == ATTEMPTS || !error.may_pass_soon() => return Err(error.into()),
                Err(_) => tokio::time::sleep(pause).await,
            }
            (pause, attempt) = (pause.mul_f64(FACTOR), attempt + 1);
        };
        let answer: Answer = serde_json::from_slice(&answer).map_err(WebhookTokenError::Answer)?;
        read(answer.status, audiences, own)
    }
}

fn read(
    status: Status,
    audiences: &[String],
    own: &[String],
) -> Result<Option<VerifiedToken>, WebhookTokenError> {
    if !status.authenticated {
        return if status.error.is_empty() { Ok(None) } else { Err(WebhookTokenError::Told(status.error)) };
    }
    let told = status.audiences.filter(|told| !told.is_empty());
    let told = told.as_deref().unwrap_or(own);
    let common: Vec<String> = audiences.iter().filter(|audience| told.contains(audience)).cloned().collect();
    if common.is_empty() {
        return Ok(None);
    }
    let UserInfo { username, uid, groups, extra } = status.user;
    let mut user =
        User { name: username, uid, groups: groups.unwrap_or_default(), extra: extra.unwrap_or_default() };
    user.add_group(AUTHENTICATED_GROUP);
    Ok(Some(VerifiedToken { user, audiences: common }))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_answer_counts_for_the_audiences_that_it_names() {
        let check = |status: Value, expected: Option<(&str, &[&str])>| {
            let status: Status = serde_json::from_value(status).expect("a status");
            let (asked, own) = (["api".to_owned(), "b".to_owned()], ["api".to_owned()]);
            let found = read(status, &asked, &own).expect("an answer");
            let found = found.map(|found| (found.user.name, found.audiences));
            assert_eq!(
                found
                    .as_ref()
                    .map(|(name, audiences)| (name.as_str(), audiences.iter().map(String::as_str).collect())),
                expected.map(|(name, audiences)| (name, audiences.to_vec()))
            );
        };
        let jane = json!({"username": "jane", "groups": ["dev"]});
        check(json!({"authenticated": true, "user": jane}), Some(("jane", &["api"])));
        check(json!({"authenticated": true, "user": jane, "audiences": ["b", "c"]}), Some(("jane", &["b"])));
        check(json!({"authenticated": true, "user": jane, "audiences": ["c"]}), None);
        check(json!({"authenticated": false}), None);
        let status =
            serde_json::from_value(json!({"authenticated": false, "error": "no"})).expect("a status");
        assert!(matches!(read(status, &[], &[]), Err(WebhookTokenError::Told(why)) if why == "no"));
    }
}
