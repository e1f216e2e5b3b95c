//! Stopping one container: drain, pre-stop hook, signal, and the end of patience.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use sampan_client::events::EventType;
use tokio::sync::watch;
use tokio::time::Instant;

use super::decide::StopReason;
use super::lifecycle::run_hook;
use crate::images::chain;
use crate::pod;
use crate::probe::Target;
use crate::shared::Shared;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// How long a pod's connections are waited for to be led elsewhere.
const DRAIN: Duration = Duration::from_secs(1);
/// A container always gets this long between its signal and SIGKILL.
const SHORTEST_GRACE: Duration = Duration::from_secs(2);

/// Everything that a stop needs. The worker drops it when the container has ended.
pub struct Stop {
    pub shared: Arc<Shared>,
    pub pod: watch::Receiver<Arc<Pod>>,
    pub container: Container,
    pub target: Target,
    pub stop_signal: Option<String>,
    pub grace_seconds: i64,
    pub why: StopReason,
    pub ips: Vec<IpAddr>,
}

impl Stop {
    pub async fn run(mut self) {
        let begun = Instant::now();
        match self.why {
            // Nobody must be sent to a container that is about to refuse.
            StopReason::PodDeleted => {
                let drained = self.shared.services.drained(&self.ips);
                // After that its clients have to cope.
                let _ = tokio::time::timeout(DRAIN, drained).await;
            }
            StopReason::PodFinished
            | StopReason::Unhealthy
            | StopReason::StartupFailed
            | StopReason::HookFailed
            | StopReason::Resized => {}
        }
        let mut deadline = begun + seconds(self.grace_seconds);
        let handler = self.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.clone());
        if let Some(handler) = handler {
            let (container, target) = (self.container.clone(), self.target.clone());
            let limit = deadline.saturating_duration_since(Instant::now());
            let hook = run_hook(&handler, &container, &target, limit.max(SHORTEST_GRACE));
            tokio::pin!(hook);
            let done = tokio::select! {
                done = &mut hook => Some(done),
                () = self.patience(begun, &mut deadline) => None,
            };
            if let Some(Err(message)) = done {
                tracing::debug!(container = container.name, message, "a pre-stop hook failed");
                let pod = self.pod.borrow().clone();
                let name = Some(container.name.as_str());
                self.shared.tell(&pod, name, EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
            }
        }
        let signal = self.signal();
        self.send(signal, false).await;
        deadline = deadline.max(Instant::now() + SHORTEST_GRACE);
        self.patience(begun, &mut deadline).await;
        self.send(SIGKILL, true).await;
    }

    /// Waits for the deadline; a later request for a shorter grace brings it forward.
    async fn patience(&mut self, begun: Instant, deadline: &mut Instant) {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(*deadline) => return,
                changed = self.pod.changed() => {
                    if changed.is_err() {
                        return tokio::time::sleep_until(*deadline).await;
                    }
                    let pod = self.pod.borrow_and_update().clone();
                    if let (true, Some(grace)) =
                        (pod.metadata.deletion_timestamp.is_some(), pod.metadata.deletion_grace_period_seconds)
                    {
                        *deadline = (*deadline).min(begun + seconds(grace).max(SHORTEST_GRACE));
                    }
                }
            }
        }
    }

    fn signal(&self) -> i32 {
        let wanted = self.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
        wanted.or(self.stop_signal.as_deref()).and_then(signal_number).unwrap_or(SIGTERM)
    }

    async fn send(&self, signal: i32, all: bool) {
        if let Err(error) = self.target.supervisor.signal(&self.target.id, signal, all).await {
            let pod = pod::full_name(&self.pod.borrow());
            tracing::debug!(pod, signal, error = chain(&error), "a container was not signalled");
        }
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The number of a signal as images and pods write it: `SIGTERM`, `TERM`, `15`, `RTMIN+3`.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // The C library keeps the first two real-time signals for itself.
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = offset.strip_prefix('+').map_or(Ok(0), str::parse::<i32>).ok()?;
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        let offset = offset.strip_prefix('-').map_or(Ok(0), str::parse::<i32>).ok()?;
        return (0..=30).contains(&offset).then_some(64 - offset);
    }
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        let check = |text: &str, expected| assert_eq!(signal_number(text), expected, "{text}");
        check("SIGTERM", Some(15));
        check("quit", Some(3));
        check("9", Some(9));
        check("SIGRTMIN+3", Some(37));
        check("SIGRTMAX", Some(64));
        check("RTMAX-1", Some(63));
        check("0", None);
        check("65", None);
        check("SIGNONE", None);
        check("RTMIN+99", None);
    }
}
