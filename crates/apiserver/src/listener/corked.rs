//! Connections whose writes go out together.
//!
//! HTTP/2 writes and flushes every frame of data alone. With a hundred watches or a long list on one
//! connection that is a TLS record and a system call for each few kilobytes. Here a flush is put off until
//! the connection's task has written all that it has: whoever polls the connection calls `poll_out` after it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that wait for the end of a poll at most: four records of TLS, and what one write takes of them.
const HELD: usize = 64 << 10;
/// Bytes that one poll sends at most before others have their turn: a fast reader of a long list could keep a
/// thread for milliseconds.
const TURN: usize = 128 << 10;

/// One end of a stream. Clones share it.
pub struct Corked<S> {
    shared: Arc<Mutex<Shared<S>>>,
}

struct Shared<S> {
    stream: S,
    /// Whether writes are held at all. Otherwise everything passes through.
    holds: bool,
    held: BytesMut,
    /// In this poll.
    sent: usize,
}

impl<S> Clone for Corked<S> {
    fn clone(&self) -> Self {
        Corked { shared: self.shared.clone() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Corked<S> {
    pub fn new(stream: S, holds: bool) -> Self {
        Corked { shared: Arc::new(Mutex::new(Shared { stream, holds, held: BytesMut::new(), sent: 0 })) }
    }

    /// Sends what is held, at the end of a poll. A full socket wakes the task again.
    pub fn poll_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock();
        let out = if shared.holds { shared.poll_out(cx) } else { Poll::Ready(Ok(())) };
        shared.sent = 0;
        out
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(sent);
            self.sent += sent;
        }
        // Idle connections are many, and hold nothing.
        self.held = BytesMut::new();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_hold(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.held.len() >= HELD {
            if self.sent >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(self.poll_out(cx))?;
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let free = HELD - self.held.len();
        if wanted > self.held.capacity() - self.held.len() {
            // What comes first is often all; where more comes, much does.
            self.held.reserve(if self.held.is_empty() { wanted.min(free) } else { free });
        }
        let mut taken = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(free - taken)];
            self.held.extend_from_slice(part);
            taken += part.len();
        }
        Poll::Ready(Ok(taken))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.shared.lock().stream).poll_read(cx, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.shared.lock();
        if shared.holds {
            shared.poll_hold(cx, slices)
        } else {
            Pin::new(&mut shared.stream).poll_write_vectored(cx, slices)
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock();
        if shared.holds { Poll::Ready(Ok(())) } else { Pin::new(&mut shared.stream).poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.lock();
        if shared.holds {
            ready!(shared.poll_out(cx))?;
        }
        Pin::new(&mut shared.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Tells how long each write was that came through.
    struct Writes {
        stream: tokio::io::DuplexStream,
        lengths: Arc<Mutex<Vec<usize>>>,
    }

    impl AsyncRead for Writes {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            to: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, to)
        }
    }

    impl AsyncWrite for Writes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
            self.lengths.lock().push(sent);
            Poll::Ready(Ok(sent))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    type Lengths = Arc<Mutex<Vec<usize>>>;

    fn corked(pipe: usize, holds: bool) -> (Corked<Writes>, tokio::io::DuplexStream, Lengths) {
        let (near, far) = tokio::io::duplex(pipe);
        let lengths = Lengths::default();
        (Corked::new(Writes { stream: near, lengths: lengths.clone() }, holds), far, lengths)
    }

    #[tokio::test]
    async fn what_is_written_and_flushed_in_one_poll_goes_out_in_one_write() {
        let (corked, mut far, lengths) = corked(1 << 20, true);
        let mut writer = corked.clone();
        for part in [&b"first "[..], b"second ", b"third"] {
            writer.write_all(part).await.expect("held");
            writer.flush().await.expect("put off");
        }
        assert!(lengths.lock().is_empty());
        poll_fn(|cx| corked.poll_out(cx)).await.expect("sent");
        assert_eq!(*lengths.lock(), [18]);
        let mut read = [0; 18];
        far.read_exact(&mut read).await.expect("arrived");
        assert_eq!(&read, b"first second third");
        assert_eq!(corked.shared.lock().held.capacity(), 0, "an idle connection holds nothing");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_stops_the_writer_and_loses_nothing() {
        let (corked, mut far, _) = corked(1000, true);
        let bytes: Vec<u8> = (0..HELD * 3).map(|at| at as u8).collect();
        let (mut writer, sent) = (corked.clone(), bytes.clone());
        let writing = tokio::spawn(async move {
            writer.write_all(&sent).await.expect("taken");
            writer.shutdown().await.expect("sent to its end");
        });
        tokio::task::yield_now().await;
        assert!(corked.shared.lock().held.len() <= HELD);
        assert!(!writing.is_finished());
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.expect("arrived");
        writing.await.expect("no panic");
        assert!(read == bytes);
    }

    #[tokio::test]
    async fn others_have_their_turn_while_a_fast_reader_is_served() {
        let (corked, _far, _) = corked(1 << 20, true);
        let bytes = vec![0; HELD * 8];
        let (mut written, mut turns) = (0, 0);
        poll_fn(|cx| {
            turns += 1;
            while written < bytes.len() {
                match Pin::new(&mut corked.clone()).poll_write(cx, &bytes[written..]) {
                    Poll::Ready(taken) => written += taken.expect("taken"),
                    Poll::Pending => break,
                }
            }
            assert!(corked.poll_out(cx).is_ready(), "the pipe has room");
            if written < bytes.len() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        assert!((HELD * 8 / (TURN + HELD)..=HELD * 8 / TURN).contains(&turns), "{turns} turns");
    }

    #[tokio::test]
    async fn what_does_not_hold_passes_everything_on() {
        let (mut corked, mut far, lengths) = corked(1000, false);
        corked.write_all(b"ab").await.expect("written");
        corked.write_all(b"c").await.expect("written");
        assert_eq!(*lengths.lock(), [2, 1]);
        drop(corked);
        let mut read = Vec::new();
        far.read_to_end(&mut read).await.expect("arrived");
        assert_eq!(read, b"abc");
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_told() {
        let (corked, far, _) = corked(1000, true);
        drop(far);
        corked.clone().write_all(b"x").await.expect("held");
        let error = poll_fn(|cx| corked.poll_out(cx)).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
