//! Who of several servers runs the scheduler and the controllers: leases as Kubernetes' components hold them.
//!
//! The holder is named in a Lease of `kube-system`, renews it, and is succeeded when it has not for the
//! lease's duration, as the others see it by their own clocks, or at once when it gives it up. A clock alone
//! does not keep a holder that was held up from writing late. So each term of office also has a key in the
//! store that is written when it begins, and every write of the holder is committed on condition that this key
//! is still of its own term ([`Fence`]): two holders can never both write.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sampan_api::object::ObjectRef;
use sampan_api::{Gvr, Status};
use sampan_storage::{CommitError, Expect, Revision, StoreError, Write};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::conversion::without_revision;
use crate::identity::{MASTERS_GROUP, User};
use crate::registry::{Context, Registry, Resource};

mod plan;
#[cfg(test)]
mod tests;

use plan::{Observed, Step};

pub(crate) const LEASES: Gvr = Gvr::new("coordination.k8s.io", "v1", "leases");
pub(crate) const NAMESPACE: &str = "kube-system";

/// How long a lease lasts, how long its holder tries to renew it, and how often. Upstream's defaults.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub duration: Duration,
    pub renew_within: Duration,
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            duration: Duration::from_secs(15),
            renew_within: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What a write depends on: that a term of office is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    key: Arc<str>,
    revision: Revision,
}

impl Fence {
    /// Tells what a write of its holder came to, for those who want to see who wrote when.
    pub(crate) fn note(&self, committed: &Result<Revision, CommitError>) {
        let (term, began) = (&self.key, self.revision);
        match committed {
            Ok(revision) => tracing::debug!(target: "sampan::fence", %term, began, revision, "wrote"),
            Err(CommitError::Check { .. }) => {
                tracing::debug!(target: "sampan::fence", %term, began, "refused, since the term is over");
            }
            Err(_) => {}
        }
    }

    pub(crate) fn check(&self) -> Write {
        Write::check(self.key.clone(), Expect::Revision(self.revision))
    }
}

/// One that wants to lead.
pub struct Elector {
    registry: Arc<Registry>,
    /// Of the lease.
    name: &'static str,
    /// Of this process, and of no other.
    identity: String,
    timing: Timing,
}

/// Leading, until it is given up or lost.
pub struct Term {
    registry: Arc<Registry>,
    resource: Resource,
    timing: Timing,
    identity: String,
    fence: Fence,
    lease: Value,
    revision: Revision,
    /// When the renewal began that succeeded last.
    renewed: Instant,
}

/// What became of one attempt to renew.
enum Renewal {
    Done,
    Lost,
    /// Somebody else changed the lease, without taking it.
    Again,
    Failed(StoreError),
}

impl Elector {
    pub fn new(registry: Arc<Registry>, name: &'static str, identity: String) -> Self {
        Elector { registry, name, identity, timing: Timing::default() }
    }

    pub fn with_timing(self, timing: Timing) -> Self {
        Elector { timing, ..self }
    }

    /// Waits until this one leads. `follows` is called when another one is seen to.
    pub async fn acquire(&self, mut follows: impl FnMut()) -> Result<Term, Status> {
        let resource = self.registry.resource(&LEASES)?;
        let key = format!("{NAMESPACE}/{}", self.name);
        let mut changes = resource.cache.subscribe();
        let mut observed: Option<Observed> = None;
        loop {
            changes.borrow_and_update();
            let Some(stored) = resource.cache.get(&key) else {
                self.create(&resource).await?;
                continue;
            };
            let seen = Observed::of(&stored, observed.as_ref(), self.timing.duration);
            let step = seen.plan(&self.identity, Instant::now());
            observed = Some(seen);
            match step {
                Step::Take => match self.take(&resource, &stored).await {
                    Ok(term) => return Ok(term),
                    // Another one was faster; the cache will show it.
                    Err(CommitError::Mismatch { current: Some(current), .. }) => {
                        self.registry.caches.applied(current.revision).await;
                    }
                    Err(CommitError::Mismatch { current: None, .. }) => self.registry.fresh().await?,
                    Err(error) => {
                        tracing::warn!(%error, lease = self.name, "the lease was not taken");
                        tokio::time::sleep(self.timing.retry).await;
                    }
                },
                Step::WaitUntil(expires) => {
                    follows();
                    // The cache lives as long as the registry: a change, or the time.
                    let _ = timeout_at(expires, changes.changed()).await;
                }
            }
        }
    }

    /// Makes a lease that nobody holds.
    async fn create(&self, resource: &Resource) -> Result<(), Status> {
        let lease = json!({"metadata": {"name": self.name}, "spec": {}});
        let mut context = Context::new(User::component("system:apiserver", &[MASTERS_GROUP]));
        match self.registry.create_value(resource, Some(NAMESPACE), lease, &mut context).await {
            Ok(_) => Ok(()),
            Err(status) if status.is_already_exists() => self.registry.fresh().await,
            Err(status) => {
                tracing::warn!(%status, lease = self.name, "the lease was not made");
                tokio::time::sleep(self.timing.retry).await;
                Ok(())
            }
        }
    }

    async fn take(&self, resource: &Resource, stored: &ObjectRef) -> Result<Term, CommitError> {
        let began = Instant::now();
        let mut lease = decode(stored);
        let now = micro_time(Timestamp::now());
        let terms = lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or(0);
        lease["spec"] = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.timing.duration.as_secs().max(1),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": terms + 1,
        });
        let key: Arc<str> = format!("/sampan/terms/{}", self.name).into();
        let writes = vec![
            Write::update(lease_key(resource, stored), stored.header.revision, encode(&lease)),
            Write::put(key.clone(), self.identity.clone()),
        ];
        let revision = self.registry.store().commit_all(writes).await?;
        tracing::info!(lease = self.name, identity = self.identity, "leading");
        Ok(Term {
            registry: self.registry.clone(),
            resource: resource.clone(),
            timing: self.timing,
            identity: self.identity.clone(),
            fence: Fence { key, revision },
            lease,
            revision,
            renewed: began,
        })
    }
}

impl Term {
    pub fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Renews the lease for as long as it can be. Returns when it is lost.
    pub async fn hold(&mut self) {
        loop {
            tokio::time::sleep(self.timing.retry).await;
            loop {
                let began = Instant::now();
                let ends = self.renewed + self.timing.renew_within;
                let renewal = timeout_at(ends, self.renew()).await;
                match renewal {
                    Ok(Renewal::Done) => {
                        self.renewed = began;
                        break;
                    }
                    Ok(Renewal::Again) => {}
                    Ok(Renewal::Failed(error)) if Instant::now() < ends => {
                        tracing::warn!(%error, lease = self.name(), "the lease was not renewed yet");
                        break;
                    }
                    Ok(Renewal::Lost | Renewal::Failed(_)) | Err(_) => {
                        tracing::error!(lease = self.name(), "the lease is lost");
                        return;
                    }
                }
            }
        }
    }

    fn name(&self) -> &str {
        self.lease.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }

    async fn renew(&mut self) -> Renewal {
        self.lease["spec"]["renewTime"] = micro_time(Timestamp::now()).into();
        match self.write().await {
            Ok(()) => Renewal::Done,
            Err(CommitError::Mismatch { current: Some(current), .. }) => {
                let Ok(lease) = serde_json::from_slice::<Value>(&current.value) else { return Renewal::Lost };
                if plan::holder(&lease) != self.identity {
                    return Renewal::Lost;
                }
                (self.lease, self.revision) = (lease, current.revision);
                Renewal::Again
            }
            Err(CommitError::Store(error)) => Renewal::Failed(error),
            Err(_) => Renewal::Lost,
        }
    }

    /// Writes the lease, if the term is not over.
    async fn write(&mut self) -> Result<(), CommitError> {
        let key = self.resource.storage_key(&format!("{NAMESPACE}/{}", self.name()));
        let writes = vec![Write::update(key, self.revision, encode(&self.lease)), self.fence.check()];
        self.revision = self.registry.store().commit_all(writes).await?;
        Ok(())
    }

    /// Gives the lease up, so that another one takes it at once.
    pub async fn release(mut self) {
        for _ in 0..2 {
            self.lease["spec"]["holderIdentity"] = "".into();
            self.lease["spec"]["leaseDurationSeconds"] = 1.into();
            self.lease["spec"]["renewTime"] = micro_time(Timestamp::now()).into();
            match self.write().await {
                Ok(()) => {
                    tracing::info!(lease = self.name(), "gave the lease up");
                    return;
                }
                // A renewal whose answer nobody waited for.
                Err(CommitError::Mismatch { current: Some(current), .. }) => {
                    let Ok(lease) = serde_json::from_slice::<Value>(&current.value) else { return };
                    if plan::holder(&lease) != self.identity {
                        return;
                    }
                    (self.lease, self.revision) = (lease, current.revision);
                }
                Err(error) => {
                    tracing::warn!(%error, lease = self.name(), "the lease runs out by itself");
                    return;
                }
            }
        }
    }
}

/// A name that no other process has, also not another one on the same machine.
pub fn unique_identity(machine: &str) -> String {
    format!("{machine}_{}", uuid::Uuid::new_v4())
}

fn lease_key(resource: &Resource, stored: &ObjectRef) -> Arc<str> {
    resource.storage_key(&stored.key())
}

/// A stored lease, as it is stored.
pub(crate) fn decode(stored: &ObjectRef) -> Value {
    without_revision(stored.decode().unwrap_or_else(|_| json!({})))
}

pub(crate) fn encode(lease: &Value) -> Vec<u8> {
    serde_json::to_vec(lease).expect("a JSON value serialises")
}

pub(crate) fn micro_time(now: Timestamp) -> String {
    format!("{now:.6}")
}
