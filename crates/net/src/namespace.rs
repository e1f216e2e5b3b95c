//! Network namespaces that outlive the process which made them, kept by a bind mount.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, statfs};

use crate::rtnetlink::{Requests, RouteError, RouteSocket};

/// `NSFS_MAGIC`: what a bind-mounted namespace is told by.
const NAMESPACE_FILE_SYSTEM: FsType = FsType(0x6e73_6673);

/// Why a namespace could not be made, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("cannot prepare {} for a network namespace", path.display())]
    Prepare { path: PathBuf, source: io::Error },
    #[error("cannot make a network namespace")]
    Unshare(#[source] Errno),
    #[error("cannot keep the network namespace at {}", path.display())]
    Mount { path: PathBuf, source: Errno },
    #[error("cannot remove the network namespace {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("cannot open the network namespace {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot enter the network namespace {}", path.display())]
    Enter { path: PathBuf, source: Errno },
    #[error("cannot start a thread for the network namespace {}", path.display())]
    Thread { path: PathBuf, source: io::Error },
    #[error("cannot bring up loopback in the network namespace {}", path.display())]
    Loopback { path: PathBuf, source: RouteError },
}

/// Makes a network namespace that is kept at `path`, with loopback up. One that is there already
/// stays as it is; what an interrupted call left is taken over. Missing directories are made.
pub fn create(path: &Path) -> Result<(), NamespaceError> {
    let prepare = |source| NamespaceError::Prepare { path: path.to_owned(), source };
    if exists(path) {
        return run_in(path, raise_loopback)?.map_err(|source| loopback_error(path, source));
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(prepare)?;
    }
    OpenOptions::new().create(true).append(true).open(path).map_err(prepare)?;
    let made = on_thread(path, || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(NamespaceError::Unshare)?;
        raise_loopback().map_err(|source| loopback_error(path, source))?;
        let own = Path::new("/proc/thread-self/ns/net");
        mount(Some(own), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|source| NamespaceError::Mount { path: path.to_owned(), source })
    })?;
    if made.is_err() {
        // The empty file is only litter: a later call would take it over.
        let _ = fs::remove_file(path);
    }
    made
}

/// Whether a namespace is kept at `path`.
pub fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|statistics| statistics.filesystem_type() == NAMESPACE_FILE_SYSTEM)
}

/// Removes the namespace kept at `path`. The kernel takes it down, with the links in it, once no
/// process is left in it. What is not there is no error.
pub fn delete(path: &Path) -> Result<(), NamespaceError> {
    let failed = |source| NamespaceError::Remove { path: path.to_owned(), source };
    // Interrupted calls may have mounted several times.
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Runs `work` inside the namespace kept at `path`, on a thread of its own, so that the caller
/// never leaves its namespace. Threads that `work` starts are born inside.
pub fn run_in<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    let file = File::open(path).map_err(|source| NamespaceError::Open { path: path.to_owned(), source })?;
    on_thread(path, || {
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|source| NamespaceError::Enter { path: path.to_owned(), source })?;
        Ok(work())
    })?
}

fn on_thread<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| NamespaceError::Thread { path: path.to_owned(), source })?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn raise_loopback() -> Result<(), RouteError> {
    let mut requests = Requests::new();
    requests.raise_loopback();
    RouteSocket::open()?.run(requests)
}

fn loopback_error(path: &Path, source: RouteError) -> NamespaceError {
    NamespaceError::Loopback { path: path.to_owned(), source }
}
