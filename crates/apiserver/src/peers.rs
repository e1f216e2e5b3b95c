//! The servers of one cluster, and where they are reached: the endpoints of the `kubernetes` service.
//!
//! Each server holds a Lease of its own in `kube-system`, as upstream's do, which says where it is reached. All
//! of them follow all of these, and publish those that are renewed; the lease of one that died is deleted when
//! it ran out, as the others see it by their own clocks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_base::drain::Shutdown;
use sampan_storage::encryption::sha256;
use sampan_storage::{Expect, Write};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::bootstrap;
use crate::identity::{MASTERS_GROUP, User};
use crate::leadership::{LEASES, NAMESPACE, decode, encode, micro_time};
use crate::registry::{Context, Registry, Resource};

/// Upstream's label of these leases, and its value.
const LABEL: &str = "apiserver.kubernetes.io/identity";
const VALUE: &str = "kube-apiserver";
/// Where the server is reached.
const ENDPOINT: &str = "sampan/endpoint";
const DURATION: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(5);

/// One server among its peers.
pub struct Peer {
    registry: Arc<Registry>,
    resource: Resource,
    /// Of its lease.
    name: String,
    identity: String,
    endpoint: SocketAddr,
    /// Leases by name: their revision, and since when this server knows it.
    seen: BTreeMap<String, (u64, Instant)>,
}

impl Peer {
    /// `machine` names the server over its restarts, `identity` this process.
    pub fn new(
        registry: Arc<Registry>,
        machine: &str,
        identity: String,
        endpoint: SocketAddr,
    ) -> Result<Self, Status> {
        let resource = registry.resource(&LEASES)?;
        Ok(Peer { registry, resource, name: lease_name(machine), identity, endpoint, seen: BTreeMap::new() })
    }

    /// Tells and follows until shutdown; then says that this server is gone.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut changes = self.resource.cache.subscribe();
        let mut due = Instant::now();
        loop {
            changes.borrow_and_update();
            if Instant::now() >= due {
                if let Err(status) = self.renew().await {
                    tracing::warn!(%status, "this server could not say that it lives");
                }
                due = Instant::now() + RENEW;
            }
            let expires = match self.publish().await {
                Ok(expires) => expires,
                Err(status) => {
                    tracing::warn!(%status, "the servers' addresses were not published");
                    None
                }
            };
            let wake = expires.map_or(due, |expires| expires.min(due));
            tokio::select! {
                _ = timeout_at(wake, changes.changed()) => {}
                () = shutdown.requested() => break,
            }
        }
        self.leave().await;
    }

    fn key(&self) -> String {
        format!("{NAMESPACE}/{}", self.name)
    }

    async fn renew(&self) -> Result<(), Status> {
        let spec = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": DURATION.as_secs(),
            "renewTime": micro_time(Timestamp::now()),
        });
        let labels = json!({LABEL: VALUE});
        let annotations = json!({ENDPOINT: self.endpoint.to_string()});
        let Some(stored) = self.resource.cache.get(&self.key()) else {
            let lease = json!({"metadata": {"name": self.name, "labels": labels, "annotations": annotations}, "spec": spec});
            let mut context = Context::new(User::component("system:apiserver", &[MASTERS_GROUP]));
            let created =
                self.registry.create_value(&self.resource, Some(NAMESPACE), lease, &mut context).await;
            return match created {
                Err(status) if !status.is_already_exists() => Err(status),
                Ok(_) | Err(_) => Ok(()),
            };
        };
        let mut lease = decode(&stored);
        lease["spec"] = spec;
        lease["metadata"]["labels"] = labels;
        lease["metadata"]["annotations"] = annotations;
        let key = self.resource.storage_key(&self.key());
        let write = Write::update(key, stored.header.revision, encode(&lease));
        self.registry.store().commit_all(vec![write]).await.map_err(Status::internal)?;
        Ok(())
    }

    /// Publishes the servers that live; answers when the next one may turn out not to.
    async fn publish(&mut self) -> Result<Option<Instant>, Status> {
        let (leases, _) = self.resource.cache.snapshot();
        let prefix = format!("{NAMESPACE}/");
        let now = Instant::now();
        let (mut seen, mut endpoints, mut next) = (BTreeMap::new(), Vec::new(), None::<Instant>);
        for (key, stored) in leases.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let Some((endpoint, duration)) = read(stored) else { continue };
            let revision = stored.header.revision;
            let since = self.seen.get(key.as_ref()).filter(|(known, _)| *known == revision);
            let since = since.map_or(now, |(_, since)| *since);
            seen.insert(key.to_string(), (revision, since));
            let expires = since + duration;
            if expires <= now && **key != *self.key() {
                tracing::warn!(lease = %key, %endpoint, "a server is gone");
                let key = self.resource.storage_key(key);
                // Unless it lives after all.
                let delete = Write::delete(key, Expect::Revision(revision));
                let _ = self.registry.store().commit_all(vec![delete]).await;
                continue;
            }
            endpoints.push(endpoint);
            next = Some(next.map_or(expires, |next| next.min(expires)));
        }
        self.seen = seen;
        endpoints.sort_unstable();
        endpoints.dedup();
        if !endpoints.is_empty() {
            bootstrap::publish_endpoints(&self.registry, &endpoints).await?;
        }
        Ok(next.filter(|next| *next > now))
    }

    /// Ends its lease, so that the others take its address out at once.
    async fn leave(&self) {
        let Some(stored) = self.resource.cache.get(&self.key()) else { return };
        let key = self.resource.storage_key(&stored.key());
        let leaving = self.registry.store().commit_all(vec![Write::delete(key, Expect::Any)]);
        // It runs out by itself where the store does not answer.
        let _ = tokio::time::timeout(Duration::from_secs(2), leaving).await;
    }
}

/// Where the other servers are that live, or died so lately that nobody knows.
pub async fn others(registry: &Registry, machine: &str) -> Result<Vec<SocketAddr>, Status> {
    registry.fresh().await?;
    let own = format!("{NAMESPACE}/{}", lease_name(machine));
    let (leases, _) = registry.resource(&LEASES)?.cache.snapshot();
    let others = leases.iter().filter(|(key, _)| key.starts_with(&format!("{NAMESPACE}/")) && ***key != *own);
    Ok(others.filter_map(|(_, stored)| Some(read(stored)?.0)).collect())
}

fn lease_name(machine: &str) -> String {
    let hash: String = sha256(machine.as_bytes()).iter().take(13).map(|byte| format!("{byte:02x}")).collect();
    format!("apiserver-{hash}")
}

/// Where the server of a lease is, and how long that is true.
fn read(stored: &ObjectRef) -> Option<(SocketAddr, Duration)> {
    if stored.header.label(LABEL) != Some(VALUE) {
        return None;
    }
    let lease = decode(stored);
    let endpoint = lease.pointer("/metadata/annotations")?.get(ENDPOINT)?.as_str()?.parse().ok()?;
    let seconds = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_u64)?;
    Some((endpoint, Duration::from_secs(seconds.min(3600))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestServer;
    use sampan_api::Gvr;
    use sampan_base::drain::Tasks;

    fn addresses(server: &TestServer) -> Vec<String> {
        let endpoints = Gvr::new("", "v1", "endpoints");
        let Ok(found) = server.server.registry.get(&endpoints, Some("default"), "kubernetes") else {
            return Vec::new();
        };
        let found = decode(&found);
        let addresses = found.pointer("/subsets/0/addresses").and_then(Value::as_array).cloned();
        addresses
            .unwrap_or_default()
            .iter()
            .filter_map(|address| address["ip"].as_str().map(str::to_owned))
            .collect()
    }

    #[tokio::test]
    async fn servers_come_and_go() {
        let server = TestServer::start().await;
        for name in [NAMESPACE, "default"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            server.create("/api/v1/namespaces", &namespace).await;
        }
        let registry = server.server.registry.clone();
        let peer = |machine: &str, address: &str| {
            let endpoint = format!("{address}:6443").parse().expect("an address");
            Peer::new(registry.clone(), machine, machine.to_owned(), endpoint).expect("leases are built in")
        };
        let cache = registry.resource(&Gvr::new("", "v1", "endpoints")).expect("is built in").cache;
        let mut changed = cache.subscribe();
        let (mut one, mut two) = (Tasks::default(), Tasks::default());
        one.spawn("one", peer("one", "10.0.0.1").run(one.shutdown()));
        two.spawn("two", peer("two", "10.0.0.2").run(two.shutdown()));
        changed.wait_for(|_| addresses(&server) == ["10.0.0.1", "10.0.0.2"]).await.expect("both");
        two.stop(Duration::from_secs(5)).await;
        changed.wait_for(|_| addresses(&server) == ["10.0.0.1"]).await.expect("the one that stays");
        // One that died without a word.
        peer("three", "10.0.0.3").renew().await.expect("works");
        changed.wait_for(|_| addresses(&server) == ["10.0.0.1", "10.0.0.3"]).await.expect("it is believed");
        tokio::time::pause();
        tokio::time::advance(DURATION).await;
        tokio::time::resume();
        changed.wait_for(|_| addresses(&server) == ["10.0.0.1"]).await.expect("it ran out");
        one.stop(Duration::from_secs(5)).await;
    }
}
