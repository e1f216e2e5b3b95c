//! What an image is to the rest of Sampan, and the parts of the OCI configuration that it needs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// An image in the store: complete, verified and unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:…`, the digest of the configuration.
    pub id: Digest,
    /// Full names with tags: `docker.io/library/nginx:latest`.
    pub names: Vec<String>,
    /// Full names with digests: `docker.io/library/nginx@sha256:…`.
    pub digests: Vec<String>,
    /// Bytes of the unpacked layers.
    pub size: u64,
    pub config: ImageConfig,
    /// From the lowest to the topmost.
    pub layers: Vec<Layer>,
    /// The OCI or Docker manifest, which is in the store as a blob.
    pub manifest: Digest,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Digest of the blob as transferred, often compressed.
    pub blob: Digest,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Identity of this layer over those below it (image-spec, config.md, "Layer ChainID").
    pub chain_id: Digest,
    /// Bytes of the files in it.
    pub size: u64,
}

/// How containers of the image run, unless the pod says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group`, `uid:gid`; empty is root.
    pub user: String,
    /// Empty is `/`.
    pub working_dir: String,
    /// `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// Paths in the container.
    pub volumes: Vec<String>,
    /// `SIGTERM`, `15`, `RTMIN+3`.
    pub stop_signal: Option<String>,
    pub labels: BTreeMap<String, String>,
    /// As Docker names them: `amd64`, `arm64`.
    pub architecture: String,
    pub os: String,
    /// RFC 3339, as the image has it.
    pub created: Option<String>,
}

/// The image configuration blob (image-spec, config.md; Docker's is a superset).
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub config: Option<ConfigSection>,
    pub rootfs: RootFs,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ConfigSection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Empty>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// The `{}` of Go's set-like maps.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Empty {}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type", default = "RootFs::kind")]
    pub kind: String,
    pub diff_ids: Vec<Digest>,
}

impl RootFs {
    pub(crate) fn kind() -> String {
        "layers".to_owned()
    }
}

impl ImageConfig {
    pub(crate) fn from_file(file: &ConfigFile) -> Self {
        let empty = ConfigSection::default();
        let section = file.config.as_ref().unwrap_or(&empty);
        let keys = |map: &Option<BTreeMap<String, Empty>>| {
            map.iter().flat_map(|map| map.keys().cloned()).collect::<Vec<_>>()
        };
        ImageConfig {
            entrypoint: section.entrypoint.clone().unwrap_or_default(),
            cmd: section.cmd.clone().unwrap_or_default(),
            env: section.env.clone().unwrap_or_default(),
            user: section.user.clone().unwrap_or_default(),
            working_dir: section.working_dir.clone().unwrap_or_default(),
            exposed_ports: keys(&section.exposed_ports),
            volumes: keys(&section.volumes),
            stop_signal: section.stop_signal.clone().filter(|signal| !signal.is_empty()),
            labels: section.labels.clone().unwrap_or_default(),
            architecture: file.architecture.clone(),
            os: file.os.clone(),
            created: file.created.clone(),
        }
    }

    pub(crate) fn to_file(&self, diff_ids: Vec<Digest>) -> ConfigFile {
        let list = |items: &[String]| (!items.is_empty()).then(|| items.to_vec());
        let set = |items: &[String]| {
            (!items.is_empty()).then(|| items.iter().map(|item| (item.clone(), Empty {})).collect())
        };
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ConfigFile {
            created: self.created.clone(),
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            config: Some(ConfigSection {
                user: text(&self.user),
                exposed_ports: set(&self.exposed_ports),
                env: list(&self.env),
                entrypoint: list(&self.entrypoint),
                cmd: list(&self.cmd),
                volumes: set(&self.volumes),
                working_dir: text(&self.working_dir),
                labels: (!self.labels.is_empty()).then(|| self.labels.clone()),
                stop_signal: self.stop_signal.clone(),
            }),
            rootfs: RootFs { kind: RootFs::kind(), diff_ids },
        }
    }
}

/// The host's architecture by the name that images use (Go's `GOARCH`).
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        same => same,
    }
}
