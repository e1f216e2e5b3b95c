//! `apiserver.config.k8s.io` `AuthorizationConfiguration`: who is asked whether a request may go on, and in
//! which order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sampan_cel::{Program, Type};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::webhook::{self, AuthorizationWebhook, FailurePolicy, WebhookConfig};
use crate::configuration_file::{self, APISERVER_CONFIG, FileKindError};
use crate::identity::faults::Faults;
use crate::webhook::{ConfiguredError, Webhook};

const MAX_CONDITIONS: usize = 64;

/// One of those who are asked.
#[derive(Clone)]
pub enum Step {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    Webhook(Arc<AuthorizationWebhook>),
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error(transparent)]
    File(#[from] FileKindError),
    #[error("{0}")]
    Invalid(Faults),
    #[error("the server of the authorizer {name:?} cannot be reached")]
    Webhook {
        name: String,
        #[source]
        source: ConfiguredError,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawConfiguration {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(default)]
    authorizers: Vec<RawAuthorizer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuthorizer {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    webhook: Option<RawWebhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawWebhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    cache_unauthorized_requests: Option<bool>,
    #[serde(default)]
    timeout: String,
    #[serde(default)]
    subject_access_review_version: String,
    #[serde(default)]
    match_condition_subject_access_review_version: String,
    #[serde(default)]
    failure_policy: String,
    connection_info: RawConnection,
    #[serde(default)]
    match_conditions: Vec<RawCondition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawConnection {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCondition {
    expression: String,
}

/// Reads a configuration in YAML or JSON, and the kubeconfig files that it names.
pub fn read(text: &[u8]) -> Result<Vec<Step>, ConfigurationError> {
    let raw: RawConfiguration =
        configuration_file::read(text, "AuthorizationConfiguration", APISERVER_CONFIG)?;
    let mut faults = Faults::default();
    if raw.authorizers.is_empty() {
        faults.add("authorizers", "at least one authorization mode must be defined");
    }
    let (mut names, mut kinds) = (Vec::new(), Vec::new());
    let mut planned = Vec::new();
    for (at, raw) in raw.authorizers.into_iter().enumerate() {
        faults.at(format!("authorizers[{at}]"), |faults| {
            if let Some(fault) = sampan_api::names::dns1123_subdomain(&raw.name).first() {
                faults.add("name", format!("{:?}: {fault}", raw.name));
            } else if names.contains(&raw.name) {
                faults.add("name", format!("duplicate value: {:?}", raw.name));
            }
            if raw.kind != "Webhook" && kinds.contains(&raw.kind) {
                faults.add("type", format!("duplicate value: {:?}", raw.kind));
            }
            names.push(raw.name.clone());
            kinds.push(raw.kind.clone());
            planned.extend(plan(raw, faults));
        });
    }
    if !faults.is_empty() {
        return Err(ConfigurationError::Invalid(faults));
    }
    planned.into_iter().map(Planned::open).collect()
}

/// An authorizer whose server is not known yet.
enum Planned {
    Plain(Step),
    Webhook(WebhookConfig, PathBuf),
}

impl Planned {
    fn open(self) -> Result<Step, ConfigurationError> {
        match self {
            Planned::Plain(step) => Ok(step),
            Planned::Webhook(config, path) => open(config, &path),
        }
    }
}

/// An authorizer whose server a kubeconfig file names.
pub fn open(config: WebhookConfig, path: &Path) -> Result<Step, ConfigurationError> {
    let webhook = Webhook::of_kubeconfig(path)
        .map_err(|source| ConfigurationError::Webhook { name: config.name.clone(), source })?;
    Ok(Step::Webhook(Arc::new(AuthorizationWebhook::new(config, webhook))))
}

fn plan(raw: RawAuthorizer, faults: &mut Faults) -> Option<Planned> {
    let plain = match raw.kind.as_str() {
        "Webhook" => None,
        "RBAC" => Some(Step::Rbac),
        "Node" => Some(Step::Node),
        "AlwaysAllow" => Some(Step::AlwaysAllow),
        "AlwaysDeny" => Some(Step::AlwaysDeny),
        other => {
            faults.add("type", format!("{other:?} is not Webhook, RBAC, Node, AlwaysAllow or AlwaysDeny"));
            return None;
        }
    };
    match (plain, raw.webhook) {
        (Some(step), None) => Some(Planned::Plain(step)),
        (Some(_), Some(_)) => {
            faults.add("webhook", "may only be specified when type=Webhook");
            None
        }
        (None, None) => {
            faults.add("webhook", "required when type=Webhook");
            None
        }
        (None, Some(webhook)) => plan_webhook(raw.name, webhook, faults),
    }
}

fn plan_webhook(name: String, raw: RawWebhook, faults: &mut Faults) -> Option<Planned> {
    let ttl = |text: Option<String>, keep: Option<bool>, default_s: u64, field: &str, faults: &mut Faults| {
        if keep == Some(false) {
            return Duration::ZERO;
        }
        match text.as_deref().map(sampan_api::duration::parse) {
            None => Duration::from_secs(default_s),
            Some(Some(ttl)) if !ttl.is_zero() => ttl,
            Some(_) => {
                faults.add(field, "must be greater than zero");
                Duration::ZERO
            }
        }
    };
    let authorized_ttl =
        ttl(raw.authorized_ttl, raw.cache_authorized_requests, 300, "webhook.authorizedTTL", faults);
    let unauthorized_ttl =
        ttl(raw.unauthorized_ttl, raw.cache_unauthorized_requests, 30, "webhook.unauthorizedTTL", faults);
    let timeout = sampan_api::duration::parse(&raw.timeout)
        .filter(|timeout| !timeout.is_zero() && *timeout <= Duration::from_secs(30));
    if timeout.is_none() {
        faults.add("webhook.timeout", format!("{:?} is not between 0 and 30s", raw.timeout));
    }
    if raw.subject_access_review_version != "v1" {
        faults.add("webhook.subjectAccessReviewVersion", "must be v1");
    }
    let condition_version = raw.match_condition_subject_access_review_version.as_str();
    if condition_version != "v1" && !(condition_version.is_empty() && raw.match_conditions.is_empty()) {
        faults.add("webhook.matchConditionSubjectAccessReviewVersion", "must be v1");
    }
    let failure_policy = match raw.failure_policy.as_str() {
        "Deny" => Some(FailurePolicy::Deny),
        "NoOpinion" => Some(FailurePolicy::NoOpinion),
        other => {
            faults.add("webhook.failurePolicy", format!("{other:?} is not NoOpinion or Deny"));
            None
        }
    };
    let path = match (raw.connection_info.kind.as_str(), raw.connection_info.kube_config_file) {
        ("KubeConfigFile", Some(path)) if path.is_absolute() => Some(path),
        ("KubeConfigFile", Some(_)) => {
            faults.add("webhook.connectionInfo.kubeConfigFile", "must be an absolute path");
            None
        }
        ("KubeConfigFile", None) => {
            faults.add("webhook.connectionInfo.kubeConfigFile", "is required");
            None
        }
        (other, _) => {
            faults.add("webhook.connectionInfo.type", format!("{other:?} is not KubeConfigFile"));
            None
        }
    };
    let conditions = conditions(raw.match_conditions, faults);
    let config = WebhookConfig {
        name,
        timeout: timeout?,
        failure_policy: failure_policy?,
        authorized_ttl,
        unauthorized_ttl,
        conditions: conditions?,
    };
    Some(Planned::Webhook(config, path?))
}

fn conditions(raw: Vec<RawCondition>, faults: &mut Faults) -> Option<Vec<Program>> {
    if raw.len() > MAX_CONDITIONS {
        faults.add("webhook.matchConditions", format!("must have at most {MAX_CONDITIONS} items"));
        return None;
    }
    let environment = webhook::environment();
    let mut programs = Vec::new();
    for (at, RawCondition { expression }) in raw.iter().enumerate() {
        match Program::returning(expression, &environment, &[Type::Bool]) {
            Ok(program) => programs.push(program),
            Err(error) => {
                faults.add(&format!("webhook.matchConditions[{at}].expression"), error.to_string());
            }
        }
    }
    (programs.len() == raw.len()).then_some(programs)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Names of the steps, or what is wrong.
    fn check(authorizers: Value, expected: Result<&[&str], &str>) {
        let text = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": authorizers});
        let read = read(text.to_string().as_bytes());
        let names = read.map(|steps| {
            let name = |step: &Step| match step {
                Step::AlwaysAllow => "AlwaysAllow",
                Step::AlwaysDeny => "AlwaysDeny",
                Step::Node => "Node",
                Step::Rbac => "RBAC",
                Step::Webhook(_) => "Webhook",
            };
            steps.iter().map(name).collect::<Vec<_>>()
        });
        match (names, expected) {
            (Ok(names), Ok(expected)) => assert_eq!(names, expected),
            (Err(error), Err(why)) => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                assert!(format!("{error}: {source}").contains(why), "{error}: {source}");
            }
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    fn webhook(changes: &[(&str, Value)]) -> Value {
        let mut webhook = json!({"timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
            "matchConditionSubjectAccessReviewVersion": "v1", "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/no/such/file"}});
        for (name, value) in changes {
            webhook[*name] = value.clone();
        }
        json!([{"type": "Webhook", "name": "w", "webhook": webhook}])
    }

    #[test]
    fn authorizers_are_asked_in_their_order() {
        check(
            json!([{"type": "Node", "name": "node"}, {"type": "RBAC", "name": "rbac"}]),
            Ok(&["Node", "RBAC"]),
        );
        check(json!([]), Err("at least one"));
        check(
            json!([{"type": "RBAC", "name": "a"}, {"type": "RBAC", "name": "b"}]),
            Err("authorizers[1].type: duplicate"),
        );
        check(
            json!([{"type": "RBAC", "name": "a"}, {"type": "Node", "name": "a"}]),
            Err("authorizers[1].name: duplicate"),
        );
        check(json!([{"type": "RBAC", "name": "A"}]), Err("authorizers[0].name"));
        check(json!([{"type": "ABAC", "name": "a"}]), Err("\"ABAC\" is not"));
        check(json!([{"type": "Webhook", "name": "a"}]), Err("required when type=Webhook"));
    }

    #[test]
    fn faults_of_webhooks_name_their_field() {
        check(webhook(&[]), Err("/no/such/file"));
        check(webhook(&[("timeout", json!("31s"))]), Err("webhook.timeout"));
        check(webhook(&[("failurePolicy", json!("Ignore"))]), Err("webhook.failurePolicy"));
        check(webhook(&[("authorizedTTL", json!("0s"))]), Err("webhook.authorizedTTL"));
        check(webhook(&[("subjectAccessReviewVersion", json!("v1beta1"))]), Err("must be v1"));
        check(
            webhook(&[("matchConditions", json!([{"expression": "1"}]))]),
            Err("matchConditions[0].expression"),
        );
        check(
            webhook(&[("connectionInfo", json!({"type": "KubeConfigFile", "kubeConfigFile": "x"}))]),
            Err("absolute"),
        );
        check(webhook(&[("connectionInfo", json!({"type": "InClusterConfig"}))]), Err("connectionInfo.type"));
        check(webhook(&[("timeouts", json!("3s"))]), Err("timeouts"));
    }
}
