//! Makes an image of one layer from a directory or from single files, the same bytes every time.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use tar::{EntryType, Header};

use crate::digest::{Digest, HashingWriter};
use crate::image::{Image, ImageConfig, host_architecture};
use crate::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST};
use crate::reference::Reference;
use crate::store::{ImageStore, InstallError, Session, StoreError, install};

/// What goes into the image.
#[derive(Clone, Debug)]
pub enum PackSource {
    /// The directory becomes the root.
    Directory(PathBuf),
    /// Each file or directory, to an absolute path in the image.
    Files(Vec<(PathBuf, String)>),
}

/// Why nothing was packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot {action} {}", path.display())]
    Source { action: &'static str, path: PathBuf, source: io::Error },
    #[error("{0:?} is no absolute path without `..`")]
    Target(String),
    #[error("{} and {} both go to /{target}", first.display(), second.display())]
    Twice { first: PathBuf, second: PathBuf, target: String },
    #[error("{} is a socket", .0.display())]
    Socket(PathBuf),
    #[error("cannot write the layer")]
    Layer(#[source] io::Error),
    #[error(transparent)]
    Install(#[from] InstallError),
}

impl ImageStore {
    /// Packs `source` as `tag`. Owners become root and times the epoch, so that equal content gives
    /// an equal image. `architecture` and `os` default to this machine's.
    pub async fn pack(
        &self,
        source: PackSource,
        tag: &Reference,
        config: ImageConfig,
    ) -> Result<Image, PackError> {
        let tag = tag.clone();
        self.blocking(move |store| pack(&store, &source, &tag, config)).await
    }
}

fn pack(
    store: &ImageStore,
    source: &PackSource,
    tag: &Reference,
    mut config: ImageConfig,
) -> Result<Image, PackError> {
    let mut session = Session::new(store)?;
    let files = collect(source)?;
    let (path, file) = session.new_file()?;
    let compressed = HashingWriter::new(BufWriter::new(file));
    // No name and no time in the header: those would differ from run to run.
    let gzip = GzBuilder::new().mtime(0).write(compressed, Compression::fast());
    let (gzip, diff_id, _) = write_layer(&files, HashingWriter::new(gzip))?.finish();
    let (mut file, blob, blob_size) = gzip.finish().map_err(PackError::Layer)?.finish();
    file.flush().map_err(PackError::Layer)?;
    session.add_blob(&path, &blob)?;
    if config.architecture.is_empty() {
        config.architecture = host_architecture().to_owned();
    }
    if config.os.is_empty() {
        config.os = "linux".to_owned();
    }
    let config_bytes = serde_json::to_vec(&config.to_file(vec![diff_id])).expect("plain data");
    let config_digest = session.add_bytes(&config_bytes)?;
    let descriptor = |media_type: &str, digest: Digest, size: u64| Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: None,
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: descriptor(OCI_CONFIG, config_digest, config_bytes.len() as u64),
        layers: vec![descriptor(OCI_LAYER_GZIP, blob, blob_size)],
    };
    let digest = session.add_bytes(&serde_json::to_vec(&manifest).expect("plain data"))?;
    let digests = [tag.with_digest(&digest).to_string()];
    Ok(install(&mut session, &manifest.parts(digest), std::slice::from_ref(tag), &digests)?)
}

/// Paths in the image, sorted, so that a directory comes before what is in it.
type Files = BTreeMap<PathBuf, PathBuf>;

fn collect(source: &PackSource) -> Result<Files, PackError> {
    let mut files = Files::new();
    match source {
        PackSource::Directory(directory) => add_children(directory, Path::new(""), &mut files)?,
        PackSource::Files(list) => {
            for (path, target) in list {
                let target = checked_target(target)?;
                add(path, &target, &mut files)?;
            }
        }
    }
    Ok(files)
}

fn checked_target(target: &str) -> Result<PathBuf, PackError> {
    let fail = || PackError::Target(target.to_owned());
    let inner = target.strip_prefix('/').ok_or_else(fail)?;
    let parts: Vec<_> = inner.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() || parts.contains(&"..") || target.contains('\0') {
        return Err(fail());
    }
    Ok(parts.iter().collect())
}

fn add(path: &Path, target: &Path, files: &mut Files) -> Result<(), PackError> {
    if let Some(first) = files.insert(target.to_owned(), path.to_owned()) {
        let (second, target) = (path.to_owned(), target.display().to_string());
        return Err(PackError::Twice { first, second, target });
    }
    let metadata = look_up(path)?;
    if metadata.is_dir() { add_children(path, target, files) } else { Ok(()) }
}

fn add_children(directory: &Path, target: &Path, files: &mut Files) -> Result<(), PackError> {
    let fail = |source| PackError::Source { action: "list", path: directory.to_owned(), source };
    for entry in fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        add(&entry.path(), &target.join(entry.file_name()), files)?;
    }
    Ok(())
}

fn look_up(path: &Path) -> Result<Metadata, PackError> {
    fs::symlink_metadata(path).map_err(|source| PackError::Source {
        action: "look up",
        path: path.to_owned(),
        source,
    })
}

fn write_layer<W: Write>(files: &Files, out: W) -> Result<W, PackError> {
    let mut tar = tar::Builder::new(out);
    for parent in implied_parents(files) {
        let mut header = header(EntryType::Directory, 0o755);
        tar.append_data(&mut header, &parent, io::empty()).map_err(PackError::Layer)?;
    }
    for (target, path) in files {
        append(&mut tar, path, target)?;
    }
    tar.into_inner().map_err(PackError::Layer)
}

/// Directories that only single files imply.
fn implied_parents(files: &Files) -> Vec<PathBuf> {
    let mut parents: Vec<PathBuf> = files
        .keys()
        .flat_map(|target| target.ancestors().skip(1))
        .filter(|parent| !parent.as_os_str().is_empty() && !files.contains_key(*parent))
        .map(Path::to_owned)
        .collect();
    parents.sort();
    parents.dedup();
    parents
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &Path, target: &Path) -> Result<(), PackError> {
    let fail = |action| move |source| PackError::Source { action, path: path.to_owned(), source };
    let metadata = look_up(path)?;
    let kind = metadata.file_type();
    let mode = metadata.permissions().mode() & 0o7777;
    if kind.is_file() {
        let file = File::open(path).map_err(fail("open"))?;
        let mut header = header(EntryType::Regular, mode);
        header.set_size(metadata.len());
        // A file that grows meanwhile must not shift what follows; one that shrinks is noticed.
        let mut content = io::Read::take(file, metadata.len());
        return tar.append_data(&mut header, target, &mut content).map_err(fail("pack"));
    }
    if kind.is_symlink() {
        let link = fs::read_link(path).map_err(fail("read"))?;
        let mut header = header(EntryType::Symlink, 0o777);
        return tar.append_link(&mut header, target, link).map_err(fail("pack"));
    }
    if kind.is_socket() {
        return Err(PackError::Socket(path.to_owned()));
    }
    let mut header = if kind.is_dir() {
        header(EntryType::Directory, mode)
    } else if kind.is_fifo() {
        header(EntryType::Fifo, mode)
    } else {
        let entry_type = if kind.is_char_device() { EntryType::Char } else { EntryType::Block };
        let mut header = header(entry_type, mode);
        let device = metadata.rdev();
        header
            .set_device_major(rustix::fs::major(device))
            .and_then(|()| header.set_device_minor(rustix::fs::minor(device)))
            .map_err(fail("pack"))?;
        header
    };
    tar.append_data(&mut header, target, io::empty()).map_err(fail("pack"))
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}
