//! `hostPath`: a file or directory of the node.

use std::fs::{self, DirBuilder, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Why the path cannot be used. The texts are upstream's.
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    #[error("hostPath type check failed: {path} is not {what}")]
    Type { path: String, what: &'static str },
    #[error("cannot make {path}: {source}")]
    Make { path: String, source: io::Error },
    #[error("unknown hostPath type {0:?}")]
    Unknown(String),
}

/// Checks that the path is of the wanted type, and makes it where the type says so.
pub fn check(path: &Path, wanted: &str) -> Result<(), HostPathError> {
    let shown = path.display().to_string();
    let found: Option<FileType> = fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let require = |matches: fn(&FileType) -> bool, what: &'static str| match &found {
        Some(found) if matches(found) => Ok(()),
        Some(_) | None => Err(HostPathError::Type { path: shown.clone(), what }),
    };
    match wanted {
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_none() => DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|source| HostPathError::Make { path: shown.clone(), source }),
        "FileOrCreate" if found.is_none() => OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o644)
            .open(path)
            .map(drop)
            .map_err(|source| HostPathError::Make { path: shown.clone(), source }),
        "Directory" | "DirectoryOrCreate" => require(FileType::is_dir, "a directory"),
        "File" | "FileOrCreate" => require(FileType::is_file, "a file"),
        "Socket" => require(FileType::is_socket, "a socket file"),
        "CharDevice" => require(FileType::is_char_device, "a character device"),
        "BlockDevice" => require(FileType::is_block_device, "a block device"),
        other => Err(HostPathError::Unknown(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_or_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").expect("writes");
        let check = |name: &str, wanted: &str, expected: bool| {
            assert_eq!(super::check(&at(name), wanted).is_ok(), expected, "{name} {wanted}");
        };
        check("file", "", true);
        check("none", "", true);
        check("file", "File", true);
        check("file", "Directory", false);
        check("none", "Directory", false);
        check("new", "DirectoryOrCreate", true);
        check("new", "Directory", true);
        check("new", "FileOrCreate", false);
        check("fresh", "FileOrCreate", true);
        check("file", "Socket", false);
        check("file", "Nonsense", false);
        let error = super::check(&at("none"), "Directory").expect_err("missing").to_string();
        assert!(error.starts_with("hostPath type check failed: ") && error.ends_with("is not a directory"));
    }
}
