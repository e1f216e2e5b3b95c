//! The master side of a terminal as an asynchronous stream.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// End of transmission: what a terminal's line discipline takes for the end of its input.
const END: [u8; 1] = [4];

/// Clones share the terminal; it hangs up when the last is dropped.
#[derive(Clone)]
pub struct Terminal {
    master: Arc<AsyncFd<OwnedFd>>,
}

impl Terminal {
    pub fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&master, FcntlArg::F_GETFL)?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: an owned descriptor stays open, and the same, for as long as it lives.
        let master = unsafe { AsyncFd::register(master) }?;
        Ok(Terminal { master: Arc::new(master) })
    }

    pub fn shared(&self) -> Arc<AsyncFd<OwnedFd>> {
        self.master.clone()
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.master.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            match ready
                .try_io(|master| nix::unistd::read(master.get_ref(), unfilled).map_err(io::Error::from))
            {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // Nobody has the other side open any more.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::EIO as i32) => {
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.master.poll_write_ready(cx))?;
            match ready.try_io(|master| nix::unistd::write(master.get_ref(), bytes).map_err(io::Error::from))
            {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A terminal cannot be closed in one direction; the process is told by a character instead.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tracing::trace!(terminal = self.master.as_raw_fd(), "the input of a terminal ends");
        match ready!(self.poll_write(cx, &END)) {
            Err(error) if error.raw_os_error() != Some(Errno::EIO as i32) => Poll::Ready(Err(error)),
            Ok(_) | Err(_) => Poll::Ready(Ok(())),
        }
    }
}
