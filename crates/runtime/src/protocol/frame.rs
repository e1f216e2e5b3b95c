//! Frames on a stream socket: a header of eight bytes and a JSON body.
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 0-1 | `SP` |
//! | 2 | format of frames: 1 |
//! | 3 | number of file descriptors that belong to the frame |
//! | 4-7 | length of the body, big endian |
//!
//! Descriptors arrive with the first byte of their frame or before its end, in order.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: [u8; 3] = [b'S', b'P', 1];
const HEADER: usize = 8;

/// The largest body, in bytes. A spec with the largest environment that an `exec` takes (2 MiB)
/// fits.
pub const MAX_BODY: usize = 4 << 20;

/// The most descriptors of one frame: stdin, stdout and stderr.
pub const MAX_FDS: usize = 3;

/// Descriptors that may have arrived ahead of their frames.
const MAX_WAITING_FDS: usize = 4 * MAX_FDS;

/// Why a stream cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("not a frame: starts with {0:02x?}")]
    Magic([u8; 3]),
    #[error("frame of {0} bytes, limit {MAX_BODY}")]
    TooLong(usize),
    #[error("frame with {0} descriptors, limit {MAX_FDS}")]
    TooManyFds(usize),
    #[error("more than {MAX_WAITING_FDS} descriptors without a frame")]
    StrayFds,
    #[error("frame names {expected} descriptors, {got} came")]
    MissingFds { expected: usize, got: usize },
    #[error("body is not a known message")]
    Body(#[source] serde_json::Error),
    #[error("message cannot be encoded")]
    Encode(#[source] serde_json::Error),
}

/// One message and its descriptors, as received.
#[derive(Debug)]
pub struct Frame {
    pub body: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Frame {
    /// The message in the body.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_slice(&self.body).map_err(FrameError::Body)
    }
}

/// The bytes of one frame that goes along with `fds` descriptors.
pub fn encode<T: Serialize>(message: &T, fds: usize) -> Result<Vec<u8>, FrameError> {
    if fds > MAX_FDS {
        return Err(FrameError::TooManyFds(fds));
    }
    let mut bytes = vec![MAGIC[0], MAGIC[1], MAGIC[2], fds as u8, 0, 0, 0, 0];
    serde_json::to_writer(&mut bytes, message).map_err(FrameError::Encode)?;
    let length = bytes.len() - HEADER;
    if length > MAX_BODY {
        return Err(FrameError::TooLong(length));
    }
    bytes[4..HEADER].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(bytes)
}

/// Turns what a socket delivers into frames. After an error the stream is of no use.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl FrameDecoder {
    pub fn push(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) -> Result<(), FrameError> {
        self.bytes.extend_from_slice(bytes);
        self.fds.extend(fds);
        if self.fds.len() > MAX_WAITING_FDS {
            return Err(FrameError::StrayFds);
        }
        Ok(())
    }

    /// The next whole frame, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(&header) = self.bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let [m0, m1, m2, fds, length @ ..] = header;
        if [m0, m1, m2] != MAGIC {
            return Err(FrameError::Magic([m0, m1, m2]));
        }
        let (fds, length) = (usize::from(fds), u32::from_be_bytes(length) as usize);
        if length > MAX_BODY {
            return Err(FrameError::TooLong(length));
        }
        if fds > MAX_FDS {
            return Err(FrameError::TooManyFds(fds));
        }
        if self.bytes.len() < HEADER + length {
            return Ok(None);
        }
        if self.fds.len() < fds {
            return Err(FrameError::MissingFds { expected: fds, got: self.fds.len() });
        }
        let rest = self.bytes.split_off(HEADER + length);
        // Replacing the vector gives the memory of a large frame back.
        let mut body = std::mem::replace(&mut self.bytes, rest);
        body.drain(..HEADER);
        Ok(Some(Frame { body, fds: self.fds.drain(..fds).collect() }))
    }
}

#[cfg(test)]
mod tests;
