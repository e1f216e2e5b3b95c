//! One pull: manifest, blobs side by side, then into the store.

use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use http::StatusCode;
use http::header::CONTENT_RANGE;
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::error::{PullError, TransportError};
use super::session::{Answer, Repository};
use super::{Progress, ProgressSink};
use crate::digest::{Digest, Hasher};
use crate::image::Image;
use crate::limits::LimitExceeded;
use crate::manifest::{
    DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, Document, MAX_MANIFEST_BYTES, Manifest, ManifestError,
    OCI_INDEX, OCI_MANIFEST,
};
use crate::reference::Reference;
use crate::store::{ImageStore, InstallError, MAX_CONFIG_BYTES, Session, StoreError, install};

const MAX_NESTING: usize = 3;

/// What a manifest fetch found.
struct Resolved {
    /// What the tag or digest itself names: an index, often.
    top: Digest,
    digest: Digest,
    bytes: bytes::Bytes,
    manifest: Manifest,
}

pub(super) async fn pull(
    store: &ImageStore,
    repository: &Repository<'_>,
    parallel: usize,
    progress: &ProgressSink,
) -> Result<Image, PullError> {
    let resolved = resolve(repository).await?;
    let reference = repository.reference;
    let digests = vec![reference.with_digest(&resolved.top).to_string()];
    let names: Vec<Reference> = match reference.digest() {
        Some(_) => Vec::new(),
        None => vec![reference.clone()],
    };
    check_limits(store, &resolved.manifest)?;
    let mut blobs: Vec<Descriptor> = vec![resolved.manifest.config.clone()];
    for layer in &resolved.manifest.layers {
        if !blobs.iter().any(|known| known.digest == layer.digest) {
            blobs.push(layer.clone());
        }
    }
    let manifest_bytes = resolved.bytes.clone();
    let (session, missing) = store
        .blocking(move |store| {
            let mut session = Session::new(&store)?;
            session.add_bytes(&manifest_bytes)?;
            let mut missing = Vec::new();
            for blob in blobs {
                if !session.has_blob(&blob.digest) {
                    missing.push((session.new_path(), blob));
                }
            }
            Ok::<_, PullError>((session, missing))
        })
        .await?;
    // Dropping the session deletes files: not on this thread.
    let mut session = OffThread(Some(session));
    let downloads: Vec<_> =
        missing.iter().map(|(path, blob)| download(repository, blob, path, progress)).collect();
    stream::iter(downloads).buffer_unordered(parallel.max(1)).try_collect::<Vec<()>>().await?;
    let parts = resolved.manifest.parts(resolved.digest);
    let mut session = session.0.take().expect("it is taken here only");
    store
        .blocking(move |_| {
            for (path, blob) in &missing {
                session.add_blob(path, &blob.digest)?;
            }
            Ok(install(&mut session, &parts, &names, &digests)?)
        })
        .await
}

/// A session whose clean-up blocks, in code that must not.
struct OffThread(Option<Session>);

impl Drop for OffThread {
    fn drop(&mut self) {
        if let Some(session) = self.0.take() {
            match tokio::runtime::Handle::try_current() {
                // Its end is not waited for: a new start of the store does the same work.
                Ok(handle) => drop(handle.spawn_blocking(move || drop(session))),
                Err(_) => drop(session),
            }
        }
    }
}

fn check_limits(store: &ImageStore, manifest: &Manifest) -> Result<(), PullError> {
    let limits = store.limits();
    if manifest.config.size > MAX_CONFIG_BYTES {
        let digest = manifest.config.digest.clone();
        return Err(InstallError::ConfigSize { digest }.into());
    }
    if manifest.layers.len() > limits.max_layers {
        return Err(InstallError::Limit(LimitExceeded::Layers(limits.max_layers)).into());
    }
    let total = manifest.layers.iter().fold(0_u64, |total, layer| total.saturating_add(layer.size));
    if total > limits.max_image_bytes {
        return Err(InstallError::Limit(LimitExceeded::ImageBytes(limits.max_image_bytes)).into());
    }
    Ok(())
}

async fn resolve(repository: &Repository<'_>) -> Result<Resolved, PullError> {
    let reference = repository.reference;
    let mut expected = reference.digest().cloned();
    let mut name = match (&expected, reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let mut top = None;
    for _ in 0..MAX_NESTING {
        let path = format!("manifests/{name}");
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST].join(", ");
        let (bytes, headers) = repository.document(&path, &accept, MAX_MANIFEST_BYTES).await?;
        let digest = Digest::of(&bytes);
        let claimed = headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
        let claimed = claimed.and_then(|text| Digest::parse(text).ok());
        if let Some(expected) = expected.or(claimed)
            && expected != digest
        {
            return Err(PullError::Digest { what: format!("{reference}: {path}"), expected, actual: digest });
        }
        let top = top.get_or_insert_with(|| digest.clone()).clone();
        match Document::parse(&bytes)? {
            Document::Manifest(manifest) => return Ok(Resolved { top, digest, bytes, manifest }),
            Document::Index(index) => {
                let entry = index.for_host()?;
                name = entry.digest.to_string();
                expected = Some(entry.digest.clone());
            }
        }
    }
    Err(ManifestError::Nested.into())
}

/// A blob on its way to the disk.
struct Download {
    file: File,
    hasher: Hasher,
    done: u64,
}

/// Fetches one blob to `path`; a broken connection goes on where it broke.
async fn download(
    repository: &Repository<'_>,
    blob: &Descriptor,
    path: &PathBuf,
    progress: &ProgressSink,
) -> Result<(), PullError> {
    let file = File::create_new(path).await.map_err(StoreError::io("create", path))?;
    let mut download = Download { file, hasher: Hasher::default(), done: 0 };
    let mut failures = 0;
    loop {
        let before = download.done;
        match fetch(repository, blob, &mut download, path, progress).await {
            Ok(()) => break,
            Err(error) => {
                // What makes headway is not given up.
                if download.done > before {
                    failures = 0;
                }
                repository.wait_after(error, &mut failures).await?;
            }
        }
    }
    download.file.flush().await.map_err(StoreError::io("write", path))?;
    let actual = download.hasher.finish();
    if actual != blob.digest {
        let what = format!("{}: blobs/{}", repository.reference, blob.digest);
        return Err(PullError::Digest { what, expected: blob.digest.clone(), actual });
    }
    Ok(())
}

async fn fetch(
    repository: &Repository<'_>,
    blob: &Descriptor,
    download: &mut Download,
    path: &Path,
    progress: &ProgressSink,
) -> Result<(), PullError> {
    let report = |done| progress(Progress { layer: blob.digest.clone(), done, total: blob.size });
    if download.done == blob.size && blob.size > 0 {
        return Ok(());
    }
    let answer = repository.get(&format!("blobs/{}", blob.digest), "", download.done).await?;
    if download.done > 0 && !continues_at(&answer, download.done) {
        // The registry sends everything again.
        let restart = async {
            download.file.set_len(0).await?;
            download.file.rewind().await
        };
        restart.await.map_err(StoreError::io("rewind", path))?;
        (download.hasher, download.done) = (Hasher::default(), 0);
    }
    report(download.done);
    let Answer { origin, response } = answer;
    let mut body = response.into_body();
    while let Some(piece) = repository.transport.next(&origin, &mut body).await? {
        if download.done + piece.len() as u64 > blob.size {
            let what = format!("{}: blobs/{}", repository.reference, blob.digest);
            return Err(PullError::Size { what, expected: blob.size });
        }
        download.file.write_all(&piece).await.map_err(StoreError::io("write", path))?;
        download.hasher.update(&piece);
        download.done += piece.len() as u64;
        report(download.done);
    }
    if download.done < blob.size {
        return Err(TransportError::Short { origin: origin.to_string() }.into());
    }
    Ok(())
}

fn continues_at(answer: &Answer, offset: u64) -> bool {
    let range = answer.response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    answer.response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}
