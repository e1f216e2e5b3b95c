//! The sandbox of a pod: network, shared memory, fixed files, cgroup and supervisor.
//!
//! One task makes it, follows the supervisor's events, and makes it anew when the supervisor dies.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use nix::mount::{MsFlags, mount};
use sampan_client::events::EventType;
use sampan_runtime::{NamespaceMode, PidMode, SandboxConfig, Supervisor};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::apply::Event;
use crate::host_ports;
use crate::images::chain;
use crate::network::{PodNetwork, PodNetworkError};
use crate::pod;
use crate::shared::Shared;
use crate::spec::cgroup::{self, PodLimits};
use crate::spec::mounts::PodFiles;
use crate::spec::network_files::{Resolver, host_network_hosts, hosts};

const RETRY_FROM: Duration = Duration::from_millis(500);
const RETRY_TO: Duration = Duration::from_secs(30);

/// What containers are created in.
#[derive(Clone)]
pub struct Sandbox {
    pub supervisor: Supervisor,
    pub ips: Vec<IpAddr>,
    /// `None` in the node's own network.
    pub network_namespace: Option<PathBuf>,
    pub files: PodFiles,
    pub hostname: String,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
enum SandboxError {
    #[error("failed to setup network for sandbox: {}", chain(.0))]
    Network(#[from] PodNetworkError),
    #[error("failed to start the supervisor: {}", chain(.0))]
    Launch(#[from] sampan_runtime::LaunchError),
    #[error("failed to prepare {what}: {source}")]
    Prepare { what: &'static str, source: io::Error },
}

/// Where a pod's supervisor is.
pub fn supervisor_dir(pod_dir: &Path) -> PathBuf {
    pod_dir.join("supervisor")
}

/// The task's inputs.
pub struct SandboxTask {
    pub shared: Arc<Shared>,
    pub pod: Arc<Pod>,
    pub pod_dir: PathBuf,
    pub events: mpsc::Sender<Event>,
    pub raw: mpsc::Sender<sampan_runtime::Event>,
    pub handle: watch::Sender<Option<Sandbox>>,
    /// Of an earlier sandbox of this pod.
    pub ips: Vec<IpAddr>,
    /// A supervisor that an earlier process left.
    pub adopted: Option<(Supervisor, mpsc::Receiver<sampan_runtime::Event>)>,
    pub ending: CancellationToken,
}

impl SandboxTask {
    /// Runs until `ending`. A sandbox that is just being made is made to its end, so that whoever takes
    /// it down finds in `handle` all that there is of it.
    pub async fn run(mut self) {
        let ending = self.ending.clone();
        let mut delay = RETRY_FROM;
        loop {
            let made = match self.adopted.take() {
                Some((supervisor, events)) => self
                    .files(&self.ips.clone())
                    .await
                    .map(|files| (self.sandbox(supervisor, self.ips.clone(), files), events)),
                None => self.make().await,
            };
            let (sandbox, events) = match made {
                Ok(made) => made,
                Err(error) => {
                    let message = format!("Failed to create pod sandbox: {error}");
                    self.shared.tell(&self.pod, None, EventType::Warning, "FailedCreatePodSandBox", message);
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = ending.cancelled() => return,
                    }
                    delay = (delay * 2).min(RETRY_TO);
                    continue;
                }
            };
            delay = RETRY_FROM;
            self.ips.clone_from(&sandbox.ips);
            let ports = host_ports::of_pod(&self.pod, &sandbox.ips);
            if !ports.is_empty() {
                self.shared.services.host_ports.open(pod::uid(&self.pod), ports).await;
            }
            let ready = Event::SandboxReady { ips: sandbox.ips.clone() };
            self.handle.send_replace(Some(sandbox));
            if ending.is_cancelled() || self.events.send(ready).await.is_err() {
                return;
            }
            tokio::select! {
                () = self.follow(events) => {}
                () = ending.cancelled() => return,
            }
            self.handle.send_replace(None);
            let dir = supervisor_dir(&self.pod_dir);
            let cleaned = tokio::task::spawn_blocking(move || sampan_runtime::cleanup(&dir)).await;
            if let Ok(Err(error)) = cleaned {
                tracing::warn!(
                    pod = pod::full_name(&self.pod),
                    error = chain(&error),
                    "a dead sandbox stays"
                );
            }
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.shared.tell(&self.pod, None, EventType::Normal, "SandboxChanged", message);
            if self.events.send(Event::SandboxLost).await.is_err() {
                return;
            }
        }
    }

    /// Passes events on until the supervisor is dead. A connection that was lost is made again.
    async fn follow(&self, mut events: mpsc::Receiver<sampan_runtime::Event>) {
        loop {
            while let Some(event) = events.recv().await {
                if self.raw.send(event).await.is_err() {
                    return std::future::pending().await;
                }
            }
            let Ok((supervisor, fresh)) = Supervisor::connect(&supervisor_dir(&self.pod_dir)).await else {
                return;
            };
            // What happened between the connections is in the greeting.
            for container in &supervisor.hello().containers {
                if let Some(status) = &container.exit {
                    let event =
                        sampan_runtime::Event::Exited { id: container.id.clone(), status: status.clone() };
                    if self.raw.send(event).await.is_err() {
                        return;
                    }
                }
            }
            self.handle.send_modify(|sandbox| {
                if let Some(sandbox) = sandbox {
                    sandbox.supervisor = supervisor;
                }
            });
            events = fresh;
        }
    }

    async fn make(&self) -> Result<(Sandbox, mpsc::Receiver<sampan_runtime::Event>), SandboxError> {
        let spec = pod::spec(&self.pod);
        let network = async {
            if pod::host_network(spec) {
                return Ok(vec![self.shared.config.node_ip]);
            }
            let ips =
                self.shared.network.attach(pod::uid(&self.pod), &self.pod_dir, self.ips.clone()).await?;
            Ok::<_, SandboxError>(ips)
        };
        let config = self.config();
        let dir = supervisor_dir(&self.pod_dir);
        let launch = async {
            let memory = dir.clone();
            blocking("the supervisor's directory", move || in_memory(&memory)).await?;
            Ok::<_, SandboxError>(
                Supervisor::launch(&self.shared.config.supervisor_exe, &dir, &config).await?,
            )
        };
        // All of them to their end: what one of them made must be undone when another one failed.
        let (network, launched, cgroup) = tokio::join!(network, launch, self.cgroup());
        let ips = network.as_ref().ok().cloned();
        let made = async {
            let ips = network?;
            let (supervisor, events) = launched?;
            cgroup?;
            let files = self.files(&ips).await?;
            Ok((self.sandbox(supervisor, ips, files), events))
        }
        .await;
        if made.is_err() {
            self.undo(ips.unwrap_or_default()).await;
        }
        made
    }

    /// Leaves nothing of a sandbox that was made in part, so that the next attempt finds nothing in its way.
    async fn undo(&self, ips: Vec<IpAddr>) {
        let dir = supervisor_dir(&self.pod_dir);
        let cleaned = tokio::task::spawn_blocking(move || sampan_runtime::cleanup(&dir)).await;
        if let Ok(Err(error)) = cleaned {
            tracing::warn!(
                pod = pod::full_name(&self.pod),
                error = chain(&error),
                "a part of a sandbox stays"
            );
        }
        // Addresses of an earlier sandbox are kept for the next one.
        if self.ips.is_empty() && !ips.is_empty() && !pod::host_network(pod::spec(&self.pod)) {
            let detached = self.shared.network.detach(pod::uid(&self.pod), &self.pod_dir, ips).await;
            if let Err(error) = detached {
                tracing::warn!(
                    pod = pod::full_name(&self.pod),
                    error = chain(&error),
                    "an address stays taken"
                );
            }
        }
    }

    fn sandbox(&self, supervisor: Supervisor, ips: Vec<IpAddr>, files: PodFiles) -> Sandbox {
        let own = !pod::host_network(pod::spec(&self.pod));
        Sandbox {
            supervisor,
            ips,
            network_namespace: own.then(|| PodNetwork::namespace_path(&self.pod_dir)),
            files,
            hostname: self.hostname(),
        }
    }

    fn hostname(&self) -> String {
        if pod::host_network(pod::spec(&self.pod)) {
            return self.shared.config.name.clone();
        }
        let fqdn = pod::fqdn(&self.pod, &self.shared.config.cluster_domain);
        match fqdn.filter(|_| pod::spec(&self.pod).set_hostname_as_fqdn == Some(true)) {
            Some(fqdn) => fqdn,
            None => pod::hostname(&self.pod),
        }
    }

    fn config(&self) -> SandboxConfig {
        let spec = pod::spec(&self.pod);
        let mode = |host: bool| if host { NamespaceMode::Host } else { NamespaceMode::Pod };
        let pid = match (spec.host_pid.unwrap_or(false), spec.share_process_namespace.unwrap_or(false)) {
            (true, _) => PidMode::Host,
            (false, true) => PidMode::Pod,
            (false, false) => PidMode::Container,
        };
        SandboxConfig {
            hostname: self.hostname(),
            ipc: mode(spec.host_ipc.unwrap_or(false)),
            uts: mode(pod::host_network(spec)),
            pid,
            cgroup_parent: Some(cgroup::pod_path(&self.shared.config.cgroup_root, &self.pod)),
            filters: Some(self.shared.config.filters_dir()),
            ..SandboxConfig::default()
        }
    }

    async fn cgroup(&self) -> Result<(), SandboxError> {
        let path = cgroup::pod_path(&self.shared.config.cgroup_root, &self.pod);
        let limits = PodLimits::of(&self.pod, self.shared.config.pod_pids_limit);
        blocking("the pod's cgroup", move || make_cgroup(&path, &limits)).await?;
        // Not before: making the cgroup would wait too.
        self.shared.attach_lock.keep();
        Ok(())
    }

    /// Writes the files that every container of the pod finds at fixed places.
    async fn files(&self, ips: &[IpAddr]) -> Result<PodFiles, SandboxError> {
        let (pod, pod_dir, ips) = (self.pod.clone(), self.pod_dir.clone(), ips.to_vec());
        let config = self.shared.config.clone();
        let hostname = self.hostname();
        blocking("the pod's files", move || {
            let dir = pod_dir.join("files");
            std::fs::create_dir_all(&dir)?;
            let write = |name: &str, text: String| -> io::Result<PathBuf> {
                let path = dir.join(name);
                std::fs::write(&path, text)?;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
                Ok(path)
            };
            let host_network = pod::host_network(pod::spec(&pod));
            let hosts = if host_network {
                host_network_hosts(&pod, &std::fs::read_to_string("/etc/hosts").unwrap_or_default())
            } else {
                hosts(&pod, &ips, &config.cluster_domain)
            };
            let nodes = Resolver::parse(&std::fs::read_to_string(&config.resolv_conf).unwrap_or_default());
            let resolver = Resolver::of(&pod, &nodes, config.cluster_dns, &config.cluster_domain);
            let shm = dir.join("shm");
            std::fs::create_dir_all(&shm)?;
            if pod::spec(&pod).host_ipc != Some(true) && !crate::volumes::is_mount_point(&shm) {
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(Some("shm"), &shm, Some("tmpfs"), flags, Some("mode=1777,size=65536k"))?;
            }
            Ok(PodFiles {
                hosts: Some(write("hosts", hosts)?),
                hostname: Some(write("hostname", format!("{hostname}\n"))?),
                resolv_conf: Some(write("resolv.conf", resolver.render())?),
                shm: Some(shm),
                termination_log: None,
            })
        })
        .await
    }
}

/// Makes a directory whose files never reach a disk: a supervisor's hold what containers are created with,
/// and so the secrets that their environments are made of.
fn in_memory(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    if !crate::volumes::is_mount_point(dir) {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("supervisor"), dir, Some("tmpfs"), flags, Some("mode=0700"))?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, SandboxError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|source| SandboxError::Prepare { what, source })
}

/// Makes the pod's cgroup in every hierarchy that limits something, and writes the limits.
pub(super) fn make_cgroup(path: &Path, limits: &PodLimits) -> io::Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let relative = path.strip_prefix("/").unwrap_or(path);
    if root.join("cgroup.controllers").exists() {
        // A controller reaches a cgroup through every one above it.
        let mut parent = root.to_owned();
        for part in relative.components() {
            for controller in ["+cpu", "+memory", "+pids"] {
                // One that the kernel lacks limits nothing.
                let _ = std::fs::write(parent.join("cgroup.subtree_control"), controller);
            }
            parent.push(part);
            make_dir(&parent)?;
        }
        return write_files(&parent, limits.files_v2().into_iter());
    }
    for controller in ["cpu", "memory", "pids"] {
        let hierarchy = root.join(controller);
        if !hierarchy.exists() {
            continue;
        }
        let dir = hierarchy.join(relative);
        std::fs::create_dir_all(&dir)?;
        let files = limits.files_v1().into_iter().filter(|(of, _, _)| *of == controller);
        write_files(&dir, files.map(|(_, file, value)| (file, value)))?;
    }
    Ok(())
}

fn make_dir(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_files(dir: &Path, files: impl Iterator<Item = (&'static str, String)>) -> io::Result<()> {
    for (file, value) in files {
        match std::fs::write(dir.join(file), &value) {
            // A kernel without bandwidth control still runs pods.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.kind() == io::ErrorKind::PermissionDenied =>
            {
                tracing::warn!(file, value, "the kernel does not know a limit of pods");
            }
            result => result?,
        }
    }
    Ok(())
}
