//! Requests of a large cluster: gets and writes while lists run, and lists of everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, anyhow};
use sampan_client::RemoteBackend;
use sampan_client::kubeconfig::Access;
use serde_json::{Value, json};

use super::nginx;
use super::population::{PODS, namespace, pod};
use crate::client::{Pace, connect, drain, get, paced, post};
use crate::figure::{Figure, quantile};

/// What is asked while lists run: a rate that leaves a small machine some room, or the latencies would be those
/// of a queue.
pub const GETS: Pace = Pace { per_second: 1000, requests: 10_000, waiting: 64 };
const WRITES: Pace = Pace { per_second: 200, requests: 2_000, waiting: 64 };
pub const PAGE: usize = 500;

/// `peer` is what gets of nginx took under the same load, in milliseconds, p99.
pub async fn measure(access: &Access, peer: Option<f64>) -> Result<Vec<Figure>> {
    let (reader, writer) = (connect(access)?, connect(access)?);
    let gets = paced(GETS, |number| {
        let number = number.wrapping_mul(7919) % PODS;
        let path = format!("/api/v1/namespaces/{}/pods/{}", namespace(number), pod(number));
        let reader = reader.clone();
        async move { get(&reader, &path).await.map(drop) }
    });
    let writes = paced(WRITES, |number| {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("map-{number}")}, "data": {"key": "x".repeat(700)}});
        let writer = writer.clone();
        async move { post(&writer, "/api/v1/namespaces/default/configmaps", body.to_string()).await.map(drop) }
    });
    let lists = |client: Arc<RemoteBackend>, done: Arc<AtomicBool>| async move {
        Ok(list_pages(&client, || done.load(Ordering::Relaxed)).await?.1)
    };
    let before = Instant::now();
    let ((gets, writes), bytes) =
        while_listing(access, lists, futures_util::future::try_join(gets, writes)).await?;
    let window = before.elapsed().as_secs_f64();
    let lister = connect(access)?;
    let before = Instant::now();
    let (pages, all) = list_pages(&lister, || false).await?;
    let paged = before.elapsed().as_secs_f64();
    anyhow::ensure!(pages == PODS.div_ceil(PAGE), "a list of {PODS} pods came in {pages} pages");
    let before = Instant::now();
    // Not kept: a gigabyte of new memory would be the driver's time, not the server's.
    let whole_bytes = drain(&lister, "/api/v1/pods").await?;
    let whole = before.elapsed().as_secs_f64();
    Ok(vec![
        Figure::lower(
            format!(
                "get while lists run, {} and {} writes a second, p99",
                GETS.per_second, WRITES.per_second
            ),
            quantile(&gets.answers, 0.99)?,
            "ms",
        )
        .beside(nginx::NAME, peer)
        .target(2.0),
        Figure::lower("  median", quantile(&gets.answers, 0.5)?, "ms"),
        Figure::lower("  a thread that only sleeps, p99", quantile(&gets.wakes, 0.99)?, "ms"),
        Figure::lower("  write, p99", quantile(&writes.answers, 0.99)?, "ms").target(10.0),
        Figure::lower("  median", quantile(&writes.answers, 0.5)?, "ms"),
        Figure::higher(
            "  gets and writes",
            (gets.answers.len() + writes.answers.len()) as f64 / window,
            "/s",
        ),
        Figure::higher("  lists meanwhile", bytes as f64 / 1e6 / window, "MB/s"),
        Figure::lower(
            format!("list {PODS} pods in pages of {PAGE} ({:.0} MB)", all as f64 / 1e6),
            paged,
            "s",
        ),
        Figure::lower(format!("list {PODS} pods at once ({:.0} MB)", whole_bytes as f64 / 1e6), whole, "s"),
    ])
}

/// Does something while another client lists again and again, on a thread of its own: what it does with its
/// megabytes must not hold up whoever measures, so it gives way to them, as if it had a machine of its own.
/// The server's part of the lists does not. `list` is told when to stop, and returns the bytes that came, and so
/// does this.
pub async fn while_listing<T, F>(
    access: &Access,
    list: impl Fn(Arc<RemoteBackend>, Arc<AtomicBool>) -> F + Send + 'static,
    work: impl Future<Output = Result<T>>,
) -> Result<(T, usize)>
where
    F: Future<Output = Result<usize>>,
{
    let done = Arc::new(AtomicBool::new(false));
    let (access, finished) = (access.clone(), done.clone());
    let lists = std::thread::spawn(move || -> Result<usize> {
        rustix::process::nice(19)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = connect(&access)?;
            let mut bytes = 0;
            while !finished.load(Ordering::Relaxed) {
                bytes += list(client.clone(), finished.clone()).await?;
            }
            Ok(bytes)
        })
    });
    let worked = work.await;
    done.store(true, Ordering::Relaxed);
    let bytes = lists.join().map_err(|_| anyhow!("the listing thread panicked"))??;
    Ok((worked?, bytes))
}

/// Reads a list page by page until its end or somebody is done: the pages and their bytes.
async fn list_pages(client: &RemoteBackend, done: impl Fn() -> bool) -> Result<(usize, usize)> {
    let (mut pages, mut bytes, mut token) = (0, 0, String::new());
    loop {
        let page = get(client, &format!("/api/v1/pods?limit={PAGE}&continue={token}")).await?;
        pages += 1;
        bytes += page.len();
        match continue_token(&page) {
            Some(next) if !done() => token = next,
            Some(_) | None => return Ok((pages, bytes)),
        }
    }
}

/// Reads the token in the head of a page: the driver must not spend its time on the items.
fn continue_token(page: &[u8]) -> Option<String> {
    let end = page.windows(9).position(|window| window == b"\"items\":[")?;
    let head = [page.get(..end)?, b"\"items\":[]}"].concat();
    let head: Value = serde_json::from_slice(&head).ok()?;
    head["metadata"]["continue"].as_str().map(str::to_owned)
}
