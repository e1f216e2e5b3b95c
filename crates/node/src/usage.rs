//! What the machine and its pods use, read from the kernel when somebody asks.

mod machine;
mod meter;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use sampan_api::Status;
use sampan_client::node_usage::{
    ContainerUsage, Network, NodeUsage, PodUsage, Reading, Traffic, Usage, Window,
};
use sampan_net::counters::{self, PodTraffic};

use crate::config::NodeConfig;
use crate::node::Node;
use crate::pod;
use crate::spec::cgroup::pod_path;
use crate::worker::run::View;

pub use meter::Meter;

#[async_trait]
impl NodeUsage for Node {
    async fn reading(&self) -> Result<Arc<Reading>, Status> {
        self.shared().meter.reading(|| self.read_usage()).await
    }

    async fn window(&self) -> Result<Window, Status> {
        self.shared().meter.window(|| self.read_usage()).await
    }
}

/// A pod to read: everything but the numbers, and where they are.
struct Place {
    cgroup: PathBuf,
    pod: PodUsage,
}

impl Node {
    async fn read_usage(&self) -> Result<Reading, Status> {
        let config = self.shared().config.clone();
        let places: Vec<Place> =
            self.views().iter().filter_map(|view| place(&config, &view.borrow())).collect();
        tokio::task::spawn_blocking(move || read(&config, places)).await.map_err(Status::internal)
    }
}

/// Where a pod that runs is; `None` for one that does not.
fn place(config: &NodeConfig, view: &View) -> Option<Place> {
    let containers: Vec<ContainerUsage> = view
        .containers
        .iter()
        .filter_map(|record| {
            let running = record.running()?;
            Some(ContainerUsage {
                name: record.name.clone(),
                id: running.id.clone(),
                image: record.image.as_ref().map(|image| image.name.clone()).unwrap_or_default(),
                started_at: running.started_at,
                usage: Usage::default(),
            })
        })
        .collect();
    if containers.is_empty() {
        return None;
    }
    let started = view.pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let first = containers.iter().map(|container| container.started_at).min();
    let cgroup = pod_path(&config.cgroup_root, &view.pod);
    Some(Place {
        pod: PodUsage {
            namespace: pod::namespace(&view.pod).to_owned(),
            name: pod::name(&view.pod).to_owned(),
            uid: pod::uid(&view.pod).to_owned(),
            cgroup: cgroup.to_string_lossy().into_owned(),
            started_at: started.or(first).unwrap_or(Timestamp::UNIX_EPOCH),
            total: Usage::default(),
            network: None,
            containers,
        },
        cgroup,
    })
}

/// Reads all of it. What has ended meanwhile is left out.
fn read(config: &NodeConfig, places: Vec<Place>) -> Reading {
    let (machine, booted_at) = machine::read(&config.data_dir);
    let mut incomplete = false;
    let traffic = PodTraffic::read().unwrap_or_else(|error| {
        tracing::warn!(%error, "the traffic of pods cannot be read");
        incomplete = true;
        PodTraffic::default()
    });
    let mut pods = Vec::with_capacity(places.len());
    for Place { cgroup, mut pod } in places {
        let mut usage_of = |path: PathBuf| match sampan_runtime::usage(&path) {
            Ok(usage) => Some(usage_from(usage)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what a container uses cannot be read");
                incomplete = true;
                None
            }
        };
        let mut containers = std::mem::take(&mut pod.containers);
        containers.retain_mut(|container| match usage_of(cgroup.join(&container.id)) {
            Some(usage) => {
                container.usage = usage;
                true
            }
            None => false,
        });
        let Some(total) = usage_of(cgroup).filter(|_| !containers.is_empty()) else { continue };
        pod.total = total;
        pod.containers = containers;
        pod.network = traffic.of(&pod.uid).map(network_from);
        pods.push(pod);
    }
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Reading { at: Timestamp::now(), node: config.name.clone(), booted_at, machine, pods, incomplete }
}

fn usage_from(sampan_runtime::Usage { cpu, memory, pids }: sampan_runtime::Usage) -> Usage {
    Usage {
        cpu_ns: cpu.total_ns,
        cpu_user_ns: cpu.user_ns,
        cpu_system_ns: cpu.system_ns,
        periods: cpu.periods,
        throttled_periods: cpu.throttled_periods,
        throttled_ns: cpu.throttled_ns,
        quota_us: cpu.quota_us,
        memory_usage: memory.usage,
        memory_working_set: memory.working_set,
        memory_rss: memory.rss,
        memory_cache: memory.cache,
        memory_swap: memory.swap,
        memory_limit: memory.limit,
        page_faults: memory.page_faults,
        major_page_faults: memory.major_page_faults,
        memory_failures: memory.failures,
        pids,
    }
}

fn network_from(counters::Traffic { received, sent }: counters::Traffic) -> Network {
    let traffic = |one: counters::Direction| Traffic {
        bytes: one.bytes,
        packets: one.packets,
        errors: one.errors,
        dropped: one.dropped,
    };
    Network { received: traffic(received), sent: traffic(sent) }
}
