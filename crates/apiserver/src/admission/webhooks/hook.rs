//! A webhook as it is configured, ready to be asked.

use std::sync::Arc;
use std::time::Duration;

use sampan_api::object::ObjectRef;
use sampan_api::selector::{Selector, SelectorError};
use sampan_cel::conditions::{Conditions, Offered, environment};
use serde::Deserialize;
use serde_json::Value;

use super::matching::Rule;
use crate::registry::Registry;
use crate::webhook::{ConfigError, Webhook};

/// One webhook of one configuration. What is wrong with it is told when it is to be called.
pub struct Hook {
    pub configuration: String,
    pub name: String,
    pub webhook: Result<Webhook, ConfigError>,
    pub rules: Vec<Rule>,
    /// `matchPolicy: Equivalent`.
    pub equivalent: bool,
    pub namespaces: Result<Selector, SelectorError>,
    pub objects: Result<Selector, SelectorError>,
    /// `failurePolicy: Ignore`.
    pub ignores_failures: bool,
    pub timeout: Duration,
    pub side_effects: SideEffects,
    pub review_version: Option<ReviewVersion>,
    /// `reinvocationPolicy: IfNeeded`.
    pub reinvoked: bool,
    /// `matchConditions`.
    pub conditions: Result<Conditions, String>,
}

/// Whether a dry run may reach a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideEffects {
    Unset,
    /// `None` and `NoneOnDryRun`.
    NoneOnDryRun,
    Some,
}

/// The versions of `admission.k8s.io` that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVersion {
    V1,
    V1Beta1,
}

/// A match condition: a CEL expression that must hold for the webhook to be asked.
#[derive(Clone, Debug, Deserialize)]
struct Condition {
    name: String,
    expression: String,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    webhooks: Vec<Raw>,
}

/// `MutatingWebhook` and `ValidatingWebhook`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    name: String,
    #[serde(default)]
    client_config: Value,
    #[serde(default)]
    rules: Vec<Rule>,
    match_policy: Option<String>,
    #[serde(default)]
    namespace_selector: Option<Value>,
    #[serde(default)]
    object_selector: Option<Value>,
    failure_policy: Option<String>,
    timeout_seconds: Option<u64>,
    side_effects: Option<String>,
    #[serde(default)]
    admission_review_versions: Vec<String>,
    reinvocation_policy: Option<String>,
    #[serde(default)]
    match_conditions: Vec<Condition>,
}

/// Reads a configuration object, whose shape its schema has ensured.
pub fn compile(registry: &Registry, object: &ObjectRef) -> Vec<Arc<Hook>> {
    let name = object.header.name.to_string();
    match object.decode::<Configuration>() {
        Ok(configuration) => {
            configuration.webhooks.into_iter().map(|raw| Arc::new(hook(registry, &name, raw))).collect()
        }
        Err(error) => {
            tracing::error!(configuration = name, %error, "a webhook configuration was left out");
            Vec::new()
        }
    }
}

/// A stored condition that cannot be compiled comes from a server that knows more.
fn conditions(raw: &[Condition]) -> Result<Conditions, String> {
    let pairs = raw.iter().map(|one| (one.name.as_str(), one.expression.as_str()));
    let offered = Offered { authorizer: true, ..Offered::default() };
    Conditions::compile(pairs, &environment(offered, &[])).map_err(|faults| {
        let told: Vec<String> = faults.iter().map(|(_, error)| error.to_string()).collect();
        told.join(", ")
    })
}

fn hook(registry: &Registry, configuration: &str, raw: Raw) -> Hook {
    let selector = |json: Option<Value>| match json {
        None | Some(Value::Null) => Ok(Selector::everything()),
        Some(json) => Selector::from_json(&json),
    };
    let known = |version: &String| match version.as_str() {
        "v1" => Some(ReviewVersion::V1),
        "v1beta1" => Some(ReviewVersion::V1Beta1),
        _ => None,
    };
    Hook {
        configuration: configuration.to_owned(),
        webhook: Webhook::new(registry, &raw.client_config),
        name: raw.name,
        rules: raw.rules,
        equivalent: raw.match_policy.as_deref() != Some("Exact"),
        namespaces: selector(raw.namespace_selector),
        objects: selector(raw.object_selector),
        ignores_failures: raw.failure_policy.as_deref() == Some("Ignore"),
        timeout: Duration::from_secs(raw.timeout_seconds.unwrap_or(10)),
        side_effects: match raw.side_effects.as_deref() {
            None => SideEffects::Unset,
            Some("None" | "NoneOnDryRun") => SideEffects::NoneOnDryRun,
            Some(_) => SideEffects::Some,
        },
        review_version: raw.admission_review_versions.iter().find_map(known),
        reinvoked: raw.reinvocation_policy.as_deref() == Some("IfNeeded"),
        conditions: conditions(&raw.match_conditions),
    }
}
