//! Sockets to the kernel's configuration interfaces.
//!
//! A connection belongs to the network namespace of the thread that opened it. Requests are
//! answered in order, and the kernel has answered all of a request before the send returns.

pub(crate) mod wire;

use std::io;

use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use self::wire::{Message, Writer, messages, number_at};

/// `NETLINK_ROUTE`: links, addresses, routes.
pub(crate) const ROUTE: isize = 0;
/// `NETLINK_NETFILTER`: packet rules and connection tracking.
pub(crate) const NETFILTER: isize = 12;

pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
pub(crate) const DUMP: u16 = 0x300;

const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
const FLAG_CAPPED: u16 = 0x100;
const FLAG_EXTENDED_ACK: u16 = 0x200;
const EXTENDED_ACK_MESSAGE: u16 = 1;

/// Bytes of a receive call; the kernel's dumps use at most 32 KiB a datagram.
const RECEIVE_SIZE: usize = 64 * 1024;
/// What the kernel may queue for us: an error or acknowledgement is below 1 KiB of queue memory.
const RECEIVE_QUEUE: usize = 8 << 20;
/// How often a dump that changed under the reading is started over.
const DUMP_ATTEMPTS: u32 = 16;

/// The kernel's refusal of one request.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.describe())]
pub struct Refusal {
    pub errno: i32,
    /// What the kernel says beyond the number, where it says anything.
    pub detail: Option<String>,
}

impl Refusal {
    fn describe(&self) -> String {
        let error = io::Error::from_raw_os_error(self.errno);
        match &self.detail {
            Some(detail) => format!("{error}: {detail}"),
            None => error.to_string(),
        }
    }
}

/// Why a conversation with the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    #[error("cannot send {bytes} bytes to the kernel")]
    Send { bytes: usize, source: io::Error },
    #[error("cannot receive from the kernel")]
    Receive(#[source] io::Error),
    #[error("the kernel's answer is cut off or malformed")]
    Malformed,
    #[error("the kernel's list changed during each of {DUMP_ATTEMPTS} readings")]
    Interrupted,
    #[error("the kernel refused the list")]
    Dump(#[source] Refusal),
}

/// One socket.
pub(crate) struct Connection {
    socket: Socket,
    buffer: Vec<u8>,
    send_size: usize,
}

impl Connection {
    /// Opens a socket in the thread's network namespace.
    pub(crate) fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            socket.set_ext_ack(true)?;
            setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_QUEUE)?;
            Ok(socket)
        };
        let socket = open().map_err(NetlinkError::Open)?;
        Ok(Connection { socket, buffer: Vec::with_capacity(RECEIVE_SIZE), send_size: 0 })
    }

    /// Sends messages that all ask for an acknowledgement, and waits for these. The results are in
    /// the order of the messages; the kernel tries each one, whatever became of those before.
    pub(crate) fn request(&mut self, requests: &Writer) -> Result<Vec<Result<(), Refusal>>, NetlinkError> {
        self.send(requests)?;
        let mut results = Vec::with_capacity(requests.count() as usize);
        while results.len() < requests.count() as usize {
            self.receive(0)?;
            for message in messages(&self.buffer) {
                if message.kind == MESSAGE_ERROR && message.sequence as usize == results.len() {
                    results.push(refusal(&message)?);
                }
            }
        }
        Ok(results)
    }

    /// Sends a transaction whose messages ask for no acknowledgement and returns the refusals with
    /// the index of the message each is about.
    pub(crate) fn transact(&mut self, batch: &Writer) -> Result<Vec<(u32, Refusal)>, NetlinkError> {
        self.send(batch)?;
        let mut refusals = Vec::new();
        loop {
            match self.receive(libc::MSG_DONTWAIT) {
                Ok(()) => {}
                Err(NetlinkError::Receive(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(refusals);
                }
                Err(error) => return Err(error),
            }
            for message in messages(&self.buffer).filter(|message| message.kind == MESSAGE_ERROR) {
                if let Err(refused) = refusal(&message)? {
                    refusals.push((message.sequence, refused));
                }
            }
        }
    }

    /// Asks for a list and hands each of its messages to `read`, which may see entries twice when
    /// the list changed meanwhile: `restart` is called before each new reading.
    pub(crate) fn dump(
        &mut self,
        request: &Writer,
        mut read: impl FnMut(Option<Message<'_>>),
    ) -> Result<(), NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            read(None);
            self.send(request)?;
            if self.read_dump(&mut read)? {
                return Ok(());
            }
        }
        Err(NetlinkError::Interrupted)
    }

    /// Returns whether the list held still.
    fn read_dump(&mut self, read: &mut impl FnMut(Option<Message<'_>>)) -> Result<bool, NetlinkError> {
        let mut consistent = true;
        loop {
            self.receive(0)?;
            for message in messages(&self.buffer) {
                consistent &= message.flags & FLAG_DUMP_INTERRUPTED == 0;
                match message.kind {
                    MESSAGE_DONE => return Ok(consistent),
                    MESSAGE_ERROR => {
                        refusal(&message)?.map_err(NetlinkError::Dump)?;
                        return Ok(consistent);
                    }
                    _ => read(Some(message)),
                }
            }
        }
    }

    fn send(&mut self, requests: &Writer) -> Result<(), NetlinkError> {
        let bytes = requests.len();
        let failed = |source| NetlinkError::Send { bytes, source };
        // A transaction is one datagram, which must fit the socket's send buffer.
        if bytes > self.send_size {
            let size = bytes.max(64 * 1024) + 4096;
            setsockopt(&self.socket, sockopt::SndBufForce, &size).map_err(|errno| failed(errno.into()))?;
            self.send_size = size - 4096;
        }
        loop {
            match self.socket.send(requests.bytes(), 0) {
                Ok(sent) if sent == bytes => return Ok(()),
                Ok(_) => return Err(NetlinkError::Malformed),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    fn receive(&mut self, flags: i32) -> Result<(), NetlinkError> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, flags | libc::MSG_TRUNC) {
                Ok(length) if length == self.buffer.len() => return Ok(()),
                Ok(_) => return Err(NetlinkError::Malformed),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NetlinkError::Receive(error)),
            }
        }
    }
}

/// Reads an acknowledgement (`struct nlmsgerr`); the outer error is one of its form.
fn refusal(message: &Message<'_>) -> Result<Result<(), Refusal>, NetlinkError> {
    let code = number_at(message.body, 0).ok_or(NetlinkError::Malformed)?.cast_signed();
    if code == 0 {
        return Ok(Ok(()));
    }
    let mut detail = None;
    if message.flags & FLAG_EXTENDED_ACK != 0 {
        // The request's header follows, and its body unless it was left away.
        let length = number_at(message.body, 4).ok_or(NetlinkError::Malformed)? as usize;
        let request = if message.flags & FLAG_CAPPED != 0 { 16 } else { length.next_multiple_of(4) };
        let extended = message.body.get(4 + request..).unwrap_or_default();
        detail = wire::attribute(extended, EXTENDED_ACK_MESSAGE).map(wire::text);
    }
    Ok(Err(Refusal { errno: code.saturating_neg(), detail }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_carry_what_the_kernel_says() {
        let mut writer = Writer::new();
        writer.begin(MESSAGE_ERROR, FLAG_CAPPED | FLAG_EXTENDED_ACK);
        writer.raw(&(-17i32).to_ne_bytes());
        writer.raw(&[0; 16]);
        writer.text(EXTENDED_ACK_MESSAGE, "no room");
        writer.end();
        let message = messages(writer.bytes()).next().expect("a message");
        let refused = refusal(&message).expect("well formed").expect_err("a refusal");
        assert_eq!((refused.errno, refused.detail.as_deref()), (17, Some("no room")));
        assert_eq!(refused.to_string(), "File exists (os error 17): no room");
        for cut in [0, 3] {
            assert!(refusal(&Message { body: &message.body[..cut], ..message }).is_err(), "{cut}");
        }
    }
}
