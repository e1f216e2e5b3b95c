//! Probes: whether a container has started, lives, and may be sent requests.

pub mod grpc;
pub mod http;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sampan_runtime::Supervisor;

use crate::worker::capture::{self, CaptureError};

/// How one attempt came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The message of the event with reason `Unhealthy`.
    Failure(String),
    /// The attempt could not be made; it counts for nothing.
    Unknown,
}

/// The container that is probed.
#[derive(Clone)]
pub struct Target {
    pub supervisor: Supervisor,
    pub id: String,
    /// Where the container's ports are.
    pub ip: IpAddr,
}

/// Counts attempts against thresholds.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    success_threshold: i32,
    failure_threshold: i32,
    successes: i32,
    failures: i32,
}

impl Tally {
    pub fn new(probe: &Probe) -> Self {
        Tally {
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
            successes: 0,
            failures: 0,
        }
    }

    /// Takes an attempt in; returns the verdict once a threshold is reached.
    pub fn count(&mut self, outcome: &Outcome) -> Option<bool> {
        match outcome {
            Outcome::Success => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
                (self.successes >= self.success_threshold).then_some(true)
            }
            Outcome::Failure(_) => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
                (self.failures >= self.failure_threshold).then_some(false)
            }
            Outcome::Unknown => None,
        }
    }
}

/// The time between the attempts.
pub fn period(probe: &Probe) -> Duration {
    Duration::from_secs(u64::try_from(probe.period_seconds.unwrap_or(10)).unwrap_or(10).max(1))
}

fn timeout(probe: &Probe) -> Duration {
    Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1))
}

/// Makes one attempt.
pub async fn attempt(probe: &Probe, container: &Container, target: &Target) -> Outcome {
    let timeout = timeout(probe);
    if let Some(action) = &probe.exec {
        let command = action.command.as_deref().unwrap_or_default();
        return match capture::run(&target.supervisor, &target.id, command, timeout).await {
            Ok(captured) if captured.exit_code == 0 => Outcome::Success,
            Ok(captured) => Outcome::Failure(captured.output),
            Err(error @ CaptureError::TimedOut { .. }) => Outcome::Failure(error.to_string()),
            Err(CaptureError::Request(sampan_runtime::RequestError::Refused(refusal))) => {
                Outcome::Failure(refusal.to_string())
            }
            Err(CaptureError::Request(_) | CaptureError::Pipe(_)) => Outcome::Unknown,
        };
    }
    if let Some(action) = &probe.http_get {
        return match port(&action.port, container) {
            Some(port) => http::get(action, target.ip, port, timeout).await,
            None => Outcome::Unknown,
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.as_deref().filter(|host| !host.is_empty());
        return match port(&action.port, container) {
            Some(port) => tcp(host, target.ip, port, timeout).await,
            None => Outcome::Unknown,
        };
    }
    if let Some(action) = &probe.grpc {
        let Ok(port) = u16::try_from(action.port) else { return Outcome::Unknown };
        let address = SocketAddr::new(target.ip, port);
        return grpc::check(address, action.service.as_deref().unwrap_or_default(), timeout).await;
    }
    Outcome::Unknown
}

/// The number of a port that may be given by the name of one of the container's ports.
pub fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let named =
                container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name.as_str()));
            match named {
                Some(port) => u16::try_from(port.container_port).ok(),
                None => name.parse().ok(),
            }
        }
    }
}

async fn tcp(host: Option<&str>, ip: IpAddr, port: u16, timeout: Duration) -> Outcome {
    let host = host.map_or_else(|| ip.to_string(), str::to_owned);
    match tokio::time::timeout(timeout, tokio::net::TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(format!("dial tcp {host}:{port}: connect: {}", plain(&error))),
        Err(_) => Outcome::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

/// An error of the system in the words of upstream's messages.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_reached_by_attempts_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut tally = Tally::new(&probe);
        let (good, bad) = (Outcome::Success, Outcome::Failure(String::new()));
        let steps = [
            (&bad, None),
            (&bad, None),
            (&good, None),
            (&good, Some(true)),
            (&bad, None),
            (&bad, None),
            (&Outcome::Unknown, None),
            (&bad, Some(false)),
            (&bad, Some(false)),
            (&good, None),
        ];
        for (at, (outcome, expected)) in steps.iter().enumerate() {
            assert_eq!(tally.count(outcome), *expected, "{at}");
        }
    }

    #[test]
    fn ports_have_names() {
        let container: Container = serde_json::from_value(
            serde_json::json!({"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}),
        )
        .expect("a container");
        let check =
            |given: IntOrString, expected| assert_eq!(port(&given, &container), expected, "{given:?}");
        check(IntOrString::Int(80), Some(80));
        check(IntOrString::Int(70_000), None);
        check(IntOrString::String("web".into()), Some(8080));
        check(IntOrString::String("81".into()), Some(81));
        check(IntOrString::String("none".into()), None);
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_fails() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("an address");
        let second = Duration::from_secs(5);
        assert_eq!(tcp(None, address.ip(), address.port(), second).await, Outcome::Success);
        drop(listener);
        let expected = format!("dial tcp {address}: connect: connection refused");
        assert_eq!(tcp(None, address.ip(), address.port(), second).await, Outcome::Failure(expected));
    }
}
