//! `docker save`: a `manifest.json` that lists images with their configuration and layer files.

use serde::{Deserialize, Serialize};

use super::intake::Intake;
use super::{Found, ImportError, MAX_MANIFEST_BYTES, parse_name};
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST};
use crate::store::{Session, StoreError};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub config: String,
    #[serde(default)]
    pub repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub layers: Option<Vec<String>>,
}

pub(super) fn manifest(intake: &Intake) -> Result<Vec<DockerImage>, ImportError> {
    let name = "manifest.json";
    let bytes = intake.bytes(name, MAX_MANIFEST_BYTES)?;
    serde_json::from_slice(&bytes).map_err(|source| ImportError::Json { name: name.to_owned(), source })
}

pub(super) fn images(session: &mut Session, intake: &Intake) -> Result<Vec<Found>, ImportError> {
    let mut found = Vec::new();
    for image in manifest(intake)? {
        let names =
            image.repo_tags.iter().flatten().map(|name| parse_name(name)).collect::<Result<_, _>>()?;
        let config_file = intake.get(&image.config)?;
        intake.put(session, config_file)?;
        let mut layers = Vec::new();
        for name in image.layers.iter().flatten() {
            let file = intake.get(name)?;
            intake.put(session, file)?;
            let head = head(&file.path)?;
            let media_type = if head == [0x1f, 0x8b] { OCI_LAYER_GZIP } else { OCI_LAYER };
            layers.push(descriptor(media_type, file));
        }
        // Such archives have no manifest that registries know: make the one they would.
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config: descriptor(OCI_CONFIG, config_file),
            layers,
        };
        let bytes = serde_json::to_vec(&manifest).expect("a manifest is plain data");
        let digest = session.add_bytes(&bytes)?;
        found.push(Found { manifest: manifest.parts(digest), names });
    }
    Ok(found)
}

fn head(path: &std::path::Path) -> Result<[u8; 2], ImportError> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; 2];
    let file = std::fs::File::open(path).map_err(StoreError::io("open", path))?;
    match file.read_at(&mut head, 0) {
        Ok(_) => Ok(head),
        Err(error) => Err(StoreError::io("read", path)(error).into()),
    }
}

fn descriptor(media_type: &str, file: &super::intake::StoredFile) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: file.digest.clone(),
        size: file.size,
        platform: None,
        annotations: None,
    }
}
