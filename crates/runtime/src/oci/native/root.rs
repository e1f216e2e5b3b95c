//! A container's root file system while it is put together.
//!
//! It is known by a descriptor only. Whatever a path in the image or in a volume says, links
//! included, it leads to a place below that root: `openat2` with `RESOLVE_IN_ROOT` sees to it. What
//! is mounted is attached to a descriptor of the place, never to a path.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat, mknodat};
use nix::unistd::{fchdir, pivot_root};
use rustix::mount::{MoveMountFlags, move_mount};

/// Links in one path.
const MAX_LINKS: usize = 40;

/// What is made where a path leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Directory,
    File,
}

pub struct Root {
    dir: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Root {
    pub fn new(dir: OwnedFd) -> Root {
        Root { dir }
    }

    /// What a path leads to.
    pub fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open_with(path, OFlag::O_PATH, ResolveFlag::empty())
    }

    pub fn open_with(&self, path: &Path, flags: OFlag, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
        let below = path.strip_prefix("/").unwrap_or(path);
        let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
        let resolve = resolve | ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        loop {
            match openat2(&self.dir, below, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve)) {
                // Something was renamed meanwhile.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                other => return other,
            }
        }
    }

    /// What a path leads to; what is missing is made, and directories on the way.
    pub fn open_or_make(&self, path: &Path, make: Make) -> Result<OwnedFd, Errno> {
        match self.open(path) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        let place = self.make(path, make)?;
        self.open(&place)
    }

    /// Follows a path part by part, with its links, and makes what is missing. Returns where it led.
    fn make(&self, path: &Path, make: Make) -> Result<PathBuf, Errno> {
        let mut parts: VecDeque<OsString> = VecDeque::new();
        prepend(&mut parts, path);
        let (mut place, mut links) = (PathBuf::new(), 0);
        while let Some(part) = parts.pop_front() {
            if part == ".." {
                place.pop();
                continue;
            }
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            let parent = self.open_with(&place, flags, ResolveFlag::RESOLVE_NO_SYMLINKS)?;
            match readlinkat(&parent, part.as_os_str()) {
                Ok(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP);
                    }
                    if Path::new(&target).is_absolute() {
                        place.clear();
                    }
                    prepend(&mut parts, Path::new(&target));
                    continue;
                }
                // There, and no link.
                Err(Errno::EINVAL) => {}
                Err(Errno::ENOENT) => {
                    let last = parts.is_empty() && make == Make::File;
                    make_entry(parent.as_fd(), &part, if last { Make::File } else { Make::Directory })?;
                }
                Err(error) => return Err(error),
            }
            place.push(part);
        }
        Ok(place)
    }

    /// Makes it the root of the calling process and of its mount namespace, and leaves the old one.
    /// It must have been put on top of the old one: see [`Root::cover_old`].
    pub fn enter(&self) -> Result<(), Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let old = nix::fcntl::open("/", flags, Mode::empty())?;
        fchdir(&self.dir)?;
        // One directory for both: the old root ends on top of the new one, without a place in it.
        pivot_root(".", ".")?;
        fchdir(&old)?;
        umount2(".", MntFlags::MNT_DETACH)?;
        nix::unistd::chdir("/")
    }

    /// Puts the root on top of the calling process's own, in a mount namespace of its own from which
    /// nothing spreads.
    pub fn cover_old(&self) -> Result<(), Errno> {
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let old = nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        attach(self.dir.as_fd(), old.as_fd())
    }
}

/// Puts the parts of a path before others. A root or a dot leads nowhere.
fn prepend(parts: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => parts.push_front(name.to_owned()),
            Component::ParentDir => parts.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn make_entry(parent: BorrowedFd<'_>, name: &OsStr, make: Make) -> Result<(), Errno> {
    let made = match make {
        Make::Directory => mkdirat(parent, name, Mode::from_bits_truncate(0o755)),
        Make::File => mknodat(parent, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0),
    };
    match made {
        // Somebody else who shares a volume was faster; what it is, the next look tells.
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// Attaches a mount that is nowhere yet to what a descriptor stands for.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// Whether an entry of a directory is there, whatever it is.
pub fn exists(dir: BorrowedFd<'_>, name: &str) -> bool {
    fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(path: &str, make: Make, made: &[&str], not_made: &[&str]) {
        let files = tempfile::tempdir().expect("a directory");
        let dir = files.path().join("root");
        std::fs::create_dir_all(dir.join("there")).expect("is made");
        symlink("/../../outside", dir.join("evil")).expect("is made");
        symlink("/there", dir.join("link")).expect("is made");
        symlink("../there/later", dir.join("there/dangling")).expect("is made");
        symlink("loop", dir.join("loop")).expect("is made");
        let root = Root::new(std::fs::File::open(&dir).expect("is there").into());
        let opened = root.open_or_make(Path::new(path), make);
        assert_eq!(opened.is_ok(), !made.is_empty(), "{path}: {opened:?}");
        for path in made {
            assert!(dir.join(path).exists(), "{path} is missing");
        }
        for path in not_made {
            assert!(!dir.join(path).exists(), "{path} is there");
        }
    }

    #[test]
    fn everything_is_made_inside_the_root_only() {
        let (dir, file) = (Make::Directory, Make::File);
        check("/", dir, &["."], &[]);
        check("/there", dir, &["there"], &[]);
        check("/a/b/c", dir, &["a/b/c"], &[]);
        check("/a/b/c", file, &["a/b/c"], &[]);
        check("/link/x", dir, &["there/x"], &["link/x/x"]);
        check("/evil/x", dir, &["outside/x"], &["../outside"]);
        check("/../../x", file, &["x"], &["../x", "../../x"]);
        check("/there/dangling", file, &["there/later"], &[]);
        check("/loop/x", dir, &[], &[]);
        check("/a/../../b", dir, &["b"], &["../b"]);
    }
}
