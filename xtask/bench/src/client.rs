//! Clients inside a cluster's network, and how they are driven.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use http::Method;
use http_body_util::BodyExt as _;
use sampan_client::RemoteBackend;
use sampan_client::kubeconfig::Access;
use sampan_client::remote::Call;
use sampan_testkit::{Cluster, Sandbox};
use tokio::sync::mpsc;

/// Clients of the figures under load.
pub const CLIENTS: usize = 64;
const ANSWER_BYTES: usize = 2 << 30;

/// Runs something on a thread, and with sockets, inside. One thread, so that a driver leaves the
/// rest of a small machine to what it drives.
pub fn inside<F, T>(sandbox: &Sandbox, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    F: Future<Output = Result<T>>,
    T: Send + 'static,
{
    let thread = sandbox.in_network(move || -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(work());
        runtime.shutdown_timeout(Duration::from_secs(1));
        result
    });
    thread.join().map_err(|_| anyhow!("the measuring thread panicked"))?
}

/// The administrator, on a connection of its own.
pub fn connect(access: &Access) -> Result<Arc<RemoteBackend>> {
    Ok(Arc::new(RemoteBackend::new(access, "bench")?))
}

pub fn access(cluster: &Cluster) -> Result<Access> {
    Ok(Access::read(&cluster.kubeconfig(), None)?)
}

pub async fn get(client: &RemoteBackend, path: &str) -> Result<Bytes> {
    client.bytes(Call::get(path), ANSWER_BYTES).await.map_err(|status| anyhow!("GET {path}: {status}"))
}

/// Reads an answer of any length without keeping it, and returns how long it was.
pub async fn drain(client: &RemoteBackend, path: &str) -> Result<usize> {
    let answer = client.send(Call::get(path)).await.map_err(|status| anyhow!("GET {path}: {status}"))?;
    let (mut body, mut length) = (answer.into_body(), 0);
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(length)
}

pub async fn post(client: &RemoteBackend, path: &str, body: impl Into<Bytes>) -> Result<Bytes> {
    send(client, Method::POST, path, body).await
}

pub async fn put(client: &RemoteBackend, path: &str, body: impl Into<Bytes>) -> Result<Bytes> {
    send(client, Method::PUT, path, body).await
}

pub async fn delete(client: &RemoteBackend, path: &str) -> Result<Bytes> {
    let body = r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}"#;
    send(client, Method::DELETE, path, body).await
}

async fn send(client: &RemoteBackend, method: Method, path: &str, body: impl Into<Bytes>) -> Result<Bytes> {
    let call = Call { method: method.clone(), body: body.into(), ..Call::get(path) };
    client.bytes(call, ANSWER_BYTES).await.map_err(|status| anyhow!("{method} {path}: {status}"))
}

/// What clients under load did.
pub struct Load {
    pub per_second: f64,
    /// Milliseconds, of each request.
    pub latencies: Vec<f64>,
}

/// Lets clients, each on a task of its own, do one request after another for some time. `request`
/// is given its client and a number that no other one has.
pub async fn load<C, F>(
    clients: Vec<C>,
    time: Duration,
    request: impl Fn(C, usize) -> F + Clone + 'static,
) -> Result<Load>
where
    C: Clone + 'static,
    F: Future<Output = Result<()>>,
{
    let count = clients.len();
    let started = Instant::now();
    let tasks = clients.into_iter().enumerate().map(|(index, client)| {
        let request = request.clone();
        async move {
            let mut latencies = Vec::new();
            for round in 0.. {
                let before = Instant::now();
                if before.duration_since(started) > time {
                    break;
                }
                request(client.clone(), round * count + index).await?;
                latencies.push(before.elapsed().as_secs_f64() * 1e3);
            }
            anyhow::Ok(latencies)
        }
    });
    let latencies = futures_util::future::try_join_all(tasks).await?.concat();
    Ok(Load { per_second: latencies.len() as f64 / started.elapsed().as_secs_f64(), latencies })
}

/// What a load at a given rate does.
#[derive(Clone, Copy)]
pub struct Pace {
    pub per_second: u32,
    pub requests: usize,
    /// Requests that wait for their answers at most.
    pub waiting: usize,
}

/// How long after the time of each request something happened, in milliseconds.
pub struct Paced {
    /// The thread that keeps the pace woke: what the machine costs a program that does nothing but sleep.
    pub wakes: Vec<f64>,
    pub answers: Vec<f64>,
}

/// Sends requests at a pace, whether or not earlier ones were answered. `request` is given a number that no
/// other one has.
pub async fn paced<F>(pace: Pace, request: impl Fn(usize) -> F) -> Result<Paced>
where
    F: Future<Output = Result<()>>,
{
    let (sender, receiver) = mpsc::unbounded_channel();
    // The runtime's own timers wake a millisecond late and more, which would count as the server's time.
    std::thread::spawn(move || {
        let period = Duration::from_secs(1) / pace.per_second;
        let mut due = Instant::now();
        for number in 0..pace.requests {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send((number, due, due.elapsed())).is_err() {
                return; // nobody measures any more
            }
            due += period;
        }
    });
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let times: Vec<(f64, f64)> =
        stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|next| (next, receiver)) })
            .map(|(number, due, woke)| {
                let request = request(number);
                async move {
                    request.await?;
                    anyhow::Ok((milliseconds(woke), milliseconds(due.elapsed())))
                }
            })
            .buffer_unordered(pace.waiting)
            .try_collect()
            .await?;
    let (wakes, answers) = times.into_iter().unzip();
    Ok(Paced { wakes, answers })
}
