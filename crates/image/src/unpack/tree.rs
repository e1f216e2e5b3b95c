//! The directory that a layer is unpacked into, and the only way to reach files in it.
//!
//! Every path is resolved here, component by component, as it would resolve in a container: an
//! absolute symbolic link starts at the layer's own root, and `..` never leaves it. The result has
//! no links left and is opened with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)`, so that the
//! kernel refuses what this code might have missed.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{self as rfs, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use super::UnpackError;
use crate::limits::LimitExceeded;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";

/// A directory of the layer.
#[derive(Clone)]
pub(super) struct Directory {
    pub fd: Rc<OwnedFd>,
    /// Below the layer's root, without links.
    pub path: PathBuf,
}

pub(super) struct Tree {
    path: PathBuf,
    root: Directory,
    /// The layers below, the topmost first: what an implied parent directory is like.
    lowers: Vec<OwnedFd>,
    /// The last directory that was resolved: entries of one directory usually come together.
    last: Option<(Vec<u8>, Directory)>,
    max_depth: usize,
    /// Directories made that no entry named.
    pub implied: u64,
}

enum Below {
    Nothing,
    Directory(OwnedFd),
    Link(Vec<u8>),
    File(OwnedFd),
}

impl Tree {
    pub(super) fn open(path: &Path, lowers: &[PathBuf], max_depth: usize) -> io::Result<Self> {
        let open = |path: &Path| {
            rfs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        };
        let root = Directory { fd: Rc::new(open(path)?), path: PathBuf::new() };
        let lowers = lowers.iter().map(|lower| open(lower)).collect::<Result<_, _>>()?;
        Ok(Tree { path: path.to_owned(), root, lowers, last: None, max_depth, implied: 0 })
    }

    pub(super) fn root(&self) -> Directory {
        self.root.clone()
    }

    /// The directory at `path`, made with its parents where missing.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<Directory, UnpackError> {
        if path.is_empty() {
            return Ok(self.root());
        }
        if let Some((name, directory)) = &self.last
            && name == path
        {
            return Ok(directory.clone());
        }
        let directory = self.walk(path)?;
        self.last = Some((path.to_owned(), directory.clone()));
        Ok(directory)
    }

    fn walk(&mut self, path: &[u8]) -> Result<Directory, UnpackError> {
        let fail = |errno: Errno| UnpackError::entry(path, "resolve", errno.into());
        let mut at = vec![self.root()];
        let mut left: VecDeque<Vec<u8>> = components(path).collect();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == b".." {
                // At the root, `..` is the root.
                if at.len() > 1 {
                    at.pop();
                }
                continue;
            }
            let here = at.last().expect("the root is never popped").clone();
            match self.step(&here, &name).map_err(fail)? {
                Step::Into(directory) if at.len() > self.max_depth => {
                    drop(directory);
                    return Err(LimitExceeded::Depth(self.max_depth).into());
                }
                Step::Into(directory) => at.push(directory),
                Step::Follow(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(fail(Errno::LOOP));
                    }
                    if target.starts_with(b"/") {
                        at.truncate(1);
                    }
                    for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                        left.push_front(component);
                    }
                }
            }
        }
        Ok(at.pop().expect("the root is never popped"))
    }

    fn step(&mut self, here: &Directory, name: &[u8]) -> Result<Step, Errno> {
        let os_name = OsStr::from_bytes(name);
        let child = here.path.join(os_name);
        match rfs::statat(&here.fd, os_name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => return Ok(Step::Into(self.open_directory(child)?)),
                FileType::Symlink => return Ok(Step::Follow(read_link(&here.fd, os_name)?)),
                FileType::CharacterDevice if stat.st_rdev == 0 => {
                    // This layer removed what is below and then puts a new directory there.
                    rfs::unlinkat(&here.fd, os_name, AtFlags::empty())?;
                    rfs::mkdirat(&here.fd, os_name, Mode::from_raw_mode(0o755))?;
                    self.implied += 1;
                    let directory = self.open_directory(child)?;
                    rfs::fsetxattr(&directory.fd, OPAQUE, b"y", XattrFlags::empty())?;
                    return Ok(Step::Into(directory));
                }
                FileType::RegularFile
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => return Err(Errno::NOTDIR),
            },
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        let below = match self.below(&child)? {
            Below::Link(target) => return Ok(Step::Follow(target)),
            Below::Directory(fd) => Some(rfs::fstat(&fd)?),
            Below::File(_) => return Err(Errno::NOTDIR),
            Below::Nothing => None,
        };
        rfs::mkdirat(&here.fd, os_name, Mode::from_raw_mode(0o755))?;
        self.implied += 1;
        let directory = self.open_directory(child)?;
        if let Some(stat) = below {
            copy_ownership(&directory.fd, &stat)?;
        }
        Ok(Step::Into(directory))
    }

    fn open_directory(&self, path: PathBuf) -> Result<Directory, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rfs::openat2(&self.root.fd, &path, flags, Mode::empty(), beneath())?;
        Ok(Directory { fd: Rc::new(fd), path })
    }

    /// What the layers below have at `path`, which has no links above its last component.
    fn below(&self, path: &Path) -> Result<Below, Errno> {
        for lower in &self.lowers {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = match rfs::openat2(lower, path, flags, Mode::empty(), beneath()) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(errno),
            };
            let stat = rfs::fstat(&fd)?;
            return Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Below::Directory(fd),
                FileType::Symlink => Below::Link(read_link(&fd, OsStr::new(""))?),
                FileType::CharacterDevice if stat.st_rdev == 0 => Below::Nothing,
                FileType::RegularFile => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    Below::File(rfs::openat2(lower, path, flags, Mode::empty(), beneath())?)
                }
                FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => Below::Nothing,
            });
        }
        Ok(Below::Nothing)
    }

    /// The regular file that the layers below have at `name` in `directory`.
    pub(super) fn file_below(&self, directory: &Directory, name: &OsStr) -> Result<Option<OwnedFd>, Errno> {
        match self.below(&directory.path.join(name))? {
            Below::File(fd) => Ok(Some(fd)),
            Below::Nothing | Below::Directory(_) | Below::Link(_) => Ok(None),
        }
    }

    /// Removes what is at `name`, with everything in it. `Ok(false)` when nothing was there.
    pub(super) fn clear(&mut self, directory: &Directory, name: &OsStr) -> io::Result<bool> {
        match rfs::unlinkat(&directory.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(Errno::ISDIR | Errno::PERM) => {
                self.last = None;
                // No component of the path is a link, and nobody else writes here.
                std::fs::remove_dir_all(self.path.join(&directory.path).join(name))?;
                Ok(true)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens a directory found earlier, if it is still one.
    pub(super) fn reopen(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.root.fd.try_clone();
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rfs::openat2(&self.root.fd, path, flags, Mode::empty(), beneath())?)
    }
}

enum Step {
    Into(Directory),
    Follow(Vec<u8>),
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV
}

fn read_link(directory: impl AsFd, name: &OsStr) -> Result<Vec<u8>, Errno> {
    Ok(rfs::readlinkat(directory, name, Vec::new())?.into_bytes())
}

/// Components without empty ones and `.`.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

pub(super) fn copy_ownership(fd: impl AsFd, stat: &Stat) -> Result<(), Errno> {
    rfs::fchown(&fd, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rfs::fchmod(&fd, Mode::from_raw_mode(stat.st_mode & 0o7777))
}
