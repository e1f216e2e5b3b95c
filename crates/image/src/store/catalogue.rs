//! Which images there are: the file that says so, and what each image's files and names are.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::digest::Digest;
use crate::image::Image;
use crate::reference::Reference;

pub(super) const CATALOGUE: &str = "images.json";
const CATALOGUE_VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalogue {
    version: u32,
    pub images: BTreeMap<Digest, Image>,
}

impl Catalogue {
    pub(super) fn resolve(&self, reference: &Reference) -> Option<&Image> {
        if let Some(digest) = reference.digest() {
            let name = reference.with_digest(digest).to_string();
            return self.images.values().find(|image| image.digests.contains(&name));
        }
        let name = reference.to_string();
        self.images.values().find(|image| image.names.contains(&name))
    }

    pub(super) fn files(&self) -> HashSet<(Kind, Digest)> {
        self.images.values().flat_map(image_files).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Blob,
    Layer,
}

pub(super) fn image_files(image: &Image) -> impl Iterator<Item = (Kind, Digest)> + '_ {
    let layers = image
        .layers
        .iter()
        .flat_map(|layer| [(Kind::Blob, layer.blob.clone()), (Kind::Layer, layer.chain_id.clone())]);
    [(Kind::Blob, image.id.clone()), (Kind::Blob, image.manifest.clone())].into_iter().chain(layers)
}

impl Image {
    pub(super) fn has(&self, reference: &Reference) -> bool {
        let name = reference.to_string();
        self.names.contains(&name) || self.digests.iter().any(|digest| names_same(digest, reference))
    }

    /// Names and digests that remain when `reference` goes. A repository's digests go with its last
    /// tag; removing a digest removes all of its repository.
    pub(super) fn without(&self, reference: &Reference) -> (Vec<String>, Vec<String>) {
        let tagged = format!("{}:", reference.name());
        let digested = format!("{}@", reference.name());
        let full = reference.to_string();
        let by_digest = reference.digest().is_some();
        let goes = |name: &String| if by_digest { name.starts_with(&tagged) } else { *name == full };
        let names: Vec<_> = self.names.iter().filter(|name| !goes(name)).cloned().collect();
        let has_tag = names.iter().any(|name| name.starts_with(&tagged));
        let digests =
            self.digests.iter().filter(|digest| has_tag || !digest.starts_with(&digested)).cloned().collect();
        (names, digests)
    }
}

fn names_same(digest: &str, reference: &Reference) -> bool {
    reference.digest().is_some_and(|own| *digest == reference.with_digest(own).to_string())
}

pub(super) fn read_catalogue(path: &Path) -> Result<Catalogue, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Catalogue { version: CATALOGUE_VERSION, images: BTreeMap::new() });
        }
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let catalogue: Catalogue = serde_json::from_slice(&bytes)
        .map_err(|source| StoreError::Catalogue { path: path.to_owned(), source })?;
    if catalogue.version != CATALOGUE_VERSION {
        return Err(StoreError::Version { path: path.to_owned(), version: catalogue.version });
    }
    Ok(catalogue)
}

/// Everything that the catalogue names reaches the disk before it, and it before this returns.
pub(super) fn write_catalogue(dir: &Path, catalogue: &Catalogue) -> Result<(), StoreError> {
    let directory = File::open(dir).map_err(StoreError::io("open", dir))?;
    rustix::fs::syncfs(&directory).map_err(|errno| StoreError::io("write out", dir)(errno.into()))?;
    let path = dir.join("images.json.new");
    let bytes = serde_json::to_vec(catalogue)
        .map_err(|source| StoreError::Catalogue { path: path.clone(), source })?;
    let mut file = File::create(&path).map_err(StoreError::io("create", &path))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(StoreError::io("write", &path))?;
    let target = dir.join(CATALOGUE);
    fs::rename(&path, &target).map_err(StoreError::io("replace", target))?;
    directory.sync_all().map_err(StoreError::io("write out", dir))
}
