//! What runc does for a container's process and libcontainer does not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{Uid, fchown};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Mount, Spec};

use crate::cgroup::Cgroup;

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

/// The controllers of version 1 in whose hierarchies libcontainer makes a container's cgroup.
const CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "hugetlb",
    "memory",
    "pids",
    "perf_event",
    "blkio",
    "net_prio",
    "net_cls",
    "freezer",
];

/// Shows a container its cgroups of version 1 by bind mounts of its own. libcontainer would look for them
/// under the number that its process has in the container's PID namespace: when that is joined, and not
/// made, the number is nobody's or another process's outside.
pub fn bind_cgroups(spec: &mut Spec) -> io::Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let mut namespaces = linux.namespaces().iter().flatten();
    let joins =
        |namespace: &LinuxNamespace| namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_some();
    let (true, Some(path)) = (namespaces.any(joins), linux.cgroups_path()) else { return Ok(()) };
    let cgroup = Cgroup::new(path)?;
    let dirs: Vec<(&str, &Path)> =
        cgroup.version_1().filter(|(controller, _)| CONTROLLERS.contains(controller)).collect();
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let found = mounts.iter().position(|mount| mount.typ().as_deref() == Some("cgroup"));
    let Some(at) = found.filter(|_| !dirs.is_empty()) else { return Ok(()) };
    let access = mounts[at].options().iter().flatten().find(|option| *option == "ro").cloned();
    let destination = mounts[at].destination().clone();
    let options = |own: &[&str]| own.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>();
    let mut holder = Mount::default();
    holder
        .set_destination(destination.clone())
        .set_typ(Some("tmpfs".to_owned()))
        .set_source(Some(PathBuf::from("tmpfs")))
        .set_options(Some(options(&["nosuid", "noexec", "nodev", "mode=755", "size=64k"])));
    let binds = dirs.into_iter().map(|(controller, dir)| {
        let mut bind = Mount::default();
        let mut flags = options(&["rbind", "nosuid", "noexec", "nodev"]);
        flags.extend(access.clone());
        bind.set_destination(destination.join(controller))
            .set_typ(Some("bind".to_owned()))
            .set_source(Some(dir.to_owned()))
            .set_options(Some(flags));
        bind
    });
    let binds: Vec<Mount> = std::iter::once(holder).chain(binds).collect();
    mounts.splice(at..=at, binds);
    spec.set_mounts(Some(mounts));
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
    fn cgroups_are_bound_where_processes_are_shared() {
        let check = |pid_namespace: serde_json::Value| {
            let spec = serde_json::json!({
                "ociVersion": "1.0.2",
                "linux": { "cgroupsPath": "/a/b", "namespaces": [pid_namespace] },
                "mounts": [
                    { "destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"] },
                    { "destination": "/dev", "type": "tmpfs" },
                ],
            });
            let mut spec: Spec = serde_json::from_value(spec).expect("is a spec");
            bind_cgroups(&mut spec).expect("finds them");
            spec.mounts().clone().expect("mounts")
        };
        assert_eq!(check(serde_json::json!({ "type": "pid" })).len(), 2);
        let mounts = check(serde_json::json!({ "type": "pid", "path": "/proc/1/ns/pid" }));
        assert_eq!(mounts.last().map(|mount| mount.destination().clone()), Some("/dev".into()));
        for bind in mounts.iter().filter(|mount| mount.typ().as_deref() == Some("bind")) {
            assert!(bind.source().as_ref().is_some_and(|source| source.ends_with("a/b")), "{bind:?}");
            assert!(bind.options().iter().flatten().any(|option| option == "ro"), "{bind:?}");
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
