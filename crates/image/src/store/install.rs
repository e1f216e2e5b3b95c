//! From blobs to an image: check the configuration, unpack the layers, show the image.

use std::fs::{self, File};
use std::path::Path;

use super::{Session, StoreError};
use crate::digest::Digest;
use crate::image::{ConfigFile, Image, ImageConfig, Layer};
use crate::limits::LimitExceeded;
use crate::reference::Reference;
use crate::unpack::{UnpackError, unpack_layer};

/// The largest configuration that is read.
pub(crate) const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// Why blobs are no image that this machine can run.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the image configuration {digest} is malformed")]
    Config { digest: Digest, source: serde_json::Error },
    #[error("the image configuration {digest} has more than {MAX_CONFIG_BYTES} bytes")]
    ConfigSize { digest: Digest },
    #[error("the manifest has {manifest} layers and the configuration has {config}")]
    LayerCount { manifest: usize, config: usize },
    #[error("the image is for {os}/{architecture}, not for linux/{host}")]
    Platform { os: String, architecture: String, host: &'static str },
    #[error("layer {digest}")]
    Layer { digest: Digest, source: UnpackError },
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
}

/// What a manifest names.
#[derive(Clone, Debug)]
pub(crate) struct ManifestParts {
    pub digest: Digest,
    pub config: Digest,
    pub layers: Vec<Digest>,
}

/// Makes an image of blobs that `session` has in the store, and shows it.
pub(crate) fn install(
    session: &mut Session,
    manifest: &ManifestParts,
    names: &[Reference],
    digests: &[String],
) -> Result<Image, InstallError> {
    let image = unpack(session, manifest)?;
    Ok(session.commit(image, names, digests)?)
}

/// Makes an image of blobs that `session` has in the store, which the store does not show yet.
pub(crate) fn unpack(session: &mut Session, manifest: &ManifestParts) -> Result<Image, InstallError> {
    let config = read_config(session, &manifest.config)?;
    let limits = session.store().limits().clone();
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(InstallError::LayerCount { manifest: manifest.layers.len(), config: diff_ids.len() });
    }
    if diff_ids.len() > limits.max_layers {
        return Err(LimitExceeded::Layers(limits.max_layers).into());
    }
    let mut layers: Vec<Layer> = Vec::with_capacity(diff_ids.len());
    let mut size = 0_u64;
    for (blob, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let chain_id = match layers.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{} {diff_id}", below.chain_id).as_bytes()),
        };
        let layer_size = add_layer(session, blob, diff_id, &chain_id, &layers)?;
        size = size.saturating_add(layer_size);
        if size > limits.max_image_bytes {
            return Err(LimitExceeded::ImageBytes(limits.max_image_bytes).into());
        }
        layers.push(Layer { blob: blob.clone(), diff_id: diff_id.clone(), chain_id, size: layer_size });
    }
    Ok(Image {
        id: manifest.config.clone(),
        names: Vec::new(),
        digests: Vec::new(),
        size,
        config: ImageConfig::from_file(&config),
        layers,
        manifest: manifest.digest.clone(),
    })
}

fn read_config(session: &Session, digest: &Digest) -> Result<ConfigFile, InstallError> {
    let path = session.store().blob_path(digest);
    let length = fs::metadata(&path).map_err(StoreError::io("look up", &path))?.len();
    if length > MAX_CONFIG_BYTES {
        return Err(InstallError::ConfigSize { digest: digest.clone() });
    }
    let bytes = fs::read(&path).map_err(StoreError::io("read", &path))?;
    let config: ConfigFile = serde_json::from_slice(&bytes)
        .map_err(|source| InstallError::Config { digest: digest.clone(), source })?;
    let host = crate::image::host_architecture();
    let runs = (config.os.is_empty() || config.os == "linux")
        && (config.architecture.is_empty() || config.architecture == host);
    if !runs {
        let (os, architecture) = (config.os, config.architecture);
        return Err(InstallError::Platform { os, architecture, host });
    }
    Ok(config)
}

/// Unpacks one layer unless the store has it; answers the bytes of its files.
fn add_layer(
    session: &mut Session,
    blob: &Digest,
    diff_id: &Digest,
    chain_id: &Digest,
    below: &[Layer],
) -> Result<u64, InstallError> {
    let known = session.store().inner.layer_path(chain_id).join("size");
    if session.has_layer(chain_id) {
        return Ok(read_size(&known)?);
    }
    let staged = session.new_path();
    let target = staged.join("fs");
    fs::create_dir_all(&target).map_err(StoreError::io("create", &target))?;
    set_mode(&target, 0o755)?;
    let store = session.store();
    let lowers: Vec<_> =
        below.iter().rev().map(|layer| store.inner.layer_path(&layer.chain_id).join("fs")).collect();
    let path = store.blob_path(blob);
    let file = File::open(&path).map_err(StoreError::io("open", &path))?;
    let size = unpack_layer(file, diff_id, &target, &lowers, store.limits())
        .map_err(|source| InstallError::Layer { digest: blob.clone(), source })?;
    let size_file = staged.join("size");
    fs::write(&size_file, size.to_string()).map_err(StoreError::io("write", &size_file))?;
    session.add_layer(&staged, chain_id)?;
    Ok(size)
}

fn read_size(path: &Path) -> Result<u64, StoreError> {
    let text = fs::read_to_string(path).map_err(StoreError::io("read", path))?;
    text.trim().parse().map_err(|_| StoreError::io("read", path)(std::io::ErrorKind::InvalidData.into()))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(StoreError::io("set up", path))
}
