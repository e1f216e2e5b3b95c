//! `/stats/summary`: `stats.kubelet.k8s.io/v1alpha1`, without what would need a walk of file systems (the
//! sizes of containers' and volumes' files).

use jiff::Timestamp;
use sampan_client::node_usage::{FileSystem, Machine, Network, PodUsage, Rate, Reading, Usage, Window};
use serde_json::{Value, json};

use crate::registry::timestamp;

/// The whole document.
pub fn document(window: &Window) -> Value {
    let now = &window.now;
    json!({"node": node(now, window.machine()), "pods": now.pods.iter().map(|one| pod(window, one)).collect::<Vec<_>>()})
}

/// With `?only_cpu_and_memory=true`.
pub fn brief(window: &Window) -> Value {
    let mut document = document(window);
    let keep = |value: &mut Value, fields: &[&str]| {
        if let Some(map) = value.as_object_mut() {
            map.retain(|name, _| fields.contains(&name.as_str()));
        }
    };
    keep(&mut document["node"], &["nodeName", "startTime", "cpu", "memory"]);
    for pod in document["pods"].as_array_mut().into_iter().flatten() {
        keep(pod, &["podRef", "startTime", "containers", "cpu", "memory"]);
        for container in pod["containers"].as_array_mut().into_iter().flatten() {
            keep(container, &["name", "startTime", "cpu", "memory"]);
        }
    }
    document
}

fn node(now: &Reading, rate: Option<Rate>) -> Value {
    let (at, Machine { cpu_ns, memory, file_system, .. }) = (now.at, &now.machine);
    let memory_stats = json!({
        "time": timestamp(at), "availableBytes": memory.total.saturating_sub(memory.working_set),
        "usageBytes": memory.usage, "workingSetBytes": memory.working_set, "rssBytes": memory.rss,
        "pageFaults": memory.page_faults, "majorPageFaults": memory.major_page_faults,
    });
    let swap = json!({"time": timestamp(at), "swapUsageBytes": memory.swap_usage,
        "swapAvailableBytes": memory.swap_total.saturating_sub(memory.swap_usage)});
    let file_system = file_stats(at, file_system);
    json!({
        "nodeName": now.node, "startTime": timestamp(now.booted_at), "cpu": cpu(at, *cpu_ns, rate),
        "memory": memory_stats, "swap": swap, "fs": file_system, "runtime": {"imageFs": file_system},
    })
}

fn pod(window: &Window, pod: &PodUsage) -> Value {
    let at = window.now.at;
    let containers: Vec<Value> = pod
        .containers
        .iter()
        .map(|container| {
            json!({
                "name": container.name, "startTime": timestamp(container.started_at),
                "cpu": cpu(at, container.usage.cpu_ns, window.container(container)),
                "memory": memory(at, &container.usage), "swap": swap(at, &container.usage),
            })
        })
        .collect();
    let mut stats = json!({
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": timestamp(pod.started_at), "containers": containers,
        "cpu": cpu(at, pod.total.cpu_ns, window.pod(pod)), "memory": memory(at, &pod.total),
        "swap": swap(at, &pod.total), "process_stats": {"process_count": pod.total.pids},
    });
    if let Some(network) = &pod.network {
        stats["network"] = network_stats(at, network);
    }
    stats
}

fn cpu(at: Timestamp, total_ns: u64, rate: Option<Rate>) -> Value {
    let mut stats = json!({"time": timestamp(at), "usageCoreNanoSeconds": total_ns});
    if let Some(rate) = rate {
        stats["usageNanoCores"] = rate.nano_cores.into();
    }
    stats
}

fn memory(at: Timestamp, usage: &Usage) -> Value {
    let mut stats = json!({
        "time": timestamp(at), "usageBytes": usage.memory_usage, "workingSetBytes": usage.memory_working_set,
        "rssBytes": usage.memory_rss, "pageFaults": usage.page_faults, "majorPageFaults": usage.major_page_faults,
    });
    if let Some(limit) = usage.memory_limit {
        stats["availableBytes"] = limit.saturating_sub(usage.memory_working_set).into();
    }
    stats
}

fn swap(at: Timestamp, usage: &Usage) -> Value {
    json!({"time": timestamp(at), "swapUsageBytes": usage.memory_swap})
}

fn network_stats(at: Timestamp, network: &Network) -> Value {
    let interface = json!({
        "name": "eth0", "rxBytes": network.received.bytes, "rxErrors": network.received.errors,
        "txBytes": network.sent.bytes, "txErrors": network.sent.errors,
    });
    let mut stats = interface.clone();
    stats["time"] = timestamp(at).into();
    stats["interfaces"] = json!([interface]);
    stats
}

fn file_stats(at: Timestamp, files: &FileSystem) -> Value {
    json!({
        "time": timestamp(at), "availableBytes": files.available, "capacityBytes": files.capacity,
        "usedBytes": files.used, "inodesFree": files.inodes_free, "inodes": files.inodes,
        "inodesUsed": files.inodes.saturating_sub(files.inodes_free),
    })
}
