//! Unpacks one layer: entry by entry, below a root that cannot be escaped, within limits.
//!
//! The layer becomes a directory that overlayfs can stack: a whiteout is a character device 0:0,
//! an opaque directory carries `trusted.overlay.opaque` (kernel documentation, overlayfs, "whiteouts
//! and opaque directories"; image-spec, layer.md, "Representing Changes").
//!
//! Not kept: extended attributes that would steer overlayfs or the kernel (`trusted.*`,
//! `user.overlay.*`, and `security.*` but for `security.capability`).

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{self as rfs, AtFlags, Dev, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use crate::digest::{Digest, HashingReader};
use crate::limits::{LimitExceeded, Limits};

mod entry;
mod stream;
#[cfg(test)]
mod tests;
mod tree;

use entry::Metadata;
pub(crate) use stream::decompress;
use stream::{InputCounter, Meter, Metered};
use tree::{Directory, OPAQUE, Tree, components, copy_ownership};

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
const WHITEOUT_RESERVED: &[u8] = b".wh..wh.";

/// Why a layer was not unpacked. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("cannot {action} {path:?}")]
    Entry { path: String, action: &'static str, source: io::Error },
    #[error("the tar stream is damaged")]
    Stream(#[source] io::Error),
    #[error("{path:?} would be outside the root")]
    Outside { path: String },
    #[error("{path:?} has no usable {field}")]
    Field { path: String, field: &'static str },
    #[error("{path:?} is of the unknown type {kind:?}")]
    Kind { path: String, kind: char },
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    #[error("the content's digest is {actual}, not {expected}")]
    Digest { expected: Digest, actual: Digest },
}

impl UnpackError {
    fn entry(path: &[u8], action: &'static str, source: io::Error) -> Self {
        UnpackError::Entry { path: shown(path), action, source }
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(256)]).into_owned()
}

/// Unpacks the layer `blob` (plain, gzip or zstd) into the empty directory `into` and answers the
/// bytes of its files. `lowers` are the layers below, the topmost first.
///
/// On an error the caller removes `into`.
pub(crate) fn unpack_layer(
    blob: impl Read,
    diff_id: &Digest,
    into: &Path,
    lowers: &[PathBuf],
    limits: &Limits,
) -> Result<u64, UnpackError> {
    let meter = Meter::new(limits);
    let result = unpack_stream(blob, diff_id, into, lowers, &meter);
    // A limit met inside the tar reader surfaces as that reader's error.
    match meter.breach() {
        Some(breach) => Err(breach.into()),
        None => result.map(|()| meter.written()),
    }
}

fn unpack_stream(
    blob: impl Read,
    diff_id: &Digest,
    into: &Path,
    lowers: &[PathBuf],
    meter: &Rc<Meter>,
) -> Result<(), UnpackError> {
    let plain = decompress(InputCounter::new(blob, meter.clone())).map_err(UnpackError::Stream)?;
    let hashed = HashingReader::new(Metered::new(plain, meter.clone()));
    let tree = Tree::open(into, lowers, meter.limits().max_depth)
        .map_err(|error| UnpackError::entry(b"/", "open", error))?;
    let mut unpacker = Unpacker { tree, meter: meter.clone(), times: Vec::new(), entries: 0 };
    let mut archive = tar::Archive::new(hashed);
    for entry in archive.entries().map_err(UnpackError::Stream)? {
        let entry = entry.map_err(UnpackError::Stream)?;
        meter.allow_entry(entry.size());
        unpacker.add(entry)?;
    }
    unpacker.finish()?;
    meter.allow_rest();
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(UnpackError::Stream)?;
    let (actual, _) = rest.finish();
    if actual != *diff_id {
        return Err(UnpackError::Digest { expected: diff_id.clone(), actual });
    }
    Ok(())
}

struct Unpacker {
    tree: Tree,
    meter: Rc<Meter>,
    /// Directories' times, set last: each new file changes its directory's.
    times: Vec<(PathBuf, Timestamps)>,
    entries: u64,
}

/// Where an entry goes.
struct Place {
    parent: Directory,
    name: Vec<u8>,
    path: Vec<u8>,
}

impl Place {
    fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.name)
    }

    fn error(&self, action: &'static str, source: impl Into<io::Error>) -> UnpackError {
        UnpackError::entry(&self.path, action, source.into())
    }
}

impl Unpacker {
    fn add<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), UnpackError> {
        self.entries += 1;
        let limits = self.meter.limits();
        if self.entries + self.tree.implied > limits.max_entries {
            return Err(LimitExceeded::Entries(limits.max_entries).into());
        }
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let path = entry.path_bytes().into_owned();
        if path.len() > limits.max_path_bytes {
            return Err(LimitExceeded::PathBytes(limits.max_path_bytes).into());
        }
        let metadata = Metadata::of(&mut entry, &path)?;
        let mut parts = checked_components(&path, limits)?;
        let Some(name) = parts.pop() else {
            return self.root_entry(&metadata, &path);
        };
        let place = Place { parent: self.tree.directory(&parts.join(&b'/'))?, name, path };
        if place.name.starts_with(WHITEOUT) {
            return self.whiteout(&place);
        }
        match kind {
            EntryType::Directory => self.directory(&place, &metadata),
            EntryType::Regular if place.path.ends_with(b"/") => self.directory(&place, &metadata),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&place, &metadata, &mut entry)
            }
            EntryType::Symlink => self.symlink(&place, &metadata, &link_name(&entry, &place)?),
            EntryType::Link => self.hard_link(&place, &link_name(&entry, &place)?),
            EntryType::Fifo => self.node(&place, &metadata, FileType::Fifo, 0),
            EntryType::Char => self.device(&place, &metadata, FileType::CharacterDevice, &entry),
            EntryType::Block => self.device(&place, &metadata, FileType::BlockDevice, &entry),
            other => Err(UnpackError::Kind { path: shown(&place.path), kind: char::from(other.as_byte()) }),
        }
    }

    fn root_entry(&mut self, metadata: &Metadata, path: &[u8]) -> Result<(), UnpackError> {
        let root = self.tree.root();
        metadata.apply(root.fd.as_fd()).map_err(|error| UnpackError::entry(path, "set up", error.into()))?;
        self.times.push((root.path, metadata.times()));
        Ok(())
    }

    fn whiteout(&mut self, place: &Place) -> Result<(), UnpackError> {
        let opaque = |fd: &OwnedFd| {
            rfs::fsetxattr(fd, OPAQUE, b"y", XattrFlags::empty())
                .map_err(|errno| place.error("hide what is below", errno))
        };
        if place.name == WHITEOUT_OPAQUE {
            return opaque(&place.parent.fd);
        }
        if place.name.starts_with(WHITEOUT_RESERVED) {
            // Bookkeeping of aufs, which other unpackers skip as well.
            return Ok(());
        }
        let hidden = &place.name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(UnpackError::Outside { path: shown(&place.path) });
        }
        let hidden = OsStr::from_bytes(hidden);
        match rfs::statat(&place.parent.fd, hidden, AtFlags::SYMLINK_NOFOLLOW) {
            // A whiteout concerns the layers below only: this layer's own file covers those already.
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let path = place.parent.path.join(hidden);
                opaque(&self.tree.reopen(&path).map_err(|error| place.error("open", error))?)
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => {
                rfs::mknodat(&place.parent.fd, hidden, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(|errno| place.error("hide what is below", errno))
            }
            Err(errno) => Err(place.error("look up", errno)),
        }
    }

    fn directory(&mut self, place: &Place, metadata: &Metadata) -> Result<(), UnpackError> {
        let stat = rfs::statat(&place.parent.fd, place.name(), AtFlags::SYMLINK_NOFOLLOW);
        let replaces = match stat {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => None,
            Ok(_) => Some(true),
            Err(Errno::NOENT) => Some(false),
            Err(errno) => return Err(place.error("look up", errno)),
        };
        if let Some(covers) = replaces {
            self.clear(place)?;
            rfs::mkdirat(&place.parent.fd, place.name(), Mode::from_raw_mode(0o700))
                .map_err(|errno| place.error("make directory", errno))?;
            if covers {
                self.whiteout_directory(place)?;
            }
        }
        let path = place.parent.path.join(place.name());
        let fd = self.tree.reopen(&path).map_err(|error| place.error("open", error))?;
        metadata.apply(fd.as_fd()).map_err(|errno| place.error("set up", errno))?;
        self.times.push((path, metadata.times()));
        Ok(())
    }

    /// What stood here hid a directory below: the new directory must go on hiding it.
    fn whiteout_directory(&self, place: &Place) -> Result<(), UnpackError> {
        let path = place.parent.path.join(place.name());
        let fd = self.tree.reopen(&path).map_err(|error| place.error("open", error))?;
        rfs::fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty())
            .map_err(|errno| place.error("hide what is below", errno))
    }

    fn clear(&mut self, place: &Place) -> Result<bool, UnpackError> {
        self.tree.clear(&place.parent, place.name()).map_err(|error| place.error("replace", error))
    }

    fn create(&self, place: &Place) -> Result<OwnedFd, UnpackError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rfs::openat(&place.parent.fd, place.name(), flags, Mode::from_raw_mode(0o600))
            .map_err(|errno| place.error("create", errno))
    }

    fn file(
        &mut self,
        place: &Place,
        metadata: &Metadata,
        entry: &mut Entry<'_, impl Read>,
    ) -> Result<(), UnpackError> {
        let size = entry.size();
        self.meter.declare(size)?;
        self.clear(place)?;
        let fd = self.create(place)?;
        let written = entry::copy(entry, &fd, &self.meter).map_err(|error| place.error("write", error))?;
        if written != size {
            return Err(UnpackError::Stream(io::ErrorKind::UnexpectedEof.into()));
        }
        metadata
            .apply(fd.as_fd())
            .and_then(|()| rfs::futimens(&fd, &metadata.times()))
            .map_err(|errno| place.error("set up", errno))
    }

    fn symlink(&mut self, place: &Place, metadata: &Metadata, target: &[u8]) -> Result<(), UnpackError> {
        self.clear(place)?;
        let directory = &place.parent.fd;
        rfs::symlinkat(OsStr::from_bytes(target), directory, place.name())
            .and_then(|()| metadata.apply_to_name(directory, place.name()))
            .map_err(|errno| place.error("link", errno))
    }

    fn hard_link(&mut self, place: &Place, target: &[u8]) -> Result<(), UnpackError> {
        let mut parts = checked_components(target, self.meter.limits())?;
        let Some(target_name) = parts.pop() else {
            return Err(UnpackError::Outside { path: shown(target) });
        };
        let source = Place {
            parent: self.tree.directory(&parts.join(&b'/'))?,
            name: target_name,
            path: target.to_vec(),
        };
        if source.parent.path == place.parent.path && source.name == place.name {
            return Ok(());
        }
        if let Err(Errno::NOENT) =
            rfs::statat(&source.parent.fd, source.name(), AtFlags::SYMLINK_NOFOLLOW).map(drop)
        {
            self.copy_up(&source)?;
        }
        // Replacing a directory above the target would take the target with it; the kernel then
        // answers that it is gone.
        self.clear(place)?;
        rfs::linkat(&source.parent.fd, source.name(), &place.parent.fd, place.name(), AtFlags::empty())
            .map_err(|errno| place.error("link", errno))
    }

    /// A hard link may name a file of a layer below: both names then become this layer's.
    fn copy_up(&mut self, place: &Place) -> Result<(), UnpackError> {
        let fail = |errno: Errno| place.error("copy", errno);
        let Some(below) = self.tree.file_below(&place.parent, place.name()).map_err(fail)? else {
            return Err(fail(Errno::NOENT));
        };
        let stat = rfs::fstat(&below).map_err(fail)?;
        self.meter.declare(u64::try_from(stat.st_size).unwrap_or(0))?;
        let fd = self.create(place)?;
        let mut content = std::fs::File::from(below.try_clone().map_err(|error| place.error("copy", error))?);
        entry::copy(&mut content, &fd, &self.meter).map_err(|error| place.error("copy", error))?;
        copy_ownership(&fd, &stat).map_err(fail)?;
        entry::copy_capability(&below, &fd).map_err(fail)?;
        let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
        rfs::futimens(&fd, &Timestamps { last_access: time, last_modification: time }).map_err(fail)
    }

    fn device(
        &mut self,
        place: &Place,
        metadata: &Metadata,
        kind: FileType,
        entry: &Entry<'_, impl Read>,
    ) -> Result<(), UnpackError> {
        let number = |value: io::Result<Option<u32>>| {
            let field = "device number";
            value.ok().flatten().ok_or_else(|| UnpackError::Field { path: shown(&place.path), field })
        };
        let major = number(entry.header().device_major())?;
        let minor = number(entry.header().device_minor())?;
        self.node(place, metadata, kind, rfs::makedev(major, minor))
    }

    fn node(
        &mut self,
        place: &Place,
        metadata: &Metadata,
        kind: FileType,
        device: Dev,
    ) -> Result<(), UnpackError> {
        self.clear(place)?;
        let directory = &place.parent.fd;
        rfs::mknodat(directory, place.name(), kind, Mode::from_raw_mode(0o600), device)
            .and_then(|()| metadata.apply_to_name(directory, place.name()))
            .and_then(|()| rfs::chmodat(directory, place.name(), metadata.mode, AtFlags::empty()))
            .map_err(|errno| place.error("make node", errno))
    }

    fn finish(&mut self) -> Result<(), UnpackError> {
        for (path, times) in self.times.drain(..).rev() {
            match self.tree.reopen(&path) {
                Ok(fd) => rfs::futimens(&fd, &times).map_err(|errno| {
                    UnpackError::entry(path.as_os_str().as_bytes(), "set times", errno.into())
                })?,
                // A later entry replaced the directory.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {}
                Err(error) => return Err(UnpackError::entry(path.as_os_str().as_bytes(), "open", error)),
            }
        }
        Ok(())
    }
}

fn link_name(entry: &Entry<'_, impl Read>, place: &Place) -> Result<Vec<u8>, UnpackError> {
    match entry.link_name_bytes() {
        Some(target) if !target.is_empty() && !target.contains(&0) => Ok(target.into_owned()),
        _ => Err(UnpackError::Field { path: shown(&place.path), field: "link target" }),
    }
}

/// The components of an entry's path, from the layer's root. `..` is refused, not resolved: no tool
/// that makes images writes it.
fn checked_components(path: &[u8], limits: &Limits) -> Result<Vec<Vec<u8>>, UnpackError> {
    let parts: Vec<_> = components(path).collect();
    if parts.len() > limits.max_depth {
        return Err(LimitExceeded::Depth(limits.max_depth).into());
    }
    if parts.iter().any(|part| part == b"..") {
        return Err(UnpackError::Outside { path: shown(path) });
    }
    if path.contains(&0) {
        return Err(UnpackError::Field { path: shown(path), field: "path" });
    }
    Ok(parts)
}
