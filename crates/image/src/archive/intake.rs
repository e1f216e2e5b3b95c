//! The files of an archive, by name, in the importing session.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;

use super::{ImportError, ImportProgress};
use crate::digest::{Digest, HashingWriter};
use crate::store::{Session, StoreError};
use crate::unpack::decompress;

/// Images have a handful of files per layer.
const MAX_FILES: usize = 20_000;
/// Long names and attributes of one entry.
const MAX_HEADER_BYTES: u64 = 1 << 20;
const MAX_LINKS: usize = 8;

pub(super) struct Intake {
    files: HashMap<String, StoredFile>,
    links: HashMap<String, String>,
}

#[derive(Clone, Debug)]
pub(super) struct StoredFile {
    pub path: PathBuf,
    pub digest: Digest,
    pub size: u64,
}

impl Intake {
    pub(super) fn read(
        session: &mut Session,
        archive: impl Read,
        progress: Option<ImportProgress>,
    ) -> Result<Self, ImportError> {
        let budget = Budget::default();
        let counted = Counted { inner: archive, count: 0, progress };
        let plain = decompress(counted).map_err(ImportError::Read)?;
        let mut tar = tar::Archive::new(Bounded { inner: plain, budget: budget.clone() });
        let mut intake = Intake { files: HashMap::new(), links: HashMap::new() };
        let max_bytes = session.store().limits().max_image_bytes;
        let mut total = 0_u64;
        for entry in tar.entries().map_err(ImportError::Read)? {
            let mut entry = entry.map_err(ImportError::Read)?;
            total = total.saturating_add(entry.size());
            if total > max_bytes {
                return Err(ImportError::Bytes(max_bytes));
            }
            if intake.files.len() + intake.links.len() >= MAX_FILES {
                return Err(ImportError::TooMany(MAX_FILES));
            }
            budget.set(entry.size().saturating_add(512 + MAX_HEADER_BYTES));
            let Some(name) = normalise("", &String::from_utf8_lossy(&entry.path_bytes())) else { continue };
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                // Old `docker save` links a layer that several images have.
                let target =
                    entry.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
                let directory =
                    if kind.is_symlink() { name.rsplit_once('/').map_or("", |(d, _)| d) } else { "" };
                if let Some(target) = target.and_then(|target| normalise(directory, &target)) {
                    intake.links.insert(name, target);
                }
            } else if kind.is_file() || kind.is_contiguous() {
                let stored = store(session, &mut entry)?;
                if let Some(replaced) = intake.files.insert(name, stored) {
                    fs::remove_file(&replaced.path).map_err(StoreError::io("remove", &replaced.path))?;
                }
            }
        }
        Ok(intake)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub(super) fn find(&self, name: &str) -> Option<&StoredFile> {
        let mut name = normalise("", name)?;
        for _ in 0..MAX_LINKS {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => return self.files.get(&name),
            }
        }
        None
    }

    pub(super) fn get(&self, name: &str) -> Result<&StoredFile, ImportError> {
        self.find(name).ok_or_else(|| ImportError::Missing(name.to_owned()))
    }

    /// The whole of a small file.
    pub(super) fn bytes(&self, name: &str, max: u64) -> Result<Vec<u8>, ImportError> {
        let file = self.get(name)?;
        if file.size > max {
            return Err(ImportError::TooLarge { name: name.to_owned(), max });
        }
        Ok(fs::read(&file.path).map_err(StoreError::io("read", &file.path))?)
    }

    /// Puts a file of the archive into the store. The file stays where it is as well: two images may
    /// have it.
    pub(super) fn put(&self, session: &mut Session, file: &StoredFile) -> Result<(), ImportError> {
        if session.has_blob(&file.digest) {
            return Ok(());
        }
        let copy = session.new_path();
        fs::hard_link(&file.path, &copy).map_err(StoreError::io("link", &copy))?;
        Ok(session.add_blob(&copy, &file.digest)?)
    }
}

fn store(session: &mut Session, content: &mut impl Read) -> Result<StoredFile, ImportError> {
    let (path, file) = session.new_file()?;
    let mut writer = HashingWriter::new(file);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ImportError::Read(error)),
        };
        io::Write::write_all(&mut writer, &buffer[..read]).map_err(StoreError::io("write", &path))?;
    }
    let (_, digest, size) = writer.finish();
    Ok(StoredFile { path, digest, size })
}

/// `path`, seen from `directory`, without `.` and `..`; nothing if it leads out of the archive.
fn normalise(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let start = if path.starts_with('/') { "" } else { directory };
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Bytes that the tar reader may take before it shows the next entry.
#[derive(Clone)]
struct Budget(std::rc::Rc<std::cell::Cell<u64>>);

impl Default for Budget {
    fn default() -> Self {
        Budget(std::rc::Rc::new(std::cell::Cell::new(MAX_HEADER_BYTES)))
    }
}

impl Budget {
    fn set(&self, bytes: u64) {
        self.0.set(bytes);
    }
}

struct Bounded<R> {
    inner: R,
    budget: Budget,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.budget.0.get().checked_sub(read as u64);
        self.budget.0.set(left.ok_or_else(|| io::Error::other("the headers of one entry are too large"))?);
        Ok(read)
    }
}

struct Counted<R> {
    inner: R,
    count: u64,
    progress: Option<ImportProgress>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += read as u64;
        if let Some(progress) = &self.progress {
            progress(self.count);
        }
        Ok(read)
    }
}
