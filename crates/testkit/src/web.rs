//! A deployment of the test image's web server behind a service, and what tests ask about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::cluster::{Cluster, Namespace};

/// `replicas` web servers that answer with `version`, behind the service `web` on port 80.
///
/// They end as servers should that shares their work: first they leave the service, then they finish what
/// they have.
pub fn manifest(replicas: u32, version: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: web
        image: example.com/test:1
        command: [web, '8080', {version}]
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: http}}]
"
    )
}

impl Namespace<'_> {
    /// Applies [`manifest`] and waits until it is rolled out.
    #[track_caller]
    pub fn deploy_web(&self, replicas: u32, version: &str) {
        self.apply(&manifest(replicas, version));
        self.rolled_out("web");
    }

    /// Waits for the end of a deployment's rollout.
    #[track_caller]
    pub fn rolled_out(&self, deployment: &str) {
        self.kubectl(&["rollout", "status", &format!("deployment/{deployment}"), "--timeout=55s"]).ok();
    }

    /// The cluster address of a service's first port.
    #[track_caller]
    pub fn service_address(&self, name: &str) -> SocketAddr {
        let path = "{.spec.clusterIP}:{.spec.ports[0].port}";
        let text = self.kubectl(&["get", "service", name, "-o", &format!("jsonpath={path}")]).ok().text();
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Waits until a service has `count` endpoints that are ready.
    #[track_caller]
    pub fn endpoints(&self, service: &str, count: usize) {
        let selector = format!("kubernetes.io/service-name={service}");
        let format = "jsonpath=[{.endpoints[?(@.conditions.ready==true)].addresses[0]}]{\"\\n\"}";
        let mut watch = self.spawn(&["get", "endpointslices", "-l", &selector, "--watch", "-o", format]);
        watch.until(&format!(r"^\[(\d+\.\d+\.\d+\.\d+ ?){{{count}}}\]$"));
    }

    /// As [`Cluster::processes_in`].
    #[track_caller]
    pub fn processes(&self) -> BTreeMap<String, Vec<i32>> {
        self.cluster.processes_in(&self.name)
    }
}

impl Cluster {
    /// Processes of a namespace's containers, as the host numbers them, by `pod/container`.
    #[track_caller]
    pub fn processes_in(&self, namespace: &str) -> BTreeMap<String, Vec<i32>> {
        let pods = self.kubectl(&["--namespace", namespace, "get", "pods", "-o", "json"]).ok().json();
        let mut found = BTreeMap::new();
        for pod in pods["items"].as_array().into_iter().flatten() {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default();
            for status in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
                let id = status["containerID"].as_str().unwrap_or_default();
                let id = id.rsplit('/').next().unwrap_or_default();
                let container = status["name"].as_str().unwrap_or_default();
                found.insert(format!("{name}/{container}"), self.container_processes(id));
            }
        }
        found
    }
}
