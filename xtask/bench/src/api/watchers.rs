//! 5,000 watches on one resource, and 200 writes a second.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::BodyExt as _;
use sampan_client::RemoteBackend;
use sampan_client::kubeconfig::Access;
use sampan_client::remote::Call;
use serde_json::json;

use crate::client::{Pace, connect, get, paced, post};
use crate::figure::{Figure, quantile};

const WATCHERS: usize = 5_000;
/// Watches of one connection: clients of Kubernetes share theirs, over HTTP/2.
const PER_CONNECTION: usize = 100;
const WRITES: usize = 2_000;
const WRITES_PER_SECOND: u32 = 200;
/// Writes that wait for their answers at most.
const WRITERS: usize = 32;
/// After the last write, until everybody has seen it.
const PATIENCE: Duration = Duration::from_secs(60);
const PATH: &str = "/api/v1/namespaces/kube-public/configmaps";

pub async fn measure(access: &Access) -> Result<Vec<Figure>> {
    let clients = (0..WATCHERS / PER_CONNECTION).map(|_| connect(access)).collect::<Result<Vec<_>>>()?;
    // One connection each before all begin at once: a client's pool does not know yet that one suffices.
    for client in &clients {
        get(client, "/version").await?;
    }
    let seen = Rc::new(Cell::new(0));
    let (opened, last) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(Instant::now())));
    // Not joined in an order: the first that fails ends the measurement.
    let mut watches: FuturesUnordered<_> = (0..WATCHERS)
        .map(|number| {
            let client = clients[number / PER_CONNECTION].clone();
            let (seen, opened, last) = (seen.clone(), opened.clone(), last.clone());
            async move { watch(&client, &seen, &opened, &last).await }
        })
        .collect();
    let writing = async {
        while opened.get() < WATCHERS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (access, started) = (access.clone(), Instant::now());
        // On a thread of its own, as other clients would: what the watchers do must not hold it up.
        let latencies = tokio::task::spawn_blocking(move || -> Result<Vec<f64>> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(write(&access))
        })
        .await??;
        let written = Instant::now();
        while seen.get() < WATCHERS * WRITES {
            ensure!(written.elapsed() < PATIENCE, "{} of {} events arrived", seen.get(), WATCHERS * WRITES);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok((latencies, written.duration_since(started), last.get().duration_since(started)))
    };
    let (latencies, writing, delivering) = tokio::select! {
        ended = watches.next() => {
            ended.transpose()?;
            return Err(anyhow!("a watch ended before the writes"));
        }
        measured = writing => measured?,
    };
    let events = (WATCHERS * WRITES) as f64;
    let name = format!("{WATCHERS} watchers, {WRITES_PER_SECOND} writes/s");
    Ok(vec![
        Figure::higher(format!("{name}: events delivered"), events / delivering.as_secs_f64(), "/s"),
        Figure::lower(
            "  last event after the last write",
            (delivering.as_secs_f64() - writing.as_secs_f64()).max(0.0),
            "s",
        ),
        Figure::higher("  writes", WRITES as f64 / writing.as_secs_f64(), "/s")
            .target(f64::from(WRITES_PER_SECOND) * 0.95),
        Figure::lower("  a write meanwhile, p99", quantile(&latencies, 0.99)?, "ms"),
    ])
}

async fn write(access: &Access) -> Result<Vec<f64>> {
    let writer = connect(access)?;
    let pace = Pace { per_second: WRITES_PER_SECOND, requests: WRITES, waiting: WRITERS };
    let request = |number| {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("seen-{number}")}, "data": {"key": "value"}});
        let writer = writer.clone();
        async move { post(&writer, PATH, body.to_string()).await.map(drop) }
    };
    Ok(paced(pace, request).await?.answers)
}

/// Counts the events of one watch. Each is a line.
async fn watch(
    client: &RemoteBackend,
    seen: &Cell<usize>,
    opened: &Cell<usize>,
    last: &Cell<Instant>,
) -> Result<()> {
    let path = format!("{PATH}?watch=true&fieldSelector=metadata.name!=kube-root-ca.crt");
    let response = client.send(Call::get(path)).await.map_err(|status| anyhow!("{status}"))?;
    opened.set(opened.get() + 1);
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame?.into_data() {
            seen.set(seen.get() + memchr::memchr_iter(b'\n', &bytes).count());
            last.set(Instant::now());
        }
    }
    Ok(())
}
