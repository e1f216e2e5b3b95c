//! The store's part of the admin socket: backups, keys, figures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use sampan_api::table::Table;
use sampan_storage::backup::{self, File};
use sampan_storage::{Store, StoreError};
use serde::{Deserialize, Serialize};
use tokio_util::io::ReaderStream;

use super::Refused;
use crate::cluster_identity::SharedKeys;
use crate::encryption::{AtRest, key_file_path, resource_of};

/// Below it is the cluster's state. What servers on one etcd agree on among themselves is elsewhere.
pub const ROOT: &str = "/registry/";
/// Bytes of a backup that wait for the reader.
const PIPE_BYTES: usize = 256 << 10;
/// The largest file that a backup carries along.
const FILE_BYTES: u64 = 1 << 20;

/// What the routes work on.
#[derive(Clone)]
pub struct StorageRoutes {
    /// As it is on disk: values that are encrypted stay so.
    pub inner: Arc<dyn Store>,
    pub at_rest: Arc<AtRest>,
    /// Where other servers have the same keys.
    pub shared: Option<Arc<SharedKeys>>,
    pub data_dir: PathBuf,
}

impl StorageRoutes {
    pub fn router(self) -> Router {
        Router::new()
            .route("/storage/backup", get(backup))
            .route("/storage/stats", get(stats))
            .route("/storage/compact", post(compact))
            .route("/storage/rotate-key", post(rotate_key))
            .with_state(self)
    }
}

/// What `sampan storage stats` shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageStats {
    pub revision: u64,
    pub entries: u64,
    pub live_bytes: u64,
    pub file_bytes: u64,
    pub oldest_revision: u64,
    pub history_events: u64,
    pub history_bytes: u64,
    pub watches: u64,
    /// By resource, largest first.
    pub resources: Vec<ResourceStats>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ResourceStats {
    pub resource: String,
    pub entries: u64,
    pub bytes: u64,
    pub encrypted: u64,
}

/// What a rotation did.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Rotated {
    pub seen: u64,
    pub written: u64,
}

#[derive(Deserialize)]
pub struct BackupQuery {
    #[serde(default)]
    keys: bool,
}

async fn backup(
    State(routes): State<StorageRoutes>,
    Query(query): Query<BackupQuery>,
) -> Result<Response, Refused> {
    let files = if query.keys { key_files(&routes.data_dir)? } else { Vec::new() };
    let scan = routes.inner.scan(ROOT).await?;
    let (mut writer, reader) = tokio::io::duplex(PIPE_BYTES);
    // Ends when all is written, or when nobody reads any more.
    tokio::spawn(async move {
        if let Err(error) = backup::write(scan, &files, now_s(), &mut writer).await {
            // The reader sees a backup without an end, and refuses it.
            tracing::warn!(%error, "a backup was not finished");
        }
    });
    Ok(Response::new(Body::from_stream(ReaderStream::new(reader))))
}

async fn stats(State(routes): State<StorageRoutes>) -> Result<Json<StorageStats>, Refused> {
    Ok(Json(collect(&*routes.inner).await?))
}

async fn compact(State(routes): State<StorageRoutes>) -> Result<Json<StorageStats>, Refused> {
    let revision = routes.inner.revision().await?;
    routes.inner.compact(revision).await?;
    routes.inner.defragment().await?;
    Ok(Json(collect(&*routes.inner).await?))
}

async fn rotate_key(State(routes): State<StorageRoutes>) -> Result<Json<Rotated>, Refused> {
    let done = routes.at_rest.rotate(routes.shared.as_deref()).await?;
    Ok(Json(Rotated { seen: done.seen, written: done.written }))
}

/// Figures of a store, by resource.
pub async fn collect(store: &dyn Store) -> Result<StorageStats, StoreError> {
    let resource_of = resource_of(&Table::builtin());
    let mut resources: BTreeMap<String, ResourceStats> = BTreeMap::new();
    let mut scan = store.scan("").await?;
    while let Some(entries) = scan.next().await {
        for entry in entries? {
            let name = resource_of(&entry.key).to_string();
            let figures = resources
                .entry(name.clone())
                .or_insert_with(|| ResourceStats { resource: name, ..ResourceStats::default() });
            figures.entries += 1;
            figures.bytes += (entry.key.len() + entry.value.len()) as u64;
            let encrypted = entry.value.starts_with(sampan_storage::encryption::provider::ENCRYPTED_PREFIX);
            figures.encrypted += u64::from(encrypted);
        }
    }
    let stats = store.stats().await?;
    let mut resources: Vec<_> = resources.into_values().collect();
    resources.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.resource.cmp(&b.resource)));
    Ok(StorageStats {
        revision: stats.revision,
        entries: stats.entries,
        live_bytes: stats.live_bytes,
        file_bytes: stats.file_bytes,
        oldest_revision: stats.oldest,
        history_events: stats.history_events,
        history_bytes: stats.history_bytes,
        watches: stats.watches,
        resources,
    })
}

/// The keys of a data directory: those that values are encrypted with, and those that identities are
/// signed with. Whoever has a backup with them has every secret in it.
pub fn key_files(data_dir: &Path) -> Result<Vec<File>> {
    let mut paths = vec![key_file_path(data_dir)];
    let pki = data_dir.join("pki");
    for found in std::fs::read_dir(&pki).with_context(|| format!("cannot read {}", pki.display()))? {
        let found = found?;
        if found.file_type()?.is_file() {
            paths.push(found.path());
        }
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            // Who configured their own keys has no key file.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        anyhow::ensure!(length <= FILE_BYTES, "{} has more than {FILE_BYTES} bytes", path.display());
        let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let relative = path.strip_prefix(data_dir).expect("is below it");
        files.push(File { path: relative.to_string_lossy().into_owned(), content });
    }
    Ok(files)
}

pub fn now_s() -> u64 {
    Timestamp::now().as_second().unsigned_abs()
}
