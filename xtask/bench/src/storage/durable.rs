//! Durable writes of 1 kB, by one client and by many.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use sampan_storage::{Options, RedbStore, Store as _, Write};
use sampan_testkit::Sandbox;
use sampan_testkit::etcd::Member;

use crate::client::{CLIENTS, Load, inside, load};
use crate::etcd;
use crate::figure::{Figure, median, quantile};

const ROUNDS: usize = 3;
const WINDOW: Duration = Duration::from_secs(3);
const VALUE_BYTES: usize = 1000;

/// What one kind of load did, in all rounds.
#[derive(Default)]
struct Rounds {
    rates: Vec<f64>,
    latencies: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, load: Load) {
        self.rates.push(load.per_second);
        self.latencies.extend(load.latencies);
    }

    /// Writes per second, and the milliseconds within which 99 of 100 are durable.
    fn figures(&self) -> Result<Option<(f64, f64)>> {
        if self.rates.is_empty() {
            return Ok(None);
        }
        Ok(Some((median(&self.rates)?, quantile(&self.latencies, 0.99)?)))
    }
}

pub fn measure() -> Result<Vec<Figure>> {
    let sandbox = Sandbox::start()?;
    let mut figures = Vec::new();
    for (clients, who) in [(1, "one client"), (CLIENTS, "64 clients")] {
        let (mut ours, mut peer) = (Rounds::default(), Rounds::default());
        for round in 0..ROUNDS {
            let path = sandbox.directory().join(format!("store-{clients}-{round}"));
            let store = Arc::new(RedbStore::open(&path, Options::default())?);
            ours.add(inside(&sandbox, move || put(store, clients))?);
            if let Some(etcd) = etcd::start(&sandbox, &Member::alone(), &[])? {
                peer.add(inside(&sandbox, move || put_in_etcd(clients, round))?);
                etcd.kill()?;
            }
        }
        let peer = peer.figures()?;
        if let Some((rate, p99)) = ours.figures()? {
            let (peer_rate, peer_p99) = peer.unzip();
            figures.push(Figure::higher(format!("durable writes of 1 kB, {who}"), rate, "/s").against(
                etcd::NAME,
                peer_rate,
                1.0,
            ));
            figures.push(Figure::lower("  p99", p99, "ms").against(etcd::NAME, peer_p99, 1.0));
        }
    }
    sandbox.stop()?;
    Ok(figures)
}

async fn put(store: Arc<RedbStore>, clients: usize) -> Result<Load> {
    let request = |store: Arc<RedbStore>, number| async move {
        store.commit(Write::create(key(0, number), vec![b'x'; VALUE_BYTES])).await?;
        Ok(())
    };
    let done = load(vec![store.clone(); clients], WINDOW, request).await?;
    store.close().await;
    Ok(done)
}

async fn put_in_etcd(clients: usize, round: usize) -> Result<Load> {
    let connections = etcd::Client::connect(&Member::alone(), clients).await?;
    let request = move |client: etcd::Client, number| async move {
        client.put(key(round, number).as_bytes(), &[b'x'; VALUE_BYTES]).await
    };
    load(connections, WINDOW, request).await
}

fn key(round: usize, number: usize) -> String {
    format!("/registry/configmaps/default/map-{round}-{number}")
}
