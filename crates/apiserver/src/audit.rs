//! The audit trail: who asked for what, from where, and how it was answered (`audit.k8s.io/v1`).
//!
//! A [`policy::Policy`] says how much of a request is recorded; its [`Record`] is filled in on the request's
//! way and written as an event at each stage, to a log file ([`log`]) and to a webhook ([`webhook`]).
//! Everything is bounded: what does not fit is cut, rotated away or dropped, and counted.
//!
//! A server without a policy makes no record and pays for nothing but looking whether there is one.
//! Components of this process are not recorded: they ask without HTTP, and what they do is the server's own.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderMap, USER_AGENT};
use http::{HeaderValue, Uri};
use jiff::Timestamp;
use sampan_base::drain::Shutdown;
use sampan_base::metrics::{Counter, Description, Family, Registry};

use crate::identity::authorization::Attributes;

pub mod answer;
pub mod event;
pub mod log;
pub mod policy;
pub mod queue;
mod record;
mod source;
#[cfg(test)]
mod tests;
pub mod webhook;

use event::{Event, ObjectReference, UserInfo};
use log::Log;
use policy::{Level, Policy, Verdict};
use queue::Queue;
pub use record::Record;
use webhook::WebhookSink;

/// The longest event that is written where the configuration does not say, in bytes.
pub const MAX_EVENT: usize = 16 << 20;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LogMode {
    /// Before the request goes on.
    Blocking,
    /// The same, and a request whose first event cannot be written is refused.
    BlockingStrict,
    /// Later, together with others.
    Batch(queue::BatchConfig),
}

/// Where events go.
pub struct AuditConfig {
    pub policy: Policy,
    pub log: Option<LogSink>,
    pub webhook: Option<WebhookSink>,
}

/// A log with its mode.
pub struct LogSink {
    pub log: Log,
    pub mode: LogMode,
    /// The longest event, in bytes.
    pub max_event: usize,
}

/// The audit of one server.
pub struct Audit {
    policy: Policy,
    log: Option<LogSink>,
    log_queue: Option<Arc<Queue>>,
    webhook: Option<WebhookSink>,
    webhook_queue: Option<Arc<Queue>>,
    metrics: AuditMetrics,
}

struct AuditMetrics {
    events: Arc<Counter>,
    rejected: Arc<Counter>,
    levels: Arc<Family<Counter>>,
    errors: Arc<Family<Counter>>,
}

const EVENTS: Description = Description::new(
    "apiserver_audit_event_total",
    "[ALPHA] Counter of audit events generated and sent to the audit backend.",
    &[],
);
const REJECTED: Description = Description::new(
    "apiserver_audit_requests_rejected_total",
    "[ALPHA] Counter of apiserver requests rejected due to an error in audit logging backend.",
    &[],
);
const LEVELS: Description = Description::new(
    "apiserver_audit_level_total",
    "[ALPHA] Counter of policy levels for audit events (1 per request).",
    &["level"],
);
const ERRORS: Description = Description::new(
    "apiserver_audit_error_total",
    "[ALPHA] Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.",
    &["plugin"],
);

/// What is known of a request when its credentials were looked at.
pub struct Received<'a> {
    pub id: &'a HeaderValue,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    pub peer: Option<SocketAddr>,
    /// How long ago it came in.
    pub since: std::time::Duration,
    /// What it wants, and who asks; a user without a name where authentication failed.
    pub attributes: &'a Attributes<'a>,
}

impl Audit {
    pub fn new(config: AuditConfig, metrics: &Registry) -> Arc<Self> {
        let log_queue = config.log.as_ref().and_then(|sink| match sink.mode {
            LogMode::Batch(batch) => Some(Queue::new(batch)),
            LogMode::Blocking | LogMode::BlockingStrict => None,
        });
        let webhook_queue = config.webhook.as_ref().map(|sink| Queue::new(sink.config.batch));
        Arc::new(Audit {
            policy: config.policy,
            log: config.log,
            log_queue,
            webhook: config.webhook,
            webhook_queue,
            metrics: AuditMetrics {
                events: metrics.single(EVENTS),
                rejected: metrics.single(REJECTED),
                levels: metrics.family(LEVELS),
                errors: metrics.family(ERRORS),
            },
        })
    }

    /// The metrics of a server that records nothing.
    pub fn off(metrics: &Registry) {
        let _: (Arc<Counter>, Arc<Counter>) = (metrics.single(EVENTS), metrics.single(REJECTED));
    }

    /// Begins the record of a request that the policy wants.
    pub fn begin(self: &Arc<Self>, received: &Received<'_>) -> Option<Arc<Record>> {
        let verdict = self.policy.evaluate(received.attributes);
        self.metrics.levels.with(&[verdict.level.as_str()]).inc();
        if verdict.level == Level::None {
            return None;
        }
        let since = jiff::SignedDuration::try_from(received.since).unwrap_or_default();
        let time = Timestamp::now().saturating_sub(since).unwrap_or_else(|_| Timestamp::now());
        Some(Arc::new(Record::new(self.clone(), verdict, time, event(received, verdict, time))))
    }

    /// Refuses a request whose record was not kept, where the configuration is that strict.
    pub fn rejected(&self) {
        self.metrics.rejected.inc();
    }

    /// Hands an event to the backends. Answers whether the request may go on.
    fn write(&self, event: &Event) -> bool {
        self.metrics.events.inc();
        let mut kept = true;
        let mut line: Option<(usize, Bytes)> = None;
        let mut line_within = |limit: usize| {
            if let Some((known, line)) = &line
                && *known == limit
            {
                return Some(line.clone());
            }
            let made = Bytes::from(event.line(limit)?);
            line = Some((limit, made.clone()));
            Some(made)
        };
        if let Some(sink) = &self.log {
            let written = line_within(sink.max_event).is_some_and(|line| self.log_line(sink, line));
            if !written {
                self.failed("log", 1);
                kept = sink.mode != LogMode::BlockingStrict;
            }
        }
        if let (Some(sink), Some(queue)) = (&self.webhook, &self.webhook_queue)
            && !line_within(sink.config.max_event).is_some_and(|line| queue.push(line))
        {
            self.failed("webhook", 1);
        }
        kept
    }

    fn log_line(&self, sink: &LogSink, line: Bytes) -> bool {
        match &self.log_queue {
            Some(queue) => queue.push(line),
            None => self.append(sink, &[line]),
        }
    }

    /// Writes lines, and says so where that fails.
    fn append(&self, sink: &LogSink, lines: &[Bytes]) -> bool {
        let mut text = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        match sink.log.append(&text) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, events = lines.len(), "the audit log cannot be written");
                false
            }
        }
    }

    fn failed(&self, plugin: &str, events: usize) {
        self.metrics.errors.with(&[plugin]).add(events as u64);
    }

    /// Delivers what waits, until shutdown and whatever waits then.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        let (audit, shutdown) = (&self, &shutdown);
        let log = async {
            if let (Some(sink), Some(queue)) = (&self.log, &self.log_queue) {
                queue
                    .run(|lines| async move {
                        if !audit.append(sink, &lines) {
                            audit.failed("log_batch", lines.len());
                        }
                    })
                    .await;
            }
        };
        let webhook = async {
            if let (Some(sink), Some(queue)) = (&self.webhook, &self.webhook_queue) {
                queue
                    .run(|events| async move {
                        let count = events.len();
                        if let Err(error) = sink.send(events, shutdown).await {
                            let error = &error as &dyn std::error::Error;
                            tracing::error!(error, count, "audit events were not delivered");
                            audit.failed("webhook", count);
                        }
                    })
                    .await;
            }
        };
        let close = async {
            shutdown.requested().await;
            for queue in self.log_queue.iter().chain(&self.webhook_queue) {
                queue.close();
            }
        };
        futures_util::future::join3(log, webhook, close).await;
    }
}

fn event(received: &Received<'_>, verdict: Verdict, time: Timestamp) -> Event {
    let attributes = received.attributes;
    let id = received.id.to_str().unwrap_or_default().to_owned();
    let mut event = Event::new(verdict.level, id, UserInfo::from(attributes.user), time);
    event.verb = attributes.verb.to_owned();
    event.request_uri =
        received.uri.path_and_query().map_or_else(|| received.uri.path().to_owned(), ToString::to_string);
    event.source_ips = source::addresses(received.headers, received.peer);
    let agent = received.headers.get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    event.set_user_agent(&agent.unwrap_or_default());
    event.object_ref = attributes.is_resource().then(|| ObjectReference {
        resource: attributes.resource.to_owned(),
        namespace: attributes.namespace.to_owned(),
        name: attributes.name.to_owned(),
        api_group: attributes.group.to_owned(),
        api_version: attributes.version.to_owned(),
        subresource: attributes.subresource.to_owned(),
        ..ObjectReference::default()
    });
    event
}
