//! The image store on disk.
//!
//! ```text
//! <dir>/lock                      held while the store is open
//! <dir>/images.json               the catalogue: every image that exists
//! <dir>/blobs/sha256/<hex>        manifests, configurations, layers as transferred
//! <dir>/layers/<chain id>/fs      unpacked layers, as overlayfs takes them
//! <dir>/staging/<number>/         what is being imported now
//! ```
//!
//! An image exists when the catalogue names it. The catalogue is replaced by rename after
//! everything that it names is on disk; whatever it does not name is garbage of an interrupted
//! import, and opening the store removes it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use rustix::fs::FlockOperation;

use crate::digest::Digest;
use crate::image::Image;
use crate::limits::Limits;
use crate::reference::{Reference, ReferenceError};

mod catalogue;
mod install;
mod lease;
mod session;
#[cfg(test)]
mod tests;

use catalogue::{CATALOGUE, Catalogue, Kind, read_catalogue, write_catalogue};
pub use install::InstallError;
pub(crate) use install::{MAX_CONFIG_BYTES, ManifestParts, install, unpack};
pub use lease::Lease;
use lease::Leases;
pub(crate) use session::Session;

/// The fewest hex digits that name an image, as Docker prints them.
const MIN_ID_DIGITS: usize = 12;

/// What went wrong with the store itself.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the image store {} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error("the catalogue {} is damaged", path.display())]
    Catalogue { path: PathBuf, source: serde_json::Error },
    #[error("the catalogue {} has the unknown version {version}", path.display())]
    Version { path: PathBuf, version: u32 },
    #[error("no such image: {0}")]
    NotFound(String),
    #[error("image {name} is in use by {leases} container(s)")]
    InUse { name: String, leases: usize },
    #[error("the store's worker was stopped")]
    Stopped,
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| StoreError::Io { action, path, source }
    }
}

/// The images of this machine. Clones share one store.
#[derive(Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    dir: PathBuf,
    limits: Limits,
    lock: File,
    catalogue: RwLock<Arc<Catalogue>>,
    /// Held while the catalogue changes.
    commit: Mutex<()>,
    /// What sessions have found or put and the catalogue need not name yet.
    pins: Mutex<HashMap<PathBuf, usize>>,
    leases: Mutex<Leases>,
    next_session: AtomicU64,
}

/// What `remove` and `prune` did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that no longer exist.
    pub names: Vec<String>,
    /// Images that no longer exist.
    pub images: Vec<Digest>,
}

/// Which images `prune` removes. Leased images always stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneScope {
    /// Those without a name.
    Unnamed,
    /// Those that no container uses.
    Unused,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that is being spawned has a copy until it executes.
        if let Err(error) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "cannot unlock the image store");
        }
    }
}

impl ImageStore {
    /// Opens or creates the store in `dir`, with default [`Limits`], and removes what an
    /// interrupted import left. Blocks on the disk.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, Limits::default())
    }

    pub fn open_with(dir: &Path, limits: Limits) -> Result<Self, StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        for part in ["", "blobs/sha256", "layers", "staging"] {
            let path = dir.join(part);
            // Set-uid files of images must not be within reach of this machine's users.
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(StoreError::io("create", path))?;
        }
        let dir = dir.canonicalize().map_err(StoreError::io("find", dir))?;
        let lock = lock(&dir)?;
        let catalogue = read_catalogue(&dir.join(CATALOGUE))?;
        let store = ImageStore {
            inner: Arc::new(Inner {
                dir,
                limits,
                lock,
                catalogue: RwLock::new(Arc::new(catalogue)),
                commit: Mutex::new(()),
                pins: Mutex::new(HashMap::new()),
                leases: Mutex::new(Leases::default()),
                next_session: AtomicU64::new(0),
            }),
        };
        store.inner.remove_garbage()?;
        Ok(store)
    }

    /// The image of this name: by digest if the reference has one, else by tag.
    pub fn resolve(&self, reference: &Reference) -> Option<Image> {
        self.inner.snapshot().resolve(reference).cloned()
    }

    /// The image that `text` means: a name, `name@digest`, an id, or the first 12 or more hex digits
    /// of an id.
    pub fn find(&self, text: &str) -> Result<Option<Image>, ReferenceError> {
        let catalogue = self.inner.snapshot();
        if let Ok(id) = Digest::parse(text) {
            return Ok(catalogue.images.get(&id).cloned());
        }
        let named = Reference::parse(text);
        if let Ok(reference) = &named
            && let Some(image) = catalogue.resolve(reference)
        {
            return Ok(Some(image.clone()));
        }
        if text.len() >= MIN_ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            let mut matches = catalogue.images.values().filter(|image| image.id.hex().starts_with(text));
            if let (Some(image), None) = (matches.next(), matches.next()) {
                return Ok(Some(image.clone()));
            }
        }
        named.map(|_| None)
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<Image> {
        self.inner.snapshot().images.values().cloned().collect()
    }

    /// Removes a name, and with its last name the image; an id removes the image with all its
    /// names. Refuses to remove an image that is leased.
    pub async fn remove(&self, text: &str) -> Result<Removed, StoreError> {
        let text = text.to_owned();
        self.blocking(move |store| store.inner.remove(&store, &text)).await
    }

    /// Removes the images of `scope` that nobody leases.
    pub async fn prune(&self, scope: PruneScope) -> Result<Removed, StoreError> {
        self.blocking(move |store| store.inner.prune(scope)).await
    }

    /// The limits that archives are held to.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The layers of `image`, the lowest first, as directories for overlayfs.
    pub(crate) fn layer_dirs(&self, image: &Image) -> Vec<PathBuf> {
        image.layers.iter().map(|layer| self.inner.layer_path(&layer.chain_id).join("fs")).collect()
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.blob_path(digest)
    }

    pub(crate) async fn blocking<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(ImageStore) -> Result<T, E> + Send + 'static,
    {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || work(store)).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(StoreError::Stopped.into()),
        }
    }
}

impl Inner {
    fn snapshot(&self) -> Arc<Catalogue> {
        self.catalogue.read().clone()
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn layer_path(&self, chain_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(chain_id.hex())
    }

    fn staging(&self) -> PathBuf {
        self.dir.join("staging")
    }

    fn path(&self, kind: Kind, digest: &Digest) -> PathBuf {
        match kind {
            Kind::Blob => self.blob_path(digest),
            Kind::Layer => self.layer_path(digest),
        }
    }

    /// Changes the catalogue durably. `change` sees the newest one.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut Catalogue) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _commit = self.commit.lock();
        let before = self.snapshot();
        let mut after = Catalogue::clone(&before);
        let result = change(&mut after)?;
        write_catalogue(&self.dir, &after)?;
        let kept = after.files();
        *self.catalogue.write() = Arc::new(after);
        let dropped: HashSet<_> = before.files().difference(&kept).cloned().collect();
        self.sweep(&dropped)?;
        Ok(result)
    }

    fn remove(&self, store: &ImageStore, text: &str) -> Result<Removed, StoreError> {
        let found = store.find(text).ok().flatten();
        let image = found.ok_or_else(|| StoreError::NotFound(text.to_owned()))?;
        let reference = Reference::parse(text).ok().filter(|name| image.has(name));
        let mut leaving = self.leaving();
        self.change(|catalogue| {
            let fail = || StoreError::NotFound(text.to_owned());
            let entry = catalogue.images.get_mut(&image.id).ok_or_else(fail)?;
            let (names, digests) = match &reference {
                Some(reference) => entry.without(reference),
                None => (Vec::new(), Vec::new()),
            };
            let gone = entry.names.iter().filter(|name| !names.contains(name)).cloned().collect();
            let mut removed = Removed { names: gone, images: Vec::new() };
            if !names.is_empty() || !digests.is_empty() {
                (entry.names, entry.digests) = (names, digests);
                return Ok(removed);
            }
            let in_use = |leases| StoreError::InUse { name: text.to_owned(), leases };
            leaving.add(&image.id).map_err(in_use)?;
            catalogue.images.remove(&image.id);
            removed.images.push(image.id.clone());
            Ok(removed)
        })
    }

    fn prune(&self, scope: PruneScope) -> Result<Removed, StoreError> {
        let mut leaving = self.leaving();
        self.change(|catalogue| {
            let mut removed = Removed::default();
            catalogue.images.retain(|id, image| {
                let in_scope = match scope {
                    PruneScope::Unnamed => image.names.is_empty(),
                    PruneScope::Unused => true,
                };
                let kept = !in_scope || leaving.add(id).is_err();
                if !kept {
                    removed.names.append(&mut image.names);
                    removed.images.push(id.clone());
                }
                kept
            });
            Ok(removed)
        })
    }

    /// Deletes files that no image has any more, unless a session relies on them.
    fn sweep(&self, files: &HashSet<(Kind, Digest)>) -> Result<(), StoreError> {
        if files.is_empty() {
            return Ok(());
        }
        let trash = self.staging().join(self.next_session.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&trash).map_err(StoreError::io("create", &trash))?;
        for (kind, digest) in files {
            let path = self.path(*kind, digest);
            let pins = self.pins.lock();
            if pins.contains_key(&path) {
                continue;
            }
            // Gone at once for everybody, deleted after.
            match fs::rename(&path, trash.join(format!("{kind:?}-{}", digest.hex()))) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("remove", path)(error)),
            }
        }
        fs::remove_dir_all(&trash).map_err(StoreError::io("remove", trash))
    }

    /// Ends a session's claims and deletes what only that session needed.
    fn unpin(&self, pinned: &[PathBuf]) {
        let _commit = self.commit.lock();
        let named = self.named_paths();
        let mut pins = self.pins.lock();
        for path in pinned {
            let Some(count) = pins.get_mut(path) else { continue };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            pins.remove(path);
            if named.contains(path) {
                continue;
            }
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            match removed {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(path = %path.display(), %error, "cannot remove unused content"),
            }
        }
    }

    fn named_paths(&self) -> HashSet<PathBuf> {
        self.snapshot().files().iter().map(|(kind, digest)| self.path(*kind, digest)).collect()
    }

    /// At start: nothing is being imported, so whatever no image has is garbage.
    fn remove_garbage(&self) -> Result<(), StoreError> {
        let staging = self.staging();
        fs::remove_dir_all(&staging).map_err(StoreError::io("remove", &staging))?;
        fs::create_dir(&staging).map_err(StoreError::io("create", &staging))?;
        let kept = self.named_paths();
        for directory in ["blobs/sha256", "layers"] {
            let directory = self.dir.join(directory);
            for entry in fs::read_dir(&directory).map_err(StoreError::io("list", &directory))? {
                let entry = entry.map_err(StoreError::io("list", &directory))?;
                let path = entry.path();
                if kept.contains(&path) {
                    continue;
                }
                let is_dir = entry.file_type().map_err(StoreError::io("look up", &path))?.is_dir();
                let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.map_err(StoreError::io("remove", path))?;
            }
        }
        Ok(())
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(StoreError::io("create", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked(dir.to_owned())),
        Err(errno) => Err(StoreError::io("lock", path)(errno.into())),
    }
}
