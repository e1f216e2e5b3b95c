//! What is recorded of requests, and where: kube-apiserver's flags, with bounds where upstream has none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sampan_apiserver::audit::log::{Limits, Log, LogConfig};
use sampan_apiserver::audit::policy::Policy;
use sampan_apiserver::audit::queue::{BatchConfig, Throttle};
use sampan_apiserver::audit::webhook::{WebhookSink, WebhookSinkConfig};
use sampan_apiserver::audit::{AuditConfig, LogMode, LogSink, MAX_EVENT};
use sampan_apiserver::reload;
use sampan_apiserver::webhook::Webhook;
use serde::Deserialize;

use super::duration;

const MEGABYTE: u64 = 1 << 20;
/// Upstream's sizes for events that may be cut short.
const TRUNCATED_EVENT: usize = 100 << 10;
const BATCH_BYTES: usize = 10 << 20;

/// The `audit` part of a configuration.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawAudit {
    /// Audit policy (audit.k8s.io/v1 Policy); without one, nothing is recorded
    #[arg(long = "audit-policy-file", value_name = "FILE")]
    pub policy_file: Option<PathBuf>,
    /// File of audit events in JSON lines; - is the standard output
    #[arg(long = "audit-log-path", value_name = "FILE")]
    pub log_path: Option<PathBuf>,
    /// Megabytes of one audit log before it is rotated [default: 100]
    #[arg(long = "audit-log-maxsize", value_name = "MEGABYTES")]
    pub log_max_size: Option<u32>,
    /// Rotated audit logs that are kept; 0 keeps as many as their total size allows [default: 0]
    #[arg(long = "audit-log-maxbackup", value_name = "COUNT")]
    pub log_max_backup: Option<u32>,
    /// Days that rotated audit logs are kept; 0 is for ever [default: 0]
    #[arg(long = "audit-log-maxage", value_name = "DAYS")]
    pub log_max_age: Option<u32>,
    /// Megabytes of all audit logs together; the oldest ones go first [default: 1000]
    #[arg(long = "audit-log-max-total-size", value_name = "MEGABYTES")]
    pub log_max_total_size: Option<u32>,
    /// Compress rotated audit logs
    #[arg(long = "audit-log-compress")]
    pub log_compress: bool,
    /// How audit events are written: blocking, blocking-strict or batch [default: blocking]
    #[arg(long = "audit-log-mode", value_name = "MODE")]
    pub log_mode: Option<String>,
    /// Cut audit events that are longer than --audit-log-truncate-max-event-size
    #[arg(long = "audit-log-truncate-enabled")]
    pub log_truncate_enabled: bool,
    /// Bytes of an audit event before its objects are left out [default: 102400]
    #[arg(long = "audit-log-truncate-max-event-size", value_name = "BYTES")]
    pub log_truncate_max_event_size: Option<u32>,
    /// Kubeconfig of a server that audit events are sent to
    #[arg(long = "audit-webhook-config-file", value_name = "FILE")]
    pub webhook_config_file: Option<PathBuf>,
    /// Pause after the first failed delivery of audit events [default: 10s]
    #[arg(long = "audit-webhook-initial-backoff", value_name = "DURATION")]
    pub webhook_initial_backoff: Option<String>,
    /// Audit events that wait for delivery before further ones are dropped [default: 10000]
    #[arg(long = "audit-webhook-batch-buffer-size", value_name = "COUNT")]
    pub webhook_batch_buffer_size: Option<u32>,
    /// Audit events of one delivery [default: 400]
    #[arg(long = "audit-webhook-batch-max-size", value_name = "COUNT")]
    pub webhook_batch_max_size: Option<u32>,
    /// How long an audit event waits for others to be delivered with [default: 30s]
    #[arg(long = "audit-webhook-batch-max-wait", value_name = "DURATION")]
    pub webhook_batch_max_wait: Option<String>,
    /// Deliveries of audit events in a second; 0 is unlimited [default: 10]
    #[arg(long = "audit-webhook-batch-throttle-qps", value_name = "RATE")]
    pub webhook_batch_throttle_qps: Option<f32>,
    /// Deliveries of audit events that may come at once [default: 15]
    #[arg(long = "audit-webhook-batch-throttle-burst", value_name = "COUNT")]
    pub webhook_batch_throttle_burst: Option<u32>,
    /// Cut audit events that are longer than --audit-webhook-truncate-max-event-size
    #[arg(long = "audit-webhook-truncate-enabled")]
    pub webhook_truncate_enabled: bool,
    /// Bytes of a delivered audit event before its objects are left out [default: 102400]
    #[arg(long = "audit-webhook-truncate-max-event-size", value_name = "BYTES")]
    pub webhook_truncate_max_event_size: Option<u32>,
}

/// A checked `audit` part. Files are read when the server starts.
#[derive(Clone, Debug)]
pub struct Audit {
    policy_file: PathBuf,
    log: Option<(LogConfig, LogMode, usize)>,
    webhook: Option<(PathBuf, WebhookSinkConfig)>,
}

impl RawAudit {
    /// This configuration, with what it leaves out taken from another one.
    pub fn or(self, other: RawAudit) -> RawAudit {
        RawAudit {
            policy_file: self.policy_file.or(other.policy_file),
            log_path: self.log_path.or(other.log_path),
            log_max_size: self.log_max_size.or(other.log_max_size),
            log_max_backup: self.log_max_backup.or(other.log_max_backup),
            log_max_age: self.log_max_age.or(other.log_max_age),
            log_max_total_size: self.log_max_total_size.or(other.log_max_total_size),
            log_compress: self.log_compress || other.log_compress,
            log_mode: self.log_mode.or(other.log_mode),
            log_truncate_enabled: self.log_truncate_enabled || other.log_truncate_enabled,
            log_truncate_max_event_size: self
                .log_truncate_max_event_size
                .or(other.log_truncate_max_event_size),
            webhook_config_file: self.webhook_config_file.or(other.webhook_config_file),
            webhook_initial_backoff: self.webhook_initial_backoff.or(other.webhook_initial_backoff),
            webhook_batch_buffer_size: self.webhook_batch_buffer_size.or(other.webhook_batch_buffer_size),
            webhook_batch_max_size: self.webhook_batch_max_size.or(other.webhook_batch_max_size),
            webhook_batch_max_wait: self.webhook_batch_max_wait.or(other.webhook_batch_max_wait),
            webhook_batch_throttle_qps: self.webhook_batch_throttle_qps.or(other.webhook_batch_throttle_qps),
            webhook_batch_throttle_burst: self
                .webhook_batch_throttle_burst
                .or(other.webhook_batch_throttle_burst),
            webhook_truncate_enabled: self.webhook_truncate_enabled || other.webhook_truncate_enabled,
            webhook_truncate_max_event_size: self
                .webhook_truncate_max_event_size
                .or(other.webhook_truncate_max_event_size),
        }
    }

    /// None where nothing is recorded.
    pub fn check(self) -> Result<Option<Audit>> {
        let log = self.check_log()?;
        let webhook = self.check_webhook()?;
        match (self.policy_file, log.is_some() || webhook.is_some()) {
            (Some(policy_file), true) => Ok(Some(Audit { policy_file, log, webhook })),
            (None, false) => Ok(None),
            (None, true) => bail!("audit.policyFile: is needed to record anything"),
            (Some(_), false) => bail!("audit.policyFile: needs a logPath or a webhookConfigFile beside it"),
        }
    }

    fn check_log(&self) -> Result<Option<(LogConfig, LogMode, usize)>> {
        let Some(path) = self.log_path.clone() else { return Ok(None) };
        let file_bytes = match self.log_max_size {
            Some(0) | None => 100 * MEGABYTE,
            Some(size) => u64::from(size) * MEGABYTE,
        };
        let total_bytes = u64::from(self.log_max_total_size.unwrap_or(1000)) * MEGABYTE;
        if total_bytes < file_bytes {
            bail!("audit.logMaxTotalSize: must not be less than logMaxSize, {} MB", file_bytes / MEGABYTE);
        }
        let mode = match self.log_mode.as_deref().unwrap_or("blocking") {
            "blocking" => LogMode::Blocking,
            "blocking-strict" => LogMode::BlockingStrict,
            "batch" => LogMode::Batch(BatchConfig {
                buffer_size: 10_000,
                max_size: 400,
                max_bytes: BATCH_BYTES,
                max_wait: Duration::ZERO,
                throttle: None,
            }),
            other => bail!("audit.logMode: {other:?} is not blocking, blocking-strict or batch"),
        };
        let config = LogConfig {
            path: if path == Path::new("-") { path } else { std::path::absolute(path)? },
            limits: Limits {
                file_bytes,
                backups: self.log_max_backup.unwrap_or(0) as usize,
                age_days: self.log_max_age.unwrap_or(0),
                total_bytes,
            },
            compress: self.log_compress,
        };
        let max_event = max_event(self.log_truncate_enabled, self.log_truncate_max_event_size);
        Ok(Some((config, mode, max_event)))
    }

    fn check_webhook(&self) -> Result<Option<(PathBuf, WebhookSinkConfig)>> {
        let Some(path) = self.webhook_config_file.clone() else { return Ok(None) };
        let at_least_one = |name: &str, value: Option<u32>, default: u32| match value.unwrap_or(default) {
            0 => bail!("audit.{name}: must be at least 1"),
            value => Ok(value),
        };
        let per_second = self.webhook_batch_throttle_qps.unwrap_or(10.0);
        if !per_second.is_finite() || per_second < 0.0 {
            bail!("audit.webhookBatchThrottleQps: must not be negative");
        }
        let burst = at_least_one("webhookBatchThrottleBurst", self.webhook_batch_throttle_burst, 15)?;
        let (size, buffer) = (self.webhook_batch_max_size, self.webhook_batch_buffer_size);
        let config = WebhookSinkConfig {
            batch: BatchConfig {
                buffer_size: at_least_one("webhookBatchBufferSize", buffer, 10_000)? as usize,
                max_size: at_least_one("webhookBatchMaxSize", size, 400)? as usize,
                max_bytes: BATCH_BYTES,
                max_wait: duration("audit.webhookBatchMaxWait", self.webhook_batch_max_wait.as_deref(), 30)?,
                throttle: (per_second > 0.0).then_some(Throttle { per_second, burst }),
            },
            max_event: max_event(self.webhook_truncate_enabled, self.webhook_truncate_max_event_size),
            initial_backoff: duration(
                "audit.webhookInitialBackoff",
                self.webhook_initial_backoff.as_deref(),
                10,
            )?,
        };
        Ok(Some((std::path::absolute(path)?, config)))
    }
}

fn max_event(truncate: bool, bytes: Option<u32>) -> usize {
    if truncate { bytes.map_or(TRUNCATED_EVENT, |bytes| bytes as usize) } else { MAX_EVENT }
}

impl Audit {
    /// Reads the files and opens the log.
    pub fn open(&self) -> Result<AuditConfig> {
        let path = &self.policy_file;
        let text = reload::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let policy = Policy::read(&text)
            .with_context(|| format!("the audit policy {} cannot be used", self.policy_file.display()))?;
        let log = match self.log.clone() {
            None => None,
            Some((config, mode, max_event)) => {
                let path = config.path.clone();
                let log = Log::open(config)
                    .with_context(|| format!("the audit log {} cannot be opened", path.display()))?;
                Some(LogSink { log, mode, max_event })
            }
        };
        let webhook = match &self.webhook {
            None => None,
            Some((path, config)) => {
                let webhook = Webhook::of_kubeconfig(path).context("the audit webhook cannot be used")?;
                Some(WebhookSink { webhook, config: *config })
            }
        };
        Ok(AuditConfig { policy, log, webhook })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str) -> Result<Option<Audit>> {
        yaml_serde::from_str::<RawAudit>(yaml).expect("known fields").check()
    }

    #[test]
    fn upstreams_defaults_hold_within_a_total_size() {
        let audit = check("policyFile: /p\nlogPath: /l\nwebhookConfigFile: /w").expect("valid").expect("on");
        let (log, mode, max_event) = audit.log.expect("a log");
        let limits = Limits { file_bytes: 100 << 20, backups: 0, age_days: 0, total_bytes: 1000 << 20 };
        assert_eq!((log.limits, mode, max_event), (limits, LogMode::Blocking, MAX_EVENT));
        let (_, webhook) = audit.webhook.expect("a webhook");
        assert_eq!((webhook.batch.buffer_size, webhook.batch.max_size), (10_000, 400));
        assert_eq!(webhook.batch.max_wait, Duration::from_secs(30));
        assert!(check("").expect("valid").is_none());
    }

    #[test]
    fn wrong_values_name_their_field() {
        let check = |yaml: &str, field: &str| {
            let error = format!("{:#}", check(&format!("policyFile: /p\n{yaml}")).expect_err("refused"));
            assert!(error.contains(field), "{error}");
        };
        check("", "policyFile");
        check("logPath: /l\nlogMode: sometimes", "logMode");
        check("logPath: /l\nlogMaxSize: 2000", "logMaxTotalSize");
        check("webhookConfigFile: /w\nwebhookBatchMaxWait: soon", "webhookBatchMaxWait");
        check("webhookConfigFile: /w\nwebhookBatchMaxSize: 0", "webhookBatchMaxSize");
        check("webhookConfigFile: /w\nwebhookBatchThrottleQps: -1", "webhookBatchThrottleQps");
    }
}
