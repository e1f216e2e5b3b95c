//! A cluster of 5,000 nodes and 150,000 pods: what it weighs, and what it does under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use sampan_client::RemoteBackend;
use sampan_client::kubeconfig::Access;
use sampan_testkit::Cluster;
use serde_json::json;

use super::population::{Models, NODES, PODS, node};
use super::{nginx, reads, watchers};
use crate::client::{Pace, access, connect, inside, paced, put};
use crate::figure::{Figure, quantile};
use crate::idle::{peak_bytes, proportional_bytes};

/// Until what the start left over has been done.
const SETTLE: Duration = Duration::from_secs(15);
/// How often each node renews its lease.
const RENEWED_EVERY: Duration = Duration::from_secs(20);

pub fn measure(figures: &mut Vec<Figure>) -> Result<()> {
    let mut cluster = Cluster::start()?;
    let empty = proportional_bytes(cluster.server_pid())?;
    let first = access(&cluster)?;
    let models = inside(cluster.sandbox(), move || async move {
        let client = connect(&first)?;
        let models = Models::make(&client).await?;
        Models::unmake(&client).await?;
        Ok(models)
    })?;
    cluster.kill_server(Signal::SIGTERM)?;
    let bytes = models.pod_bytes();
    let store = cluster.data_dir().join("store/sampan.redb");
    inside(cluster.sandbox(), move || async move { models.populate(&store).await })?;
    // While no server runs: one with nodes that do not renew their leases has much to do after forty seconds.
    let peer = nginx::measure(cluster.sandbox(), bytes, bytes * reads::PAGE)?;
    let peer = peer.map(|gets| quantile(&gets.answers, 0.99)).transpose()?;
    let before = Instant::now();
    cluster.start_server()?;
    let ready = before.elapsed().as_secs_f64();
    std::thread::sleep(SETTLE);
    let pods = format!("{PODS} pods of {:.1} kB", bytes as f64 / 1e3);
    let memory = proportional_bytes(cluster.server_pid())?;
    figures.push(Figure::lower(format!("memory with {NODES} nodes and {pods}"), memory, "MB").target(600.0));
    figures.push(Figure::lower("  of which without them", empty, "MB"));
    figures.push(Figure::lower("  start with them to ready", ready, "s"));
    figures.push(Figure::lower("  at most since then", peak_bytes(cluster.server_pid())?, "MB"));
    let loaded = access(&cluster)?;
    let reads = move |access| async move { reads::measure(&access, peer).await };
    figures.extend(drive(&cluster, loaded.clone(), reads)?);
    figures.extend(drive(&cluster, loaded, |access| async move { watchers::measure(&access).await })?);
    figures.push(Figure::lower("memory after the load", proportional_bytes(cluster.server_pid())?, "MB"));
    cluster.stop()
}

/// Measures while the nodes renew their leases.
fn drive<F: Future<Output = Result<Vec<Figure>>>>(
    cluster: &Cluster,
    access: Access,
    measure: impl FnOnce(Access) -> F + Send + 'static,
) -> Result<Vec<Figure>> {
    inside(cluster.sandbox(), move || async move {
        let renewing = renew(connect(&access)?);
        tokio::select! {
            failed = renewing => failed,
            figures = measure(access) => figures,
        }
    })
}

/// Renews the nodes' leases, as that many nodes do, each at a time of its own. Ends only by failing.
async fn renew(client: Arc<RemoteBackend>) -> Result<Vec<Figure>> {
    let pace =
        Pace { per_second: NODES as u32 / RENEWED_EVERY.as_secs() as u32, requests: usize::MAX, waiting: 64 };
    paced(pace, |number| {
        let (round, name) = (number / NODES, node(number % NODES));
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}");
        let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40,
                "renewTime": format!("2026-01-01T00:00:00.{round:06}Z")}});
        let client = client.clone();
        async move { put(&client, &path, body.to_string()).await.map(drop) }
    })
    .await?;
    anyhow::bail!("the nodes' leases are renewed no more")
}
