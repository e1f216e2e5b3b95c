//! A terminal for a container's process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, fchown};

use super::mounts::clone_mount;
use super::root::{Make, Root, attach};

/// Both sides.
pub struct Terminal {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

nix::ioctl_write_ptr_bad!(tiocsptlck, libc::TIOCSPTLCK, libc::c_int);
nix::ioctl_write_int_bad!(tiocsctty, libc::TIOCSCTTY);

/// Makes one of the container's own, for `uid`.
pub fn make(root: &Root, uid: u32) -> io::Result<Terminal> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY;
    let master = root.open_with(Path::new("/dev/pts/ptmx"), flags, nix::fcntl::ResolveFlag::empty())?;
    if fstatfs(&master)?.filesystem_type() != DEVPTS_SUPER_MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "/dev/pts is something else"));
    }
    // SAFETY: the descriptor is open and the integer lives.
    unsafe { tiocsptlck(master.as_raw_fd(), &0) }?;
    // By the master, not by a name: names in the container are the container's.
    // SAFETY: takes a descriptor and numbers, makes a descriptor or fails.
    let slave = unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)
    };
    Errno::result(slave)?;
    // SAFETY: the kernel just made it for us, and nobody else owns it.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    match fchown(&slave, Some(Uid::from_raw(uid)), None) {
        // A user namespace without this user.
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(Terminal { master, slave })
}

/// Shows a terminal as the container's console.
pub fn show_console(slave: BorrowedFd<'_>, root: &Root) -> io::Result<()> {
    let console = root.open_or_make(Path::new("/dev/console"), Make::File)?;
    let mount = clone_mount(slave, false)?;
    Ok(attach(mount.as_fd(), console.as_fd())?)
}

/// Makes a terminal the calling process's, which leads a session that has none.
pub fn control(slave: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a descriptor and a number.
    unsafe { tiocsctty(slave.as_raw_fd(), 0) }?;
    Ok(())
}
