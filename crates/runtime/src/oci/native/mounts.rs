//! What is mounted in a container.
//!
//! Sources on the machine are opened as detached trees before the container's process exists, with
//! the machine's own view and rights. New file systems are made by that process, in its namespaces.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::symlinkat;
use oci_spec::runtime::Mount;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

use super::kernel::{MountAttributes, mount_setattr};
use super::mount_options::{self, MountOptions, Propagation, UnsupportedOption};
use super::root::{Make, Root, attach};
use crate::cgroup::Cgroup;

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("mounting at {destination}")]
    Option { destination: PathBuf, source: UnsupportedOption },
    #[error("mounting at {destination}: mapped users are not supported")]
    Mapped { destination: PathBuf },
    #[error("mounting {from} at {destination}")]
    Source { from: PathBuf, destination: PathBuf, source: io::Error },
    #[error("mounting {kind} at {destination}")]
    FileSystem { kind: String, destination: PathBuf, source: io::Error },
    #[error("mounting at {destination}: making the mount point")]
    Target { destination: PathBuf, source: Errno },
    #[error("mounting at {destination}")]
    Attach { destination: PathBuf, source: io::Error },
    #[error("linking {name} in {destination}")]
    Link { name: String, destination: PathBuf, source: Errno },
}

/// One mount, ready to be attached.
pub struct Prepared {
    destination: PathBuf,
    options: MountOptions,
    what: What,
}

enum What {
    Tree(OwnedFd),
    FileSystem {
        kind: String,
        from: Option<String>,
    },
    /// The hierarchies of version 1, each in a directory, and the names that lead there.
    Hierarchies(Vec<Shown>),
}

struct Shown {
    name: PathBuf,
    links: Vec<String>,
    tree: OwnedFd,
}

impl Prepared {
    /// Opens what is on the machine.
    pub fn new(mount: &Mount, cgroup: &Cgroup, users_mapped: bool) -> Result<Prepared, MountError> {
        let destination = mount.destination().clone();
        let mapped = [mount.uid_mappings(), mount.gid_mappings()];
        if mapped.into_iter().flatten().any(|mappings| !mappings.is_empty()) {
            return Err(MountError::Mapped { destination });
        }
        let given = mount.options().as_deref().unwrap_or_default();
        let mut options = mount_options::parse(given)
            .map_err(|source| MountError::Option { destination: destination.clone(), source })?;
        let kind = mount.typ().as_deref().unwrap_or("bind");
        if kind == "bind" || options.bind.is_some() {
            let from = mount.source().clone().unwrap_or_default();
            let recursive = options.bind.unwrap_or(false);
            // Less than what the source forbids is not allowed by saying so.
            options.own.clear &= options.own.set | ATIME;
            return match clone_path(&from, recursive) {
                Ok(tree) => Ok(Prepared { destination, options, what: What::Tree(tree) }),
                Err(error) => Err(MountError::Source { from, destination, source: error.into() }),
            };
        }
        let what = match kind {
            "cgroup" if !cgroup.is_only_unified() => {
                hierarchies(cgroup).map(What::Hierarchies).map_err(|source| MountError::FileSystem {
                    kind: kind.to_owned(),
                    destination: destination.clone(),
                    source,
                })?
            }
            "cgroup" if users_mapped => {
                // Its own root could only be shown by the owner of the machine's.
                let from = cgroup.unified_dir().unwrap_or_default();
                let source = |error: Errno| MountError::Source {
                    from: from.clone(),
                    destination: destination.clone(),
                    source: error.into(),
                };
                What::Tree(clone_path(&from, false).map_err(source)?)
            }
            "cgroup" => What::FileSystem { kind: "cgroup2".to_owned(), from: Some("cgroup".to_owned()) },
            other => {
                let from = mount.source().as_ref().map(|from| from.to_string_lossy().into_owned());
                What::FileSystem { kind: other.to_owned(), from }
            }
        };
        Ok(Prepared { destination, options, what })
    }

    pub fn destination(&self) -> &Path {
        &self.destination
    }

    /// Whether it is a part of the machine's files, not a new file system.
    pub fn is_tree(&self) -> bool {
        matches!(self.what, What::Tree(_))
    }

    /// The descriptors that the container's process needs.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        match &self.what {
            What::Tree(tree) => vec![tree.as_fd()],
            What::FileSystem { .. } => Vec::new(),
            What::Hierarchies(all) => all.iter().map(|shown| shown.tree.as_fd()).collect(),
        }
    }

    /// Puts it into a root, in the container's process.
    pub fn attach(&self, root: &Root) -> Result<(), MountError> {
        let destination = || self.destination.clone();
        let target = |make| {
            root.open_or_make(&self.destination, make)
                .map_err(|source| MountError::Target { destination: destination(), source })
        };
        let failed = |source| MountError::Attach { destination: destination(), source };
        match &self.what {
            What::Tree(tree) => {
                let is_dir = fstat(tree).map_err(|error| failed(error.into()))?.st_mode & libc::S_IFMT
                    == libc::S_IFDIR;
                let target = target(if is_dir { Make::Directory } else { Make::File })?;
                let default = Propagation { kind: libc::MS_SLAVE, recursive: true };
                set_options(tree.as_fd(), &self.options, Some(default)).map_err(failed)?;
                attach(tree.as_fd(), target.as_fd()).map_err(|error| failed(error.into()))
            }
            What::FileSystem { kind, from } => {
                let target = target(Make::Directory)?;
                let made = new_file_system(kind, from.as_deref(), &self.options);
                let mount = made.map_err(|source| MountError::FileSystem {
                    kind: kind.clone(),
                    destination: destination(),
                    source,
                })?;
                attach(mount.as_fd(), target.as_fd()).map_err(|error| failed(error.into()))
            }
            What::Hierarchies(all) => self.attach_hierarchies(all, root),
        }
    }

    fn attach_hierarchies(&self, all: &[Shown], root: &Root) -> Result<(), MountError> {
        let failed = |source| MountError::Attach { destination: self.destination.clone(), source };
        let target = root
            .open_or_make(&self.destination, Make::Directory)
            .map_err(|source| MountError::Target { destination: self.destination.clone(), source })?;
        let mut open = self.options.clone();
        open.data = vec![("mode".to_owned(), Some("755".to_owned()))];
        let read_only = open.own.set & mount_options::READ_ONLY;
        // Until it is filled.
        open.own.set &= !read_only;
        let top = new_file_system("tmpfs", Some("tmpfs"), &open).map_err(failed)?;
        attach(top.as_fd(), target.as_fd()).map_err(|error| failed(error.into()))?;
        for Shown { name, links, tree } in all {
            let made = mkdirat(&top, name.as_path(), Mode::from_bits_truncate(0o755))
                .and_then(|()| Root::open(&Root::new(top.try_clone().map_err(|_| Errno::EMFILE)?), name));
            let place = made.map_err(|error| failed(error.into()))?;
            set_options(tree.as_fd(), &self.options, Some(PRIVATE)).map_err(failed)?;
            attach(tree.as_fd(), place.as_fd()).map_err(|error| failed(error.into()))?;
            for link in links {
                symlinkat(name.as_path(), &top, link.as_str()).map_err(|source| MountError::Link {
                    name: link.clone(),
                    destination: self.destination.clone(),
                    source,
                })?;
            }
        }
        let attributes = MountAttributes { set: read_only, ..MountAttributes::default() };
        change(top.as_fd(), false, &attributes).map_err(failed)
    }
}

/// The ways of keeping access times, of which one is chosen by clearing the others.
const ATIME: u64 = 0x70;
const PRIVATE: Propagation = Propagation { kind: libc::MS_PRIVATE, recursive: false };

fn hierarchies(cgroup: &Cgroup) -> io::Result<Vec<Shown>> {
    let mut all = Vec::new();
    for (name, controllers, dir) in cgroup.places()? {
        let tree = match clone_path(&dir, false) {
            Ok(tree) => tree,
            // Gone, or outside of what is mounted here.
            Err(Errno::ENOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let joined = name.to_str().unwrap_or_default().split(',');
        // "cpu" and "cpuacct" lead to "cpu,cpuacct".
        let links = match joined.clone().count() {
            1 => Vec::new(),
            _ => joined.filter(|link| controllers.iter().any(|c| c == link)).map(str::to_owned).collect(),
        };
        all.push(Shown { name, links, tree });
    }
    Ok(all)
}

/// A part of the machine's file systems, as a mount that is nowhere yet.
pub fn clone_path(path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(rustix::fs::CWD, path, flags).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// A file as a mount of its own that is nowhere, and through which nobody can write, not even by the
/// `/proc/<pid>/exe` of a process that executes it.
pub fn read_only_copy(file: &Path) -> io::Result<OwnedFd> {
    let copy = clone_path(file, false)?;
    let attributes = MountAttributes { set: mount_options::READ_ONLY, ..MountAttributes::default() };
    mount_setattr(copy.as_fd(), false, &attributes)?;
    Ok(copy)
}

/// As [`clone_path`], of what a descriptor stands for, in the calling process's mount namespace.
pub fn clone_mount(of: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags |= OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(of, "", flags).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// Changes a mount, unless there is nothing to change.
pub fn change(mount: BorrowedFd<'_>, recursive: bool, attributes: &MountAttributes) -> io::Result<()> {
    if attributes.is_nothing() { Ok(()) } else { mount_setattr(mount, recursive, attributes) }
}

fn set_options(
    mount: BorrowedFd<'_>,
    options: &MountOptions,
    default: Option<Propagation>,
) -> io::Result<()> {
    let (mut own, mut all) = (options.own, options.recursive);
    if let Some(propagation) = options.propagation.or(default) {
        let which = if propagation.recursive { &mut all } else { &mut own };
        which.propagation = propagation.kind;
    }
    change(mount, true, &all)?;
    change(mount, false, &own)
}

/// Makes a file system that is mounted nowhere yet.
pub fn new_file_system(kind: &str, from: Option<&str>, options: &MountOptions) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    let configured = (|| {
        if let Some(from) = from {
            fsconfig_set_string(&context, "source", from)?;
        }
        for (key, value) in &options.data {
            match value {
                Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str())?,
                None => fsconfig_set_flag(&context, key.as_str())?,
            }
        }
        fsconfig_create(&context)
    })();
    if let Err(error) = configured {
        return Err(explained(context, error.into()));
    }
    let flags = MountAttrFlags::from_bits_retain(u32::try_from(options.own.set).unwrap_or(0));
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    let mut rest = options.clone();
    rest.own = MountAttributes::default();
    set_options(mount.as_fd(), &rest, None)?;
    Ok(mount)
}

/// Adds what the kernel said about a file system that could not be made.
fn explained(context: OwnedFd, error: io::Error) -> io::Error {
    let mut said = [0; 256];
    match File::from(context).read(&mut said) {
        Ok(count) if count > 2 => {
            // The first letter is how severe it is.
            let text = String::from_utf8_lossy(&said[2..count]);
            io::Error::new(error.kind(), format!("{error}: {}", text.trim()))
        }
        Ok(_) | Err(_) => error,
    }
}
