//! What runc does for a container's process and libcontainer does not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{Uid, fchown};
use oci_spec::runtime::Spec;

/// Gives pipes and sockets to the process's user, so that it may open `/dev/stdout`.
pub fn own_streams(streams: &[OwnedFd], uid: u32) -> io::Result<()> {
    // Never the machine's own /dev/null or whatever else has a name.
    let anonymous = [libc::S_IFIFO, libc::S_IFSOCK];
    for stream in streams {
        if !anonymous.contains(&(fstat(stream)?.st_mode & libc::S_IFMT)) {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // A user namespace without this user, or a file system that cannot: it stays as it was.
            Ok(()) | Err(Errno::EPERM | Errno::EINVAL | Errno::EROFS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes the working directory in the root file system when it is missing. What lies in a mount is
/// the mount's.
pub fn make_cwd(spec: &Spec) -> io::Result<()> {
    let (Some(process), Some(root)) = (spec.process(), spec.root()) else { return Ok(()) };
    let cwd = process.cwd();
    let mounted = |mount: &oci_spec::runtime::Mount| cwd.starts_with(mount.destination());
    if root.readonly() == Some(true) || spec.mounts().iter().flatten().any(mounted) {
        return Ok(());
    }
    if cwd.components().any(|part| matches!(part, Component::ParentDir | Component::CurDir)) {
        return Ok(());
    }
    let mut parent = OwnedFd::from(std::fs::File::open(root.path())?);
    let root = parent.try_clone()?;
    let mut path = PathBuf::from("/");
    for part in cwd.components().filter(|part| matches!(part, Component::Normal(_))) {
        path.push(part);
        // Always from the root: links in the image lead where they lead inside it.
        parent = match open_below(&root, &path) {
            Err(Errno::ENOENT) => {
                let part: &Path = part.as_ref();
                match mkdirat(parent.as_fd(), part, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                open_below(&root, &path)?
            }
            other => other?,
        };
    }
    Ok(())
}

fn open_below(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(cwd: &str, made: &[&str], not_made: &[&str]) {
        let files = tempfile::tempdir().expect("a directory");
        let root = files.path().join("root");
        std::fs::create_dir_all(root.join("there")).expect("is made");
        symlink("/../../outside", root.join("evil")).expect("is made");
        symlink("/there", root.join("link")).expect("is made");
        let spec = serde_json::json!({
            "ociVersion": "1.0.2",
            "root": { "path": root },
            "process": { "user": { "uid": 0, "gid": 0 }, "cwd": cwd },
            "mounts": [{ "destination": "/data" }],
        });
        // A link to nowhere is no reason to fail here; entering the directory will.
        let _dangling = make_cwd(&serde_json::from_value(spec).expect("is a spec"));
        for path in made {
            assert!(root.join(path).is_dir(), "{cwd}: {path} is missing");
        }
        for path in not_made {
            assert!(!root.join(path).exists(), "{cwd}: {path} is there");
        }
    }

    #[test]
    fn directories_are_made_inside_the_root_only() {
        check("/", &[], &[]);
        check("/there", &["there"], &[]);
        check("/a/b/c", &["a/b/c"], &[]);
        check("/link/x", &["there/x"], &[]);
        check("/evil/x", &[], &["../outside", "outside", "evil/x"]);
        check("/data/x", &[], &["data"]);
        check("/a/../../b", &[], &["a", "../b"]);
    }
}
