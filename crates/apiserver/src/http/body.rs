//! Bodies that are made while they are sent, so that a long list costs no memory of its own. After each
//! piece it is the turn of other tasks and of other threads, so that short requests do not wait for the end of
//! long answers.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};

use super::ResponseBody;

/// Bodies longer than this are compressed for clients that take it, as upstream does.
pub const COMPRESS_FROM: usize = 128 << 10;
/// The length at which a piece is handed on.
pub const PIECE: usize = 64 << 10;

/// Where the bytes of a body come from. `None` is its end.
pub trait Pieces: Send + Unpin + 'static {
    fn next(&mut self) -> Option<io::Result<Bytes>>;
    /// The length of all pieces together, where it is known before.
    fn length(&self) -> Option<u64> {
        None
    }
}

pub fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of pieces. The flag tells whether it is compressed.
///
/// What fits below [`COMPRESS_FROM`] is made at once, so that an error can still become a status.
pub fn of(mut pieces: impl Pieces, gzip: bool) -> io::Result<(ResponseBody, bool)> {
    let length = pieces.length();
    let mut first = BytesMut::new();
    loop {
        match pieces.next() {
            None if gzip && first.len() > COMPRESS_FROM => return Ok((full(compress(&first)?), true)),
            None => return Ok((full(first.freeze()), false)),
            Some(piece) => first.put(piece?),
        }
        if first.len() > COMPRESS_FROM {
            break;
        }
    }
    let mut streamed = Streamed {
        first: Some(first.freeze()),
        pieces,
        left: length,
        gzip: None,
        yielded: true,
        done: false,
    };
    if gzip {
        streamed.left = None;
        streamed.gzip = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    }
    Ok((ResponseBody::new(streamed), gzip))
}

/// The whole of some bytes, compressed.
pub fn compress(bytes: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.into())
}

struct Streamed<P> {
    first: Option<Bytes>,
    pieces: P,
    left: Option<u64>,
    gzip: Option<GzEncoder<Vec<u8>>>,
    /// Others had their turn since the last piece.
    yielded: bool,
    done: bool,
}

impl<P: Pieces> Streamed<P> {
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            let piece = match self.first.take() {
                Some(first) => Some(Ok(first)),
                None => self.pieces.next(),
            };
            let Some(gzip) = &mut self.gzip else { return piece };
            match piece {
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(piece)) => {
                    if let Err(error) = gzip.write_all(&piece) {
                        return Some(Err(error));
                    }
                    if gzip.get_ref().len() >= PIECE / 4 {
                        return Some(Ok(std::mem::take(gzip.get_mut()).into()));
                    }
                }
                None => return self.gzip.take().map(|gzip| gzip.finish().map(Bytes::from)),
            }
        }
    }
}

impl<P: Pieces + Unpin> Body for Streamed<P> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.done {
            return Poll::Ready(None);
        }
        self.yielded = !self.yielded;
        if self.yielded {
            context.waker().wake_by_ref();
            // Threads that woke meanwhile would otherwise wait for the kernel's next tick, 4 ms or more.
            std::thread::yield_now();
            return Poll::Pending;
        }
        let compressed = self.gzip.is_some();
        let next = self.next();
        // The end of the compressed stream is its last piece.
        self.done = next.is_none() || (compressed && self.gzip.is_none());
        if let (Some(Ok(piece)), Some(left)) = (&next, &mut self.left) {
            *left = left.saturating_sub(piece.len() as u64);
        }
        Poll::Ready(next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    struct Zeros(usize);

    impl Pieces for Zeros {
        fn next(&mut self) -> Option<io::Result<Bytes>> {
            self.0 = self.0.checked_sub(1)?;
            Some(Ok(Bytes::from_static(&[0; PIECE])))
        }
    }

    #[test]
    fn a_long_body_gives_way_after_each_piece() {
        // The first pieces are made at once, to decide on compression.
        let (mut body, _) = of(Zeros(5), false).expect("no piece fails");
        let mut context = Context::from_waker(Waker::noop());
        let mut turns = Vec::new();
        loop {
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Pending => turns.push(0),
                Poll::Ready(Some(frame)) => {
                    let frame = frame.expect("no piece fails");
                    turns.push(frame.data_ref().map_or(0, Bytes::len) / PIECE);
                }
                Poll::Ready(None) => break,
            }
        }
        assert_eq!(turns, [3, 0, 1, 0, 1, 0]);
    }
}
