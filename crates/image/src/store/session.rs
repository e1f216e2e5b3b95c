//! One import in progress: a private directory, and pins on what it relies on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::catalogue::Catalogue;
use super::{ImageStore, StoreError};
use crate::digest::Digest;
use crate::image::Image;
use crate::reference::Reference;

/// Dropping it removes its directory, and what it has put into the store without committing it.
pub(crate) struct Session {
    store: ImageStore,
    dir: PathBuf,
    pins: Vec<PathBuf>,
    next_file: u64,
}

impl Session {
    pub(crate) fn new(store: &ImageStore) -> Result<Self, StoreError> {
        let number = store.inner.next_session.fetch_add(1, Ordering::Relaxed);
        let dir = store.inner.staging().join(number.to_string());
        fs::create_dir(&dir).map_err(StoreError::io("create", &dir))?;
        Ok(Session { store: store.clone(), dir, pins: Vec::new(), next_file: 0 })
    }

    pub(crate) fn store(&self) -> &ImageStore {
        &self.store
    }

    /// A path in this session's directory that nothing has yet.
    pub(crate) fn new_path(&mut self) -> PathBuf {
        self.next_file += 1;
        self.dir.join(self.next_file.to_string())
    }

    pub(crate) fn new_file(&mut self) -> Result<(PathBuf, File), StoreError> {
        let path = self.new_path();
        let file = File::create_new(&path).map_err(StoreError::io("create", &path))?;
        Ok((path, file))
    }

    fn pin(&mut self, path: PathBuf) {
        *self.store.inner.pins.lock().entry(path.clone()).or_default() += 1;
        self.pins.push(path);
    }

    /// Whether the store has the blob; it then stays while this session lives.
    pub(crate) fn has_blob(&mut self, digest: &Digest) -> bool {
        let path = self.store.inner.blob_path(digest);
        self.pin(path.clone());
        path.exists()
    }

    /// Moves a verified file into the store.
    pub(crate) fn add_blob(&mut self, staged: &Path, digest: &Digest) -> Result<(), StoreError> {
        let path = self.store.inner.blob_path(digest);
        self.pin(path.clone());
        fs::rename(staged, &path).map_err(StoreError::io("store", path))
    }

    pub(crate) fn add_bytes(&mut self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.has_blob(&digest) {
            let path = self.new_path();
            fs::write(&path, bytes).map_err(StoreError::io("write", &path))?;
            self.add_blob(&path, &digest)?;
        }
        Ok(digest)
    }

    /// Whether the store has the unpacked layer; it then stays while this session lives.
    pub(crate) fn has_layer(&mut self, chain_id: &Digest) -> bool {
        let path = self.store.inner.layer_path(chain_id);
        self.pin(path.clone());
        path.exists()
    }

    /// Moves an unpacked layer into the store.
    pub(crate) fn add_layer(&mut self, staged: &Path, chain_id: &Digest) -> Result<(), StoreError> {
        let path = self.store.inner.layer_path(chain_id);
        self.pin(path.clone());
        match fs::rename(staged, &path) {
            Ok(()) => Ok(()),
            // Another session was faster; ours goes with the session's directory.
            Err(_) if path.exists() => Ok(()),
            Err(error) => Err(StoreError::io("store", path)(error)),
        }
    }

    /// Shows an image. `names` and `digests` are taken from any image that had them.
    pub(crate) fn commit(
        &self,
        image: Image,
        names: &[Reference],
        digests: &[String],
    ) -> Result<Image, StoreError> {
        self.store.inner.change(|catalogue| Ok(show(catalogue, image, names, digests)))
    }

    /// Shows several images with their names and digests: all of them or none.
    pub(crate) fn commit_all(
        &self,
        images: Vec<(Image, &[Reference], Vec<String>)>,
    ) -> Result<Vec<Image>, StoreError> {
        let show_all = |catalogue: &mut Catalogue| {
            let shown =
                images.into_iter().map(|(image, names, digests)| show(catalogue, image, names, &digests));
            Ok(shown.collect())
        };
        self.store.inner.change(show_all)
    }
}

fn show(catalogue: &mut Catalogue, mut image: Image, names: &[Reference], digests: &[String]) -> Image {
    let names: Vec<String> = names.iter().map(Reference::to_string).collect();
    for other in catalogue.images.values_mut() {
        other.names.retain(|name| !names.contains(name));
        other.digests.retain(|digest| !digests.contains(digest));
    }
    if let Some(known) = catalogue.images.get(&image.id) {
        // The same configuration, maybe in another manifest: blobs of both must not be lost
        // track of, so the first stays.
        image = Image { names: known.names.clone(), digests: known.digests.clone(), ..known.clone() };
    }
    image.names.extend(names);
    image.digests.extend(digests.iter().cloned());
    image.names.sort();
    image.digests.sort();
    catalogue.images.insert(image.id.clone(), image.clone());
    image
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "cannot remove the remains of an import");
        }
        self.store.inner.unpin(&self.pins);
    }
}
