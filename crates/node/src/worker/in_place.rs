//! Giving containers other resources while they run: writes to their cgroups.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Container;
use sampan_runtime::Supervisor;

use super::apply::Event;
use super::resize::Resources;
use super::sandbox;
use crate::amounts::Amounts;
use crate::images::chain;
use crate::spec::cgroup::{self, PodLimits};

/// One attempt on a pod.
pub struct InPlace {
    pub supervisor: Supervisor,
    pub cgroup: PathBuf,
    pub limits: PodLimits,
    pub changes: Vec<Change>,
}

/// What one container is to have, and what it has.
pub struct Change {
    pub id: String,
    /// With the resources that it is to have.
    pub container: Container,
    pub memory_limit: Option<i64>,
}

impl InPlace {
    /// Makes the attempt and tells what became of it. The pod comes first: no container can have more.
    pub async fn run(self) -> Event {
        let (cgroup, limits) = (self.cgroup.clone(), self.limits);
        let written = tokio::task::spawn_blocking(move || sandbox::make_cgroup(&cgroup, &limits)).await;
        let written = written.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        if let Err(error) = written {
            return Event::Resized { limits: Err(error.to_string()), containers: Vec::new() };
        }
        let mut containers = Vec::new();
        for change in &self.changes {
            let done = self.change(change).await;
            let has = done.map(|()| Resources::of(change.container.resources.as_ref()));
            containers.push((change.id.clone(), has));
        }
        Event::Resized { limits: Ok(self.limits), containers }
    }

    async fn change(&self, change: &Change) -> Result<(), String> {
        let wanted = Amounts::of(change.container.resources.as_ref()).memory_limit.unwrap_or(i64::MAX);
        if wanted < change.memory_limit.unwrap_or(i64::MAX) {
            let stats = self.supervisor.stats(&change.id).await.map_err(|error| chain(&error))?;
            // The kernel would kill the container to get there.
            if stats.memory_working_set > u64::try_from(wanted).unwrap_or(0) {
                return Err(format!(
                    "attempting to set container memory limit ({wanted}) below current usage ({})",
                    stats.memory_working_set
                ));
            }
        }
        let resources = cgroup::compute(&change.container);
        self.supervisor.update_resources(&change.id, resources).await.map_err(|error| chain(&error))
    }
}
