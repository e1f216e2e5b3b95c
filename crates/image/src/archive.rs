//! Images as files: `docker save` archives and OCI image layouts, plain or compressed.
//!
//! An archive is read once, as a stream. Its files are kept under their digests in the importing
//! session, never under the names that the archive gives them.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use crate::manifest::{Document, Index, MAX_MANIFEST_BYTES, ManifestError};
use crate::reference::{Reference, ReferenceError};
use crate::store::{ImageStore, InstallError, ManifestParts, Session, StoreError, unpack};

mod docker;
mod intake;
mod oci;
mod save;
#[cfg(test)]
mod tests;

use intake::Intake;
pub use save::SaveError;

/// Told how many bytes of the archive have been read.
pub type ImportProgress = Arc<dyn Fn(u64) + Send + Sync>;

/// How to import.
#[derive(Clone, Default)]
pub struct ImportOptions {
    /// The name of an image that the archive does not name.
    pub name: Option<Reference>,
    pub progress: Option<ImportProgress>,
}

/// Why an archive was not imported. Nothing of it is in the store.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("the archive is neither a docker archive (no manifest.json) nor an OCI layout (no index.json)")]
    UnknownFormat,
    #[error("the archive has no {0:?}, which its manifest names")]
    Missing(String),
    #[error("{name} in the archive is malformed")]
    Json { name: String, source: serde_json::Error },
    #[error("{name} in the archive has more than {max} bytes")]
    TooLarge { name: String, max: u64 },
    #[error("the archive has more than {0} files")]
    TooMany(usize),
    #[error("the archive has more than {0} bytes")]
    Bytes(u64),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("the archive names an image {name:?}")]
    Name { name: String, source: ReferenceError },
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// One image found in an archive.
struct Found {
    manifest: ManifestParts,
    names: Vec<Reference>,
}

impl ImageStore {
    /// Imports all images of an archive that run on this machine. Answers their names, or ids where
    /// they have none.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        options: ImportOptions,
    ) -> Result<Vec<String>, ImportError> {
        self.blocking(move |store| import(&store, archive, &options)).await
    }

    /// Imports the archive at `path`.
    pub async fn import_path(&self, path: &Path, options: ImportOptions) -> Result<Vec<String>, ImportError> {
        let path = path.to_owned();
        self.blocking(move |store| {
            let file = std::fs::File::open(&path).map_err(StoreError::io("open", &path))?;
            import(&store, file, &options)
        })
        .await
    }
}

fn import(
    store: &ImageStore,
    archive: impl Read,
    options: &ImportOptions,
) -> Result<Vec<String>, ImportError> {
    let mut session = Session::new(store)?;
    let intake = Intake::read(&mut session, archive, options.progress.clone())?;
    let mut found = if intake.has("index.json") {
        oci::images(&mut session, &intake)?
    } else if intake.has("manifest.json") {
        docker::images(&mut session, &intake)?
    } else {
        return Err(ImportError::UnknownFormat);
    };
    if let (Some(name), [only]) = (&options.name, found.as_mut_slice())
        && only.names.is_empty()
    {
        only.names.push(name.clone());
    }
    let mut images = Vec::new();
    for Found { manifest, names } in &found {
        let digests: Vec<_> =
            names.iter().map(|name| name.with_digest(&manifest.digest).to_string()).collect();
        images.push((unpack(&mut session, manifest)?, names.as_slice(), unique(digests)));
    }
    let mut imported = Vec::new();
    for (image, Found { names, .. }) in session.commit_all(images)?.iter().zip(&found) {
        match names.is_empty() {
            true => imported.push(image.id.to_string()),
            false => imported.extend(names.iter().map(Reference::to_string)),
        }
    }
    Ok(imported)
}

fn unique(mut items: Vec<String>) -> Vec<String> {
    items.sort();
    items.dedup();
    items
}

fn parse_name(name: &str) -> Result<Reference, ImportError> {
    Reference::parse(name).map_err(|source| ImportError::Name { name: name.to_owned(), source })
}
