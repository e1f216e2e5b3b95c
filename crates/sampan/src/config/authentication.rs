//! Whose credentials are accepted: kube-apiserver's flags.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{ArgAction, Args};
use sampan_apiserver::identity::authentication::configuration::Configured;
use sampan_apiserver::identity::authentication::webhook::TokenWebhook;
use sampan_apiserver::identity::authentication::{
    Anonymous, Authenticator, FrontProxy, ServiceAccountTokens, TokenConfig,
};
use sampan_apiserver::reload::{self, Followed};
use sampan_apiserver::webhook::Webhook;
use serde::Deserialize;

use super::duration;

/// The `authentication` part of a configuration.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawAuthentication {
    /// Issuers of tokens, and what needs no credentials (apiserver.config.k8s.io/v1
    /// AuthenticationConfiguration); read again when it changes
    #[arg(long = "authentication-config", value_name = "FILE")]
    #[serde(rename = "config")]
    pub authentication_config: Option<PathBuf>,
    /// Whether requests without credentials are system:anonymous: all of them, or none; without this,
    /// those for /livez, /readyz and /healthz
    #[arg(long = "anonymous-auth", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: Option<bool>,
    /// Kubeconfig of a server that knows tokens (TokenReview of authentication.k8s.io/v1)
    #[arg(long = "authentication-token-webhook-config-file", value_name = "FILE")]
    pub token_webhook_config_file: Option<PathBuf>,
    /// How long its answers are kept [default: 2m]
    #[arg(long = "authentication-token-webhook-cache-ttl", value_name = "DURATION")]
    pub token_webhook_cache_ttl: Option<String>,
    /// Whether secrets of type bootstrap.kubernetes.io/token in kube-system are tokens [default: true]
    #[arg(long = "enable-bootstrap-token-auth", value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub bootstrap_token_auth: Option<bool>,
    /// Audience that tokens for the API may have; may be repeated [default: the issuer]
    #[arg(long = "api-audiences", value_name = "AUDIENCE", value_delimiter = ',')]
    pub api_audiences: Vec<String>,
    /// Issuer of service account tokens, an https URL [default: https://kubernetes.default.svc.CLUSTER-DOMAIN]
    #[arg(long = "service-account-issuer", value_name = "URL")]
    pub service_account_issuer: Option<String>,
    /// Where the keys of service account tokens are said to be, an https URL [default: /openid/v1/jwks of
    /// the server that is asked]
    #[arg(long = "service-account-jwks-uri", value_name = "URL")]
    pub service_account_jwks_uri: Option<String>,
    /// The longest life of a service account token that is asked for [default: unlimited]
    #[arg(long = "service-account-max-token-expiration", value_name = "DURATION")]
    pub service_account_max_token_expiration: Option<String>,
}

/// A checked `authentication` part. Files are read when the server starts.
#[derive(Clone, Debug)]
pub struct Authentication {
    config: Option<PathBuf>,
    anonymous: Anonymous,
    token_webhook: Option<(PathBuf, Duration)>,
    bootstrap_tokens: bool,
    pub tokens: TokenConfig,
}

impl RawAuthentication {
    /// This configuration, with what it leaves out taken from another one.
    pub fn or(self, other: RawAuthentication) -> RawAuthentication {
        let api_audiences =
            if self.api_audiences.is_empty() { other.api_audiences } else { self.api_audiences };
        RawAuthentication {
            authentication_config: self.authentication_config.or(other.authentication_config),
            anonymous_auth: self.anonymous_auth.or(other.anonymous_auth),
            token_webhook_config_file: self.token_webhook_config_file.or(other.token_webhook_config_file),
            token_webhook_cache_ttl: self.token_webhook_cache_ttl.or(other.token_webhook_cache_ttl),
            bootstrap_token_auth: self.bootstrap_token_auth.or(other.bootstrap_token_auth),
            api_audiences,
            service_account_issuer: self.service_account_issuer.or(other.service_account_issuer),
            service_account_jwks_uri: self.service_account_jwks_uri.or(other.service_account_jwks_uri),
            service_account_max_token_expiration: self
                .service_account_max_token_expiration
                .or(other.service_account_max_token_expiration),
        }
    }

    pub fn check(self, cluster_domain: &str) -> Result<Authentication> {
        let https = |field: &str, url: &str| match url.starts_with("https://") {
            true => Ok(()),
            false => bail!("authentication.{field}: {url:?} is not an https URL"),
        };
        if let Some(issuer) = &self.service_account_issuer {
            https("serviceAccountIssuer", issuer)?;
        }
        if let Some(url) = &self.service_account_jwks_uri {
            https("serviceAccountJwksUri", url)?;
        }
        let issuer = || format!("https://kubernetes.default.svc.{cluster_domain}");
        let ttl =
            duration("authentication.tokenWebhookCacheTtl", self.token_webhook_cache_ttl.as_deref(), 120)?;
        let max = self.service_account_max_token_expiration.as_deref();
        let max = max.map(|text| duration("authentication.serviceAccountMaxTokenExpiration", Some(text), 0));
        let max = max.transpose()?.filter(|life| !life.is_zero());
        if max.is_some_and(|life| !(3600..=1 << 32).contains(&life.as_secs())) {
            bail!("authentication.serviceAccountMaxTokenExpiration: must be between 1h and 2^32 seconds");
        }
        Ok(Authentication {
            config: self.authentication_config.map(std::path::absolute).transpose()?,
            anonymous: match self.anonymous_auth {
                None => Anonymous::default(),
                Some(true) => Anonymous::Everywhere,
                Some(false) => Anonymous::Off,
            },
            token_webhook: match self.token_webhook_config_file {
                None => None,
                Some(path) => Some((std::path::absolute(path)?, ttl)),
            },
            bootstrap_tokens: self.bootstrap_token_auth.unwrap_or(true),
            tokens: TokenConfig {
                issuer: self.service_account_issuer.unwrap_or_else(issuer),
                api_audiences: self.api_audiences,
                keys_url: self.service_account_jwks_uri,
                max_life_s: max.map(|life| life.as_secs() as i64),
            },
        })
    }
}

impl Authentication {
    /// Reads the files. The second value is the file that is to be followed.
    pub fn open(
        &self,
        tokens: Arc<ServiceAccountTokens>,
        front_proxy: FrontProxy,
    ) -> Result<(Authenticator, Option<Followed>)> {
        let webhook = match &self.token_webhook {
            None => None,
            Some((path, ttl)) => {
                let webhook = Webhook::of_kubeconfig(path).context("the token webhook cannot be used")?;
                Some(TokenWebhook::new(webhook, *ttl))
            }
        };
        let authenticator = Authenticator {
            anonymous: self.anonymous.clone(),
            front_proxy: Some(front_proxy),
            bootstrap_tokens: self.bootstrap_tokens,
            webhook,
            ..Authenticator::new(tokens)
        };
        let Some(path) = &self.config else { return Ok((authenticator, None)) };
        let text = reload::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let configured = Configured::read(&text, &[self.tokens.issuer.as_str()])
            .with_context(|| format!("the authentication configuration {} cannot be used", path.display()))?;
        if configured.anonymous.is_some() && self.anonymous != Anonymous::default() {
            bail!("authentication.anonymousAuth: {} says what is anonymous", path.display());
        }
        authenticator.configure(configured);
        Ok((authenticator, Some(Followed::new(path.clone(), text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_name_their_field() {
        let check = |yaml: &str, field: &str| {
            let raw: RawAuthentication = yaml_serde::from_str(yaml).expect("known fields");
            let error = format!("{:#}", raw.check("cluster.local").expect_err("refused"));
            assert!(error.contains(field), "{error}");
        };
        check("serviceAccountIssuer: http://x", "serviceAccountIssuer");
        check("serviceAccountJwksUri: x", "serviceAccountJwksUri");
        check("tokenWebhookCacheTtl: soon", "tokenWebhookCacheTtl");
        check("serviceAccountMaxTokenExpiration: 1m", "serviceAccountMaxTokenExpiration");
    }

    #[test]
    fn health_needs_no_credentials_unless_told_otherwise() {
        let anonymous = |yaml: &str| {
            let raw: RawAuthentication = yaml_serde::from_str(yaml).expect("known fields");
            raw.check("cluster.local").expect("valid").anonymous
        };
        assert_eq!(anonymous("{}"), Anonymous::default());
        assert_eq!(anonymous("anonymousAuth: true"), Anonymous::Everywhere);
        assert_eq!(anonymous("anonymousAuth: false"), Anonymous::Off);
    }
}
