//! What of the kernel's files a container must not see or not write.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat, makedev};
use oci_spec::runtime::Linux;

use super::kernel::MountAttributes;
use super::mount_options::{MountOptions, READ_ONLY};
use super::mounts::{change, clone_mount, new_file_system};
use super::root::{Root, attach};

#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    #[error("masking {path}")]
    Mask { path: PathBuf, source: io::Error },
    #[error("making {path} read-only")]
    ReadOnly { path: PathBuf, source: io::Error },
}

/// Covers `maskedPaths` and makes `readonlyPaths` so, in the container's process. What is not there
/// needs neither.
pub fn apply(linux: &Linux, root: &Root) -> Result<(), MaskError> {
    for path in linux.readonly_paths().iter().flatten().map(Path::new) {
        make_read_only(path, root).map_err(|source| MaskError::ReadOnly { path: path.to_owned(), source })?;
    }
    let mut covers = Covers { null: None, empty: None };
    for path in linux.masked_paths().iter().flatten().map(Path::new) {
        covers.mask(path, root).map_err(|source| MaskError::Mask { path: path.to_owned(), source })?;
    }
    Ok(())
}

fn there(root: &Root, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    match root.open(path) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

fn make_read_only(path: &Path, root: &Root) -> io::Result<()> {
    let Some(place) = there(root, path)? else { return Ok(()) };
    let copy = clone_mount(place.as_fd(), true)?;
    let attributes = MountAttributes { set: READ_ONLY, ..MountAttributes::default() };
    change(copy.as_fd(), true, &attributes)?;
    Ok(attach(copy.as_fd(), place.as_fd())?)
}

/// What is put on top.
struct Covers {
    /// The machine's `/dev/null`: one in the container may be anything.
    null: Option<OwnedFd>,
    /// An empty directory, mounted already.
    empty: Option<OwnedFd>,
}

impl Covers {
    fn mask(&mut self, path: &Path, root: &Root) -> io::Result<()> {
        let Some(place) = there(root, path)? else { return Ok(()) };
        let is_dir = fstat(&place)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if !is_dir {
            let null = match &self.null {
                Some(null) => null,
                None => self.null.insert(null_device()?),
            };
            return Ok(attach(clone_mount(null.as_fd(), false)?.as_fd(), place.as_fd())?);
        }
        match &self.empty {
            Some(empty) => Ok(attach(clone_mount(empty.as_fd(), false)?.as_fd(), place.as_fd())?),
            None => {
                let mut options = MountOptions::default();
                options.own.set = READ_ONLY;
                options.data = vec![("size".to_owned(), Some("0".to_owned()))];
                let empty = new_file_system("tmpfs", Some("tmpfs"), &options)?;
                attach(empty.as_fd(), place.as_fd())?;
                self.empty = Some(empty);
                Ok(())
            }
        }
    }
}

/// To be called before the machine's root is left.
fn null_device() -> io::Result<OwnedFd> {
    let null = nix::fcntl::open("/dev/null", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let stat = fstat(&null)?;
    if stat.st_mode & libc::S_IFMT != SFlag::S_IFCHR.bits() || stat.st_rdev != makedev(1, 3) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "/dev/null is something else"));
    }
    Ok(null)
}
