//! One SPDY/3.1 connection, as its server: streams that the client opens, and the bytes on them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frame::{self, Frame, FrameError, PROTOCOL_ERROR, REFUSED_STREAM};
use super::headers::{self, HeaderError, Pairs};
use crate::streaming::CLOSE_LIMIT;
use crate::streaming::multiplex::{Activity, Outgoing, QUEUE, Sink};

/// The most streams that a client may have open.
const MAX_STREAMS: usize = 1024;
/// How many open streams make it worth looking for those that are over.
const SWEEP_FROM: usize = 64;

/// A stream that the client opened.
#[derive(Debug)]
pub(in crate::streaming) struct Incoming {
    pub id: u32,
    pub headers: Pairs,
    /// Ends with the client's side of the stream.
    pub input: mpsc::Receiver<Bytes>,
    pub output: Sink,
}

impl Incoming {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }
}

/// Why a connection ended early. For the log.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    #[error("the client sent what is not SPDY/3.1")]
    Frame(#[from] FrameError),
    #[error("the client sent headers that cannot be read")]
    Header(#[from] HeaderError),
}

/// Serves a connection until `work`, which gets the streams, is done and everything was sent; or until
/// the client left, or was silent for too long, which drops `work`.
pub(in crate::streaming) async fn serve<C, W, F>(connection: C, activity: &Activity, work: W)
where
    C: AsyncRead + AsyncWrite,
    W: FnOnce(mpsc::Receiver<Incoming>) -> F,
    F: Future<Output = ()>,
{
    let (from, to) = tokio::io::split(connection);
    let (outgoing, messages) = mpsc::channel(QUEUE);
    let (opened, streams) = mpsc::channel(QUEUE);
    // The reader must not keep the writer alive when the work is done.
    let reader = Reader {
        buffer: BytesMut::new(),
        headers: headers::Reader::new(),
        streams: HashMap::new(),
        outgoing: outgoing.downgrade(),
        opened,
        activity,
    };
    let reading = reader.run(from);
    let working = async {
        work(streams).await;
        drop(outgoing);
        Ok(())
    };
    let working = async { tokio::try_join!(working, write(to, messages, activity)) };
    tokio::pin!(reading, working);
    let ended = tokio::select! {
        ended = &mut reading => {
            // It takes what was sent before the client left.
            drop(tokio::time::timeout(CLOSE_LIMIT, working).await);
            ended
        }
        ended = &mut working => {
            if ended.is_ok() {
                // Bytes that arrive at a closed socket would take back what the client has not read yet.
                drop(tokio::time::timeout(CLOSE_LIMIT, reading).await);
            }
            ended.map(drop)
        }
        () = activity.idle() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "a SPDY connection ended early");
    }
}

struct Stream {
    /// `None` once the client ended its side.
    input: Option<mpsc::Sender<Bytes>>,
    reset: Arc<CancellationToken>,
}

impl Stream {
    /// Nobody works on it any more.
    fn is_over(&self) -> bool {
        Arc::strong_count(&self.reset) == 1 && self.input.as_ref().is_none_or(mpsc::Sender::is_closed)
    }
}

struct Reader<'a> {
    buffer: BytesMut,
    headers: headers::Reader,
    streams: HashMap<u32, Stream>,
    outgoing: mpsc::WeakSender<Outgoing>,
    opened: mpsc::Sender<Incoming>,
    activity: &'a Activity,
}

impl Reader<'_> {
    async fn run(mut self, mut from: impl AsyncRead + Unpin) -> Result<(), ConnectionError> {
        loop {
            while let Some(frame) = frame::parse(&mut self.buffer)? {
                self.handle(frame).await?;
            }
            self.buffer.reserve(8 * 1024);
            if from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(());
            }
            self.activity.touch();
        }
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), ConnectionError> {
        match frame {
            Frame::SynStream { stream, fin, headers } => {
                let headers = self.headers.read(&headers)?;
                self.open(stream, fin, headers).await;
            }
            Frame::Data { stream, fin, bytes } => self.data(stream, fin, bytes).await,
            Frame::RstStream { stream, status: _ } => {
                if let Some(stream) = self.streams.remove(&stream) {
                    stream.reset.cancel();
                }
            }
            Frame::Ping { id } => self.send(Outgoing::Pong { id }).await,
            // We open no streams, so nothing replies to one; but the zlib stream must be followed.
            Frame::SynReply { headers, .. } => drop(self.headers.read(&headers)?),
            Frame::Headers { stream, fin, headers } => {
                self.headers.read(&headers)?;
                self.data(stream, fin, Bytes::new()).await;
            }
            // The client closes when it is done.
            Frame::GoAway { .. } | Frame::Other { .. } => {}
        }
        Ok(())
    }

    /// Sends, unless the work is done.
    async fn send(&self, message: Outgoing) {
        if let Some(outgoing) = self.outgoing.upgrade() {
            // The writer is gone only when the connection is.
            let _ = outgoing.send(message).await;
        }
    }

    async fn open(&mut self, id: u32, fin: bool, headers: Pairs) {
        if self.streams.len() >= SWEEP_FROM {
            self.streams.retain(|_, stream| !stream.is_over());
        }
        // Clients' streams have odd numbers.
        if id.is_multiple_of(2) || self.streams.contains_key(&id) {
            return self.send(Outgoing::Reset { stream: id, status: PROTOCOL_ERROR }).await;
        }
        if self.streams.len() >= MAX_STREAMS {
            return self.send(Outgoing::Reset { stream: id, status: REFUSED_STREAM }).await;
        }
        let Some(outgoing) = self.outgoing.upgrade() else { return };
        let (to_input, input) = mpsc::channel(QUEUE);
        let output = Sink::new(id, outgoing);
        let stream = Stream { input: (!fin).then_some(to_input), reset: output.reset_token() };
        self.streams.insert(id, stream);
        self.send(Outgoing::Reply { stream: id }).await;
        // Dropped when the work takes no more streams.
        let _ = self.opened.send(Incoming { id, headers, input, output }).await;
    }

    async fn data(&mut self, id: u32, fin: bool, bytes: Bytes) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if let Some(input) = &stream.input
            && !bytes.is_empty()
        {
            // A receiver that is gone reads nothing more; the client learns that by the stream's end.
            let _ = input.send(bytes).await;
        }
        if fin {
            stream.input = None;
        }
    }
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut messages: mpsc::Receiver<Outgoing>,
    activity: &Activity,
) -> Result<(), ConnectionError> {
    let mut headers = headers::Writer::new()?;
    let mut buffer = BytesMut::new();
    while let Some(message) = messages.recv().await {
        let frame = match message {
            Outgoing::Data { bytes, .. } if bytes.is_empty() => continue,
            Outgoing::Data { stream, bytes } => Frame::Data { stream, fin: false, bytes },
            Outgoing::End { stream } => Frame::Data { stream, fin: true, bytes: Bytes::new() },
            Outgoing::Reply { stream } => {
                Frame::SynReply { stream, fin: false, headers: headers.write(&[])? }
            }
            Outgoing::Reset { stream, status } => Frame::RstStream { stream, status },
            Outgoing::Pong { id } => Frame::Ping { id },
        };
        frame::write(&frame, &mut buffer);
        to.write_all_buf(&mut buffer).await?;
        to.flush().await?;
        activity.touch();
    }
    frame::write(&Frame::GoAway { last_stream: 0 }, &mut buffer);
    to.write_all_buf(&mut buffer).await?;
    to.flush().await?;
    to.shutdown().await?;
    Ok(())
}
