//! Files below a root that their names and links cannot leave (`openat2` with `RESOLVE_BENEATH` or
//! `RESOLVE_IN_ROOT`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, mkdirat};

fn root_fd(root: &Path) -> nix::Result<OwnedFd> {
    open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Opens a file for reading; links are followed as a process with that root would.
pub fn open_file(root: &Path, path: &Path) -> io::Result<File> {
    let root = root_fd(root)?;
    let how = OpenHow::new()
        // A fifo must not block the opener.
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(root, path, how)?);
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

/// A handle on what is at `path` below `root`; a link that leads out is an error.
pub fn open_beneath(root: &Path, path: &Path) -> nix::Result<OwnedFd> {
    beneath(&root_fd(root)?, path)
}

fn beneath(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root.as_fd(), path, how)
}

/// As [`open_beneath`], but makes the directories that are missing, with `mode`.
pub fn make_dir_beneath(root: &Path, path: &Path, mode: u32) -> nix::Result<OwnedFd> {
    let mut current = root_fd(root)?;
    let base = root_fd(root)?;
    let mut walked = std::path::PathBuf::new();
    for component in path.components() {
        let name = match component {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(Errno::EINVAL),
        };
        walked.push(name);
        current = match beneath(&base, &walked) {
            Ok(found) => found,
            Err(Errno::ENOENT) => {
                match mkdirat(current.as_fd(), name, Mode::from_bits_truncate(mode)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
                beneath(&base, &walked)?
            }
            Err(errno) => return Err(errno),
        };
    }
    Ok(current)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_do_not_lead_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).expect("makes");
        std::fs::write(root.join("etc/file"), "inside").expect("writes");
        std::fs::write(dir.path().join("secret"), "outside").expect("writes");
        symlink("/etc/file", root.join("absolute")).expect("links");
        symlink("../../secret", root.join("up")).expect("links");
        symlink("etc/file", root.join("relative")).expect("links");

        let read = |path: &str| {
            let mut text = String::new();
            open_file(&root, Path::new(path)).map(|mut file| file.read_to_string(&mut text).map(|_| text))
        };
        assert_eq!(read("absolute").expect("opens").expect("reads"), "inside");
        assert!(read("up").is_err());
        assert!(read("etc").is_err());

        assert!(open_beneath(&root, Path::new("relative")).is_ok());
        for path in ["absolute", "up", "../secret", "/etc"] {
            assert!(open_beneath(&root, Path::new(path)).is_err(), "{path}");
        }
        make_dir_beneath(&root, Path::new("a/b"), 0o755).expect("makes");
        assert!(root.join("a/b").is_dir());
        symlink("..", root.join("out")).expect("links");
        assert!(make_dir_beneath(&root, Path::new("out/b"), 0o755).is_err());
        assert!(!dir.path().join("b").exists());
    }
}
