//! System calls that have no wrapper elsewhere.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `struct clone_args`, version 2: with a cgroup.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a fork this is.
pub enum Forked {
    Parent { child: i32 },
    Child,
}

/// Forks a sibling into new namespaces, and into a cgroup of version 2. It ends with the signal that
/// this process ends with.
///
/// The caller must have one thread: the child then may use all that the parent may.
pub fn fork_into(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    // As a sibling: its parent is to be the supervisor, from the first moment on.
    let flags = namespaces | libc::CLONE_PARENT as u64;
    let mut arguments = CloneArguments { flags, ..CloneArguments::default() };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM this is a fork: the child has a copy of our one thread and its stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    match pid {
        0 => Ok(Forked::Child),
        1.. => Ok(Forked::Parent { child: pid as i32 }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttributes {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub user_namespace: u64,
}

impl MountAttributes {
    pub fn is_nothing(&self) -> bool {
        *self == MountAttributes::default()
    }
}

/// Changes a mount by a descriptor of its root; with `recursive` also those below it.
pub fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attributes: &MountAttributes) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path and the structure are live, and the structure tells its own size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A handle on a process that no later process can take.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: makes a descriptor, or fails.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}

/// Whether a process still is there.
pub fn is_alive(process: BorrowedFd<'_>) -> bool {
    // SAFETY: signal 0 is none; no memory of ours is used.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), 0, 0, 0) == 0 }
}

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Leaves the keys of the caller's session behind.
pub fn new_session_keyring() -> io::Result<()> {
    // SAFETY: no name is given, so no memory of ours is used.
    if unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0) } >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // A kernel without keys, or an engine around us that forbids the call, has none to leave.
        error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        error => Err(error),
    }
}
