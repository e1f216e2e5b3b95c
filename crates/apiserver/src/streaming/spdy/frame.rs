//! SPDY/3.1 frames: bytes to values and back. Header blocks stay compressed here.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The most that a frame may carry. Clients send 32 KiB at a time.
pub(super) const MAX_FRAME_BYTES: usize = 1 << 20;
const FRAME_HEADER: usize = 8;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;
const STREAM_MASK: u32 = 0x7fff_ffff;

/// `RST_STREAM` status codes that we send.
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const REFUSED_STREAM: u32 = 3;

/// One frame, as far as a server needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
    SynStream {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    SynReply {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    RstStream {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last_stream: u32,
    },
    Headers {
        stream: u32,
        fin: bool,
        headers: Bytes,
    },
    /// `SETTINGS`, `WINDOW_UPDATE` and types that SPDY does not define, which are skipped. Kubernetes'
    /// clients keep no windows: TCP's flow control is all there is.
    Other {
        kind: u16,
    },
}

/// Bytes that are not SPDY/3.1. The connection cannot go on.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum FrameError {
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    #[error("SPDY version {0}")]
    Version(u16),
    #[error("a frame of type {kind} with only {bytes} bytes")]
    TooShort { kind: u16, bytes: usize },
}

/// Takes the first frame from a buffer; `None` while it is not whole.
pub(super) fn parse(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    if buffer.len() < FRAME_HEADER {
        return Ok(None);
    }
    let word = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
    let flags = buffer[4];
    let length = u32::from_be_bytes([0, buffer[5], buffer[6], buffer[7]]) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong(length));
    }
    let is_control = word & !STREAM_MASK != 0;
    let version = (word >> 16) as u16 & 0x7fff;
    if is_control && version != VERSION {
        return Err(FrameError::Version(version));
    }
    if buffer.len() < FRAME_HEADER + length {
        return Ok(None);
    }
    buffer.advance(FRAME_HEADER);
    let bytes = buffer.split_to(length).freeze();
    let fin = flags & FLAG_FIN != 0;
    if !is_control {
        return Ok(Some(Frame::Data { stream: word, fin, bytes }));
    }
    parse_control(word as u16, fin, bytes).map(Some)
}

fn parse_control(kind: u16, fin: bool, mut bytes: Bytes) -> Result<Frame, FrameError> {
    let least = match kind {
        1 => 10,
        2 | 6 | 8 => 4,
        3 | 7 => 8,
        _ => return Ok(Frame::Other { kind }),
    };
    if bytes.len() < least {
        return Err(FrameError::TooShort { kind, bytes: bytes.len() });
    }
    let first = bytes.get_u32();
    let stream = first & STREAM_MASK;
    Ok(match kind {
        1 => {
            // The associated stream, the priority and the slot mean nothing here.
            bytes.advance(6);
            Frame::SynStream { stream, fin, headers: bytes }
        }
        2 => Frame::SynReply { stream, fin, headers: bytes },
        3 => Frame::RstStream { stream, status: bytes.get_u32() },
        6 => Frame::Ping { id: first },
        7 => Frame::GoAway { last_stream: stream },
        _ => Frame::Headers { stream, fin, headers: bytes },
    })
}

/// Appends a frame. What it carries must be shorter than 16 MiB, which is what a length can say.
pub(super) fn write(frame: &Frame, to: &mut BytesMut) {
    match frame {
        Frame::Data { stream, fin, bytes } => {
            to.put_u32(stream & STREAM_MASK);
            put_length(to, *fin, bytes.len());
            to.put_slice(bytes);
        }
        Frame::SynStream { stream, fin, headers } => {
            put_control(to, 1, *fin, 10 + headers.len());
            to.put_u32(*stream);
            to.put_bytes(0, 6);
            to.put_slice(headers);
        }
        Frame::SynReply { stream, fin, headers } => put_headers(to, 2, *stream, *fin, headers),
        Frame::RstStream { stream, status } => {
            put_control(to, 3, false, 8);
            to.put_u32(*stream);
            to.put_u32(*status);
        }
        Frame::Ping { id } => {
            put_control(to, 6, false, 4);
            to.put_u32(*id);
        }
        Frame::GoAway { last_stream } => {
            put_control(to, 7, false, 8);
            to.put_u32(*last_stream);
            to.put_u32(0);
        }
        Frame::Headers { stream, fin, headers } => put_headers(to, 8, *stream, *fin, headers),
        Frame::Other { kind } => put_control(to, *kind, false, 0),
    }
}

fn put_headers(to: &mut BytesMut, kind: u16, stream: u32, fin: bool, headers: &[u8]) {
    put_control(to, kind, fin, 4 + headers.len());
    to.put_u32(stream);
    to.put_slice(headers);
}

fn put_control(to: &mut BytesMut, kind: u16, fin: bool, length: usize) {
    to.put_u16(0x8000 | VERSION);
    to.put_u16(kind);
    put_length(to, fin, length);
}

fn put_length(to: &mut BytesMut, fin: bool, length: usize) {
    to.put_u8(if fin { FLAG_FIN } else { 0 });
    to.put_uint(length as u64, 3);
}
