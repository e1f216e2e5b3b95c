//! The socket through which commands on this machine reach the running server: images, certificates, the store.
//!
//! HTTP with JSON on `<data-dir>/sampan.sock`, for root only. The image store belongs to one process,
//! so that commands ask it instead of opening the store themselves.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::TryStreamExt as _;
use sampan_base::drain::Shutdown;
use sampan_image::{
    Auth, ImageConfig, ImageStore, ImportOptions, PackSource, Progress, ProgressSink, PruneScope, Reference,
    RegistryClient,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

mod storage;

pub use storage::{ROOT, Rotated, StorageRoutes, StorageStats, collect, key_files, now_s};

/// The socket of a data directory.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("sampan.sock")
}

/// Binds the socket, for images and for what else is routed. The answered task serves it until shutdown.
pub fn serve(
    data_dir: &Path,
    images: ImageStore,
    registry: RegistryClient,
    further: Router,
    shutdown: Shutdown,
) -> Result<impl Future<Output = ()> + use<>> {
    let path = socket_path(data_dir);
    // What is left of a server that was killed: the store's lock says that none runs.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("cannot bind {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let routes = Router::new()
        .route("/images", get(list).delete(remove))
        .route("/images/import", post(import))
        .route("/images/pack", post(pack))
        .route("/images/prune", post(prune))
        .route("/images/pull", post(pull))
        // An archive is as long as it is; the store bounds what it takes of it.
        .layer(DefaultBodyLimit::disable())
        .with_state(Images { store: images, registry })
        .merge(further);
    Ok(async move {
        let served =
            axum::serve(listener, routes).with_graceful_shutdown(async move { shutdown.requested().await });
        if let Err(error) = served.await {
            tracing::error!(%error, "the admin socket failed");
        }
    })
}

/// What the routes work on.
#[derive(Clone)]
struct Images {
    store: ImageStore,
    registry: RegistryClient,
}

/// An image as commands show it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageSummary {
    pub names: Vec<String>,
    pub id: String,
    /// Bytes.
    pub size: u64,
}

/// What `sampan image pack` asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackRequest {
    /// Absolute.
    pub directory: PathBuf,
    pub tag: String,
    #[serde(default)]
    pub entrypoint: Vec<String>,
    #[serde(default)]
    pub cmd: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub working_dir: String,
}

/// What `sampan image pull` asks for.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullRequest {
    pub name: String,
    pub username: Option<String>,
    pub password: Option<String>,
}

/// One line of the answer to a pull. The last one is not `Progress`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullLine {
    /// Bytes of one blob.
    Progress {
        layer: String,
        done: u64,
        total: u64,
    },
    Pulled(ImageSummary),
    Failed(String),
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

/// A refusal: the message and 422.
struct Refused(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": format!("{:#}", self.0)}))).into_response()
    }
}

async fn list(State(Images { store: images, .. }): State<Images>) -> Json<Vec<ImageSummary>> {
    let images = images.list().into_iter();
    Json(
        images
            .map(|image| ImageSummary { names: image.names, id: image.id.to_string(), size: image.size })
            .collect(),
    )
}

async fn import(
    State(Images { store: images, .. }): State<Images>,
    Query(named): Query<Named>,
    body: Body,
) -> Result<Json<Value>, Refused> {
    let reader = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let name = named.name.as_deref().map(Reference::parse).transpose()?;
    let options = ImportOptions { name, ..ImportOptions::default() };
    let names = images.import(SyncIoBridge::new(reader), options).await?;
    Ok(Json(json!({"names": names})))
}

async fn pack(
    State(Images { store: images, .. }): State<Images>,
    Json(request): Json<PackRequest>,
) -> Result<Json<ImageSummary>, Refused> {
    let reference = Reference::parse(&request.tag)?;
    let config = ImageConfig {
        entrypoint: request.entrypoint,
        cmd: request.cmd,
        env: request.env,
        user: request.user,
        working_dir: request.working_dir,
        ..ImageConfig::default()
    };
    let image = images.pack(PackSource::Directory(request.directory), &reference, config).await?;
    Ok(Json(ImageSummary { names: image.names, id: image.id.to_string(), size: image.size }))
}

async fn remove(
    State(Images { store: images, .. }): State<Images>,
    Query(named): Query<Named>,
) -> Result<Json<Value>, Refused> {
    let name = named.name.context("name: which image to remove")?;
    let removed = images.remove(&name).await?;
    Ok(Json(json!({"names": removed.names, "images": digests(&removed.images)})))
}

async fn prune(State(Images { store: images, .. }): State<Images>) -> Result<Json<Value>, Refused> {
    let removed = images.prune(PruneScope::Unused).await?;
    Ok(Json(json!({"names": removed.names, "images": digests(&removed.images)})))
}

fn digests(images: &[sampan_image::Digest]) -> Vec<String> {
    images.iter().map(ToString::to_string).collect()
}

/// Pulls an image and streams how far it has come, a JSON object per line.
async fn pull(State(images): State<Images>, Json(request): Json<PullRequest>) -> Result<Response, Refused> {
    let reference = Reference::parse(&request.name)?;
    let auth = match (&request.username, &request.password) {
        (Some(username), Some(password)) => Auth::for_registry(reference.host(), username, password),
        (None, None) => Auth::anonymous(),
        _ => return Err(anyhow::anyhow!("username and password: one needs the other").into()),
    };
    // Lines that the client is too slow for are left out, except for the last one.
    let (sender, receiver) = mpsc::channel::<PullLine>(64);
    let progress = sender.clone();
    tokio::spawn(async move {
        let sink: ProgressSink = std::sync::Arc::new(move |at: Progress| {
            let _ = progress.try_send(PullLine::Progress {
                layer: at.layer.to_string(),
                done: at.done,
                total: at.total,
            });
        });
        let line = match images.registry.pull(&images.store, &reference, &auth, Some(sink)).await {
            Ok(image) => PullLine::Pulled(ImageSummary {
                names: image.names,
                id: image.id.to_string(),
                size: image.size,
            }),
            Err(error) => PullLine::Failed(error.chain()),
        };
        // A client that left does not want to know.
        let _ = sender.send(line).await;
    });
    let lines = futures_util::stream::unfold(receiver, |mut receiver| async {
        let line = receiver.recv().await?;
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        Some((Ok::<_, std::convert::Infallible>(text), receiver))
    });
    Ok(Body::from_stream(lines).into_response())
}
