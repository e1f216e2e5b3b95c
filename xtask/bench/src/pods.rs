//! From the creation of a pod, whose image is present, to its status saying that it runs.
//!
//! A client on its own connection creates, a watch on another one sees: what a user would see.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use futures_util::StreamExt as _;
use sampan_api::Gvr;
use sampan_api::object::ObjectRef;
use sampan_client::kubeconfig::Access;
use sampan_client::{Backend as _, ListOptions, RemoteBackend, WatchEvent, WatchStream};
use sampan_testkit::Cluster;
use sampan_testkit::image::TEST_IMAGE;
use serde_json::{Value, json};

use crate::Arguments;
use crate::client::{access, connect, delete, inside, post};
use crate::figure::{Figure, median, quantile};

const PODS: usize = 100;
const ROUNDS: usize = 3;
const GVR: Gvr = Gvr::new("", "v1", "pods");
const NAMESPACE: &str = "default";
const PATH: &str = "/api/v1/namespaces/default/pods";
const PATIENCE: Duration = Duration::from_secs(60);

pub fn measure(_: &Arguments) -> Result<Vec<Figure>> {
    let cluster = Cluster::start()?;
    cluster.import_test_image()?;
    let access = access(&cluster)?;
    let result = inside(cluster.sandbox(), move || drive(access));
    if result.is_err() {
        eprintln!("the server's log:\n{}", cluster.log());
    }
    let figures = result?;
    cluster.stop()?;
    Ok(figures)
}

async fn drive(access: Access) -> Result<Vec<Figure>> {
    let client = connect(&access)?;
    let mut seen = Seen::new(connect(&access)?).await?;
    // The first pod finds cold caches, which the figures are not about.
    one(&client, &mut seen, "warm").await?;
    let mut singles = Vec::new();
    for index in 0..PODS {
        singles.push(one(&client, &mut seen, &format!("single-{index}")).await?);
    }
    let (mut whole, mut each, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        ended.push(clear(&client, &mut seen).await?);
        let latencies = many(&client, &mut seen, round).await?;
        whole.push(quantile(&latencies, 1.0)? / 1e3);
        each.push(median(&latencies)?);
    }
    Ok(vec![
        Figure::lower("create pod to running, 100 in turn, median", median(&singles)?, "ms").target(60.0),
        Figure::lower("create pod to running, 100 in turn, p99", quantile(&singles, 0.99)?, "ms")
            .target(200.0),
        Figure::lower("create 100 pods at once, until all run", median(&whole)?, "s"),
        Figure::lower("create 100 pods at once, median of a pod", median(&each)?, "ms"),
        Figure::lower("delete 100 pods at once, until all are gone", median(&ended)?, "s"),
    ])
}

/// Creates a pod and waits for it; milliseconds.
async fn one(client: &RemoteBackend, seen: &mut Seen, name: &str) -> Result<f64> {
    let before = Instant::now();
    post(client, PATH, pod(name)).await?;
    let at = seen.until_running(name).await?;
    Ok(at.duration_since(before).as_secs_f64() * 1e3)
}

/// Creates pods all at once and waits for all; milliseconds of each since the first was sent.
async fn many(client: &Arc<RemoteBackend>, seen: &mut Seen, round: usize) -> Result<Vec<f64>> {
    let names: Vec<String> = (0..PODS).map(|index| format!("crowd-{round}-{index}")).collect();
    let before = Instant::now();
    let posts = names.iter().map(|name| post(client, PATH, pod(name)));
    let created = futures_util::future::try_join_all(posts);
    let wait = async {
        let mut latencies = Vec::new();
        for name in &names {
            latencies.push(seen.until_running(name).await?.duration_since(before).as_secs_f64() * 1e3);
        }
        anyhow::Ok(latencies)
    };
    Ok(tokio::try_join!(created, wait)?.1)
}

/// Deletes every pod and waits until none is left; seconds.
async fn clear(client: &RemoteBackend, seen: &mut Seen) -> Result<f64> {
    let before = Instant::now();
    delete(client, PATH).await?;
    while !seen.running.is_empty() {
        seen.next().await?;
    }
    Ok(before.elapsed().as_secs_f64())
}

fn pod(name: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { "app": "bench" } },
        "spec": {
            "containers": [{
                "name": "app",
                "image": TEST_IMAGE,
                "imagePullPolicy": "IfNotPresent",
                "command": ["/bin/busybox", "sleep", "100000"],
                "resources": { "requests": { "cpu": "1m", "memory": "1Mi" } },
            }],
        },
    })
    .to_string()
}

/// What a watch of the pods saw.
struct Seen {
    watch: WatchStream,
    /// Pods that run, and since when that is known.
    running: HashMap<String, Instant>,
}

impl Seen {
    async fn new(client: Arc<RemoteBackend>) -> Result<Seen> {
        let watch = client
            .watch(&GVR, Some(NAMESPACE), &ListOptions::default())
            .await
            .map_err(|status| anyhow!("no watch: {status}"))?;
        Ok(Seen { watch, running: HashMap::new() })
    }

    async fn until_running(&mut self, name: &str) -> Result<Instant> {
        loop {
            if let Some(at) = self.running.get(name) {
                return Ok(*at);
            }
            self.next().await?;
        }
    }

    async fn next(&mut self) -> Result<()> {
        let event = tokio::time::timeout(PATIENCE, self.watch.next())
            .await
            .context("nothing happened for a minute")?
            .context("the watch ended")?
            .map_err(|status| anyhow!("the watch failed: {status}"))?;
        let now = Instant::now();
        match event {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                if !self.running.contains_key(&*pod.header.name) && runs(&pod)? {
                    self.running.insert(pod.header.name.to_string(), now);
                }
            }
            WatchEvent::Deleted(pod) => {
                self.running.remove(&*pod.header.name);
            }
            WatchEvent::Bookmark(_) => {}
        }
        Ok(())
    }
}

/// Whether the status says that the container runs and the pod is ready.
fn runs(pod: &ObjectRef) -> Result<bool> {
    let pod: Value = pod.decode()?;
    let status = &pod["status"];
    if status["phase"] == "Failed" {
        bail!("a pod failed: {status}");
    }
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    Ok(status["phase"] == "Running"
        && status["containerStatuses"][0]["state"]["running"].is_object()
        && status["conditions"].as_array().into_iter().flatten().any(ready))
}
