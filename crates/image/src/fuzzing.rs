//! Doors for the fuzz targets: layers, manifests and headers of registries, without a store or a registry.

use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::image::{ConfigFile, ImageConfig};
use crate::limits::Limits;
use crate::manifest::Document;
use crate::registry::fuzzing as headers;
use crate::unpack::{UnpackError, unpack_layer};
use crate::user::{ResolvedUser, UserError, resolve};

/// Unpacks a layer whose uncompressed bytes have this digest into an empty directory.
pub fn unpack(
    blob: &[u8],
    diff_id: &Digest,
    into: &Path,
    lowers: &[PathBuf],
    limits: &Limits,
) -> Result<u64, UnpackError> {
    unpack_layer(blob, diff_id, into, lowers, limits)
}

/// Reads a manifest or an index and writes it again; `None` where it is neither.
pub fn rewrite_manifest(bytes: &[u8]) -> Option<Vec<u8>> {
    let written = match Document::parse(bytes).ok()? {
        Document::Manifest(manifest) => serde_json::to_vec(&manifest),
        Document::Index(index) => {
            let _ = index.for_host();
            serde_json::to_vec(&index)
        }
    };
    Some(written.expect("manifests are JSON"))
}

/// Reads an image's configuration, and what is written of it.
pub fn image_config(bytes: &[u8]) -> Option<(ImageConfig, Vec<u8>)> {
    let file: ConfigFile = serde_json::from_slice(bytes).ok()?;
    let config = ImageConfig::from_file(&file);
    let written = serde_json::to_vec(&config.to_file(file.rootfs.diff_ids));
    Some((config, written.expect("configurations are JSON")))
}

/// Where a challenge of a `WWW-Authenticate` header sends its reader, if anywhere.
pub fn challenge(header: &str) -> Option<String> {
    headers::challenge(header)
}

/// Who a user is by the texts of a passwd and a group file.
pub fn user(passwd: &str, group: &str, user: &str) -> Result<ResolvedUser, UserError> {
    resolve(passwd, group, user)
}
