//! NodeMetrics and PodMetrics out of readings. Pure.

use std::time::Duration;

use jiff::Timestamp;
use sampan_api::quantity::{Format, Quantity};
use sampan_client::node_usage::{PodUsage, Rate, Window};
use serde_json::{Map, Value, json};

use crate::registry::timestamp;

/// One object, and what selects it.
#[derive(Clone, Debug)]
pub struct Measured {
    pub namespace: Option<String>,
    pub name: String,
    pub labels: Map<String, Value>,
    pub value: Value,
    /// CPU, memory and window, as a table shows them.
    cells: [String; 3],
}

impl Measured {
    fn new(
        kind: &str,
        (namespace, name): (Option<&str>, &str),
        labels: Map<String, Value>,
        at: Timestamp,
        total: Total,
    ) -> Measured {
        let mut metadata = json!({"name": name, "creationTimestamp": timestamp(at)});
        if let Some(namespace) = namespace {
            metadata["namespace"] = namespace.into();
        }
        if !labels.is_empty() {
            metadata["labels"] = labels.clone().into();
        }
        let window = go_duration(total.over);
        let value = json!({"kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata,
            "timestamp": timestamp(at), "window": window});
        let (namespace, name) = (namespace.map(str::to_owned), name.to_owned());
        let cells = [cpu(total.nano_cores), memory(total.working_set), window];
        Measured { namespace, name, labels, value, cells }
    }

    /// `PartialObjectMetadata`.
    pub fn partial(&self, api_version: &str) -> Value {
        json!({"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": self.value["metadata"]})
    }
}

struct Total {
    nano_cores: u64,
    /// Bytes.
    working_set: u64,
    over: Duration,
}

/// The node; nothing where its labels are not known, since then it is no node of the cluster.
pub fn node(window: &Window, labels: impl Fn(&str) -> Option<Map<String, Value>>) -> Option<Measured> {
    let (now, Rate { nano_cores, over }) = (&window.now, window.machine()?);
    let working_set = now.machine.memory.working_set;
    let total = Total { nano_cores, working_set, over };
    let mut measured = Measured::new("NodeMetrics", (None, &now.node), labels(&now.node)?, now.at, total);
    measured.value["usage"] = usage(nano_cores, working_set);
    Some(measured)
}

/// The pods. One of which a container has only just started is left out: its sum would be wrong.
pub fn pods(window: &Window, labels: impl Fn(&PodUsage) -> Option<Map<String, Value>>) -> Vec<Measured> {
    let of = |pod: &PodUsage| {
        let rates: Vec<Rate> =
            pod.containers.iter().map(|container| window.container(container)).collect::<Option<_>>()?;
        let total = Total {
            nano_cores: rates.iter().map(|rate| rate.nano_cores).sum(),
            working_set: pod.containers.iter().map(|container| container.usage.memory_working_set).sum(),
            over: rates.iter().map(|rate| rate.over).min()?,
        };
        let containers: Vec<Value> = pod
            .containers
            .iter()
            .zip(&rates)
            .map(|(container, rate)| {
                let usage = usage(rate.nano_cores, container.usage.memory_working_set);
                json!({"name": container.name, "usage": usage})
            })
            .collect();
        let place = (Some(pod.namespace.as_str()), pod.name.as_str());
        let mut measured = Measured::new("PodMetrics", place, labels(pod)?, window.now.at, total);
        measured.value["containers"] = containers.into();
        Some(measured)
    };
    window.now.pods.iter().filter_map(of).collect()
}

/// A `Table` as metrics-server makes it.
pub fn table(api_version: &str, all: &[Measured], included: &str) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({"name": name, "type": "string", "format": format, "description": description, "priority": 0});
    let columns = [
        column("Name", "name", "Name of the resource"),
        column("cpu", "quantity", ""),
        column("memory", "quantity", ""),
        column("Window", "duration", ""),
    ];
    let rows = all.iter().map(|one| {
        let object = match included {
            "None" => Value::Null,
            "Object" => one.value.clone(),
            _ => one.partial(api_version),
        };
        let [cpu, memory, window] = &one.cells;
        json!({"cells": [one.name, cpu, memory, window], "object": object})
    });
    json!({"kind": "Table", "apiVersion": api_version, "metadata": {}, "columnDefinitions": columns,
        "rows": rows.collect::<Vec<_>>()})
}

fn usage(nano_cores: u64, bytes: u64) -> Value {
    json!({"cpu": cpu(nano_cores), "memory": memory(bytes)})
}

fn cpu(nano_cores: u64) -> String {
    Quantity::from_nano(i64::try_from(nano_cores).unwrap_or(i64::MAX)).to_string()
}

fn memory(bytes: u64) -> String {
    Quantity::new(i64::try_from(bytes).unwrap_or(i64::MAX), Format::BinarySi).to_string()
}

/// As Go writes it, in whole milliseconds: `1.003s`, `1m30s`.
fn go_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let (minutes, rest) = (milliseconds / 60_000, milliseconds % 60_000);
    let mut seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    let end = seconds.trim_end_matches('0').trim_end_matches('.').len();
    seconds.truncate(end);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sampan_client::node_usage::{ContainerUsage, Machine, MachineMemory, Reading, Usage};

    use super::*;

    fn reading(seconds: i64, cpu_ns: u64) -> Arc<Reading> {
        let at = |seconds| Timestamp::from_second(seconds).expect("a time");
        let container = |name: &str, cpu_ns| ContainerUsage {
            name: name.into(),
            id: name.into(),
            image: "i".into(),
            started_at: at(0),
            usage: Usage { cpu_ns, memory_working_set: 8 << 10, ..Usage::default() },
        };
        let pod = PodUsage {
            namespace: "n".into(),
            name: "p".into(),
            uid: "u".into(),
            cgroup: "/u".into(),
            started_at: at(0),
            total: Usage { cpu_ns, ..Usage::default() },
            network: None,
            containers: vec![container("a", cpu_ns), container("b", 2 * cpu_ns)],
        };
        let memory = MachineMemory { working_set: 1_000_000, ..MachineMemory::default() };
        Arc::new(Reading {
            at: at(seconds),
            node: "n1".into(),
            booted_at: at(0),
            machine: Machine { cpu_ns: 10 * cpu_ns, memory, ..Machine::default() },
            pods: vec![pod],
            incomplete: false,
        })
    }

    #[test]
    fn usage_is_a_rate_over_the_window() {
        let window = Window { before: reading(100, 0), now: reading(110, 1_234_567_890) };
        let label = || Some(json!({"app": "a"}).as_object().cloned().expect("a map"));
        let pods = pods(&window, |_| label());
        let expected = json!({
            "kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {"name": "p", "namespace": "n", "creationTimestamp": "1970-01-01T00:01:50Z", "labels": {"app": "a"}},
            "timestamp": "1970-01-01T00:01:50Z", "window": "10s",
            "containers": [{"name": "a", "usage": {"cpu": "123456789n", "memory": "8Ki"}},
                {"name": "b", "usage": {"cpu": "246913578n", "memory": "8Ki"}}],
        });
        assert_eq!(pods[0].value, expected);
        let node = node(&window, |name| (name == "n1").then(label)?).expect("a node");
        assert_eq!(node.value["usage"], json!({"cpu": "1234567890n", "memory": "1000000"}));
        let table = table("meta.k8s.io/v1", &pods, "None");
        assert_eq!(table["rows"], json!([{"cells": ["p", "370370367n", "16Ki", "10s"], "object": null}]));
    }

    #[test]
    fn what_cannot_be_said_is_left_out() {
        let window = Window { before: reading(100, 0), now: reading(110, 5) };
        assert!(pods(&window, |_| None).is_empty(), "the API knows it no longer");
        let window = Window { before: reading(110, 0), now: reading(110, 5) };
        assert!(pods(&window, |_| Some(Map::new())).is_empty(), "no time has passed");
        assert!(node(&window, |_| Some(Map::new())).is_none());
    }

    #[test]
    fn durations_are_those_of_go() {
        for (milliseconds, expected) in [
            (0, "0ms"),
            (999, "999ms"),
            (1003, "1.003s"),
            (15_000, "15s"),
            (90_500, "1m30.5s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(milliseconds)), expected);
        }
    }
}
