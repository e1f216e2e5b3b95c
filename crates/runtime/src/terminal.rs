//! Terminals, by the descriptor of their master side.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

nix::ioctl_write_ptr_bad!(tiocswinsz, libc::TIOCSWINSZ, libc::winsize);

/// Sets a terminal's size; its foreground processes get `SIGWINCH`.
pub fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open while it is borrowed and the structure outlives the call.
    unsafe { tiocswinsz(terminal.as_raw_fd(), &size) }?;
    Ok(())
}
