//! Durable writes per second by 64 clients: the API and the store alone, each against etcd.
//!
//! They take turns, so that what else the machine does hits all alike. Against the API, etcd speaks TLS
//! with its clients, as clusters of Kubernetes have theirs; it still has the easier part, without JSON and
//! admission. Against the store alone it has the harder one: a network, without TLS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sampan_client::kubeconfig::Access;
use sampan_storage::{Options, RedbStore, Store as _, Write};
use sampan_testkit::Cluster;
use sampan_testkit::etcd::Member;
use serde_json::json;

use crate::Arguments;
use crate::client::{CLIENTS, access, connect, inside, load, post};
use crate::etcd;
use crate::figure::{Figure, median};

const ROUNDS: usize = 5;
const WINDOW: Duration = Duration::from_secs(4);
const VALUE_BYTES: usize = 1000;

pub fn measure(_: &Arguments) -> Result<Vec<Figure>> {
    let cluster = Cluster::start()?;
    let path = cluster.scratch().join("alone.redb");
    if nix::sys::statfs::statfs(cluster.scratch())?.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC {
        eprintln!("{} is no disk: these writes survive nothing", cluster.scratch().display());
    }
    let store = Arc::new(RedbStore::open(&path, Options::default())?);
    let plain = Member::alone();
    let secure = Member::alone().with_tls(cluster.scratch())?;
    let (mut ours, mut alone, mut peer, mut peer_tls) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let access = access(&cluster)?;
        ours.push(inside(cluster.sandbox(), move || api(access, round))?);
        let store = store.clone();
        alone.push(inside(cluster.sandbox(), move || store_alone(store, round))?);
        for (member, rates) in [(&plain, &mut peer), (&secure, &mut peer_tls)] {
            if let Some(etcd) = etcd::start(cluster.sandbox(), member, &[])? {
                let member = member.clone();
                rates.push(inside(cluster.sandbox(), move || etcd_puts(member, round))?);
                etcd.kill()?;
            }
        }
    }
    let closed = inside(cluster.sandbox(), move || async move {
        Arc::into_inner(store).context("nobody else uses the store")?.close().await;
        Ok(())
    });
    cluster.stop()?;
    closed?;
    let of_peer = |rates: &[f64]| if rates.is_empty() { Ok(None) } else { median(rates).map(Some) };
    let (peer, peer_tls) = (of_peer(&peer)?, of_peer(&peer_tls)?);
    let ours = median(&ours)?;
    let api = "writes of 1 kB, 64 clients: API on HTTPS against etcd on gRPC";
    Ok(vec![
        Figure::higher(format!("{api} with TLS"), ours, "/s").against(etcd::NAME, peer_tls, 1.0),
        Figure::higher(format!("{api} in plain text"), ours, "/s").against(etcd::NAME, peer, 1.0),
        Figure::higher(
            "writes of 1 kB, 64 tasks: the store alone against etcd on gRPC",
            median(&alone)?,
            "/s",
        )
        .against(etcd::NAME, peer, 1.0),
    ])
}

/// Creates config maps through the API.
async fn api(access: Access, round: usize) -> Result<f64> {
    let clients = (0..CLIENTS).map(|_| connect(&access)).collect::<Result<Vec<_>>>()?;
    let value = "x".repeat(VALUE_BYTES - 300);
    let request = move |client: Arc<_>, number| {
        let name = format!("map-{round}-{number}");
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}});
        let body = body.to_string();
        async move { post(&client, "/api/v1/namespaces/default/configmaps", body).await.map(drop) }
    };
    Ok(load(clients, WINDOW, request).await?.per_second)
}

async fn store_alone(store: Arc<RedbStore>, round: usize) -> Result<f64> {
    let request = move |store: Arc<RedbStore>, number| async move {
        store.commit(Write::create(key(round, number), vec![b'x'; VALUE_BYTES])).await?;
        Ok(())
    };
    Ok(load(vec![store; CLIENTS], WINDOW, request).await?.per_second)
}

async fn etcd_puts(member: Member, round: usize) -> Result<f64> {
    let clients = etcd::Client::connect(&member, CLIENTS).await?;
    let request = move |client: etcd::Client, number| async move {
        client.put(key(round, number).as_bytes(), &[b'x'; VALUE_BYTES]).await
    };
    Ok(load(clients, WINDOW, request).await?.per_second)
}

fn key(round: usize, number: usize) -> String {
    format!("/registry/configmaps/default/map-{round}-{number}")
}
