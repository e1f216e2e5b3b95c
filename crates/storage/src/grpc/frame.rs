//! Messages as they lie in the body of a request or of an answer: a flag, a length, the message.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::CallError;

/// The flag and the length before a message.
const HEAD_BYTES: usize = 5;

pub fn frame(message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD_BYTES + message.len());
    out.put_u8(0);
    // What is sent is bounded far below by those who make it.
    out.put_u32(message.len() as u32);
    out.extend_from_slice(message);
    out.freeze()
}

/// Cuts messages out of a body that arrives in pieces.
#[derive(Default)]
pub struct Deframer {
    pieces: BytesMut,
}

impl Deframer {
    pub fn push(&mut self, piece: &[u8]) {
        self.pieces.extend_from_slice(piece);
    }

    /// The next message of at most `limit` bytes, when all of it is there.
    pub fn next(&mut self, limit: usize) -> Result<Option<Bytes>, CallError> {
        let Some((head, _)) = self.pieces.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [compressed, length @ ..] = *head;
        if compressed != 0 {
            return Err(CallError::Protocol("its message is compressed, which was not offered"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > limit {
            return Err(CallError::TooLarge { limit });
        }
        if self.pieces.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        self.pieces.advance(HEAD_BYTES);
        Ok(Some(self.pieces.split_to(length).freeze()))
    }

    /// Whether nothing is left over.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_out_of_pieces() {
        let body = [frame(b"abc"), frame(b""), frame(&[7; 300])].concat();
        for size in [1, 2, 3, 7, 400] {
            let (mut deframer, mut messages) = (Deframer::default(), Vec::new());
            for piece in body.chunks(size) {
                deframer.push(piece);
                while let Some(message) = deframer.next(300).expect("whole") {
                    messages.push(message);
                }
            }
            assert_eq!(messages, [&b"abc"[..], b"", &[7; 300]], "in pieces of {size}");
            assert!(deframer.is_empty());
        }
    }

    #[test]
    fn what_was_not_offered_is_refused() {
        let next = |body: &[u8], limit| {
            let mut deframer = Deframer::default();
            deframer.push(body);
            deframer.next(limit)
        };
        assert!(matches!(next(b"\x01\0\0\0\0", 9), Err(CallError::Protocol(_))));
        assert!(matches!(next(b"\0\0\0\0\x0a", 9), Err(CallError::TooLarge { limit: 9 })));
        assert!(matches!(next(b"\0\0\0\0\x02a", 9), Ok(None)));
    }
}
