//! OCI image layouts: `index.json` and `blobs/` (image-spec, image-layout.md).

use super::intake::{Intake, StoredFile};
use super::{Document, Found, ImportError, Index, MAX_MANIFEST_BYTES, docker, parse_name};
use crate::digest::Digest;
use crate::manifest::{Descriptor, ManifestError};
use crate::reference::Reference;
use crate::store::{InstallError, Session};
use crate::unpack::UnpackError;

pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// An index of the layout may name an index, which names manifests.
const MAX_NESTING: usize = 3;

pub(super) fn images(session: &mut Session, intake: &Intake) -> Result<Vec<Found>, ImportError> {
    let name = "index.json";
    let bytes = intake.bytes(name, MAX_MANIFEST_BYTES)?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|source| ImportError::Json { name: name.to_owned(), source })?;
    // The layout's own index lists images; but one that names platforms and no images is itself
    // the index of one image.
    let is_listing = index.manifests.iter().any(|entry| name_of(entry).is_some())
        || index.manifests.iter().filter(|entry| !is_attestation(entry)).count() == 1;
    let entries: Vec<&Descriptor> = match is_listing {
        true => index.manifests.iter().filter(|entry| !is_attestation(entry)).collect(),
        false => vec![index.for_host()?],
    };
    let mut found: Vec<Found> = Vec::new();
    let mut other_platform = None;
    for entry in entries {
        let manifest = match manifest(session, intake, entry) {
            Ok(manifest) => manifest,
            // A listing may hold images of other platforms beside ours.
            Err(ImportError::Manifest(error @ ManifestError::NoPlatform { .. })) => {
                other_platform = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        let name = name_of(entry).map(parse_name).transpose()?;
        match found.iter_mut().find(|known| known.manifest.digest == manifest.digest) {
            Some(known) => known.names.extend(name),
            None => found.push(Found { manifest, names: name.into_iter().collect() }),
        }
    }
    if let (true, Some(error)) = (found.is_empty(), other_platform) {
        return Err(error.into());
    }
    if intake.has("manifest.json") {
        add_docker_names(intake, &mut found)?;
    }
    Ok(found)
}

/// Docker writes both forms, and all names only into its own.
fn add_docker_names(intake: &Intake, found: &mut [Found]) -> Result<(), ImportError> {
    for image in docker::manifest(intake)? {
        let config = &intake.get(&image.config)?.digest;
        let Some(found) = found.iter_mut().find(|found| found.manifest.config == *config) else { continue };
        for name in image.repo_tags.iter().flatten() {
            let name: Reference = parse_name(name)?;
            if !found.names.contains(&name) {
                found.names.push(name);
            }
        }
    }
    Ok(())
}

fn manifest(
    session: &mut Session,
    intake: &Intake,
    entry: &Descriptor,
) -> Result<crate::store::ManifestParts, ImportError> {
    let mut digest = entry.digest.clone();
    for _ in 0..MAX_NESTING {
        let file = blob(intake, &digest)?;
        let bytes = intake.bytes(&blob_name(&digest), MAX_MANIFEST_BYTES)?;
        match Document::parse(&bytes)? {
            Document::Index(index) => digest = index.for_host()?.digest.clone(),
            Document::Manifest(manifest) => {
                intake.put(session, file)?;
                for part in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    intake.put(session, blob(intake, &part.digest)?)?;
                }
                return Ok(manifest.parts(digest));
            }
        }
    }
    Err(ManifestError::Nested.into())
}

pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The blob, whose content is what its name says.
fn blob<'a>(intake: &'a Intake, digest: &Digest) -> Result<&'a StoredFile, ImportError> {
    let file = intake.get(&blob_name(digest))?;
    if file.digest == *digest {
        return Ok(file);
    }
    let source = UnpackError::Digest { expected: digest.clone(), actual: file.digest.clone() };
    Err(InstallError::Layer { digest: digest.clone(), source }.into())
}

fn annotation<'a>(entry: &'a Descriptor, key: &str) -> Option<&'a str> {
    entry.annotations.as_ref()?.get(key).map(String::as_str)
}

fn name_of(entry: &Descriptor) -> Option<&str> {
    annotation(entry, CONTAINERD_NAME).or_else(|| annotation(entry, REF_NAME))
}

/// Build tools list signatures and provenance beside images.
fn is_attestation(entry: &Descriptor) -> bool {
    annotation(entry, REFERENCE_TYPE).is_some()
}
