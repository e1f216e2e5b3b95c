//! `/metrics/resource`: CPU, memory and swap of the node, its pods and their containers (KEP-727).

use jiff::Timestamp;
use sampan_base::metrics::{Exposition, Kind};
use sampan_client::node_usage::{ContainerUsage, PodUsage, Reading};

/// Writes the families of upstream's names.
pub fn write(reading: &Reading, out: &mut Exposition) {
    let at = reading.at.as_millisecond();
    node(reading, at, out);
    pods(reading, at, out);
    containers(reading, at, out);
    let help = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";
    out.family("resource_scrape_error", help, Kind::Gauge);
    out.sample(&[], f64::from(u8::from(reading.incomplete)));
}

fn node(reading: &Reading, at: i64, out: &mut Exposition) {
    let machine = &reading.machine;
    let families = [
        (
            "node_cpu_usage_seconds_total",
            "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
            Kind::Counter,
            seconds(machine.cpu_ns),
        ),
        (
            "node_memory_working_set_bytes",
            "[STABLE] Current working set of the node in bytes",
            Kind::Gauge,
            machine.memory.working_set as f64,
        ),
        (
            "node_swap_usage_bytes",
            "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
            Kind::Gauge,
            machine.memory.swap_usage as f64,
        ),
    ];
    for (name, help, kind, value) in families {
        out.family(name, help, kind);
        out.sample_at(&[], value, at);
    }
}

fn pods(reading: &Reading, at: i64, out: &mut Exposition) {
    type Value = fn(&PodUsage) -> f64;
    let families: [(&str, &str, Kind, Value); 3] = [
        (
            "pod_cpu_usage_seconds_total",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
            Kind::Counter,
            |pod| seconds(pod.total.cpu_ns),
        ),
        (
            "pod_memory_working_set_bytes",
            "[STABLE] Current working set of the pod in bytes",
            Kind::Gauge,
            |pod| pod.total.memory_working_set as f64,
        ),
        (
            "pod_swap_usage_bytes",
            "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
            Kind::Gauge,
            |pod| pod.total.memory_swap as f64,
        ),
    ];
    for (name, help, kind, value) in families {
        out.family(name, help, kind);
        for pod in &reading.pods {
            out.sample_at(&[("namespace", &pod.namespace), ("pod", &pod.name)], value(pod), at);
        }
    }
}

fn containers(reading: &Reading, at: i64, out: &mut Exposition) {
    type Value = fn(&ContainerUsage) -> f64;
    let families: [(&str, &str, Kind, Value); 3] = [
        (
            "container_cpu_usage_seconds_total",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
            Kind::Counter,
            |container| seconds(container.usage.cpu_ns),
        ),
        (
            "container_memory_working_set_bytes",
            "[STABLE] Current working set of the container in bytes",
            Kind::Gauge,
            |container| container.usage.memory_working_set as f64,
        ),
        (
            "container_swap_usage_bytes",
            "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
            Kind::Gauge,
            |container| container.usage.memory_swap as f64,
        ),
    ];
    let all =
        || reading.pods.iter().flat_map(|pod| pod.containers.iter().map(move |container| (pod, container)));
    for (name, help, kind, value) in families {
        out.family(name, help, kind);
        for (pod, container) in all() {
            out.sample_at(&labels(pod, container), value(container), at);
        }
    }
    let help = "[STABLE] Start time of the container since unix epoch in seconds";
    out.family("container_start_time_seconds", help, Kind::Gauge);
    for (pod, container) in all() {
        out.sample(&labels(pod, container), since_epoch(container.started_at));
    }
}

fn labels<'a>(pod: &'a PodUsage, container: &'a ContainerUsage) -> [(&'static str, &'a str); 3] {
    [("container", &container.name), ("namespace", &pod.namespace), ("pod", &pod.name)]
}

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

pub(super) fn since_epoch(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1e3
}
