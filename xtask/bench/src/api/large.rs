//! A cluster of 5,000 nodes and 150,000 pods: what it weighs, and what it does under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use sampan_client::RemoteBackend;
use sampan_client::kubeconfig::Access;
use sampan_testkit::Cluster;

use super::population::{Models, NODES, PODS, node};
use super::{reads, watchers};
use crate::Arguments;
use crate::client::{access, connect, inside, put};
use crate::figure::Figure;
use crate::idle::proportional_bytes;

/// Until what the start left over has been done.
const SETTLE: Duration = Duration::from_secs(15);
/// How often each node renews its lease.
const RENEWED_EVERY: Duration = Duration::from_secs(20);

pub fn measure(_: &Arguments) -> Result<Vec<Figure>> {
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
    let before = Instant::now();
    cluster.start_server()?;
    let ready = before.elapsed().as_secs_f64();
    let loaded = access(&cluster)?;
    let (tell, told) = std::sync::mpsc::channel();
    let process = cluster.server_pid();
    let figures = inside(cluster.sandbox(), move || async move {
        let renewals = tokio::task::LocalSet::new();
        let renewing = renewals.run_until(renew(connect(&loaded)?));
        let measuring = async {
            tokio::time::sleep(SETTLE).await;
            tell.send(proportional_bytes(process)).ok();
            drive(&loaded).await
        };
        tokio::select! {
            failed = renewing => failed,
            figures = measuring => figures,
        }
    })?;
    let memory = told.recv().context("memory is measured before the load")??;
    let peak = proportional_bytes(process)?;
    cluster.stop()?;
    let pods = format!("{PODS} pods of {:.1} kB", bytes as f64 / 1e3);
    let mut all = vec![
        Figure::lower(format!("memory with {NODES} nodes and {pods}"), memory, "MB").target(600.0),
        Figure::lower("  of which without them", empty, "MB"),
        Figure::lower("  after the load", peak, "MB"),
        Figure::lower("  start with them to ready", ready, "s"),
    ];
    all.extend(figures);
    Ok(all)
}

async fn drive(access: &Access) -> Result<Vec<Figure>> {
    let mut figures = reads::measure(access).await?;
    figures.extend(watchers::measure(access).await?);
    Ok(figures)
}

/// Renews the nodes' leases, as that many nodes do. Ends only by failing.
async fn renew(client: Arc<RemoteBackend>) -> Result<Vec<Figure>> {
    let mut ticks = tokio::time::interval(RENEWED_EVERY / NODES as u32 * 50);
    for round in 0.. {
        for number in (0..NODES).collect::<Vec<_>>().chunks(50) {
            ticks.tick().await;
            let renewals = number.iter().map(|number| {
                let name = node(*number);
                let path = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}");
                let body = serde_json::json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                    "metadata": {"name": name},
                    "spec": {"holderIdentity": name, "leaseDurationSeconds": 40,
                        "renewTime": format!("2026-01-01T00:00:00.{round:06}Z")}});
                let client = client.clone();
                async move { put(&client, &path, body.to_string()).await }
            });
            futures_util::future::try_join_all(renewals).await?;
        }
    }
    unreachable!("the rounds never end")
}
