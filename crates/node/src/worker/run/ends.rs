//! What follows the end of a container: its last words, its files, its old logs.

use std::path::PathBuf;

use super::Task;
use crate::images::chain;
use crate::pod;
use crate::worker::apply::Event;
use crate::worker::capture;
use crate::worker::start;
use crate::worker::state::Terminated;

impl Task {
    /// Keeps the ends of containers until their starts are known: the two come by different ways.
    pub(super) fn take_raw(&mut self, event: sampan_runtime::Event) {
        match event {
            sampan_runtime::Event::Exited { id, status } => {
                self.ends.insert(id, status);
            }
            sampan_runtime::Event::Started { .. }
            | sampan_runtime::Event::ExecExited { .. }
            | sampan_runtime::Event::LogRotated { .. } => {}
        }
    }

    /// Takes in the ends of containers that are known to run.
    pub(super) async fn take_ends(&mut self) {
        let known: Vec<String> = self.ends.keys().filter(|id| self.state.runs(id)).cloned().collect();
        for id in known {
            if let Some(status) = self.ends.remove(&id) {
                self.ended(id, status).await;
            }
        }
    }

    /// A container ended: reads its last words, and removes what it leaves behind.
    async fn ended(&mut self, id: String, status: sampan_runtime::ExitStatus) {
        let Some(record) = self.state.by_id(&id) else { return };
        let (name, restart_count) = (record.name.clone(), record.restart_count);
        let started_at = record.running().map(|running| running.started_at);
        self.lifecycles.remove(&id);
        self.stops.remove(&id);
        let message = self.last_words(&name, &id, restart_count, status.exit_code).await;
        let reason = match (status.oom_killed, status.exit_code) {
            (true, _) => "OOMKilled",
            (false, 0) => "Completed",
            (false, _) => "Error",
        };
        let ended = Terminated {
            id: id.clone(),
            exit_code: status.exit_code,
            signal: status.signal,
            reason: reason.to_owned(),
            message,
            started_at,
            finished_at: status.finished_at,
        };
        self.take(Event::Exited { ended });
        let sandbox = self.sandbox.borrow().clone();
        if let Some(sandbox) = sandbox {
            let (shared, pod_dir) = (self.shared.clone(), self.pod_dir.clone());
            self.keepers.spawn(async move {
                if let Err(error) = sandbox.supervisor.remove(&id, false).await {
                    tracing::debug!(container = id, error = chain(&error), "an ended container stays");
                }
                start::remove_container_files(&shared, &pod_dir, &id).await;
            });
        }
        self.forget_old_logs(&name, restart_count);
    }

    async fn last_words(&self, name: &str, id: &str, restart_count: i32, exit_code: i32) -> Option<String> {
        let container = pod::any_container(pod::spec(&self.state.pod), name)?;
        let policy = container.termination_message_policy.as_deref();
        let file = start::termination_log(&self.pod_dir, id);
        let from_log = policy == Some("FallbackToLogsOnError") && exit_code != 0;
        let log = from_log.then(|| crate::logs::path(&self.log_dir(), name, restart_count));
        let read = move || capture::termination_message(&file, log.as_deref());
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Only the current and the previous run can be asked for.
    fn forget_old_logs(&mut self, name: &str, restart_count: i32) {
        let oldest = restart_count - 1;
        if oldest <= 0 {
            return;
        }
        let directory = self.log_dir().join(name);
        self.keepers.spawn_blocking(move || {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let file_name = entry.file_name();
                let run = file_name
                    .to_str()
                    .and_then(|text| text.split('.').next())
                    .and_then(|run| run.parse().ok());
                if run.is_some_and(|run: i32| run < oldest) {
                    // Removed with the pod at the latest.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        });
    }

    pub(super) fn log_dir(&self) -> PathBuf {
        let pod = &self.state.pod;
        self.shared.config.log_dir(pod::namespace(pod), pod::name(pod), pod::uid(pod))
    }
}
