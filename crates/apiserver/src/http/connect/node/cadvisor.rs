//! `/metrics/cadvisor`: what cAdvisor counts of cgroups, under its names.
//!
//! Rows are of the machine (`id="/"`), of pods (without a container's name) and of containers that run.
//! Disks are not counted.

use sampan_base::metrics::{Exposition, Kind};
use sampan_client::node_usage::{ContainerUsage, Network, PodUsage, Reading, Traffic, Usage};

use super::resource_metrics::{seconds, since_epoch};

/// Writes the families.
pub fn write(reading: &Reading, out: &mut Exposition) {
    machine(reading, out);
    for Counted { name, help, kind, label, value } in COUNTED {
        out.family(name, help, *kind);
        for row in rows(reading) {
            if let Some(value) = value(&row.usage) {
                let mut labels = row.labels();
                labels.extend(*label);
                labels.sort_unstable();
                out.sample_at(&labels, value, reading.at.as_millisecond());
            }
        }
    }
    faults(reading, out);
    times(reading, out);
    network(reading, out);
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    out.family("container_scrape_error", help, Kind::Gauge);
    out.sample(&[], f64::from(u8::from(reading.incomplete)));
}

/// What is counted of each cgroup.
struct Counted {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    label: Option<(&'static str, &'static str)>,
    /// Nothing where there is none, as of limits.
    value: fn(&Usage) -> Option<f64>,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Usage) -> Option<f64>) -> Counted {
    Counted { name, help, kind: Kind::Counter, label: None, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Usage) -> Option<f64>) -> Counted {
    Counted { name, help, kind: Kind::Gauge, label: None, value }
}

const COUNTED: &[Counted] = &[
    Counted {
        label: Some(("cpu", "total")),
        ..counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", |usage| {
            Some(seconds(usage.cpu_ns))
        })
    },
    counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", |usage| {
        Some(seconds(usage.cpu_user_ns))
    }),
    counter(
        "container_cpu_system_seconds_total",
        "Cumulative system cpu time consumed in seconds.",
        |usage| Some(seconds(usage.cpu_system_ns)),
    ),
    counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", |usage| {
        usage.quota_us.map(|_| usage.periods as f64)
    }),
    counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", |usage| {
        usage.quota_us.map(|_| usage.throttled_periods as f64)
    }),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        |usage| usage.quota_us.map(|_| seconds(usage.throttled_ns)),
    ),
    gauge("container_spec_cpu_quota", "CPU quota of the container.", |usage| {
        usage.quota_us.map(|(quota, _)| quota as f64)
    }),
    gauge("container_spec_cpu_period", "CPU period of the container.", |usage| {
        usage.quota_us.map(|(_, period)| period as f64)
    }),
    gauge("container_spec_memory_limit_bytes", "Memory limit for the container.", |usage| {
        Some(usage.memory_limit.unwrap_or(0) as f64)
    }),
    gauge(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |usage| Some(usage.memory_usage as f64),
    ),
    gauge("container_memory_working_set_bytes", "Current working set in bytes.", |usage| {
        Some(usage.memory_working_set as f64)
    }),
    gauge("container_memory_rss", "Size of RSS in bytes.", |usage| Some(usage.memory_rss as f64)),
    gauge("container_memory_cache", "Number of bytes of page cache memory.", |usage| {
        Some(usage.memory_cache as f64)
    }),
    gauge("container_memory_swap", "Container swap usage in bytes.", |usage| Some(usage.memory_swap as f64)),
    counter("container_memory_failcnt", "Number of memory usage hits limits", |usage| {
        Some(usage.memory_failures as f64)
    }),
    gauge("container_threads", "Number of threads running inside the container", |usage| {
        Some(usage.pids as f64)
    }),
];

/// One cgroup and its labels.
struct Row<'r> {
    id: String,
    pod: Option<&'r PodUsage>,
    container: Option<&'r ContainerUsage>,
    usage: Usage,
}

impl Row<'_> {
    /// Labels without a value are left out, which is the same thing to Prometheus.
    fn labels(&self) -> Vec<(&str, &str)> {
        let mut labels = vec![("id", self.id.as_str())];
        if let Some(pod) = self.pod {
            labels.extend([("namespace", pod.namespace.as_str()), ("pod", pod.name.as_str())]);
        }
        if let Some(container) = self.container {
            let (name, id, image) = (&container.name, &container.id, &container.image);
            labels.extend([("container", name.as_str()), ("name", id.as_str()), ("image", image.as_str())]);
        }
        labels.sort_unstable();
        labels
    }
}

fn rows(reading: &Reading) -> Vec<Row<'_>> {
    let mut rows = vec![Row { id: "/".to_owned(), pod: None, container: None, usage: whole(reading) }];
    for pod in &reading.pods {
        rows.push(Row { id: pod.cgroup.clone(), pod: Some(pod), container: None, usage: pod.total });
        rows.extend(pod.containers.iter().map(|container| Row {
            id: format!("{}/{}", pod.cgroup, container.id),
            pod: Some(pod),
            container: Some(container),
            usage: container.usage,
        }));
    }
    rows
}

/// The machine as a cgroup.
fn whole(reading: &Reading) -> Usage {
    let machine = &reading.machine;
    Usage {
        cpu_ns: machine.cpu_ns,
        memory_usage: machine.memory.usage,
        memory_working_set: machine.memory.working_set,
        memory_rss: machine.memory.rss,
        memory_swap: machine.memory.swap_usage,
        page_faults: machine.memory.page_faults,
        major_page_faults: machine.memory.major_page_faults,
        ..Usage::default()
    }
}

fn machine(reading: &Reading, out: &mut Exposition) {
    let machine = &reading.machine;
    let families = [
        ("machine_cpu_cores", "Number of logical CPU cores.", f64::from(machine.cores)),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", machine.memory.total as f64),
        (
            "machine_swap_bytes",
            "Amount of swap memory available on the machine.",
            machine.memory.swap_total as f64,
        ),
    ];
    for (name, help, value) in families {
        out.family(name, help, Kind::Gauge);
        out.sample_at(&[], value, reading.at.as_millisecond());
    }
}

fn faults(reading: &Reading, out: &mut Exposition) {
    let help = "Cumulative count of memory allocation failures.";
    out.family("container_memory_failures_total", help, Kind::Counter);
    for row in rows(reading) {
        let kinds = [("pgfault", row.usage.page_faults), ("pgmajfault", row.usage.major_page_faults)];
        for (kind, count) in kinds {
            let mut labels = row.labels();
            labels.extend([("failure_type", kind), ("scope", "hierarchy")]);
            labels.sort_unstable();
            out.sample_at(&labels, count as f64, reading.at.as_millisecond());
        }
    }
}

fn times(reading: &Reading, out: &mut Exposition) {
    let help = "Start time of the container since unix epoch in seconds.";
    out.family("container_start_time_seconds", help, Kind::Gauge);
    for row in rows(reading) {
        let pod = row.pod.map(|pod| pod.started_at);
        let started = row.container.map(|container| container.started_at).or(pod);
        let started = started.unwrap_or(reading.booted_at);
        out.sample_at(&row.labels(), since_epoch(started), reading.at.as_millisecond());
    }
    out.family("container_last_seen", "Last time a container was seen by the exporter", Kind::Gauge);
    for row in rows(reading) {
        out.sample_at(&row.labels(), reading.at.as_second() as f64, reading.at.as_millisecond());
    }
}

fn network(reading: &Reading, out: &mut Exposition) {
    type Value = fn(&Traffic) -> u64;
    // Whether it is the traffic itself, or what goes wrong with it.
    let counted: [(&str, &str, bool, Value); 4] = [
        ("bytes", "bytes", true, |traffic| traffic.bytes),
        ("packets", "packets", true, |traffic| traffic.packets),
        ("packets_dropped", "packets dropped", false, |traffic| traffic.dropped),
        ("errors", "errors encountered", false, |traffic| traffic.errors),
    ];
    type Side = fn(&Network) -> &Traffic;
    let sides: [(&str, &str, &str, Side); 2] = [
        ("receive", "received", "while receiving", |network| &network.received),
        ("transmit", "transmitted", "while transmitting", |network| &network.sent),
    ];
    for (side, done, doing, of) in sides {
        for (suffix, what, itself, value) in counted {
            let name = format!("container_network_{side}_{suffix}_total");
            let help = format!("Cumulative count of {what} {}", if itself { done } else { doing });
            out.family(&name, &help, Kind::Counter);
            for row in rows(reading).iter().filter(|row| row.container.is_none()) {
                let Some(network) = row.pod.and_then(|pod| pod.network.as_ref()) else { continue };
                let mut labels = row.labels();
                labels.push(("interface", "eth0"));
                labels.sort_unstable();
                out.sample_at(&labels, value(of(network)) as f64, reading.at.as_millisecond());
            }
        }
    }
}
