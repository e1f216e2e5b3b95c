//! Reads of a small cluster: one object, and a list of ten thousand.

use std::time::{Duration, Instant};

use anyhow::Result;
use sampan_client::kubeconfig::Access;
use sampan_testkit::Cluster;
use serde_json::json;

use super::typed;
use crate::Arguments;
use crate::client::{CLIENTS, access, connect, get, inside, load, post};
use crate::figure::{Figure, median};

const PODS: usize = 10_000;
const LISTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(5);
const PATH: &str = "/api/v1/namespaces/default/pods";

pub fn measure(_: &Arguments) -> Result<Vec<Figure>> {
    let cluster = Cluster::start()?;
    let access = access(&cluster)?;
    let figures = inside(cluster.sandbox(), move || async move {
        let mut figures = drive(&access).await?;
        figures.extend(typed::measure(&access).await?);
        Ok(figures)
    })?;
    cluster.stop()?;
    Ok(figures)
}

async fn drive(access: &Access) -> Result<Vec<Figure>> {
    let clients = (0..CLIENTS).map(|_| connect(access)).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    let creations = clients.iter().enumerate().map(|(index, client)| async move {
        for number in (index..PODS).step_by(CLIENTS) {
            post(client, PATH, pod(number)).await?;
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(creations).await?;
    let created = PODS as f64 / started.elapsed().as_secs_f64();
    let (mut times, mut bytes) = (Vec::new(), 0);
    for _ in 0..LISTS {
        let before = Instant::now();
        bytes = get(&clients[0], PATH).await?.len();
        times.push(before.elapsed().as_secs_f64() * 1e3);
    }
    let one = format!("{PATH}/pod-4711");
    let request = move |client: std::sync::Arc<_>, _| {
        let path = one.clone();
        async move { get(&client, &path).await.map(drop) }
    };
    let alone = load(vec![clients[0].clone()], WINDOW, request.clone()).await?;
    let crowd = load(clients, WINDOW, request).await?;
    let list = median(&times)?;
    Ok(vec![
        Figure::lower("get a pod, one client, median", median(&alone.latencies)?, "ms"),
        Figure::higher("get a pod, 64 clients on HTTPS", crowd.per_second, "/s"),
        Figure::lower(format!("list 10,000 pods ({:.0} MB) on HTTPS", bytes as f64 / 1e6), list, "ms"),
        Figure::higher("list 10,000 pods, rate", bytes as f64 / 1e3 / list, "MB/s"),
        Figure::higher("create pods, 64 clients on HTTPS", created, "/s"),
    ])
}

/// A pod as deployments make them, for which no scheduler of this cluster feels responsible.
fn pod(number: usize) -> String {
    let variables: Vec<_> = (0..12)
        .map(|index| json!({"name": format!("SETTING_{index}"), "value": "some value of a setting"}))
        .collect();
    let probe = json!({"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("pod-{number}"),
            "labels": {"app": format!("app-{}", number % 100), "pod-template-hash": "5d4f8c7b9"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
        },
        "spec": {
            "schedulerName": "none",
            "containers": [{
                "name": "app",
                "image": "registry.example.com/team/app:1.2.3",
                "env": variables,
                "ports": [{"containerPort": 8080, "name": "http"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "livenessProbe": probe,
                "readinessProbe": probe,
            }],
        },
    })
    .to_string()
}
