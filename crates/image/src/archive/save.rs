//! Images out of the store: an OCI layout that is a docker archive as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::docker::DockerImage;
use super::oci::{CONTAINERD_NAME, REF_NAME, blob_name};
use crate::digest::Digest;
use crate::image::Image;
use crate::manifest::{Descriptor, Index, OCI_INDEX, OCI_MANIFEST};
use crate::reference::{Reference, ReferenceError};
use crate::store::{ImageStore, StoreError};

/// Why images were not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Name(#[from] ReferenceError),
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

impl ImageStore {
    /// Writes the images of these names or ids to `out`, as a plain tar. Answers the writer.
    pub async fn save<W: Write + Send + 'static>(&self, names: &[String], out: W) -> Result<W, SaveError> {
        let names = names.to_vec();
        self.blocking(move |store| save(&store, &names, out)).await
    }
}

fn save<W: Write>(store: &ImageStore, names: &[String], out: W) -> Result<W, SaveError> {
    let mut images = Vec::new();
    let mut leases = Vec::new();
    for name in names {
        let image = store.find(name)?.ok_or_else(|| StoreError::NotFound(name.clone()))?;
        // Its blobs must not go while they are copied.
        leases.push(store.lease(&image.id)?);
        images.push((name.as_str(), image));
    }
    let mut index = Index { schema_version: 2, media_type: OCI_INDEX.to_owned(), manifests: Vec::new() };
    let mut docker = Vec::new();
    let mut blobs = BTreeSet::new();
    for (name, image) in &images {
        let tags = tags(name, image);
        index.manifests.extend(descriptors(store, image, &tags)?);
        let layers = image.layers.iter().map(|layer| blob_name(&layer.blob)).collect();
        docker.push(DockerImage {
            config: blob_name(&image.id),
            repo_tags: Some(tags),
            layers: Some(layers),
        });
        blobs.extend([image.id.clone(), image.manifest.clone()]);
        blobs.extend(image.layers.iter().map(|layer| layer.blob.clone()));
    }
    let mut tar = tar::Builder::new(out);
    let json = |value: Result<Vec<u8>, serde_json::Error>| value.expect("plain data");
    append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, "index.json", &json(serde_json::to_vec(&index)))?;
    append(&mut tar, "manifest.json", &json(serde_json::to_vec(&docker)))?;
    for digest in &blobs {
        append_blob(&mut tar, store, digest)?;
    }
    tar.into_inner().map_err(SaveError::Write)
}

/// The tag asked for; with an id, all of the image's.
fn tags(name: &str, image: &Image) -> Vec<String> {
    match Reference::parse(name).map(|reference| reference.to_string()) {
        Ok(full) if image.names.contains(&full) => vec![full],
        _ => image.names.clone(),
    }
}

fn descriptors(store: &ImageStore, image: &Image, tags: &[String]) -> Result<Vec<Descriptor>, SaveError> {
    let path = store.blob_path(&image.manifest);
    let size = std::fs::metadata(&path).map_err(StoreError::io("look up", path))?.len();
    let descriptor = |annotations| Descriptor {
        media_type: OCI_MANIFEST.to_owned(),
        digest: image.manifest.clone(),
        size,
        platform: None,
        annotations,
    };
    if tags.is_empty() {
        return Ok(vec![descriptor(None)]);
    }
    let annotations = tags.iter().map(|name| {
        let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        BTreeMap::from([(CONTAINERD_NAME.to_owned(), name.clone()), (REF_NAME.to_owned(), tag.to_owned())])
    });
    Ok(annotations.map(|annotations| descriptor(Some(annotations))).collect())
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> Result<(), SaveError> {
    append_stream(tar, name, bytes.len() as u64, bytes)
}

fn append_blob<W: Write>(
    tar: &mut tar::Builder<W>,
    store: &ImageStore,
    digest: &Digest,
) -> Result<(), SaveError> {
    let path = store.blob_path(digest);
    let file = File::open(&path).map_err(StoreError::io("open", &path))?;
    let size = file.metadata().map_err(StoreError::io("look up", &path))?.len();
    append_stream(tar, &blob_name(digest), size, file)
}

fn append_stream<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    size: u64,
    content: impl Read,
) -> Result<(), SaveError> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    tar.append_data(&mut header, name, content).map_err(SaveError::Write)
}
