//! `kubectl top`, and what it is made of.

use sampan_testkit::Cluster;

/// One container that computes and one that sleeps.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {app: busy}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: computes
    image: example.com/test:1
    command: [sh, -c, 'while :; do :; done']
    resources: {limits: {cpu: 200m, memory: 64Mi}}
  - {name: sleeps, image: 'example.com/test:1', command: [sleep, '1000']}
---
apiVersion: v1
kind: Pod
metadata: {name: idle, labels: {app: idle}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: 'example.com/test:1', command: [sleep, '1000']}
";

pub fn top(cluster: &mut Cluster) {
    let namespace = cluster.namespace("top");
    namespace.apply(PODS);
    for pod in ["pod/busy", "pod/idle"] {
        namespace.wait(pod, "condition=Ready");
    }
    namespace
        .kubectl(&["top", "pod"])
        .ok()
        .has(&["NAME   CPU(cores)   MEMORY(bytes)"])
        .matches(r"(?m)^busy +\d+m +\d+Mi")
        .matches(r"(?m)^idle +\d+m +\d+Mi");
    // The kernel holds it to its limit, less what a short window cuts off and the machine takes.
    let computes = namespace.kubectl(&["top", "pod", "busy", "--containers", "--no-headers"]).ok();
    let cores = |name: &str| {
        let row = computes.stdout.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        let cores = row.and_then(|row| row.split_whitespace().nth(2)).expect("a row with CPU");
        cores.trim_end_matches('m').parse::<u32>().expect("thousandths of a core")
    };
    assert!((20..=300).contains(&cores("computes")), "{computes}");
    assert!(cores("sleeps") <= 20, "{computes}");
    namespace
        .kubectl(&["top", "pod", "-l", "app=idle", "--no-headers", "--sum"])
        .ok()
        .has(&["idle"])
        .lacks(&["busy"]);
    namespace
        .kubectl(&["top", "pod", "missing"])
        .fails()
        .says(&["podmetrics.metrics.k8s.io \"top/missing\" not found"]);
    namespace.kubectl(&["top", "node"]).ok().matches(r"(?m)^\S+ +\d+m +\d+% +\d+Mi +\d+%");
    namespace
        .kubectl(&["get", "pods.metrics.k8s.io"])
        .ok()
        .matches(r"NAME +CPU +MEMORY +WINDOW\nbusy +\S+ +\S+ +\S+s\n");
    namespace.kubectl(&["explain", "podmetrics.containers"]).ok().has(&["KIND:       PodMetrics", "usage"]);
    namespace.kubectl(&["get", "apiservices", "v1beta1.metrics.k8s.io"]).fails().says(&["not found"]);
    namespace.kubectl(&["auth", "can-i", "get", "pods.metrics.k8s.io", "--as=eve"]).is("no");
}

/// What a kubelet serves to those who scrape it.
pub fn scraped(cluster: &mut Cluster) {
    let namespace = cluster.namespace("scraped");
    namespace.apply(PODS);
    namespace.wait("pod/busy", "condition=Ready");
    let node = namespace.kubectl(&["get", "nodes", "--output=jsonpath={.items[0].metadata.name}"]).ok();
    let raw = |path: &str| {
        namespace.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{}/proxy/{path}", node.stdout)]).ok()
    };
    let labels = r#"container="computes",namespace="scraped",pod="busy""#;
    raw("metrics/resource")
        .matches(&format!(r"(?m)^container_cpu_usage_seconds_total\{{{labels}\}} \S+ \d{{13}}$"))
        .matches(&format!(r"(?m)^container_start_time_seconds\{{{labels}\}} \S+$"))
        .matches(r#"(?m)^pod_memory_working_set_bytes\{namespace="scraped",pod="busy"\} [1-9]"#)
        .matches(r"(?m)^node_cpu_usage_seconds_total [1-9]")
        .has(&["\nresource_scrape_error 0\n"]);
    raw("metrics/cadvisor")
        .matches(r#"(?m)^container_cpu_usage_seconds_total\{container="computes",cpu="total",id="/\S+/kubepods/burstable/pod\S+",image="\S*test:1",name="\S+",namespace="scraped",pod="busy"\} "#)
        .matches(r#"(?m)^container_spec_memory_limit_bytes\{container="computes",.*\} 6.7108864e\+07 "#)
        .matches(r#"(?m)^container_spec_cpu_quota\{container="computes",.*\} 20000 "#)
        .matches(r#"(?m)^container_network_receive_bytes_total\{id="\S+",interface="eth0",namespace="scraped",pod="busy"\} "#)
        .matches(r"(?m)^machine_memory_bytes [1-9]");
    let summary: serde_json::Value = serde_json::from_str(&raw("stats/summary").stdout).expect("a summary");
    let pods = summary["pods"].as_array().expect("pods");
    let busy = pods.iter().find(|pod| pod["podRef"]["name"] == "busy").expect("the pod");
    assert!(busy["cpu"]["usageNanoCores"].as_u64().is_some_and(|cores| cores > 10_000_000), "{busy:#}");
    assert!(busy["memory"]["workingSetBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{busy:#}");
    assert_eq!(summary["node"]["nodeName"], *node.stdout);
}
