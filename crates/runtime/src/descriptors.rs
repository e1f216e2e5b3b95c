//! Which descriptors a process keeps.

use std::io;
use std::os::fd::RawFd;

/// Closes everything beyond the standard streams and `keep`.
///
/// Descriptors would otherwise live on in a created container until it is started, and hold open
/// what others wait to see closed. Objects that own what is closed must not be used, nor dropped,
/// afterwards: this is for forks that end by `_exit` or `execve`.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<libc::c_uint> = keep.iter().filter_map(|&fd| fd.try_into().ok()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for next in keep {
        close_range(first, next, 0)?;
        first = first.max(next + 1);
    }
    close_range(first, libc::c_uint::MAX, 0)
}

/// Has everything beyond the standard streams closed by the next `execve`.
pub fn close_all_on_exec() -> io::Result<()> {
    close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes `first` up to but not including `end`.
fn close_range(first: libc::c_uint, end: libc::c_uint, flags: libc::c_uint) -> io::Result<()> {
    if end <= first {
        return Ok(());
    }
    // SAFETY: the callers' contract is that nobody uses what is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, end - 1, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
