//! Makes and keeps the volumes of one pod.
//!
//! Nothing polls: an attempt that failed for want of an object is repeated when the object appears,
//! any other failure after a delay that doubles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{self, FutureExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Volume};
use sampan_api::Gvr;
use sampan_client::Client;
use sampan_client::typed::Resource;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::payload::{self, DEFAULT_MODE, Payload, PayloadError, Selection};
use super::persistent::ClaimError;
use super::projected::{self, Fetched};
use super::token::Tokens;
use super::{Mounted, atomic_writer, directory, empty_dir, host_path, is_mount_point, persistent};
use crate::objects::{ObjectTracker, Tracked};
use crate::pod;
use crate::spec::fields::NodeFacts;

const RETRY_FROM: Duration = Duration::from_millis(500);
const RETRY_TO: Duration = Duration::from_secs(122);

/// How far the volumes of a pod are.
#[derive(Clone, Debug, Default)]
pub enum Volumes {
    #[default]
    Pending,
    /// The message of the event with reason `FailedMount`.
    Failed(String),
    Ready(Arc<BTreeMap<String, Mounted>>),
}

impl Volumes {
    /// Whether what a container mounts is there. An ephemeral one may be the first to mount a volume.
    pub fn have_all_of(&self, container: &Container) -> bool {
        match self {
            Volumes::Pending | Volumes::Failed(_) => false,
            Volumes::Ready(all) => {
                container.volume_mounts.iter().flatten().all(|mount| all.contains_key(&mount.name))
            }
        }
    }
}

/// Why one volume is not ready.
#[derive(Debug, thiserror::Error)]
enum VolumeError {
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error(transparent)]
    Write(#[from] atomic_writer::WriteError),
    #[error(transparent)]
    EmptyDir(#[from] empty_dir::EmptyDirError),
    #[error(transparent)]
    HostPath(#[from] host_path::HostPathError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error("failed to fetch token: {0}")]
    Token(Box<sampan_api::Status>),
    #[error("cannot make the directory: {0}")]
    Directory(#[from] std::io::Error),
    #[error("no volume plugin matched")]
    Kind,
}

impl VolumeError {
    /// Whether only a change of an object that is watched can help.
    fn waits_for_object(&self) -> bool {
        match self {
            VolumeError::Payload(_) => true,
            VolumeError::Write(_)
            | VolumeError::EmptyDir(_)
            | VolumeError::HostPath(_)
            | VolumeError::Claim(_)
            | VolumeError::Token(_)
            | VolumeError::Directory(_)
            | VolumeError::Kind => false,
        }
    }
}

/// The keeper of one pod's volumes; runs until it is dropped.
pub struct Keeper {
    pub client: Client,
    pub tracker: Arc<ObjectTracker>,
    pub pod_dir: PathBuf,
    pub pod: watch::Receiver<Arc<Pod>>,
    /// What the downward API says; the pod's addresses follow when they are known.
    pub node: watch::Receiver<NodeFacts>,
    pub state: watch::Sender<Volumes>,
}

impl Keeper {
    pub async fn run(mut self) {
        let mut tokens = Tokens::new(self.client.clone());
        // Once for each set of volumes; containers that come later may mount more.
        loop {
            let pod = self.pod.borrow().clone();
            let volumes = mounted_volumes(&pod);
            let mut tracked: BTreeMap<(Gvr, String), Arc<Tracked>> = BTreeMap::new();
            for (gvr, name) in references(&volumes) {
                let handle = self.tracker.track(gvr.clone(), pod::namespace(&pod), &name);
                tracked.insert((gvr, name), handle);
            }
            self.keep(&volumes, &tracked, &mut tokens).await;
        }
    }

    /// Keeps a set of volumes, until the pod mounts others.
    async fn keep(
        &mut self,
        volumes: &[Volume],
        tracked: &BTreeMap<(Gvr, String), Arc<Tracked>>,
        tokens: &mut Tokens,
    ) {
        let mut changes: Vec<_> = tracked.values().map(|tracked| tracked.subscribe()).collect();
        let downward = volumes.iter().any(uses_pod);
        let mut delay = RETRY_FROM;
        loop {
            changes.iter_mut().for_each(|change| change.mark_unchanged());
            let pod = self.pod.borrow_and_update().clone();
            let node = self.node.borrow_and_update().clone();
            if mounted_volumes(&pod).len() != volumes.len() {
                return;
            }
            let retry = match self.make(&pod, &node, volumes, tracked, tokens).await {
                Ok(mounted) => {
                    delay = RETRY_FROM;
                    self.state.send_if_modified(|state| {
                        let known = matches!(state, Volumes::Ready(known) if known.len() == mounted.len());
                        if !known {
                            *state = Volumes::Ready(Arc::new(mounted));
                        }
                        !known
                    });
                    None
                }
                Err((message, waits)) => {
                    // Files that were made once go on being served as they are.
                    self.state.send_if_modified(|state| {
                        let first = !matches!(state, Volumes::Ready(_));
                        if first {
                            *state = Volumes::Failed(message);
                        }
                        first
                    });
                    let retry = (!waits).then_some(delay);
                    if !waits {
                        delay = (delay * 2).min(RETRY_TO);
                    }
                    retry
                }
            };
            self.wait(&mut changes, downward, volumes.len(), tokens.renew_at(), retry).await;
        }
    }

    /// Until an attempt may have another outcome.
    async fn wait(
        &mut self,
        changes: &mut [watch::Receiver<Option<crate::objects::Known>>],
        downward: bool,
        mounted: usize,
        renew_at: Option<Timestamp>,
        retry: Option<Duration>,
    ) {
        let objects = async {
            if changes.is_empty() {
                future::pending::<()>().await;
            }
            let changed = changes.iter_mut().map(|change| change.changed().boxed());
            if future::select_all(changed).await.0.is_err() {
                // Its follower is gone, and with it every further change.
                future::pending::<()>().await;
            }
        };
        let pod_changes = async {
            loop {
                tokio::select! {
                    changed = self.pod.changed() => if changed.is_err() { future::pending::<()>().await },
                    changed = self.node.changed() => if changed.is_err() { future::pending::<()>().await },
                }
                // Nothing else of a pod is seen in its volumes.
                if downward || mounted_volumes(&self.pod.borrow_and_update()).len() != mounted {
                    return;
                }
                self.node.mark_unchanged();
            }
        };
        let timer = async {
            let until_renewal = renew_at
                .map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO));
            match until_renewal.into_iter().chain(retry).min() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = objects => {}
            () = pod_changes => {}
            () = timer => {}
        }
    }

    async fn make(
        &self,
        pod: &Arc<Pod>,
        node: &NodeFacts,
        volumes: &[Volume],
        tracked: &BTreeMap<(Gvr, String), Arc<Tracked>>,
        tokens: &mut Tokens,
    ) -> Result<BTreeMap<String, Mounted>, (String, bool)> {
        let mut fetched = Fetched::default();
        for ((gvr, name), handle) in tracked {
            let known = handle.current().await;
            let Some(object) = known.present() else { continue };
            if *gvr == ConfigMap::gvr() {
                fetched.config_maps.extend(decode(object).map(|map| (name.clone(), map)));
            } else {
                fetched.secrets.extend(decode(object).map(|secret| (name.clone(), secret)));
            }
        }
        let mut mounted = BTreeMap::new();
        for volume in volumes {
            let made = self.make_one(pod, node, volume, &mut fetched, tokens).await.map_err(|error| {
                let message = format!("MountVolume.SetUp failed for volume \"{}\" : {error}", volume.name);
                (message, error.waits_for_object())
            })?;
            mounted.insert(volume.name.clone(), made);
        }
        Ok(mounted)
    }

    async fn make_one(
        &self,
        pod: &Arc<Pod>,
        node: &NodeFacts,
        volume: &Volume,
        fetched: &mut Fetched,
        tokens: &mut Tokens,
    ) -> Result<Mounted, VolumeError> {
        if let Some(source) = &volume.config_map {
            let selection = Selection {
                items: source.items.as_deref(),
                default_mode: source.default_mode.unwrap_or(DEFAULT_MODE),
                optional: source.optional.unwrap_or(false),
            };
            let map = fetched.config_maps.get(&source.name);
            return self
                .write(pod, "configmap", volume, payload::config_map(&source.name, map, selection)?)
                .await;
        }
        if let Some(source) = &volume.secret {
            let selection = Selection {
                items: source.items.as_deref(),
                default_mode: source.default_mode.unwrap_or(DEFAULT_MODE),
                optional: source.optional.unwrap_or(false),
            };
            let name = source.secret_name.as_deref().unwrap_or_default();
            return self
                .write(pod, "secret", volume, payload::secret(name, fetched.secrets.get(name), selection)?)
                .await;
        }
        if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
            return self
                .write(pod, "downward-api", volume, payload::downward_api(items, mode, pod, node)?)
                .await;
        }
        if let Some(source) = &volume.projected {
            for wanted in
                source.sources.iter().flatten().filter_map(|part| part.service_account_token.as_ref())
            {
                let token = tokens.get(pod, wanted, Timestamp::now()).await;
                let token = token.map_err(|status| VolumeError::Token(Box::new(status)))?;
                let key = (wanted.audience.clone().unwrap_or_default(), wanted.path.clone());
                fetched.tokens.insert(key, token);
            }
            return self
                .write(pod, "projected", volume, projected::payload(source, fetched, pod, node)?)
                .await;
        }
        if let Some(source) = volume.persistent_volume_claim.as_ref() {
            let path = persistent::resolve(&self.client, pod::namespace(pod), &source.claim_name).await?;
            return Ok(Mounted { path, read_only: source.read_only.unwrap_or(false) });
        }
        let volume = volume.clone();
        let dir = directory(&self.pod_dir, "empty-dir", &volume.name);
        let group = fs_group(pod);
        blocking(move || {
            if let Some(source) = &volume.host_path {
                let path = PathBuf::from(&source.path);
                host_path::check(&path, source.type_.as_deref().unwrap_or_default())?;
                Ok(Mounted { path, read_only: false })
            } else if let Some(source) = &volume.empty_dir {
                empty_dir::set_up(&dir, source, group)?;
                Ok(Mounted { path: dir, read_only: false })
            } else {
                Err(VolumeError::Kind)
            }
        })
        .await
    }

    async fn write(
        &self,
        pod: &Pod,
        plugin: &str,
        volume: &Volume,
        payload: Payload,
    ) -> Result<Mounted, VolumeError> {
        let dir = directory(&self.pod_dir, plugin, &volume.name);
        let group = fs_group(pod);
        // Secrets and tokens never reach a disk.
        let in_memory = volume.secret.is_some() || volume.projected.is_some();
        blocking(move || {
            std::fs::create_dir_all(&dir)?;
            if in_memory && !is_mount_point(&dir) {
                empty_dir::mount_memory(&dir, Some("mode=755"))?;
            }
            atomic_writer::write(&dir, &payload, group)?;
            Ok(Mounted { path: dir, read_only: true })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(VolumeError::Directory(std::io::Error::other(error))),
    }
}

fn decode<T: DeserializeOwned>(object: &sampan_api::Object) -> Option<T> {
    match object.decode() {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(object = object.key(), %error, "an object of a volume cannot be decoded");
            None
        }
    }
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod::spec(pod).security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// The volumes that a container mounts; the others are not made.
fn mounted_volumes(pod: &Pod) -> Vec<Volume> {
    let spec = pod::spec(pod);
    let used: BTreeSet<&str> = pod::containers(spec)
        .map(|(_, container)| &container.volume_mounts)
        .chain(spec.ephemeral_containers.iter().flatten().map(|container| &container.volume_mounts))
        .flat_map(|mounts| mounts.iter().flatten())
        .map(|mount| mount.name.as_str())
        .collect();
    spec.volumes.iter().flatten().filter(|volume| used.contains(volume.name.as_str())).cloned().collect()
}

/// The config maps and secrets of volumes.
fn references(volumes: &[Volume]) -> BTreeSet<(Gvr, String)> {
    let mut all = BTreeSet::new();
    for volume in volumes {
        all.extend(volume.config_map.as_ref().map(|source| (ConfigMap::gvr(), source.name.clone())));
        let secret = volume.secret.as_ref().and_then(|source| source.secret_name.clone());
        all.extend(secret.map(|name| (Secret::gvr(), name)));
        for part in volume.projected.iter().flat_map(|source| source.sources.iter().flatten()) {
            all.extend(part.config_map.as_ref().map(|source| (ConfigMap::gvr(), source.name.clone())));
            all.extend(part.secret.as_ref().map(|source| (Secret::gvr(), source.name.clone())));
        }
    }
    all
}

/// Whether a volume shows fields of the pod.
fn uses_pod(volume: &Volume) -> bool {
    volume.downward_api.is_some()
        || volume
            .projected
            .iter()
            .flat_map(|source| source.sources.iter().flatten())
            .any(|part| part.downward_api.is_some())
}
