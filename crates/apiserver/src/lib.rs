//! The API server: every request's way from the connection to the store and back.
//!
//! connection → authentication → impersonation → authorisation → route → decode → prune, default →
//! validate → admission → commit → cache → watchers.
//!
//! - [`cache`] holds every object once, for all readers of the process.
//! - [`registry`] is the one pipeline of all resources; [`strategy`] and [`admission`] are what
//!   differs by kind.
//! - [`http`] speaks to clients, [`streaming`] carries exec, attach and port-forward, [`local`] serves
//!   the components of this process without any of that.
//! - [`resource_metrics`] is `metrics.k8s.io`, made of what the node reads when somebody asks.
//! - [`outgoing`] is how this server asks others: webhooks, aggregated servers, what is proxied to.
//! - [`identity`] knows who asks and what they may, [`audit`] records what they did.
//!
//! It does not schedule, run or reconcile anything.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::RwLock;
use sampan_api::Status;
use sampan_base::drain::Shutdown;
use sampan_base::readiness::Readiness;
use sampan_client::node_streams::NodeStreams;
use sampan_client::node_usage::NodeUsage;
use sampan_client::{Client, NodeAgent};
use sampan_storage::encryption::Encryption;
use serde_json::Value;

pub mod admission;
pub mod aggregator;
pub mod audit;
pub mod authorization;
pub mod authorizer;
pub mod bootstrap;
pub mod cache;
mod configuration_file;
pub mod conversion;
pub mod custom;
pub mod documents;
pub mod expiry;
pub mod fairness;
pub mod fields;
pub mod frames;
pub mod http;
pub mod identity;
pub mod leadership;
pub mod listener;
pub mod local;
pub mod metrics;
pub mod outgoing;
pub mod peers;
pub mod proxy;
pub mod registry;
pub mod reload;
pub mod reviews;
pub mod route;
pub mod strategy;
pub mod streaming;
pub mod watch;
pub mod webhook;

#[cfg(test)]
mod testing;

mod bound_objects;
mod resource_metrics;

use aggregator::Aggregator;
use audit::{Audit, AuditConfig};
use authorization::Authorizers;
use authorizer::Authorizer;
use documents::Documents;
use fairness::{Concurrency, Fairness};
use http::WatchLimit;
use identity::User;
use identity::authentication::configuration::{ConfigurationError, Configured};
use identity::authentication::{AuthenticationError, Authenticator, VerifiedToken};
use identity::authorization::{Attributes, Decision};
use leadership::Fence;
use local::LocalBackend;
use metrics::Metrics;
use registry::Registry;
use reload::Followed;
use streaming::Sessions;

/// The API server of this process.
pub struct ApiServer {
    pub registry: Arc<Registry>,
    pub documents: Documents,
    pub authenticator: Authenticator,
    authorizer: Arc<Authorizer>,
    /// Where the logs, processes, ports and usage of pods are reached; set once this node runs.
    node: RwLock<Option<Arc<dyn NodeAgent>>>,
    /// Groups and versions that other servers answer.
    pub aggregator: Arc<Aggregator>,
    /// Reaches what runs in the cluster, for those who ask through this server.
    pub(crate) proxies: outgoing::Client,
    /// Open exec, attach and port-forward sessions.
    pub sessions: Sessions,
    health: Readiness,
    pub metrics: Metrics,
    pub fairness: Arc<Fairness>,
    pub watches: WatchLimit,
    authorizers: Authorizers,
    /// Absent where nothing is recorded.
    pub(crate) audit: Option<Arc<Audit>>,
    shutdown: Option<Shutdown>,
    /// How what it stores is encrypted.
    encryption: Option<Arc<Encryption>>,
}

/// What the API server shares with the process that it runs in.
#[derive(Default)]
pub struct Surroundings {
    /// What must be ready before the API says so.
    pub health: Readiness,
    pub metrics: sampan_base::metrics::Registry,
    /// The certificate by which aggregated servers know this one.
    pub front_proxy: Option<outgoing::ClientIdentity>,
    /// The end of the process; without it, the server is never stopping.
    pub shutdown: Option<Shutdown>,
    pub limits: ServerLimits,
    pub audit: Option<AuditConfig>,
    /// Who is asked about requests from outside.
    pub authorizers: Authorizers,
    /// How the store below encrypts, for health and metrics.
    pub encryption: Option<Arc<Encryption>>,
}

/// How much is served at once.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    pub concurrency: Concurrency,
    pub max_watches_per_user: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits { concurrency: Concurrency::default(), max_watches_per_user: 10_000 }
    }
}

impl ApiServer {
    /// A server over an open registry. `address` is `host:port` as clients reach it.
    pub fn new(
        registry: Arc<Registry>,
        authenticator: Authenticator,
        address: String,
        surroundings: Surroundings,
    ) -> Arc<Self> {
        let metrics = Metrics::new(surroundings.metrics);
        metrics.follow(&registry);
        if let Some(encryption) = surroundings.encryption.clone() {
            metrics.follow_encryption(encryption);
        }
        let limits = surroundings.limits;
        let audit = surroundings.audit.map(|config| Audit::new(config, metrics.registry()));
        if audit.is_none() {
            Audit::off(metrics.registry());
        }
        let fairness = Fairness::new(limits.concurrency, metrics.registry());
        if let Err(status) = fairness::feed::configure(&fairness, &registry) {
            tracing::error!(%status, "fairness has only its mandatory levels");
        }
        let authorizer = Arc::new(Authorizer::new(&registry));
        let _ = registry.authorizer.set(authorizer.clone());
        let aggregator = Arc::new(Aggregator::new(registry.clone(), surroundings.front_proxy));
        let documents = Documents::new(registry.clone(), address);
        documents.set_remotes(aggregator.described());
        Arc::new(ApiServer {
            aggregator,
            documents,
            registry,
            authenticator,
            authorizer,
            node: RwLock::new(None),
            proxies: outgoing::Client::to_anyone(),
            sessions: Sessions::default(),
            health: surroundings.health,
            metrics,
            fairness,
            watches: WatchLimit::new(limits.max_watches_per_user),
            authorizers: surroundings.authorizers,
            audit,
            shutdown: surroundings.shutdown,
            encryption: surroundings.encryption,
        })
    }

    /// Whether the process was asked to end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.shutdown.as_ref().is_some_and(Shutdown::is_requested)
    }

    /// Keeps the priority levels current, and divides seats among them, for as long as it is polled.
    pub async fn follow_priorities(self: Arc<Self>) {
        let follow = fairness::feed::follow(self.fairness.clone(), self.registry.clone());
        futures_util::future::join(follow, self.fairness.clone().balance()).await;
    }

    /// Keeps current who may do what, for as long as it is polled.
    pub async fn follow_roles(self: Arc<Self>) {
        self.authorizer.clone().follow(self.registry.clone()).await;
    }

    /// Keeps the conditions of custom resource definitions current for as long as it is polled, and
    /// deletes the instances of those that are deleted.
    pub async fn follow_definitions(self: Arc<Self>) {
        custom::follow(self.registry.clone()).await;
    }

    /// Keeps the status of validating admission policies current for as long as it is polled.
    pub async fn follow_policies(self: Arc<Self>) {
        admission::validating_admission_policy::follow(self.registry.clone()).await;
    }

    /// Deletes events that were last written so long ago, for as long as it is polled.
    pub async fn follow_events(self: Arc<Self>, event_ttl: Duration) {
        expiry::follow(self.registry.clone(), event_ttl).await;
    }

    /// Keeps the aggregated APIs current for as long as it is polled.
    pub async fn follow_aggregated(self: Arc<Self>) {
        let server = self.clone();
        let changed = move || server.documents.set_remotes(server.aggregator.described());
        self.aggregator.clone().follow(changed).await;
    }

    /// Reads the authentication configuration again when it changes, for as long as it is polled.
    pub async fn follow_authentication(self: Arc<Self>, file: Followed) {
        let issuer = self.authenticator.tokens.issuer().to_owned();
        file.follow(|text| {
            self.authenticator.configure(Configured::read(text, &[&issuer])?);
            Ok::<_, ConfigurationError>(())
        })
        .await;
    }

    /// Delivers audit events that wait, until shutdown and whatever waits then.
    pub async fn follow_audit(self: Arc<Self>, shutdown: Shutdown) {
        match &self.audit {
            Some(audit) => audit.clone().run(shutdown).await,
            None => shutdown.requested().await,
        }
    }

    /// The API for a component of this process, under its own user.
    pub fn client(self: &Arc<Self>, user: User) -> Client {
        Client::new(Arc::new(LocalBackend::new(self.clone(), user)))
    }

    /// The same for one that leads: its writes happen only during its term.
    pub fn client_of_leader(self: &Arc<Self>, user: User, fence: Fence) -> Client {
        Client::new(Arc::new(LocalBackend::new(self.clone(), user).fenced(fence)))
    }

    /// Says where pods are reached; `None` ends the use of a node that stops.
    pub fn set_node(&self, node: Option<Arc<dyn NodeAgent>>) {
        *self.node.write() = node;
    }

    pub(crate) fn node(&self) -> Result<Arc<dyn NodeStreams>, Status> {
        Ok(self.agent()?)
    }

    pub(crate) fn usage(&self) -> Result<Arc<dyn NodeUsage>, Status> {
        Ok(self.agent()?)
    }

    fn agent(&self) -> Result<Arc<dyn NodeAgent>, Status> {
        self.node.read().clone().ok_or_else(|| Status::unavailable("the node is not ready yet"))
    }

    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        self.authorizer.decide(attributes)
    }

    /// Refuses what is not allowed, in Kubernetes' words.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        if self.authorizer.allows(attributes) {
            return Ok(());
        }
        match self.decide(attributes) {
            Decision::Allow { .. } => Ok(()),
            Decision::Deny { reason } => Err(attributes.forbidden(&reason)),
        }
    }

    pub(crate) fn rules_review(&self, user: &User, namespace: &str) -> Value {
        self.authorizer.rules_review(user, namespace)
    }

    pub(crate) async fn verify_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<VerifiedToken, AuthenticationError> {
        let objects = self.registry.as_ref();
        match self.authenticator.verify(token, audiences, objects, Timestamp::now()).await {
            Err(error) if self.catches_up(&error).await => {
                self.authenticator.verify(token, audiences, objects, Timestamp::now()).await
            }
            verified => verified,
        }
    }

    /// Whether somebody was refused for want of an object that another server may have stored just now,
    /// which this one knows by the time that this answers.
    pub(crate) async fn catches_up(&self, refused: &AuthenticationError) -> bool {
        refused.misses_an_object() && self.registry.is_shared() && self.registry.fresh().await.is_ok()
    }
}
