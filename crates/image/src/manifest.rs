//! Manifests and indexes, in OCI's and Docker's media types (image-spec, manifest.md, image-index.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::image::host_architecture;
use crate::store::ManifestParts;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What registries bound manifests to.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    #[serde(default)]
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
}

/// A manifest document of either kind.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest is malformed")]
    Json(#[from] serde_json::Error),
    #[error("the manifest's schema version {0} is not supported")]
    Version(u64),
    #[error("no matching manifest for linux/{arch} in the manifest list entries")]
    NoPlatform { arch: &'static str },
    #[error("manifests are nested too deep")]
    Nested,
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            schema_version: u64,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let shape: Shape = serde_json::from_slice(bytes)?;
        if shape.schema_version != 2 {
            return Err(ManifestError::Version(shape.schema_version));
        }
        Ok(match shape.manifests {
            Some(_) => Document::Index(serde_json::from_slice(bytes)?),
            None => Document::Manifest(serde_json::from_slice(bytes)?),
        })
    }
}

impl Manifest {
    pub(crate) fn parts(&self, digest: Digest) -> ManifestParts {
        let layers = self.layers.iter().map(|layer| layer.digest.clone()).collect();
        ManifestParts { digest, config: self.config.digest.clone(), layers }
    }
}

impl Index {
    /// The entry for Linux on this machine's architecture. An entry that names no platform serves
    /// when none names this one.
    pub(crate) fn for_host(&self) -> Result<&Descriptor, ManifestError> {
        let arch = host_architecture();
        let matches = |platform: &Platform| platform.os == "linux" && platform.architecture == arch;
        let named = self.manifests.iter().find(|entry| entry.platform.as_ref().is_some_and(matches));
        let unnamed = || self.manifests.iter().find(|entry| entry.platform.is_none());
        named.or_else(unnamed).ok_or(ManifestError::NoPlatform { arch })
    }
}
