//! Root file systems of containers: overlayfs over an image's layers.
//!
//! ```text
//! <dir>/rootfs   the mount       <dir>/upper   what the container wrote
//! <dir>/work     overlayfs' own  <dir>/lower   an empty layer
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::image::Image;
use crate::store::{ImageStore, StoreError};

/// Why a root file system was not set up or taken down.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RootfsError {
    fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| RootfsError::Io { action, path, source }
    }
}

impl ImageStore {
    /// Mounts the image with a writable layer in `dir`, and answers the mount's path,
    /// `<dir>/rootfs`. If it is mounted already, that is all. What a container wrote before is
    /// there again.
    ///
    /// `read_only` makes the mount itself so; a runtime that has yet to create mount points in it
    /// wants `false` and its own `root.readonly`.
    pub async fn prepare_rootfs(
        &self,
        image: &Image,
        dir: &Path,
        read_only: bool,
    ) -> Result<PathBuf, RootfsError> {
        let layers = self.layer_dirs(image);
        let dir = dir.to_owned();
        self.blocking(move |_| prepare(&layers, &dir, read_only)).await
    }
}

/// Unmounts what `prepare_rootfs` mounted in `dir` and keeps what the container wrote. Nothing
/// mounted is no error.
pub async fn unmount_rootfs(dir: &Path) -> Result<(), RootfsError> {
    let dir = dir.to_owned();
    blocking(move || unmount(&dir.join("rootfs"))).await
}

/// Unmounts and deletes everything that `prepare_rootfs` made in `dir`, and `dir` if nothing else
/// is in it.
pub async fn remove_rootfs(dir: &Path) -> Result<(), RootfsError> {
    let dir = dir.to_owned();
    blocking(move || {
        unmount(&dir.join("rootfs"))?;
        for part in ["rootfs", "upper", "work", "lower"] {
            let path = dir.join(part);
            match fs::remove_dir_all(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(RootfsError::io("remove", path)(error)),
            }
        }
        match fs::remove_dir(&dir) {
            Ok(()) => Ok(()),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
            {
                Ok(())
            }
            Err(error) => Err(RootfsError::io("remove", dir)(error)),
        }
    })
    .await
}

async fn blocking<F>(work: F) -> Result<(), RootfsError>
where
    F: FnOnce() -> Result<(), RootfsError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(StoreError::Stopped.into()),
    }
}

fn prepare(layers: &[PathBuf], dir: &Path, read_only: bool) -> Result<PathBuf, RootfsError> {
    let rootfs = dir.join("rootfs");
    let upper = dir.join("upper");
    let is_new = !upper.exists();
    for part in ["rootfs", "upper", "work", "lower"] {
        let path = dir.join(part);
        fs::create_dir_all(&path).map_err(RootfsError::io("create", path))?;
    }
    if is_mount(&rootfs)? {
        return Ok(rootfs);
    }
    // The upper directory's owner and mode are the root's: the topmost layer's, until a container
    // changes them.
    if let (true, Some(top)) = (is_new, layers.last()) {
        copy_root(top, &upper)?;
    }
    let layers: Arc<[PathBuf]> = layers.into();
    let own_dir = dir.to_owned();
    // The directory that a path starts from is the thread's after `unshare(CLONE_FS)`, so the thread
    // ends with this mount.
    let mounted = std::thread::Builder::new()
        .name("mount-rootfs".to_owned())
        .spawn(move || mount_from_within(&layers, &own_dir, read_only))
        .map_err(RootfsError::io("start a thread for", dir))?
        .join();
    match mounted {
        Ok(result) => result.map_err(RootfsError::io("mount", &rootfs))?,
        Err(panic) => std::panic::resume_unwind(panic),
    }
    Ok(rootfs)
}

/// Mount options have to fit in one page: layers go by short links, relative to `dir`.
fn mount_from_within(layers: &[PathBuf], dir: &Path, read_only: bool) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    std::env::set_current_dir(dir)?;
    let links = Path::new("l");
    remove_links(links)?;
    fs::create_dir(links)?;
    let mut lowers = Vec::with_capacity(layers.len() + 1);
    for (number, layer) in layers.iter().rev().enumerate() {
        let link = format!("l/{number}");
        symlink(layer, &link)?;
        lowers.push(link);
    }
    if lowers.is_empty() {
        lowers.push("lower".to_owned());
    }
    let options = format!("index=off,lowerdir={},upperdir=upper,workdir=work", lowers.join(":"));
    let options = std::ffi::CString::new(options).expect("the options have no zero bytes");
    let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    let mounted = rustix::mount::mount("overlay", "rootfs", "overlay", flags, Some(options.as_c_str()));
    remove_links(links)?;
    Ok(mounted?)
}

fn remove_links(links: &Path) -> io::Result<()> {
    match fs::remove_dir_all(links) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy_root(layer: &Path, upper: &Path) -> Result<(), RootfsError> {
    use std::os::unix::fs::{MetadataExt, chown};
    let metadata = fs::metadata(layer).map_err(RootfsError::io("look up", layer))?;
    chown(upper, Some(metadata.uid()), Some(metadata.gid()))
        .and_then(|()| fs::set_permissions(upper, metadata.permissions()))
        .map_err(RootfsError::io("set up", upper))
}

/// Lazily, since a process of a dying container may still hold files; more than once, in case that
/// mounts were stacked.
fn unmount(rootfs: &Path) -> Result<(), RootfsError> {
    while is_mount(rootfs)? {
        match rustix::mount::unmount(rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(RootfsError::io("unmount", rootfs)(errno.into())),
        }
    }
    Ok(())
}

fn is_mount(path: &Path) -> Result<bool, RootfsError> {
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
        Ok(status) => Ok(status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(RootfsError::io("look up", path)(errno.into())),
    }
}
