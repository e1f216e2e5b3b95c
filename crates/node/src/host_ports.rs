//! Ports of the node that lead to its pods: `ports[].hostPort`.
//!
//! Workers open and close them, the service proxy brings them into its rules. Nothing listens: a packet
//! to such a port is sent on to the pod.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod};
use parking_lot::Mutex;
use sampan_net::{HostPort, Protocol};
use tokio::sync::watch;

use crate::pod::{self, ContainerKind};

/// How long a pod waits for its rules: without them it can still run, or end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ports that pods have opened.
#[derive(Default)]
pub struct HostPorts {
    /// By uid.
    open: Mutex<BTreeMap<String, Vec<HostPort>>>,
    changed: watch::Sender<()>,
    in_force: watch::Sender<Arc<HashSet<HostPort>>>,
}

impl HostPorts {
    /// Opens a pod's ports; those of an earlier call are replaced.
    pub fn set(&self, uid: &str, ports: Vec<HostPort>) {
        let before = match ports.is_empty() {
            true => self.open.lock().remove(uid),
            false => self.open.lock().insert(uid.to_owned(), ports.clone()),
        };
        if before.unwrap_or_default() != ports {
            self.changed.send_replace(());
        }
    }

    /// Opens a pod's ports, and waits until packets find it.
    pub async fn open(&self, uid: &str, ports: Vec<HostPort>) {
        self.set(uid, ports.clone());
        self.wait(|in_force| ports.iter().all(|port| in_force.contains(port))).await;
    }

    /// Closes a pod's ports, and waits until no packet is sent to it any more.
    pub async fn close(&self, uid: &str) {
        let Some(ports) = self.open.lock().remove(uid) else { return };
        self.changed.send_replace(());
        self.wait(|in_force| !ports.iter().any(|port| in_force.contains(port))).await;
    }

    async fn wait(&self, mut is_so: impl FnMut(&HashSet<HostPort>) -> bool) {
        let mut in_force = self.in_force.subscribe();
        // Rules that cannot be changed are told of by the proxy.
        let _ = tokio::time::timeout(PATIENCE, in_force.wait_for(|in_force| is_so(in_force))).await;
    }

    pub(crate) fn all(&self) -> Vec<HostPort> {
        self.open.lock().values().flatten().copied().collect()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn are_in_force(&self, ports: Vec<HostPort>) {
        self.in_force.send_replace(Arc::new(ports.into_iter().collect()));
    }
}

/// The ports that a pod with these addresses asks for. In the node's own network its processes have
/// them without any help.
pub fn of_pod(pod: &Pod, ips: &[IpAddr]) -> Vec<HostPort> {
    let spec = pod::spec(pod);
    if pod::host_network(spec) {
        return Vec::new();
    }
    let serving = pod::containers(spec).filter(|(kind, _)| match kind {
        ContainerKind::Main | ContainerKind::Sidecar => true,
        ContainerKind::Init | ContainerKind::Ephemeral => false,
    });
    let ports = serving.flat_map(|(_, container): (_, &Container)| container.ports.iter().flatten());
    ports.flat_map(|port| ips.iter().filter_map(|ip| host_port(port, *ip))).collect()
}

fn host_port(port: &ContainerPort, ip: IpAddr) -> Option<HostPort> {
    let number = |port: i32| u16::try_from(port).ok().filter(|port| *port != 0);
    let address = match port.host_ip.as_deref().filter(|address| !address.is_empty()) {
        Some(address) => Some(address.parse::<IpAddr>().ok()?),
        None => None,
    };
    let address = address.filter(|address| !address.is_unspecified());
    if address.is_some_and(|address| address.is_ipv4() != ip.is_ipv4()) {
        return None;
    }
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) | None => Protocol::Tcp,
    };
    let pod = SocketAddr::new(ip, number(port.container_port)?);
    Some(HostPort { address, protocol, port: number(port.host_port?)?, pod })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(ports: serde_json::Value, expected: &[&str]) {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "ports": ports}]}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let found = of_pod(&pod, &[[10, 42, 0, 7].into()]);
        let texts: Vec<String> = found
            .iter()
            .map(|port| {
                let address = port.address.map_or("*".to_owned(), |address| address.to_string());
                format!("{} {address}:{} {}", port.protocol.name(), port.port, port.pod)
            })
            .collect();
        assert_eq!(texts, expected, "{ports}");
    }

    #[test]
    fn what_is_asked_for_is_opened() {
        check(json!([{"containerPort": 80}]), &[]);
        check(json!([{"containerPort": 80, "hostPort": 8080}]), &["tcp *:8080 10.42.0.7:80"]);
        check(
            json!([{"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "127.0.0.1"}]),
            &["udp 127.0.0.1:53 10.42.0.7:53"],
        );
        check(
            json!([{"containerPort": 80, "hostPort": 81, "hostIP": "0.0.0.0"}]),
            &["tcp *:81 10.42.0.7:80"],
        );
        check(json!([{"containerPort": 80, "hostPort": 81, "hostIP": "::1"}]), &[]);
    }

    #[tokio::test]
    async fn closing_waits_for_the_rules() {
        let ports = Arc::new(HostPorts::default());
        let port =
            HostPort { address: None, protocol: Protocol::Tcp, port: 80, pod: ([10, 42, 0, 7], 80).into() };
        ports.set("u", vec![port]);
        ports.are_in_force(ports.all());
        ports.open("u", vec![port]).await;
        let closing = tokio::spawn({
            let ports = ports.clone();
            async move { ports.close("u").await }
        });
        ports.changes().changed().await.ok();
        assert!(!closing.is_finished());
        ports.are_in_force(ports.all());
        closing.await.expect("it ends");
        assert_eq!(ports.all(), []);
    }
}
