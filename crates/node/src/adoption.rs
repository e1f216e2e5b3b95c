//! Taking up again what an earlier process of this node left: containers that run go on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use sampan_net::{LinkError, link};
use sampan_runtime::Supervisor;
use sampan_runtime::protocol::{ContainerState, ContainerStatus};
use tokio::sync::mpsc;

use crate::config::NodeConfig;
use crate::images::chain;
use crate::pod;
use crate::shared::Shared;
use crate::worker::apply::{Event, apply};
use crate::worker::run::Adopted;
use crate::worker::sandbox::supervisor_dir;
use crate::worker::state::{Phase, PodState, Running, Stage};
use crate::worker::store::Stored;

/// Events that may wait between supervisor and worker.
const QUEUE: usize = 1024;

/// A directory of a pod.
pub struct Found {
    pub dir: PathBuf,
    /// `None` where the directory says nothing: only litter can be removed there.
    pub stored: Option<Stored>,
}

/// Every pod directory. Blocks on the disk.
pub fn find(config: &NodeConfig) -> std::io::Result<Vec<Found>> {
    let pods = config.pods_dir();
    std::fs::create_dir_all(&pods)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(pods)? {
        let dir = entry?.path();
        let stored = Stored::read(&dir).unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "a pod's state cannot be read");
            None
        });
        found.push(Found { dir, stored });
    }
    Ok(found)
}

/// Completes what an earlier process did not come to writing by what the kernel knows, and removes the
/// links of pods that nothing is written of: their addresses are free.
pub fn complete(found: &mut [Found], config: &NodeConfig) -> Result<(), LinkError> {
    let attachments = link::list(&config.network)?;
    let mut attached: HashMap<String, Vec<IpAddr>> =
        attachments.into_iter().map(|attachment| (attachment.pod_uid, attachment.addresses)).collect();
    for stored in found.iter_mut().filter_map(|found| found.stored.as_mut()) {
        let addresses = attached.remove(pod::uid(&stored.pod));
        if !stored.ips.is_empty() || stored.finished.is_some() {
            continue;
        }
        stored.unfinished = true;
        stored.ips = match pod::host_network(pod::spec(&stored.pod)) {
            true => vec![config.node_ip],
            false => addresses.unwrap_or_default(),
        };
    }
    attached.into_keys().try_for_each(|uid| link::detach(&uid))
}

/// The state in which a pod's worker goes on, and the pod's supervisor if that still runs.
/// Without `pod`, the API server has forgotten it: the worker takes it down.
pub async fn adopt(shared: &Shared, stored: &Stored, pod: Option<Arc<Pod>>) -> (PodState, Option<Adopted>) {
    let now = Timestamp::now();
    let gone = pod.is_none();
    let mut state = PodState::new(pod.unwrap_or_else(|| Arc::new(stored.pod.clone())), now);
    stored.restore(&mut state);
    state.gone = gone;
    match state.stage {
        Stage::Finished(_) => return (state, None),
        Stage::Active | Stage::Terminating(_) | Stage::TearingDown(_) => {}
    }
    let dir = supervisor_dir(&shared.config.pod_dir(pod::uid(&state.pod)));
    let connected = match stored.boot_id == shared.boot_id {
        true => match Supervisor::connect(&dir).await {
            // Containers are started in a whole sandbox only.
            Ok((supervisor, _)) if stored.unfinished && !has_started_any(&supervisor) => {
                Err("it was not whole".to_owned())
            }
            connected => connected.map_err(|error| chain(&error)),
        },
        false => Err("the machine was started anew".to_owned()),
    };
    match connected {
        Ok((supervisor, events)) => {
            let adopted = take_over(&mut state, supervisor, events, now);
            lease(shared, &state);
            (state, Some(adopted))
        }
        Err(error) => {
            tracing::info!(pod = pod::full_name(&state.pod), error, "a pod's sandbox is gone");
            let cleaned = tokio::task::spawn_blocking(move || sampan_runtime::cleanup(&dir)).await;
            if let Ok(Err(error)) = cleaned {
                tracing::warn!(error = chain(&error), "a dead sandbox stays");
            }
            apply(&mut state, Event::SandboxLost, now);
            (state, None)
        }
    }
}

fn has_started_any(supervisor: &Supervisor) -> bool {
    supervisor.hello().containers.iter().any(|container| match container.state {
        ContainerState::Created => false,
        ContainerState::Running | ContainerState::Exited => true,
    })
}

/// Makes the state that of the supervisor's containers. Those that ended meanwhile are reported as
/// if they ended now.
fn take_over(
    state: &mut PodState,
    supervisor: Supervisor,
    mut events: mpsc::Receiver<sampan_runtime::Event>,
    now: Timestamp,
) -> Adopted {
    let mut ends = Vec::new();
    for container in &supervisor.hello().containers {
        adopt_container(state, container);
        if let Some(status) = &container.exit {
            ends.push(sampan_runtime::Event::Exited { id: container.id.clone(), status: status.clone() });
        }
    }
    for record in &mut state.containers {
        let known = record
            .running()
            .is_some_and(|running| supervisor.hello().containers.iter().any(|known| known.id == running.id));
        if !known {
            record.lose(now);
        }
    }
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        for event in ends {
            if sender.send(event).await.is_err() {
                return;
            }
        }
        while let Some(event) = events.recv().await {
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    (supervisor, receiver)
}

/// A container that was started after the state was last written is known by the path of its log.
fn adopt_container(state: &mut PodState, container: &ContainerStatus) {
    match container.state {
        // It never ran; the supervisor removes it with the pod.
        ContainerState::Created => return,
        ContainerState::Running | ContainerState::Exited => {}
    }
    if state.runs(&container.id) {
        return;
    }
    let Some((name, run)) = container.log_path.as_deref().and_then(run_of_log) else { return };
    let Some(index) = state.index_of(&name) else { return };
    let spec = pod::any_container(pod::spec(&state.pod), &name).map(Cow::into_owned).unwrap_or_default();
    let resources = state.allotted.get(&name).cloned();
    let record = &mut state.containers[index];
    let ended = record.terminated().is_some_and(|ended| ended.id == container.id);
    if record.running().is_some() || run < record.restart_count || ended {
        return;
    }
    if let Phase::Exited(ended) = &record.phase {
        record.last = Some(ended.clone());
    }
    record.restart_count = run;
    record.phase = Phase::Running(Running {
        id: container.id.clone(),
        pid: container.pid,
        started_at: container.started_at.unwrap_or(container.created_at),
        // A hook may have run; running it twice is worse than not at all.
        hooked: true,
        started: spec.startup_probe.is_none(),
        ready: spec.readiness_probe.is_none(),
        resources,
    });
    record.was_started = true;
}

/// Name and number of `…/<container>/<run>.log`.
fn run_of_log(path: &std::path::Path) -> Option<(String, i32)> {
    let run = path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok()?;
    Some((path.parent()?.file_name()?.to_str()?.to_owned(), run))
}

/// Keeps the images of adopted containers.
fn lease(shared: &Shared, state: &PodState) {
    for record in &state.containers {
        let (Some(running), Some(image)) = (record.running(), &record.image) else { continue };
        let store = &shared.images.store;
        let found = store.find(&image.id).ok().flatten().or_else(|| store.find(&image.name).ok().flatten());
        if let Some(lease) = found.and_then(|image| store.lease(&image.id).ok()) {
            shared.leases.lock().insert(running.id.clone(), lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> PodState {
        let pod = serde_json::json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [{"name": "a",
            "readinessProbe": {"tcpSocket": {"port": 1}}}]}});
        PodState::new(Arc::new(serde_json::from_value(pod).expect("a pod")), Timestamp::UNIX_EPOCH)
    }

    fn container(id: &str, log: &str, state: ContainerState) -> ContainerStatus {
        ContainerStatus {
            id: id.to_owned(),
            state,
            pid: 7,
            created_at: Timestamp::UNIX_EPOCH,
            started_at: None,
            exit: None,
            log_path: Some(log.into()),
        }
    }

    #[test]
    fn a_container_is_known_by_its_log() {
        let mut state = state();
        adopt_container(&mut state, &container("x", "/logs/a/2.log", ContainerState::Running));
        let record = &state.containers[0];
        assert_eq!(record.restart_count, 2);
        let running = record.running().expect("it runs");
        assert_eq!((running.pid, running.ready, running.started), (7, false, true));
        adopt_container(&mut state, &container("old", "/logs/a/1.log", ContainerState::Exited));
        assert!(state.runs("x"));
    }

    #[test]
    fn what_never_ran_or_belongs_to_nobody_is_left() {
        for (log, kind) in [
            ("/logs/a/0.log", ContainerState::Created),
            ("/logs/b/0.log", ContainerState::Running),
            ("/logs/a/x.log", ContainerState::Running),
        ] {
            let mut state = state();
            adopt_container(&mut state, &container("x", log, kind));
            assert!(!state.runs("x"), "{log}");
        }
    }
}
