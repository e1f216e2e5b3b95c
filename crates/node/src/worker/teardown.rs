//! Taking a pod down: containers, network, mounts, and at last its files.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::sandbox::{Sandbox, supervisor_dir};
use super::start::remove_container_files;
use crate::images::chain;
use crate::pod;
use crate::shared::Shared;

/// How long a supervisor gets to end its containers before it is killed with them.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY_FROM: Duration = Duration::from_millis(100);
const RETRY_TO: Duration = Duration::from_secs(30);

/// Removes everything of a pod that the kernel holds. Tries until it succeeds: an address must not
/// be given to another pod while the old one may use it.
pub async fn tear_down(
    shared: &Arc<Shared>,
    pod: &Pod,
    pod_dir: &Path,
    sandbox: Option<Sandbox>,
    ips: Vec<IpAddr>,
) {
    shared.services.host_ports.close(pod::uid(pod)).await;
    if let Some(sandbox) = sandbox {
        let ended = tokio::time::timeout(PATIENCE, sandbox.supervisor.shutdown(true)).await;
        if let Ok(Err(error)) = ended {
            tracing::debug!(
                pod = pod::full_name(pod),
                error = chain(&error),
                "a supervisor does not end by itself"
            );
        }
    }
    let mut delay = RETRY_FROM;
    while let Err(error) = clean(shared, pod, pod_dir, ips.clone()).await {
        tracing::warn!(pod = pod::full_name(pod), error, "a pod is not taken down yet");
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RETRY_TO);
    }
}

async fn clean(shared: &Arc<Shared>, pod: &Pod, pod_dir: &Path, ips: Vec<IpAddr>) -> Result<(), String> {
    let dir = supervisor_dir(pod_dir);
    blocking(move || sampan_runtime::cleanup(&dir).map_err(|error| chain(&error))).await?;
    let rootfs = pod_dir.join("rootfs");
    let names = blocking(move || Ok(entries(&rootfs))).await?;
    for id in names {
        remove_container_files(shared, pod_dir, &id).await;
    }
    if !pod::host_network(pod::spec(pod)) {
        let detached = shared.network.detach(pod::uid(pod), pod_dir, ips).await;
        detached.map_err(|error| chain(&error))?;
    }
    let dir = pod_dir.to_owned();
    blocking(move || {
        crate::volumes::unmount_below(&dir).map_err(|error| error.to_string())?;
        for part in ["volumes", "volume-subpaths", "files", "rootfs", "containers"] {
            remove_dir(&dir.join(part)).map_err(|error| format!("cannot remove {part}: {error}"))?;
        }
        Ok(())
    })
    .await
}

/// Removes the pod's directory and logs.
pub async fn remove_files(pod_dir: PathBuf, log_dir: PathBuf) {
    let removed = blocking(move || {
        crate::volumes::unmount_below(&pod_dir).map_err(|error| error.to_string())?;
        remove_dir(&log_dir).map_err(|error| error.to_string())?;
        remove_dir(&pod_dir).map_err(|error| error.to_string())
    });
    if let Err(error) = removed.await {
        // The next start of the node finds the directory and tries again.
        tracing::warn!(error, "a pod's files stay");
    }
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}
