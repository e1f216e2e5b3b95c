use std::sync::Arc;

use jiff::Timestamp;
use sampan_base::metrics::{Exposition, Format};
use sampan_client::node_usage::{
    ContainerUsage, FileSystem, Machine, MachineMemory, Network, PodUsage, Reading, Traffic, Usage, Window,
};
use serde_json::json;

use super::{cadvisor, resource_metrics, summary};

fn reading(seconds: i64, cpu_ns: u64) -> Reading {
    let at = |seconds| Timestamp::from_second(seconds).expect("a time");
    let usage = Usage {
        cpu_ns,
        cpu_user_ns: cpu_ns,
        memory_usage: 9000,
        memory_working_set: 8000,
        memory_rss: 7000,
        memory_limit: Some(10_000),
        quota_us: Some((50_000, 100_000)),
        periods: 4,
        page_faults: 3,
        pids: 2,
        ..Usage::default()
    };
    let traffic = |bytes| Traffic { bytes, packets: 2, errors: 1, dropped: 3 };
    let container = ContainerUsage {
        name: "c".into(),
        id: "id1".into(),
        image: "docker.io/i:1".into(),
        started_at: at(50),
        usage,
    };
    let pod = PodUsage {
        namespace: "n".into(),
        name: "p".into(),
        uid: "u".into(),
        cgroup: "/s/podu".into(),
        started_at: at(40),
        total: Usage { memory_limit: None, quota_us: None, ..usage },
        network: Some(Network { received: traffic(100), sent: traffic(200) }),
        containers: vec![container],
    };
    let memory =
        MachineMemory { total: 100_000, usage: 60_000, working_set: 50_000, ..MachineMemory::default() };
    let file_system = FileSystem { capacity: 10, available: 4, used: 5, inodes: 9, inodes_free: 2 };
    Reading {
        at: at(seconds),
        node: "n1".into(),
        booted_at: at(1),
        machine: Machine { cores: 2, cpu_ns: 3 * cpu_ns, memory, file_system },
        pods: vec![pod],
        incomplete: false,
    }
}

fn text(write: fn(&Reading, &mut Exposition)) -> String {
    let mut out = Exposition::new(Format::Text);
    write(&reading(100, 1_500_000_000), &mut out);
    out.finish()
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|one| one == *line), "{line} is missing in\n{text}");
    }
}

#[test]
fn resource_metrics_have_upstream_s_names_and_times() {
    let text = text(resource_metrics::write);
    has(
        &text,
        &[
            "# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds",
            "# TYPE node_cpu_usage_seconds_total counter",
            "node_cpu_usage_seconds_total 4.5 100000",
            "node_memory_working_set_bytes 50000 100000",
            "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 1.5 100000",
            "pod_memory_working_set_bytes{namespace=\"n\",pod=\"p\"} 8000 100000",
            "pod_swap_usage_bytes{namespace=\"n\",pod=\"p\"} 0 100000",
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"n\",pod=\"p\"} 1.5 100000",
            "container_memory_working_set_bytes{container=\"c\",namespace=\"n\",pod=\"p\"} 8000 100000",
            "container_start_time_seconds{container=\"c\",namespace=\"n\",pod=\"p\"} 50",
            "resource_scrape_error 0",
        ],
    );
}

#[test]
fn cadvisor_s_metrics_have_rows_of_machine_pods_and_containers() {
    let text = text(cadvisor::write);
    let container = "id=\"/s/podu/id1\",image=\"docker.io/i:1\",name=\"id1\",namespace=\"n\",pod=\"p\"";
    let pod = "id=\"/s/podu\",namespace=\"n\",pod=\"p\"";
    has(
        &text,
        &[
            "machine_cpu_cores 2 100000",
            "container_cpu_usage_seconds_total{cpu=\"total\",id=\"/\"} 4.5 100000",
            &format!(
                "container_cpu_usage_seconds_total{{container=\"c\",cpu=\"total\",{container}}} 1.5 100000"
            ),
            &format!("container_spec_cpu_quota{{container=\"c\",{container}}} 50000 100000"),
            &format!("container_spec_memory_limit_bytes{{container=\"c\",{container}}} 10000 100000"),
            &format!("container_spec_memory_limit_bytes{{{pod}}} 0 100000"),
            &format!("container_memory_rss{{{pod}}} 7000 100000"),
            &format!("container_start_time_seconds{{container=\"c\",{container}}} 50 100000"),
            "container_memory_failures_total{failure_type=\"pgfault\",id=\"/s/podu\",namespace=\"n\",pod=\"p\",scope=\"hierarchy\"} 3 100000",
            "container_network_receive_bytes_total{id=\"/s/podu\",interface=\"eth0\",namespace=\"n\",pod=\"p\"} 100 100000",
            "# HELP container_network_transmit_packets_dropped_total Cumulative count of packets dropped while transmitting",
            "container_scrape_error 0",
        ],
    );
    assert!(!text.contains(&format!("container_spec_cpu_quota{{{pod}}}")), "there is no limit\n{text}");
}

#[test]
fn a_summary_has_rates() {
    let (before, now) = (Arc::new(reading(90, 0)), Arc::new(reading(100, 1_500_000_000)));
    let window = Window { before, now };
    let summary = summary::document(&window);
    assert_eq!(summary["node"]["cpu"]["usageNanoCores"], 450_000_000);
    assert_eq!(summary["node"]["memory"]["availableBytes"], 50_000);
    assert_eq!(summary["node"]["fs"]["inodesUsed"], 7);
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"], json!({"name": "p", "namespace": "n", "uid": "u"}));
    assert_eq!(pod["containers"][0]["cpu"]["usageNanoCores"], 150_000_000);
    assert_eq!(pod["containers"][0]["memory"]["availableBytes"], 2000);
    assert_eq!(pod["network"]["rxBytes"], 100);
    let brief = summary::brief(&window);
    assert_eq!(brief["pods"][0]["network"], json!(null));
    assert_eq!(brief["node"]["fs"], json!(null));
    assert_eq!(brief["pods"][0]["cpu"], pod["cpu"]);
}
