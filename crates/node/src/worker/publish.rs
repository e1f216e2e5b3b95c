//! Writing a pod's status to the API server: only what changed, only the latest, and never in the
//! way of the worker.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use sampan_client::{Client, DeleteOptions, PatchKind};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::state::PodState;
use crate::pod;
use crate::shared::Shared;
use crate::status;

const RETRY_FROM: Duration = Duration::from_millis(50);
const RETRY_TO: Duration = Duration::from_secs(10);

/// What is to be told of a pod.
#[derive(Clone, Default)]
pub struct Publication {
    state: Option<Arc<PodState>>,
    host_ip: Option<IpAddr>,
    end: End,
}

/// What comes after the last status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    None,
    /// The object is deleted for good.
    Delete,
    /// There is no object any more.
    Gone,
}

impl Publication {
    pub fn of(state: &PodState, host_ip: IpAddr) -> Self {
        Publication { state: Some(Arc::new(state.clone())), host_ip: Some(host_ip), end: End::None }
    }
}

/// The writer of one pod's status.
pub struct Publisher {
    sender: watch::Sender<Publication>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Publisher {
    pub fn start(shared: &Shared, pod: &Pod) -> Self {
        let (sender, receiver) = watch::channel(Publication::default());
        let task = Task {
            client: shared.client.clone(),
            namespace: pod::namespace(pod).to_owned(),
            name: pod::name(pod).to_owned(),
            uid: pod::uid(pod).to_owned(),
            written: pod.status.clone(),
        };
        Publisher { sender, task: Some(tokio::spawn(task.run(receiver))) }
    }

    pub fn publish(&self, publication: Publication) {
        self.sender.send_replace(publication);
    }

    /// Writes the last status and deletes the object, unless it is `gone` already.
    pub async fn finish(&mut self, gone: bool) {
        self.sender.send_modify(|publication| publication.end = if gone { End::Gone } else { End::Delete });
        if let Some(task) = self.task.take() {
            // It has no panic of its own to tell, and everything else is in the log.
            let _ = task.await;
        }
    }
}

struct Task {
    client: Client,
    namespace: String,
    name: String,
    uid: String,
    /// The status that the API server has, as far as it is ours.
    written: Option<PodStatus>,
}

/// What became of a write.
enum Write {
    Done,
    /// The object is another one or none: nothing can be told any more.
    Lost,
    Again,
}

impl Task {
    async fn run(mut self, mut latest: watch::Receiver<Publication>) {
        let mut delay = RETRY_FROM;
        loop {
            let publication = latest.borrow_and_update().clone();
            let written = match (&publication.state, publication.host_ip, publication.end) {
                (_, _, End::Gone) => return,
                (Some(state), Some(host_ip), End::None | End::Delete) => self.write(state, host_ip).await,
                _ => Write::Done,
            };
            let outcome = match (written, publication.end) {
                (Write::Done, End::Delete) => self.delete().await,
                (outcome, _) => outcome,
            };
            match (outcome, publication.end) {
                (Write::Done | Write::Lost, End::Delete | End::Gone) => return,
                (Write::Done | Write::Lost, End::None) => {
                    delay = RETRY_FROM;
                    if latest.changed().await.is_err() {
                        return;
                    }
                }
                (Write::Again, _) => {
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY_TO);
                }
            }
        }
    }

    async fn write(&mut self, state: &PodState, host_ip: IpAddr) -> Write {
        let status = status::status(state, self.written.as_ref(), host_ip, Timestamp::now());
        if self.written.as_ref().is_some_and(|written| status::same(written, &status)) {
            return Write::Done;
        }
        let patch = status::patch(&self.uid, &status, self.written.as_ref());
        let pods = self.client.namespaced::<Pod>(&self.namespace);
        match pods.patch_status(&self.name, PatchKind::Strategic, &patch).await {
            Ok(_) => {
                self.written = Some(status);
                Write::Done
            }
            Err(error) if error.is_not_found() => Write::Lost,
            // The uid in the patch is another one's.
            Err(error) if error.is_conflict() && error.message.contains("uid") => Write::Lost,
            Err(error) if error.code == 422 => {
                tracing::error!(pod = self.name, %error, "a pod's status is not accepted");
                Write::Lost
            }
            Err(error) => {
                tracing::debug!(pod = self.name, %error, "a pod's status is not written yet");
                Write::Again
            }
        }
    }

    async fn delete(&self) -> Write {
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: Some(self.uid.clone()),
            ..DeleteOptions::default()
        };
        match self.client.namespaced::<Pod>(&self.namespace).delete(&self.name, &options).await {
            Ok(()) => Write::Done,
            Err(error) if error.is_not_found() || error.is_conflict() => Write::Lost,
            Err(error) => {
                tracing::debug!(pod = self.name, %error, "a pod is not deleted yet");
                Write::Again
            }
        }
    }
}
