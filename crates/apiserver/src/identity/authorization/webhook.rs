//! A server that decides: a `SubjectAccessReview` (authorization.k8s.io/v1) to where a kubeconfig file leads.
//!
//! Match conditions say for which requests it is asked. Its answers are kept for a while. Where it cannot be
//! asked, its failure policy decides.

use std::sync::Arc;
use std::time::Duration;

use sampan_cel::conditions::{BUDGET, CALL_LIMIT};
use sampan_cel::{Decl, Environment, Evaluator, Program, Type, Value as CelValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Attributes;
use crate::identity::cache::{Answers, key};
use crate::webhook::{CallError, Webhook};

/// How often a question is asked, and the pauses between: upstream's.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const FACTOR: f64 = 1.5;
/// The most answers that are kept.
const MAX_ANSWERS: usize = 8192;
/// Answers to longer questions are not kept.
const MAX_CACHED_QUESTION: usize = 10_000;

/// What one authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    Allow(String),
    /// Nobody else is asked.
    Deny(String),
    /// The next authorizer is asked.
    None(String),
}

/// What is said where the webhook cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    Deny,
    NoOpinion,
}

/// How a webhook is asked.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    pub name: String,
    pub timeout: Duration,
    pub failure_policy: FailurePolicy,
    /// How long answers are kept that allow, and others. Zero keeps none.
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
    /// All must hold for it to be asked.
    pub conditions: Vec<Program>,
}

/// A server that decides.
pub struct AuthorizationWebhook {
    pub config: WebhookConfig,
    webhook: Webhook,
    answers: Answers<Opinion>,
}

/// Why the webhook has not decided.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the answer is no SubjectAccessReview: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("webhook subject access review returned both allow and deny response")]
    Both,
    #[error("cel evaluation error: expression '{expression}' resulted in error: {why}")]
    Condition { expression: String, why: String },
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    allowed: bool,
    denied: bool,
    reason: String,
    evaluation_error: String,
}

impl AuthorizationWebhook {
    pub fn new(config: WebhookConfig, webhook: Webhook) -> Self {
        AuthorizationWebhook { config, webhook, answers: Answers::new(MAX_ANSWERS) }
    }

    /// Asks, if the conditions want it.
    pub async fn decide(&self, attributes: &Attributes<'_>) -> Opinion {
        let spec = spec(attributes);
        let failed = |error: WebhookError| {
            tracing::warn!(webhook = self.config.name, %error, "an authorization webhook has not decided");
            match self.config.failure_policy {
                FailurePolicy::Deny => Opinion::Deny(String::new()),
                FailurePolicy::NoOpinion => Opinion::None(String::new()),
            }
        };
        match matches(&self.config.conditions, &spec) {
            Ok(true) => {}
            Ok(false) => return Opinion::None(String::new()),
            Err(error) => return failed(error),
        }
        let question = json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "metadata": {"creationTimestamp": null}, "spec": spec, "status": {"allowed": false}});
        let text = question.to_string();
        let keep = |opinion: &Opinion| match opinion {
            Opinion::Allow(_) => self.config.authorized_ttl,
            Opinion::Deny(_) | Opinion::None(_) => self.config.unauthorized_ttl,
        };
        let asked = if text.len() > MAX_CACHED_QUESTION {
            self.ask(&text).await
        } else {
            self.answers.get_or_ask(key([text.as_str()]), keep, self.ask(&text)).await
        };
        asked.unwrap_or_else(failed)
    }

    async fn ask(&self, question: &str) -> Result<Opinion, WebhookError> {
        let bytes = bytes::Bytes::copy_from_slice(question.as_bytes());
        let (mut pause, mut attempt) = (FIRST_PAUSE, 1);
        let answer = loop {
            match self.webhook.post(bytes.clone(), self.config.timeout).await {
                Ok(answer) => break answer,
                Err(error) if attempt == ATTEMPTS || !error.may_pass_soon() => return Err(error.into()),
                Err(_) => tokio::time::sleep(pause).await,
            }
            (pause, attempt) = (pause.mul_f64(FACTOR), attempt + 1);
        };
        let answer: Answer = serde_json::from_slice(&answer)?;
        read(answer.status)
    }
}

fn read(status: Status) -> Result<Opinion, WebhookError> {
    if !status.evaluation_error.is_empty() {
        tracing::debug!(error = status.evaluation_error, "an authorization webhook told of an error");
    }
    match (status.allowed, status.denied) {
        (true, true) => Err(WebhookError::Both),
        (true, false) => Ok(Opinion::Allow(status.reason)),
        (false, true) => Ok(Opinion::Deny(status.reason)),
        (false, false) => Ok(Opinion::None(status.reason)),
    }
}

/// `SubjectAccessReviewSpec`, with every field that conditions may look at.
fn spec(attributes: &Attributes<'_>) -> Value {
    let user = attributes.user;
    let mut spec = json!({"user": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
    if attributes.is_resource() {
        spec["resourceAttributes"] = json!({
            "namespace": attributes.namespace, "verb": attributes.verb, "group": attributes.group,
            "version": attributes.version, "resource": attributes.resource,
            "subresource": attributes.subresource, "name": attributes.name,
        });
    } else {
        spec["nonResourceAttributes"] = json!({"path": attributes.path, "verb": attributes.verb});
    }
    spec
}

/// One that is false decides, whatever the others say.
fn matches(conditions: &[Program], spec: &Value) -> Result<bool, WebhookError> {
    let declared = declaration();
    let (mut left, mut failed) = (BUDGET, None);
    for program in conditions {
        let mut evaluator = Evaluator::new(vec![("request", CelValue::from_json(spec, Some(&declared)))]);
        let (outcome, cost) = evaluator.run(program, CALL_LIMIT.min(left));
        left = left.saturating_sub(cost);
        match outcome {
            Ok(CelValue::Bool(true)) => {}
            Ok(CelValue::Bool(false)) => return Ok(false),
            other => {
                let why =
                    other.err().map_or_else(|| "must evaluate to bool".to_owned(), |error| error.to_string());
                let expression = program.text().to_owned();
                failed.get_or_insert(WebhookError::Condition { expression, why });
            }
        }
    }
    failed.map_or(Ok(true), Err)
}

/// What match conditions see.
pub fn environment() -> Environment {
    Environment::default().with("request", Arc::new(declaration()))
}

fn declaration() -> Decl {
    let text = || Decl::scalar(Type::String, u64::MAX, 2);
    let strings = || Decl::list(Arc::new(text()), Default::default(), u64::MAX);
    let resource = ["namespace", "verb", "group", "version", "resource", "subresource", "name"];
    Decl::structure(
        "kubernetes.SubjectAccessReviewSpec",
        [
            (
                "resourceAttributes",
                Decl::structure("kubernetes.ResourceAttributes", resource.map(|name| (name, text()))),
            ),
            (
                "nonResourceAttributes",
                Decl::structure(
                    "kubernetes.NonResourceAttributes",
                    ["path", "verb"].map(|name| (name, text())),
                ),
            ),
            ("user", text()),
            ("groups", strings()),
            ("extra", Decl::map(Arc::new(strings()), u64::MAX)),
            ("uid", text()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::User;

    #[test]
    fn conditions_choose_what_is_asked() {
        let jane = User::component("jane", &["dev"]);
        let pods = Attributes {
            verb: "get",
            version: "v1",
            resource: "pods",
            namespace: "a",
            ..Attributes::path(&jane, "", "")
        };
        let path = Attributes::path(&jane, "get", "/metrics");
        let check = |expressions: &[&str], attributes: &Attributes<'_>, expected: Option<bool>| {
            let compiled = expressions
                .iter()
                .map(|text| Program::returning(text, &environment(), &[Type::Bool]).expect("it compiles"));
            let conditions: Vec<Program> = compiled.collect();
            assert_eq!(matches(&conditions, &spec(attributes)).ok(), expected, "{expressions:?}");
        };
        check(&[], &pods, Some(true));
        check(
            &["has(request.resourceAttributes)", "request.resourceAttributes.namespace == 'a'"],
            &pods,
            Some(true),
        );
        check(&["has(request.resourceAttributes)"], &path, Some(false));
        check(&["request.nonResourceAttributes.path == '/metrics'"], &path, Some(true));
        check(&["'dev' in request.groups && request.user == 'jane'"], &path, Some(true));
        check(&["request.resourceAttributes.name == ''"], &path, None);
        // One that is false decides.
        check(&["request.resourceAttributes.name == ''", "request.user == 'joe'"], &path, Some(false));
    }

    #[test]
    fn answers_allow_deny_or_say_nothing() {
        let check = |status: Value| read(serde_json::from_value(status).expect("a status")).ok();
        assert_eq!(check(json!({"allowed": true, "reason": "r"})), Some(Opinion::Allow("r".into())));
        assert_eq!(check(json!({"allowed": false, "denied": true})), Some(Opinion::Deny(String::new())));
        assert_eq!(check(json!({"allowed": false})), Some(Opinion::None(String::new())));
        assert_eq!(check(json!({"allowed": true, "denied": true})), None);
    }
}
