//! What of a pod survives a restart of this process: one file in the pod's directory.
//!
//! Replaced by renaming, so that a reader sees a whole file. It is not synced: after a crash of the
//! machine nothing that it describes runs any more.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::resize::Allotment;
use super::state::{
    ContainerRecord, ImageUse, Phase, PodState, Running, Stage, Terminated, Termination, Waiting,
};

const FILE: &str = "state.json";
/// The largest file that is read, bytes: a pod's object is bounded by the API server.
const LIMIT: u64 = 16 << 20;

/// The file's content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    pub boot_id: String,
    pub pod: Pod,
    pub ips: Vec<IpAddr>,
    pub start_time: Timestamp,
    /// Nothing of it runs any more and its sandbox is gone.
    pub finished: Option<Termination>,
    pub containers: Vec<StoredContainer>,
    /// Absent in what older versions of this program wrote.
    #[serde(default)]
    pub allotted: Option<Allotment>,
    /// The process ended before it wrote that there is a sandbox: what there is may be a part of one.
    #[serde(skip)]
    pub unfinished: bool,
}

/// One container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredContainer {
    pub name: String,
    pub restart_count: i32,
    pub running: Option<Running>,
    pub ended: Option<Terminated>,
    pub last: Option<Terminated>,
    pub backoff: Backoff,
    pub image: Option<ImageUse>,
    pub was_started: bool,
}

/// Why the file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is no pod's state", path.display())]
    Decode { path: PathBuf, source: serde_json::Error },
    #[error("{} has more than {LIMIT} bytes", path.display())]
    TooLarge { path: PathBuf },
}

impl Stored {
    pub fn of(state: &PodState, boot_id: &str) -> Self {
        let container = |record: &ContainerRecord| StoredContainer {
            name: record.name.clone(),
            restart_count: record.restart_count,
            running: record.running().cloned(),
            ended: match &record.phase {
                Phase::Exited(ended) => Some(ended.clone()),
                Phase::Waiting(_) | Phase::Starting(_) | Phase::Running(_) | Phase::Stopping(_) => None,
            },
            last: record.last.clone(),
            backoff: record.backoff,
            image: record.image.clone(),
            was_started: record.was_started,
        };
        Stored {
            boot_id: boot_id.to_owned(),
            pod: (*state.pod).clone(),
            ips: state.ips.clone(),
            start_time: state.start_time,
            finished: match &state.stage {
                Stage::Finished(why) => Some(why.clone()),
                Stage::Active | Stage::Terminating(_) | Stage::TearingDown(_) => None,
            },
            containers: state.containers.iter().map(container).collect(),
            allotted: Some(state.allotted.clone()),
            unfinished: false,
        }
    }

    /// Puts what was stored into a fresh state of the same pod.
    pub fn restore(&self, state: &mut PodState) {
        state.ips.clone_from(&self.ips);
        state.start_time = self.start_time;
        if let Some(allotted) = &self.allotted {
            state.allotted.clone_from(allotted);
        }
        state.resize.limits = None;
        if let Some(why) = &self.finished {
            state.stage = Stage::Finished(why.clone());
        }
        for stored in &self.containers {
            let Some(index) = state.index_of(&stored.name) else { continue };
            let record = &mut state.containers[index];
            record.restart_count = stored.restart_count;
            record.last.clone_from(&stored.last);
            record.backoff = stored.backoff;
            record.image.clone_from(&stored.image);
            record.was_started = stored.was_started;
            record.phase = match (&stored.running, &stored.ended) {
                (Some(running), _) => Phase::Running(running.clone()),
                (None, Some(ended)) => Phase::Exited(ended.clone()),
                // A run that was waited for: it is decided anew from how the last one ended.
                (None, None) => match record.last.take() {
                    Some(last) => Phase::Exited(last),
                    None => Phase::Waiting(Waiting::new("ContainerCreating")),
                },
            };
        }
    }

    /// Reads a pod's file; `None` where there is none.
    pub fn read(pod_dir: &Path) -> Result<Option<Self>, StoreError> {
        let path = pod_dir.join(FILE);
        let failed = |source| StoreError::Io { action: "read", path: path.clone(), source };
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() > LIMIT => return Err(StoreError::TooLarge { path }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let text = std::fs::read(&path).map_err(failed)?;
        serde_json::from_slice(&text).map(Some).map_err(|source| StoreError::Decode { path, source })
    }

    /// Replaces a pod's file.
    pub fn write(&self, pod_dir: &Path) -> Result<(), StoreError> {
        let path = pod_dir.join(FILE);
        let failed = |source| StoreError::Io { action: "write", path: path.clone(), source };
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        let temporary = pod_dir.join("state.json.new");
        std::fs::create_dir_all(pod_dir).map_err(failed)?;
        std::fs::write(&temporary, text).map_err(failed)?;
        std::fs::rename(&temporary, &path).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::resize::Resources;
    use super::*;

    #[test]
    fn what_is_stored_comes_back() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}}))
        .expect("a pod");
        let now = Timestamp::from_second(1_700_000_000).expect("in range");
        let mut state = PodState::new(Arc::new(pod), now);
        let running = Running {
            id: "1".into(),
            pid: 2,
            started_at: now,
            hooked: true,
            started: true,
            ready: true,
            resources: Some(Resources::default()),
        };
        let ended = Terminated {
            id: "0".into(),
            exit_code: 1,
            signal: None,
            reason: "Error".into(),
            message: None,
            started_at: None,
            finished_at: now,
        };
        state.containers[0].phase = Phase::Running(running);
        state.containers[0].restart_count = 3;
        state.containers[0].last = Some(ended.clone());
        state.containers[1].phase = Phase::Waiting(Waiting::new("CrashLoopBackOff"));
        state.containers[1].last = Some(ended.clone());
        state.ips = vec![[10, 0, 0, 1].into()];

        let dir = tempfile::tempdir().expect("a directory");
        assert!(Stored::read(dir.path()).expect("reads").is_none());
        Stored::of(&state, "boot").write(dir.path()).expect("writes");
        let stored = Stored::read(dir.path()).expect("reads").expect("there");
        let mut restored = PodState::new(state.pod.clone(), Timestamp::MAX);
        stored.restore(&mut restored);
        assert_eq!(restored.containers[0], state.containers[0]);
        assert_eq!(restored.containers[1].phase, Phase::Exited(ended));
        assert_eq!(restored.containers[2], state.containers[2]);
        assert_eq!((restored.ips, restored.start_time), (state.ips, now));
        std::fs::write(dir.path().join(FILE), "{").expect("writes");
        assert!(matches!(Stored::read(dir.path()), Err(StoreError::Decode { .. })));
    }
}
