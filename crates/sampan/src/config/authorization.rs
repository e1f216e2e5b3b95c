//! Who decides whether a request may go on: kube-apiserver's flags.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sampan_apiserver::identity::authorization::configuration::{self, Step};
use sampan_apiserver::identity::authorization::webhook::{FailurePolicy, WebhookConfig};
use sampan_apiserver::reload::{self, Followed};
use serde::Deserialize;

use super::duration;

/// How long the webhook of the flags may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The `authorization` part of a configuration.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawAuthorization {
    /// Who is asked, and in which order (apiserver.config.k8s.io/v1 AuthorizationConfiguration), instead of
    /// the modes; read again when it changes
    #[arg(long = "authorization-config", value_name = "FILE")]
    #[serde(rename = "config")]
    pub authorization_config: Option<PathBuf>,
    /// Who is asked, in this order: Node, RBAC, Webhook, AlwaysAllow, AlwaysDeny [default: Node,RBAC]
    #[arg(long = "authorization-mode", value_name = "MODE", value_delimiter = ',')]
    #[serde(rename = "mode")]
    pub authorization_mode: Vec<String>,
    /// Kubeconfig of the server of the mode Webhook (SubjectAccessReview of authorization.k8s.io/v1)
    #[arg(long = "authorization-webhook-config-file", value_name = "FILE")]
    #[serde(rename = "webhookConfigFile")]
    pub authorization_webhook_config_file: Option<PathBuf>,
    /// How long its answers are kept that allow [default: 5m]
    #[arg(long = "authorization-webhook-cache-authorized-ttl", value_name = "DURATION")]
    #[serde(rename = "webhookCacheAuthorizedTtl")]
    pub authorization_webhook_cache_authorized_ttl: Option<String>,
    /// How long its other answers are kept [default: 30s]
    #[arg(long = "authorization-webhook-cache-unauthorized-ttl", value_name = "DURATION")]
    #[serde(rename = "webhookCacheUnauthorizedTtl")]
    pub authorization_webhook_cache_unauthorized_ttl: Option<String>,
}

/// A checked `authorization` part. Files are read when the server starts.
#[derive(Clone, Debug)]
pub enum Authorization {
    File(PathBuf),
    Modes(Vec<Mode>),
}

/// One who is asked.
#[derive(Clone, Debug)]
pub enum Mode {
    Plain(&'static str),
    Webhook(WebhookConfig, PathBuf),
}

impl RawAuthorization {
    /// This configuration, with what it leaves out taken from another one.
    pub fn or(self, other: RawAuthorization) -> RawAuthorization {
        let authorization_mode = match self.authorization_mode.is_empty() {
            true => other.authorization_mode,
            false => self.authorization_mode,
        };
        RawAuthorization {
            authorization_config: self.authorization_config.or(other.authorization_config),
            authorization_mode,
            authorization_webhook_config_file: self
                .authorization_webhook_config_file
                .or(other.authorization_webhook_config_file),
            authorization_webhook_cache_authorized_ttl: self
                .authorization_webhook_cache_authorized_ttl
                .or(other.authorization_webhook_cache_authorized_ttl),
            authorization_webhook_cache_unauthorized_ttl: self
                .authorization_webhook_cache_unauthorized_ttl
                .or(other.authorization_webhook_cache_unauthorized_ttl),
        }
    }

    pub fn check(self) -> Result<Authorization> {
        let authorized = self.authorization_webhook_cache_authorized_ttl.as_deref();
        let authorized_ttl = duration("authorization.webhookCacheAuthorizedTtl", authorized, 300)?;
        let unauthorized = self.authorization_webhook_cache_unauthorized_ttl.as_deref();
        let unauthorized_ttl = duration("authorization.webhookCacheUnauthorizedTtl", unauthorized, 30)?;
        if let Some(path) = self.authorization_config {
            if !self.authorization_mode.is_empty() || self.authorization_webhook_config_file.is_some() {
                bail!("authorization.config: cannot stand beside mode or webhookConfigFile");
            }
            return Ok(Authorization::File(std::path::absolute(path)?));
        }
        let mut file = self.authorization_webhook_config_file;
        if self.authorization_mode.is_empty() && file.is_none() {
            return Ok(Authorization::Modes(vec![Mode::Plain("Node"), Mode::Plain("RBAC")]));
        }
        let mut modes = Vec::new();
        for (at, name) in self.authorization_mode.iter().enumerate() {
            if self.authorization_mode[..at].contains(name) {
                bail!("authorization.mode: {name} is there twice");
            }
            let plain = ["Node", "RBAC", "AlwaysAllow", "AlwaysDeny"].into_iter().find(|plain| plain == name);
            modes.push(match (plain, name.as_str()) {
                (Some(plain), _) => Mode::Plain(plain),
                (None, "Webhook") => {
                    let path =
                        file.take().context("authorization.webhookConfigFile: is needed for Webhook")?;
                    let config = WebhookConfig {
                        name: "default".to_owned(),
                        timeout: TIMEOUT,
                        failure_policy: FailurePolicy::NoOpinion,
                        authorized_ttl,
                        unauthorized_ttl,
                        conditions: Vec::new(),
                    };
                    Mode::Webhook(config, std::path::absolute(path)?)
                }
                (None, other) => bail!(
                    "authorization.mode: {other:?} is not Node, RBAC, Webhook, AlwaysAllow or AlwaysDeny"
                ),
            });
        }
        if file.is_some() {
            bail!("authorization.webhookConfigFile: needs Webhook among the modes");
        }
        Ok(Authorization::Modes(modes))
    }
}

impl Authorization {
    /// Reads the files. The second value is the file that is to be followed.
    pub fn open(&self) -> Result<(Vec<Step>, Option<Followed>)> {
        match self {
            Authorization::File(path) => {
                let text = reload::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                let steps = configuration::read(&text).with_context(|| {
                    format!("the authorization configuration {} cannot be used", path.display())
                })?;
                Ok((steps, Some(Followed::new(path.clone(), text))))
            }
            Authorization::Modes(modes) => {
                let steps: Result<Vec<Step>> = modes.iter().map(Mode::open).collect();
                Ok((steps?, None))
            }
        }
    }
}

impl Mode {
    fn open(&self) -> Result<Step> {
        Ok(match self {
            Mode::Plain("Node") => Step::Node,
            Mode::Plain("RBAC") => Step::Rbac,
            Mode::Plain("AlwaysAllow") => Step::AlwaysAllow,
            Mode::Plain(_) => Step::AlwaysDeny,
            Mode::Webhook(config, path) => configuration::open(config.clone(), path)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_asked_in_their_order() {
        let check = |yaml: &str, expected: Result<&[&str], &str>| {
            let raw: RawAuthorization = yaml_serde::from_str(yaml).expect("known fields");
            match (raw.check(), expected) {
                (Ok(Authorization::Modes(modes)), Ok(expected)) => {
                    let name = |mode: &Mode| match mode {
                        Mode::Plain(name) => *name,
                        Mode::Webhook(..) => "Webhook",
                    };
                    assert_eq!(modes.iter().map(name).collect::<Vec<_>>(), expected, "{yaml}");
                }
                (Err(error), Err(field)) => assert!(format!("{error:#}").contains(field), "{error:#}"),
                (found, _) => panic!("{yaml}: {found:?}"),
            }
        };
        check("{}", Ok(&["Node", "RBAC"]));
        check("mode: [RBAC]", Ok(&["RBAC"]));
        check("mode: [Webhook, RBAC]\nwebhookConfigFile: /w", Ok(&["Webhook", "RBAC"]));
        check("mode: [Webhook]", Err("webhookConfigFile"));
        check("webhookConfigFile: /w", Err("webhookConfigFile"));
        check("mode: [RBAC, RBAC]", Err("mode"));
        check("mode: [ABAC]", Err("mode"));
        check("mode: [RBAC]\nconfig: /c", Err("config"));
        check("mode: [RBAC]\nwebhookCacheAuthorizedTtl: x", Err("webhookCacheAuthorizedTtl"));
    }
}
