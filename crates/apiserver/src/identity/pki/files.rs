//! Key material on disk: private, whole or absent, durable when written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// More than any file here can be; a larger one is not ours.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A directory that only its owner may enter.
#[derive(Debug)]
pub struct PrivateDirectory {
    path: PathBuf,
}

/// What went wrong with which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl FileError {
    fn new(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError { action, path, source }
    }
}

impl PrivateDirectory {
    /// Creates the directory (mode 0700) or takes over an existing one, closing it to others.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(FileError::new("create directory", path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(FileError::new("restrict directory", path))?;
        Ok(PrivateDirectory { path: path.to_owned() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The text of a file; `None` where there is none.
    pub fn read(&self, name: &str) -> Result<Option<String>, FileError> {
        read(&self.path(name))
    }

    pub fn write(&self, name: &str, text: &str) -> Result<(), FileError> {
        write(&self.path(name), text)
    }

    /// Removes a file, where it is there, durably.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Ok(()) => File::open(&self.path)
                .and_then(|directory| directory.sync_all())
                .map_err(FileError::new("flush", &self.path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FileError::new("remove", &path)(error)),
        }
    }
}

/// The plain files of a directory whose names end as those of certificates do.
pub fn list(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let error = || FileError::new("read", directory);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(error())? {
        let path = entry.map_err(error())?.path();
        if path.extension().is_some_and(|end| end == "crt" || end == "pem") && path.is_file() {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The text of a file; `None` where there is none.
pub fn read(path: &Path) -> Result<Option<String>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::new("open", path)(error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(FileError::new("read", path))?;
    Ok(Some(text))
}

/// Replaces a file (mode 0600). After a crash it has the old text or the new, never a part.
pub fn write(path: &Path, text: &str) -> Result<(), FileError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    // A crash may have left one behind, possibly with another mode.
    match fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(FileError::new("remove", &temporary)(error)),
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(FileError::new("create", &temporary))?;
    file.write_all(text.as_bytes()).map_err(FileError::new("write", &temporary))?;
    file.sync_all().map_err(FileError::new("flush", &temporary))?;
    fs::rename(&temporary, path).map_err(FileError::new("replace", path))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::new("flush", directory))
}
