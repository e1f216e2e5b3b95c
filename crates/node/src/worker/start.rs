//! Starting one container: image, configuration, root file system, creation.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, VolumeMount};
use oci_spec::runtime::Spec;
use sampan_client::events::EventType;
use sampan_client::typed::Resource;
use sampan_image::Image;
use sampan_runtime::{ContainerConfig, RequestError};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::apply::Event;
use super::resize::Resources;
use super::run::View;
use super::sandbox::Sandbox;
use super::state::{ImageUse, Running, Terminated, Waiting};
use crate::images::{self, chain};
use crate::pod;
use crate::shared::Shared;
use crate::spec::container::{self as container_spec, Inputs, SpecError};
use crate::spec::environment::{self, EnvironmentError, Sources};
use crate::spec::expand::{expand, unresolved};
use crate::spec::mounts::{Propagation, VolumeMountPoint};
use crate::spec::user::{self, UserError, UserFiles};
use crate::spec::{cgroup, services};
use crate::volumes::keeper::Volumes;
use crate::volumes::sub_path::{self, SubPathError};

/// The delay before a start that failed is tried again. The kubelet tries with its next look at the
/// pod, after a minute at most.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// How long a status shows why a pull failed before it shows that the next one waits.
const SHOWN: SignedDuration = SignedDuration::from_secs(2);

/// Everything that a start needs.
pub struct Start {
    pub shared: Arc<Shared>,
    pub pod: Arc<Pod>,
    pub pod_dir: PathBuf,
    pub index: usize,
    pub container: Container,
    pub restart_count: i32,
    pub sandbox: watch::Receiver<Option<Sandbox>>,
    pub volumes: watch::Receiver<Volumes>,
    /// The pod's other containers.
    pub view: watch::Receiver<View>,
    pub events: mpsc::Sender<Event>,
    pub cancelled: CancellationToken,
}

/// Why no container was created: reason and message of the status.
#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    SubPath(#[from] SubPathError),
    #[error("volume {0:?} is not mounted")]
    NoVolume(String),
    #[error("missing value for {0:?} in subPathExpr {1:?}")]
    SubPathExpr(String, String),
    #[error("cannot prepare {what}: {source}")]
    Prepare { what: &'static str, source: std::io::Error },
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("unable to find target container {0}")]
    NoTarget(String),
    #[error("failed to mount rootfs: {}", chain(.0))]
    Rootfs(#[from] sampan_image::RootfsError),
    /// The runtime cannot make the container, which counts as a run that failed.
    #[error("failed to create containerd task: {0}")]
    Refused(String),
    /// The supervisor is gone; the container is not to blame.
    #[error("failed to create containerd task: {0}")]
    Create(String),
}

impl ConfigError {
    fn reason(&self) -> &'static str {
        match self {
            ConfigError::Environment(_)
            | ConfigError::User(_)
            | ConfigError::SubPath(_)
            | ConfigError::NoVolume(_)
            | ConfigError::SubPathExpr(..)
            | ConfigError::NoTarget(_)
            | ConfigError::Prepare { .. } => "CreateContainerConfigError",
            ConfigError::Spec(_)
            | ConfigError::Rootfs(_)
            | ConfigError::Refused(_)
            | ConfigError::Create(_) => "CreateContainerError",
        }
    }
}

impl Start {
    /// Starts the container and reports with exactly one of `Started`, `StartFailed`, `CannotRun`
    /// and `StartCancelled`.
    pub async fn run(self) {
        let prepared = tokio::select! {
            prepared = self.prepare() => prepared,
            () = self.cancelled.cancelled() => Err(Event::StartCancelled { container: self.index }),
        };
        let event = match prepared {
            Ok((image, sandbox, volumes)) => self.create(&image, &sandbox, &volumes).await,
            Err(event) => event,
        };
        // A worker that is gone has no use for it.
        let _ = self.events.send(event).await;
    }

    /// Image, sandbox and volumes, each as soon as it can be had.
    async fn prepare(&self) -> Result<(Image, Sandbox, Volumes), Event> {
        let image = self.image();
        let mut sandbox = self.sandbox.clone();
        let sandbox = async {
            match sandbox.wait_for(Option::is_some).await {
                Ok(sandbox) => Ok(sandbox.clone()),
                Err(_) => Err(Event::StartCancelled { container: self.index }),
            }
        };
        let mut volumes = self.volumes.clone();
        let volumes = async {
            match volumes.wait_for(|volumes| volumes.have_all_of(&self.container)).await {
                Ok(volumes) => Ok(volumes.clone()),
                Err(_) => Err(Event::StartCancelled { container: self.index }),
            }
        };
        let (image, sandbox, volumes) = tokio::try_join!(image, sandbox, volumes)?;
        let sandbox = sandbox.ok_or(Event::StartCancelled { container: self.index })?;
        Ok((image, sandbox, volumes))
    }

    async fn image(&self) -> Result<Image, Event> {
        let tell = |kind: EventType, reason: &str, message: String| self.tell(kind, reason, message);
        let image = self.shared.images.ensure(&self.pod, &self.container, &tell).await;
        let image = image.map_err(|error| {
            // The error is shown for a moment; then the worker says for how long it backs off.
            let until = Timestamp::now().saturating_add(SHOWN).ok();
            let waiting =
                Waiting { reason: error.reason().to_owned(), message: Some(error.to_string()), until };
            Event::StartFailed { container: self.index, waiting, image: true }
        })?;
        let used = ImageUse {
            name: self.container.image.clone().unwrap_or_default(),
            id: images::image_id(&image),
            stop_signal: image.config.stop_signal.clone(),
        };
        // A worker that is gone has no use for it.
        let _ = self.events.send(Event::Image { container: self.index, image: used }).await;
        Ok(image)
    }

    async fn create(&self, image: &Image, sandbox: &Sandbox, volumes: &Volumes) -> Event {
        let id = new_id();
        match self.created(&id, image, sandbox, volumes).await {
            Ok(()) => {}
            Err(error @ ConfigError::Refused(_)) => {
                return self.cannot_run(id, sandbox, error.to_string()).await;
            }
            Err(error) => {
                self.tell(EventType::Warning, "Failed", format!("Error: {error}"));
                self.discard(&id, sandbox).await;
                let until = Timestamp::now().saturating_add(RETRY).ok();
                let waiting =
                    Waiting { reason: error.reason().to_owned(), message: Some(error.to_string()), until };
                return Event::StartFailed { container: self.index, waiting, image: false };
            }
        }
        self.tell(EventType::Normal, "Created", format!("Created container: {}", self.container.name));
        match sandbox.supervisor.start(&id).await {
            Ok(status) => {
                self.tell(EventType::Normal, "Started", format!("Started container {}", self.container.name));
                let lifecycle = self.container.lifecycle.as_ref();
                let running = Running {
                    id,
                    pid: status.pid,
                    started_at: status.started_at.unwrap_or_else(Timestamp::now),
                    hooked: lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref()).is_none(),
                    started: self.container.startup_probe.is_none(),
                    ready: self.container.readiness_probe.is_none(),
                    resources: Some(Resources::of(self.container.resources.as_ref())),
                };
                Event::Started { container: self.index, running }
            }
            Err(error) => {
                let message = format!("failed to start container \"{id}\": {}", chain(&error));
                self.cannot_run(id, sandbox, message).await
            }
        }
    }

    /// Tells of a container whose process could not be started.
    async fn cannot_run(&self, id: String, sandbox: &Sandbox, message: String) -> Event {
        let shown = message.replace(&id, &self.container.name);
        self.tell(EventType::Warning, "Failed", format!("Error: {shown}"));
        self.discard(&id, sandbox).await;
        let ended = Terminated {
            id,
            exit_code: 128,
            signal: None,
            reason: "StartError".to_owned(),
            message: Some(message),
            started_at: None,
            finished_at: Timestamp::now(),
        };
        Event::CannotRun { container: self.index, ended }
    }

    /// Everything up to a container whose process waits to be started.
    async fn created(
        &self,
        id: &str,
        image: &Image,
        sandbox: &Sandbox,
        volumes: &Volumes,
    ) -> Result<(), ConfigError> {
        if let Ok(lease) = self.shared.images.store.lease(&image.id) {
            self.shared.leases.lock().insert(id.to_owned(), lease);
        }
        let dir = rootfs_dir(&self.pod_dir, id);
        let rootfs = self.shared.images.store.prepare_rootfs(image, &dir, false);
        let (rootfs, environment) = tokio::join!(rootfs, self.environment(sandbox));
        let (rootfs, environment) = (rootfs?, environment?);
        let config = self.config(id, image, sandbox, volumes, rootfs, environment).await?;
        let mut config = config;
        sandbox.supervisor.join_namespaces(&mut config.spec);
        self.join_target(&mut config.spec)?;
        sandbox.supervisor.create(config).await.map_err(|error| match error {
            RequestError::Refused(_) => ConfigError::Refused(chain(&error)),
            RequestError::Disconnected | RequestError::Frame(_) | RequestError::UnexpectedAnswer => {
                ConfigError::Create(chain(&error))
            }
        })?;
        Ok(())
    }

    /// Puts an ephemeral container among the processes of the container that it targets, where
    /// those are not everybody's in the pod.
    fn join_target(&self, spec: &mut Spec) -> Result<(), ConfigError> {
        let ephemeral = pod::ephemeral(pod::spec(&self.pod), &self.container.name);
        let target = ephemeral.and_then(|ephemeral| ephemeral.target_container_name.as_deref());
        let Some(target) = target.filter(|target| !target.is_empty()) else { return Ok(()) };
        let pid = {
            let view = self.view.borrow();
            let record = view.containers.iter().find(|record| record.name == target);
            record.and_then(|record| record.running()).map(|running| running.pid)
        };
        let pid = pid.ok_or_else(|| ConfigError::NoTarget(target.to_owned()))?;
        container_spec::join_processes(spec, pid);
        Ok(())
    }

    async fn environment(&self, sandbox: &Sandbox) -> Result<Vec<(String, String)>, ConfigError> {
        let namespace = pod::namespace(&self.pod);
        let (config_maps, secrets) = environment::references(&self.container);
        let mut sources = Sources::default();
        for name in config_maps {
            let tracked = self.shared.tracker.track(ConfigMap::gvr(), namespace, name);
            if let Some(map) = tracked.current().await.present().and_then(|object| object.decode().ok()) {
                sources.config_maps.insert(name.to_owned(), map);
            }
        }
        for name in secrets {
            let tracked = self.shared.tracker.track(Secret::gvr(), namespace, name);
            if let Some(secret) = tracked.current().await.present().and_then(|object| object.decode().ok()) {
                sources.secrets.insert(name.to_owned(), secret);
            }
        }
        let links = pod::spec(&self.pod).enable_service_links.unwrap_or(true);
        let announced = self.shared.services.announced(namespace).await;
        let variables = services::variables(announced.iter().map(|service| &**service), namespace, links);
        let facts = self.shared.facts(sandbox.ips.clone());
        let built = environment::build(&self.pod, &self.container, &sources, &variables, &facts)?;
        for message in built.skipped {
            self.tell(EventType::Warning, "InvalidEnvironmentVariableNames", message);
        }
        Ok(built.variables)
    }

    /// The container's configuration; reads and writes files, so on a thread for that.
    async fn config(
        &self,
        id: &str,
        image: &Image,
        sandbox: &Sandbox,
        volumes: &Volumes,
        rootfs: PathBuf,
        environment: Vec<(String, String)>,
    ) -> Result<ContainerConfig, ConfigError> {
        let work = Build {
            shared: self.shared.clone(),
            pod: self.pod.clone(),
            pod_dir: self.pod_dir.clone(),
            container: self.container.clone(),
            restart_count: self.restart_count,
            id: id.to_owned(),
            image: image.clone(),
            sandbox: sandbox.clone(),
            volumes: volumes.clone(),
            rootfs,
            environment,
        };
        match tokio::task::spawn_blocking(move || work.run()).await {
            Ok(result) => result,
            Err(error) => {
                Err(ConfigError::Prepare { what: "the configuration", source: std::io::Error::other(error) })
            }
        }
    }

    /// Removes what a failed start has left.
    async fn discard(&self, id: &str, sandbox: &Sandbox) {
        // It may not have come to creating anything.
        let _ = sandbox.supervisor.remove(id, true).await;
        remove_container_files(&self.shared, &self.pod_dir, id).await;
    }

    fn tell(&self, kind: EventType, reason: &str, message: String) {
        self.shared.tell(&self.pod, Some(&self.container.name), kind, reason, message);
    }
}

/// Where a container's root file system is.
pub fn rootfs_dir(pod_dir: &Path, id: &str) -> PathBuf {
    pod_dir.join("rootfs").join(id)
}

/// The file behind `terminationMessagePath`.
pub fn termination_log(pod_dir: &Path, id: &str) -> PathBuf {
    pod_dir.join("containers").join(id).join("termination-log")
}

/// Removes the files of a container that is no more.
pub async fn remove_container_files(shared: &Shared, pod_dir: &Path, id: &str) {
    if let Err(error) = sampan_image::remove_rootfs(&rootfs_dir(pod_dir, id)).await {
        tracing::warn!(container = id, error = chain(&error), "a root file system stays");
    }
    shared.leases.lock().remove(id);
    let dir = pod_dir.join("containers").join(id);
    // The pod's own removal takes what is left.
    let _ = tokio::fs::remove_dir_all(dir).await;
}

/// 64 hexadecimal digits, as container ids are.
fn new_id() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Build {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    pod_dir: PathBuf,
    container: Container,
    restart_count: i32,
    id: String,
    image: Image,
    sandbox: Sandbox,
    volumes: Volumes,
    rootfs: PathBuf,
    environment: Vec<(String, String)>,
}

impl Build {
    fn run(self) -> Result<ContainerConfig, ConfigError> {
        let files = UserFiles::read(&self.rootfs);
        let identity = user::resolve(&self.pod, &self.container, &self.image.config.user, &files)?;
        let volumes = self.volume_mounts()?;
        let mut files = self.sandbox.files.clone();
        files.termination_log = Some((self.make_termination_log()?, self.termination_path()));
        let config = &self.shared.config;
        let parent = cgroup::pod_path(&config.cgroup_root, &self.pod);
        let spec = container_spec::build(&Inputs {
            pod: &self.pod,
            container: &self.container,
            image: &self.image.config,
            id: &self.id,
            rootfs: &self.rootfs,
            identity: &identity,
            environment: &self.environment,
            volumes: &volumes,
            files: &files,
            network_namespace: self.sandbox.network_namespace.as_deref(),
            cgroup_parent: &parent,
            hostname: &self.sandbox.hostname,
            memory_capacity: self.shared.capacity.memory,
            pids_limit: config.pod_pids_limit,
            seccomp_dir: &config.seccomp_dir,
        })?;
        let logs = config.log_dir(pod::namespace(&self.pod), pod::name(&self.pod), pod::uid(&self.pod));
        let log_path = crate::logs::path(&logs, &self.container.name, self.restart_count);
        if let Some(dir) = log_path.parent() {
            prepared("the log directory", std::fs::create_dir_all(dir))?;
        }
        Ok(ContainerConfig {
            id: self.id.clone(),
            spec,
            log_path: Some(log_path),
            log_limits: config.log_limits,
            tty: self.container.tty.unwrap_or(false),
            stdin: self.container.stdin.unwrap_or(false),
            stdin_once: self.container.stdin_once.unwrap_or(false),
        })
    }

    fn termination_path(&self) -> PathBuf {
        let path = self.container.termination_message_path.as_deref().filter(|path| !path.is_empty());
        PathBuf::from(path.unwrap_or("/dev/termination-log"))
    }

    fn make_termination_log(&self) -> Result<PathBuf, ConfigError> {
        use std::os::unix::fs::PermissionsExt;
        let path = termination_log(&self.pod_dir, &self.id);
        let make = || {
            std::fs::create_dir_all(path.parent().unwrap_or(&self.pod_dir))?;
            std::fs::write(&path, "")?;
            // Whoever the container runs as may write it.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))
        };
        prepared("the termination log", make())?;
        Ok(path)
    }

    fn volume_mounts(&self) -> Result<Vec<VolumeMountPoint>, ConfigError> {
        let mounts = self.container.volume_mounts.as_deref().unwrap_or_default();
        mounts.iter().enumerate().map(|(index, mount)| self.volume_mount(index, mount)).collect()
    }

    fn volume_mount(&self, index: usize, mount: &VolumeMount) -> Result<VolumeMountPoint, ConfigError> {
        let mounted = match &self.volumes {
            Volumes::Ready(all) => all.get(&mount.name),
            Volumes::Pending | Volumes::Failed(_) => None,
        };
        let mounted = mounted.ok_or_else(|| ConfigError::NoVolume(mount.name.clone()))?;
        let expression = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty());
        let sub_path = match expression {
            Some(text) => {
                let value = |name: &str| {
                    self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
                };
                if let Some(missing) = unresolved(text, |name| value(name).is_some()).into_iter().next() {
                    return Err(ConfigError::SubPathExpr(missing, text.to_owned()));
                }
                Some(expand(text, value))
            }
            None => mount.sub_path.clone().filter(|path| !path.is_empty()),
        };
        let source = match sub_path {
            Some(sub_path) => {
                let target =
                    self.pod_dir.join("volume-subpaths").join(&mount.name).join(&self.container.name);
                sub_path::bind(
                    &mounted.path,
                    &sub_path,
                    &target.join(format!("{}-{index}", self.restart_count)),
                )?
            }
            None => mounted.path.clone(),
        };
        if !source.exists() {
            // As with a host path of no type.
            prepared("a volume's directory", std::fs::create_dir_all(&source))?;
        }
        let source = prepared("a volume's path", source.canonicalize())?;
        let destination = Path::new("/").join(&mount.mount_path);
        Ok(VolumeMountPoint {
            source,
            destination,
            read_only: mount.read_only.unwrap_or(false) || mounted.read_only,
            recursive_read_only: matches!(
                mount.recursive_read_only.as_deref(),
                Some("Enabled" | "IfPossible")
            ),
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                Some(_) | None => Propagation::None,
            },
        })
    }
}

fn prepared<T>(what: &'static str, result: std::io::Result<T>) -> Result<T, ConfigError> {
    result.map_err(|source| ConfigError::Prepare { what, source })
}
