//! The lease under which this process's own keys live, so that they end with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::cluster::{Cluster, unavailable};
use super::messages::{self, LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE};
use super::{Shared, read};
use crate::StoreError;
use crate::grpc::CallError;

/// Long, since a commit whose answer was lost is asked for as long at most.
const TTL: Duration = Duration::from_secs(600);

#[derive(Default)]
pub struct Lease(Mutex<Option<u64>>);

impl Lease {
    /// Its id; granted when there is none.
    pub async fn id(&self, cluster: &Cluster) -> Result<u64, StoreError> {
        let mut id = self.0.lock().await;
        if let Some(id) = *id {
            return Ok(id);
        }
        // One that was granted without our hearing of it ends by itself.
        let request = messages::first_number(TTL.as_secs());
        let answer = cluster.ask(LEASE_GRANT, &request).await.map_err(unavailable("grant a lease"))?;
        let granted = messages::granted(&answer).map_err(|error| read::unreadable(&error))?;
        *id = Some(granted);
        Ok(granted)
    }

    /// Forgets one that etcd does not know any more.
    pub async fn lost(&self, lost: u64) {
        let mut id = self.0.lock().await;
        if *id == Some(lost) {
            *id = None;
        }
    }

    /// Ends it, and the keys under it.
    pub async fn revoke(&self, cluster: &Cluster) {
        let Some(id) = self.0.lock().await.take() else { return };
        // It ends by itself where nobody answers.
        if let Err(error) = cluster.once(LEASE_REVOKE, &messages::first_number(id)).await {
            tracing::debug!(%error, "the lease ends by itself");
        }
    }
}

/// Renews the lease for as long as the store is open.
pub async fn keep_alive(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(TTL / 4).await;
        let Some(id) = *shared.lease.0.lock().await else { continue };
        match renew(&shared.cluster, id).await {
            Ok(true) => {}
            Ok(false) => shared.lease.lost(id).await,
            Err(error) => tracing::warn!(%error, "the lease of this server was not renewed"),
        }
    }
}

/// Answers whether the lease still is one.
async fn renew(cluster: &Cluster, id: u64) -> Result<bool, CallError> {
    let (_, sender, mut receiver) = cluster.open(LEASE_KEEP_ALIVE, &messages::first_number(id)).await?;
    let answer = tokio::time::timeout(super::cluster::ATTEMPT, receiver.next()).await;
    drop(sender);
    match answer {
        Ok(answer) => match answer? {
            Some(answer) => Ok(messages::kept_alive_s(&answer).is_ok_and(|left| left > 0)),
            None => Err(CallError::Protocol("it has no message")),
        },
        Err(_) => Err(CallError::Timeout(super::cluster::ATTEMPT)),
    }
}
