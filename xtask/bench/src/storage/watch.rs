//! From a write to the client that watches: through one server, and through another on the same etcd.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures_util::StreamExt as _;
use sampan_api::Gvr;
use sampan_client::kubeconfig::Access;
use sampan_client::{Backend as _, ListOptions, WatchEvent, WatchStream};
use sampan_testkit::{Cluster, Servers};
use serde_json::json;

use crate::client::{access, connect, inside, post};
use crate::figure::{Figure, quantile};

const CONFIG_MAPS: Gvr = Gvr::new("", "v1", "configmaps");
const NAMESPACE: &str = "kube-public";
const WRITES: usize = 500;
const PATIENCE: Duration = Duration::from_secs(10);

pub fn measure() -> Result<Vec<Figure>> {
    let cluster = Cluster::start()?;
    let access = access(&cluster)?;
    let embedded = inside(cluster.sandbox(), move || drive("embedded", access.clone(), access))?;
    cluster.stop()?;
    let servers = Servers::start(2, 1, &[])?;
    let of = |index: usize| Access::read(&servers.kubeconfig(index), None);
    let (one, other) = (of(0)?, of(1)?);
    let same = one.clone();
    let through_one = inside(servers.hub(), move || drive("same", same.clone(), same))?;
    let through_another = inside(servers.hub(), move || drive("other", one, other))?;
    servers.stop()?;
    let mut figures = Vec::new();
    for (latencies, name) in [
        (embedded, "a write, until a watch shows it, embedded store"),
        (through_one, "a write, until a watch shows it, etcd"),
        (through_another, "a write, until a watch of another server shows it, etcd"),
    ] {
        figures.push(Figure::lower(format!("{name}, median"), quantile(&latencies, 0.5)?, "ms"));
        figures.push(Figure::lower("  p99", quantile(&latencies, 0.99)?, "ms"));
    }
    Ok(figures)
}

/// Milliseconds from before a write is sent until its event is there, one after another.
async fn drive(prefix: &str, writes_to: Access, watches: Access) -> Result<Vec<f64>> {
    let (writer, watcher) = (connect(&writes_to)?, connect(&watches)?);
    let mut events = watcher
        .watch(&CONFIG_MAPS, Some(NAMESPACE), &ListOptions::default())
        .await
        .map_err(|status| anyhow!("no watch: {status}"))?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let mut latencies = Vec::new();
    for number in 0..WRITES {
        let name = format!("{prefix}-{number}");
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "value"}});
        let began = Instant::now();
        let (written, shown) = tokio::join!(
            post(&writer, &path, body.to_string()),
            tokio::time::timeout(PATIENCE, shows(&mut events, &name)),
        );
        written?;
        let shown: Instant = shown.with_context(|| format!("no event of {name}"))??;
        latencies.push(shown.duration_since(began).as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

/// The instant at which an object is shown.
async fn shows(events: &mut WatchStream, name: &str) -> Result<Instant> {
    while let Some(event) = events.next().await {
        let event = event.map_err(|status| anyhow!("the watch failed: {status}"))?;
        if let WatchEvent::Added(object) = event
            && &*object.header.name == name
        {
            return Ok(Instant::now());
        }
    }
    Err(anyhow!("the watch ended"))
}
