//! `emptyDir`: a directory, or memory, that lives as long as the pod.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use nix::mount::{MsFlags, mount};

use crate::amounts;

/// Why the directory was not made.
#[derive(Debug, thiserror::Error)]
pub enum EmptyDirError {
    #[error("cannot make the directory: {0}")]
    Make(#[source] io::Error),
    #[error("cannot mount memory: {0}")]
    Mount(#[source] nix::Error),
    #[error("unknown storage medium {0:?}")]
    Medium(String),
}

/// Makes the volume in `dir`; what is there already stays. `group` owns it where one is given.
pub fn set_up(dir: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> Result<(), EmptyDirError> {
    DirBuilder::new().recursive(true).mode(0o777).create(dir).map_err(EmptyDirError::Make)?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            if !super::is_mount_point(dir) {
                let limit = source.size_limit.as_ref().map(amounts::value).filter(|limit| *limit > 0);
                let options = limit.map(|limit| format!("size={limit}"));
                mount_memory(dir, options.as_deref())?;
            }
        }
        other => return Err(EmptyDirError::Medium(other.to_owned())),
    }
    // The process's umask took part in making it.
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    if let Some(group) = group {
        chown(dir, None, Some(group)).map_err(EmptyDirError::Make)?;
    }
    fs::set_permissions(dir, Permissions::from_mode(mode)).map_err(EmptyDirError::Make)
}

/// Mounts a file system that is kept in memory over `dir`.
pub fn mount_memory(dir: &Path, options: Option<&str>) -> Result<(), EmptyDirError> {
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), options).map_err(EmptyDirError::Mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_may_write() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("v");
        set_up(&volume, &EmptyDirVolumeSource::default(), None).expect("makes");
        fs::write(volume.join("kept"), "x").expect("writes");
        set_up(&volume, &EmptyDirVolumeSource::default(), None).expect("makes");
        assert_eq!(fs::metadata(&volume).expect("there").permissions().mode() & 0o7777, 0o777);
        assert!(volume.join("kept").exists());
        let odd = EmptyDirVolumeSource { medium: Some("Tape".into()), size_limit: None };
        assert!(matches!(set_up(&volume, &odd, None), Err(EmptyDirError::Medium(_))));
    }
}
