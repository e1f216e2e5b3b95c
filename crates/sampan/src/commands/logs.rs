//! `sampan logs`: prints what a container wrote.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Pod;
use sampan_api::Gvr;
use sampan_client::remote::{Call, Query, path};
use sampan_client::{Backend as _, Target};
use tokio::io::AsyncWriteExt as _;

use super::cluster::{Cluster, ClusterArgs};

const PODS: Gvr = Gvr::new("", "v1", "pods");

#[derive(Args, Debug)]
pub struct LogsArgs {
    pod: String,
    /// Container [default: the pod's default or first]
    #[arg(short, long)]
    container: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Go on with what is written
    #[arg(short, long)]
    follow: bool,
    /// Lines from the end
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Of the container's run before this one
    #[arg(short, long)]
    previous: bool,
    /// A time before each line
    #[arg(long)]
    timestamps: bool,
    /// Only what is newer than so many seconds
    #[arg(long, value_name = "SECONDS")]
    since: Option<u64>,
}

impl LogsArgs {
    pub async fn run(self) -> Result<()> {
        let cluster = self.cluster.open()?;
        let name = pod_name(&self.pod)?;
        let container = container(&cluster, name, self.container.as_deref()).await?;
        let mut query = Query::new();
        query.add("container", &container);
        for (key, set) in
            [("follow", self.follow), ("previous", self.previous), ("timestamps", self.timestamps)]
        {
            if set {
                query.add(key, "true");
            }
        }
        if let Some(lines) = self.tail {
            query.add("tailLines", &lines.to_string());
        }
        if let Some(seconds) = self.since {
            query.add("sinceSeconds", &seconds.to_string());
        }
        let path = format!("{}/log", path(&PODS, Some(&cluster.namespace), Some(name)));
        let call = Call { accept: "*/*", ..Call::get(query.at(path)) };
        let mut body = cluster.remote.send(call).await?.into_body();
        let mut out = tokio::io::stdout();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.context("the log broke off")?.into_data() {
                let written = async {
                    out.write_all(&data).await?;
                    out.flush().await
                };
                match written.await {
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                    written => written?,
                }
            }
        }
        Ok(())
    }
}

/// The name in `NAME` or `pod/NAME`.
pub fn pod_name(text: &str) -> Result<&str> {
    match text.split_once('/') {
        None => Ok(text),
        Some(("pod" | "pods" | "po", name)) => Ok(name),
        Some((resource, _)) => bail!("{resource} is not supported here; name a pod"),
    }
}

/// The container that is meant: the one named, the pod's default, or the first.
pub async fn container(cluster: &Cluster, pod: &str, named: Option<&str>) -> Result<String> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let target = Target { gvr: &PODS, namespace: Some(&cluster.namespace), name: pod, subresource: None };
    let pod: Pod = cluster.remote.get(target).await?.decode()?;
    let annotations = pod.metadata.annotations.unwrap_or_default();
    let names: Vec<String> =
        pod.spec.unwrap_or_default().containers.into_iter().map(|container| container.name).collect();
    let default = annotations.get("kubectl.kubernetes.io/default-container");
    if let Some(default) = default.filter(|default| names.contains(default)) {
        return Ok(default.clone());
    }
    let first = names.first().context("the pod has no container")?;
    if names.len() > 1 {
        eprintln!("Defaulted container {first:?} out of: {}", names.join(", "));
    }
    Ok(first.clone())
}
