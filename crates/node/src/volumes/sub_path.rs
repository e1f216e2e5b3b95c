//! `subPath`: a part of a volume, bound to a place of its own so that nobody can put a link in its
//! way between the check and the mount.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::inside;

/// Why a part of a volume cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum SubPathError {
    #[error("subPath {0:?} must be a relative path inside of the volume")]
    Escapes(String),
    #[error("failed to prepare subPath {path:?}: {source}")]
    Prepare { path: String, source: io::Error },
}

/// Binds `sub_path` of the volume at `root` to `target` and returns the latter. Missing
/// directories are made.
pub fn bind(root: &Path, sub_path: &str, target: &Path) -> Result<PathBuf, SubPathError> {
    let escapes = || SubPathError::Escapes(sub_path.to_owned());
    let failed = |source: io::Error| SubPathError::Prepare { path: sub_path.to_owned(), source };
    let relative = Path::new(sub_path);
    if relative.is_absolute() || relative.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(escapes());
    }
    let found = match inside::open_beneath(root, relative) {
        Err(Errno::ENOENT) => inside::make_dir_beneath(root, relative, 0o750),
        other => other,
    };
    let found = found.map_err(|errno| match errno {
        Errno::EXDEV | Errno::ELOOP => escapes(),
        other => failed(other.into()),
    })?;
    if super::is_mount_point(target) {
        return Ok(target.to_owned());
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    if let Some(parent) = target.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(parent).map_err(failed)?;
    }
    if fs::metadata(&source).map_err(failed)?.is_dir() {
        DirBuilder::new().recursive(true).mode(0o750).create(target).map_err(failed)?;
    } else {
        OpenOptions::new().create(true).append(true).open(target).map_err(failed)?;
    }
    mount(Some(&source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| failed(errno.into()))?;
    Ok(target.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_outside_of_the_volume_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("makes");
        std::os::unix::fs::symlink("/etc", root.join("link")).expect("links");
        let target = dir.path().join("target");
        for sub_path in ["../x", "/etc", "a/../../x", "link", "link/passwd"] {
            let got = bind(&root, sub_path, &target);
            assert!(matches!(got, Err(SubPathError::Escapes(_))), "{sub_path} {got:?}");
        }
    }
}
