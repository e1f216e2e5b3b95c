//! What a container's process says while it is set up, and what it is told.
//!
//! A pair of sockets that keep messages apart: the process tells `ready`, with the master side of
//! its terminal, or why not; then it waits for the word to go. When the other end closes without
//! it, the supervisor is gone, and the process ends.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::error::{NativeError, failed};
use crate::socket::{receive, send};

const READY: u8 = b'r';
const FAILED: u8 = b'f';
const GO: u8 = b'g';
/// What is told of a failure, bytes.
const MAX: usize = 4 << 10;

pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// By the container's process.
pub fn tell_ready(socket: BorrowedFd<'_>, terminal: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let fds: Vec<_> = terminal.iter().map(AsRawFd::as_raw_fd).collect();
    send(socket, &[READY], &fds).map(drop)
}

/// By the container's process, which has nobody else to tell.
pub fn tell_failure(socket: BorrowedFd<'_>, text: &str) {
    let mut message = vec![FAILED];
    message.extend(text.bytes().take(MAX - 1));
    let _nobody_listens = send(socket, &message, &[]);
}

/// Waits for the container's process. Returns the terminal, if it made one.
pub fn wait_ready(socket: BorrowedFd<'_>) -> Result<Option<OwnedFd>, NativeError> {
    let mut buffer = [0; MAX];
    let (count, fds) = receive_whole(socket, &mut buffer).map_err(failed("waiting for the container"))?;
    match buffer[..count].split_first() {
        None => Err(NativeError::Ended),
        Some((&READY, _)) => Ok(fds.into_iter().next()),
        Some((_, text)) => Err(NativeError::Said(String::from_utf8_lossy(text).into_owned())),
    }
}

pub fn go(socket: BorrowedFd<'_>) -> io::Result<()> {
    send(socket, &[GO], &[]).map(drop)
}

/// Whether the word came.
pub fn wait_go(socket: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 1];
    receive_whole(socket, &mut buffer).is_ok_and(|(count, _)| count == 1 && buffer[0] == GO)
}

fn receive_whole(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    loop {
        match receive(socket, buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It ended with something unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok((0, Vec::new())),
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn both_sides_understand_each_other() {
        let (ours, theirs) = pair().expect("is made");
        tell_ready(theirs.as_fd(), Some(theirs.as_fd())).expect("is told");
        assert!(wait_ready(ours.as_fd()).expect("is ready").is_some());
        go(ours.as_fd()).expect("is told");
        assert!(wait_go(theirs.as_fd()));
        tell_failure(theirs.as_fd(), &format!("no: {}", "x".repeat(2 * MAX)));
        let error = wait_ready(ours.as_fd()).expect_err("has failed").to_string();
        assert!(error.starts_with("no: xxx") && error.len() < MAX, "{error}");
        drop(theirs);
        assert!(matches!(wait_ready(ours.as_fd()), Err(NativeError::Ended)));
        let (ours, theirs) = pair().expect("is made");
        drop(ours);
        assert!(!wait_go(theirs.as_fd()));
    }
}
