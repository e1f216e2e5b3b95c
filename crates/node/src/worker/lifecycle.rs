//! What goes on beside a running container: its post-start hook and its probes.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod, Probe};
use sampan_client::events::EventType;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::apply::{Event, ProbeKind};
use super::capture;
use super::state::Running;
use crate::images::chain;
use crate::probe::{self, Outcome, Tally, Target};
use crate::shared::Shared;

/// The longest that a hook without another bound may take.
const HOOK_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// The companion of one running container.
pub struct Lifecycle {
    pub shared: Arc<Shared>,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub target: Target,
    pub running: Running,
    pub events: mpsc::Sender<Event>,
}

/// The first pause between attempts on a container that is just starting; it doubles.
const WARM_UP_PAUSE: Duration = Duration::from_millis(10);

impl Lifecycle {
    /// Runs until it is dropped, or nothing is left to do.
    pub async fn run(self) {
        let hook = async {
            let handler =
                self.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
            if let Some(handler) = handler.filter(|_| !self.running.hooked) {
                let failed = match run_hook(handler, &self.container, &self.target, HOOK_LIMIT).await {
                    Ok(()) => false,
                    Err(message) => {
                        tracing::debug!(container = self.container.name, message, "a post-start hook failed");
                        self.tell("FailedPostStartHook", "PostStartHook failed".to_owned());
                        true
                    }
                };
                self.send(Event::PostStart { id: self.target.id.clone(), failed }).await;
            }
        };
        let probes = async {
            if let Some(probe) = self.container.startup_probe.as_ref().filter(|_| !self.running.started)
                && !self.startup(probe).await
            {
                return;
            }
            tokio::join!(
                self.repeat(ProbeKind::Liveness, self.container.liveness_probe.as_ref()),
                self.repeat(ProbeKind::Readiness, self.container.readiness_probe.as_ref()),
            );
        };
        tokio::join!(hook, probes);
    }

    /// Whether the container came up.
    async fn startup(&self, probe: &Probe) -> bool {
        let mut tally = Tally::new(probe);
        self.delay(probe).await;
        self.warm_up(probe).await;
        loop {
            let verdict = tally.count(&self.attempt(ProbeKind::Startup, probe).await);
            if let Some(success) = verdict {
                self.verdict(ProbeKind::Startup, probe, success).await;
                return success;
            }
            tokio::time::sleep(probe::period(probe)).await;
        }
    }

    /// Reports each change of the verdict.
    async fn repeat(&self, kind: ProbeKind, probe: Option<&Probe>) {
        let Some(probe) = probe else { return };
        let mut tally = Tally::new(probe);
        let mut said = match kind {
            ProbeKind::Readiness => Some(self.running.ready),
            ProbeKind::Startup | ProbeKind::Liveness => Some(true),
        };
        self.delay(probe).await;
        if said == Some(false) {
            self.warm_up(probe).await;
        }
        loop {
            let verdict = tally.count(&self.attempt(kind, probe).await);
            if verdict.is_some() && verdict != said {
                said = verdict;
                self.verdict(kind, probe, verdict == Some(true)).await;
            }
            tokio::time::sleep(probe::period(probe)).await;
        }
    }

    /// Waits for a container that is just starting, for at most one period.
    ///
    /// A program that needs a few milliseconds fails its first attempt and would be found ready a
    /// whole period later. These attempts count for nothing and are not told; the ones that follow
    /// are the probe's own.
    async fn warm_up(&self, probe: &Probe) {
        let deadline = Instant::now() + probe::period(probe);
        let mut pause = WARM_UP_PAUSE;
        while Instant::now() + pause < deadline {
            if let Outcome::Success = probe::attempt(probe, &self.container, &self.target).await {
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// `initialDelaySeconds`, counted from the container's start.
    async fn delay(&self, probe: &Probe) {
        let wanted = u64::try_from(probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
        let age = jiff::Timestamp::now().duration_since(self.running.started_at);
        let age = Duration::try_from(age).unwrap_or(Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(wanted).saturating_sub(age)).await;
    }

    async fn attempt(&self, kind: ProbeKind, probe: &Probe) -> Outcome {
        let outcome = probe::attempt(probe, &self.container, &self.target).await;
        if let Outcome::Failure(message) = &outcome {
            self.tell("Unhealthy", format!("{} probe failed: {message}", kind.title()));
        }
        outcome
    }

    async fn verdict(&self, probe: ProbeKind, spec: &Probe, success: bool) {
        let id = self.target.id.clone();
        let grace_seconds = spec.termination_grace_period_seconds;
        self.send(Event::Probe { id, probe, success, grace_seconds }).await;
    }

    async fn send(&self, event: Event) {
        // A worker that is gone has no use for it.
        let _ = self.events.send(event).await;
    }

    fn tell(&self, reason: &str, message: String) {
        self.shared.tell(&self.pod, Some(&self.container.name), EventType::Warning, reason, message);
    }
}

/// Runs a hook; the error is for the log, since it may hold secrets of the container.
pub async fn run_hook(
    handler: &LifecycleHandler,
    container: &Container,
    target: &Target,
    limit: Duration,
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.as_deref().unwrap_or_default();
        let done = capture::run(&target.supervisor, &target.id, command, limit).await;
        return match done {
            Ok(captured) if captured.exit_code == 0 => Ok(()),
            Ok(captured) => Err(format!("exited with {}: {}", captured.exit_code, captured.output)),
            Err(error) => Err(chain(&error)),
        };
    }
    if let Some(action) = &handler.http_get {
        let port = probe::port(&action.port, container).ok_or("the port has no number")?;
        return match probe::http::request(action, target.ip, port, limit).await {
            Ok(code) if (200..400).contains(&code) => Ok(()),
            Ok(code) => Err(format!("answered {code}")),
            Err(error) => Err(chain(&error)),
        };
    }
    if let Some(action) = &handler.sleep {
        let wanted = Duration::from_secs(u64::try_from(action.seconds).unwrap_or(0));
        tokio::time::sleep(wanted.min(limit)).await;
    }
    Ok(())
}
