//! What both transports have in common: many streams on one connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Messages between a stream's worker and its connection. Small: TCP's own buffers do the rest.
pub(super) const QUEUE: usize = 16;
/// The most that is read from a process or a port at once.
pub(super) const CHUNK_BYTES: usize = 32 * 1024;

/// What a connection's writer is told to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    Data {
        stream: u32,
        bytes: Bytes,
    },
    /// This side will send no more on the stream.
    End {
        stream: u32,
    },
    /// SPDY only: the stream is accepted.
    Reply {
        stream: u32,
    },
    /// SPDY only: the stream is refused.
    Reset {
        stream: u32,
        status: u32,
    },
    /// SPDY only: the answer to a ping.
    Pong {
        id: u32,
    },
}

/// The connection takes nothing more.
#[derive(Debug)]
pub(super) struct Gone;

/// This side of one stream.
#[derive(Debug)]
pub(super) struct Sink {
    stream: u32,
    to: mpsc::Sender<Outgoing>,
    /// Cancelled when the client gave the stream up.
    reset: Arc<CancellationToken>,
}

impl Sink {
    pub fn new(stream: u32, to: mpsc::Sender<Outgoing>) -> Self {
        Sink { stream, to, reset: Arc::default() }
    }

    /// Shared with the reader of the connection, who may learn that the client gave the stream up.
    pub fn reset_token(&self) -> Arc<CancellationToken> {
        self.reset.clone()
    }

    /// Completes when the client gave the stream up.
    pub async fn reset(&self) {
        self.reset.cancelled().await;
    }

    /// Waits until the connection has room.
    pub async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        if self.reset.is_cancelled() {
            return Err(Gone);
        }
        self.to.send(Outgoing::Data { stream: self.stream, bytes }).await.map_err(|_| Gone)
    }

    /// Ends this side of the stream.
    pub async fn end(self) {
        // Nobody is left to be told when the connection is gone.
        let _ = self.to.send(Outgoing::End { stream: self.stream }).await;
    }
}

/// When something was last said on a connection.
#[derive(Debug)]
pub(super) struct Activity {
    last: Mutex<Instant>,
    limit: Duration,
}

impl Activity {
    pub fn new(limit: Duration) -> Self {
        Activity { last: Mutex::new(Instant::now()), limit }
    }

    pub fn touch(&self) {
        *self.last.lock() = Instant::now();
    }

    /// Completes when nothing was said for the limit.
    pub async fn idle(&self) {
        loop {
            let until = *self.last.lock() + self.limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}
