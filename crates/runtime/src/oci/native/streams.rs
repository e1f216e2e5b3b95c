//! The standard streams of a container's process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};

use crate::oci::Stdio;

pub fn fds(stdio: &Stdio) -> Vec<RawFd> {
    match stdio {
        Stdio::Streams { stdin, stdout, stderr } => [stdin, stdout, stderr].map(AsRawFd::as_raw_fd).to_vec(),
        Stdio::Terminal => Vec::new(),
    }
}

/// Gives pipes and sockets to the process's user, so that it may open `/dev/stdout`.
pub fn own(stdio: &Stdio, uid: u32) -> io::Result<()> {
    let Stdio::Streams { stdin, stdout, stderr } = stdio else { return Ok(()) };
    for stream in [stdin, stdout, stderr] {
        own_stream(stream, uid)?;
    }
    Ok(())
}

fn own_stream(stream: &OwnedFd, uid: u32) -> io::Result<()> {
    // Never the machine's own /dev/null or whatever else has a name.
    let anonymous = [libc::S_IFIFO, libc::S_IFSOCK];
    if !anonymous.contains(&(fstat(stream)?.st_mode & libc::S_IFMT)) {
        return Ok(());
    }
    match fchown(stream, Some(Uid::from_raw(uid)), None) {
        // A user namespace without this user, or a file system that cannot: it stays as it was.
        Ok(()) | Err(Errno::EPERM | Errno::EINVAL | Errno::EROFS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Makes them the calling process's own.
pub fn take(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> io::Result<()> {
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    Ok(())
}

/// As [`take`], of streams or of a terminal.
pub fn take_all(stdio: &Stdio, terminal: Option<BorrowedFd<'_>>) -> io::Result<()> {
    match (stdio, terminal) {
        (_, Some(slave)) => take(slave, slave, slave),
        (Stdio::Streams { stdin, stdout, stderr }, None) => {
            take(stdin.as_fd(), stdout.as_fd(), stderr.as_fd())
        }
        (Stdio::Terminal, None) => Err(io::ErrorKind::InvalidInput.into()),
    }
}
