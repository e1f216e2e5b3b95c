//! One server that is connected.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::poll::PollFlags;

use super::complain;
use crate::protocol::Reply;
use crate::protocol::frame::{self, Frame, FrameDecoder};
use crate::socket;

/// What may wait for a server that does not read, in bytes. Then it is cut off: it finds everything
/// in the Hello of its next connection.
const MAX_WAITING: usize = 1 << 20;

struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

pub struct Connection {
    stream: UnixStream,
    decoder: FrameDecoder,
    outgoing: VecDeque<Outgoing>,
    waiting: usize,
    open: bool,
    pub subscribed: bool,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection {
    pub fn new(stream: UnixStream) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        let (decoder, outgoing) = (FrameDecoder::default(), VecDeque::new());
        Ok(Connection { stream, decoder, outgoing, waiting: 0, open: true, subscribed: false })
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    pub fn interest(&self) -> PollFlags {
        if self.outgoing.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT }
    }

    fn close(&mut self, why: &str, error: &dyn std::error::Error) {
        complain(why, error);
        self.open = false;
    }

    pub fn read(&mut self, buffer: &mut [u8]) {
        match socket::receive(self.stream.as_fd(), buffer) {
            Ok((0, _)) => self.open = false,
            Ok((count, fds)) => {
                if let Err(error) = self.decoder.push(&buffer[..count], fds) {
                    self.close("reading from a server", &error);
                }
            }
            Err(error) if is_transient(&error) => {}
            // It died without a good-bye.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.open = false,
            Err(error) => self.close("reading from a server", &error),
        }
    }

    pub fn next_frame(&mut self) -> Option<Frame> {
        match self.decoder.next_frame() {
            Ok(frame) => frame,
            Err(error) => {
                self.close("reading from a server", &error);
                // What follows cannot be understood either.
                self.decoder = FrameDecoder::default();
                None
            }
        }
    }

    pub fn send(&mut self, reply: &Reply, fds: Vec<OwnedFd>) {
        let bytes = match frame::encode(reply, fds.len()) {
            Ok(bytes) => bytes,
            Err(error) => return self.close("answering a server", &error),
        };
        self.waiting += bytes.len();
        self.outgoing.push_back(Outgoing { bytes, sent: 0, fds });
        self.write();
        if self.waiting > MAX_WAITING {
            self.close("answering a server", &io::Error::from(io::ErrorKind::TimedOut));
        }
    }

    pub fn write(&mut self) {
        while let Some(next) = self.outgoing.front_mut() {
            let raw: Vec<_> = next.fds.iter().map(AsRawFd::as_raw_fd).collect();
            match socket::send(self.stream.as_fd(), &next.bytes[next.sent..], &raw) {
                Ok(count) => {
                    // They went with the first byte.
                    next.fds.clear();
                    next.sent += count;
                    if next.sent == next.bytes.len() {
                        self.waiting -= next.bytes.len();
                        self.outgoing.pop_front();
                    }
                }
                Err(error) if is_transient(&error) => return,
                Err(_) => {
                    self.open = false;
                    return;
                }
            }
        }
    }
}

/// Whether to try again when the descriptor is ready.
pub fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
