//! The client's side of SPDY/3.1, for tests.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frame::{self, Frame};
use super::headers::{Reader, Writer};

pub(in crate::streaming) struct SpdyClient<C> {
    connection: C,
    headers: Writer,
    replies: Reader,
    buffer: BytesMut,
    next_stream: u32,
    /// What came, by stream.
    pub received: HashMap<u32, Vec<u8>>,
    /// Streams whose other side ended.
    pub ended: Vec<u32>,
    pub pongs: Vec<u32>,
    pub resets: Vec<u32>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> SpdyClient<C> {
    pub fn new(connection: C) -> Self {
        SpdyClient {
            connection,
            headers: Writer::new().expect("a writer"),
            replies: Reader::new(),
            buffer: BytesMut::new(),
            next_stream: 1,
            received: HashMap::new(),
            ended: Vec::new(),
            pongs: Vec::new(),
            resets: Vec::new(),
        }
    }

    async fn send(&mut self, frame: Frame) {
        let mut wire = BytesMut::new();
        frame::write(&frame, &mut wire);
        self.connection.write_all(&wire).await.expect("sent");
        self.connection.flush().await.expect("sent");
    }

    pub async fn open(&mut self, pairs: &[(&str, &str)]) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let headers = self.headers.write(pairs).expect("deflated");
        self.send(Frame::SynStream { stream, fin: false, headers }).await;
        stream
    }

    pub async fn data(&mut self, stream: u32, text: &str) {
        self.send(Frame::Data { stream, fin: false, bytes: Bytes::copy_from_slice(text.as_bytes()) }).await;
    }

    pub async fn end(&mut self, stream: u32) {
        self.send(Frame::Data { stream, fin: true, bytes: Bytes::new() }).await;
    }

    pub async fn reset(&mut self, stream: u32) {
        self.send(Frame::RstStream { stream, status: 5 }).await;
    }

    pub async fn ping(&mut self, id: u32) {
        self.send(Frame::Ping { id }).await;
    }

    pub fn text(&self, stream: u32) -> String {
        String::from_utf8_lossy(self.received.get(&stream).map_or(&[], Vec::as_slice)).into_owned()
    }

    /// Reads until `done`; `false` when the server closed the connection before.
    pub async fn read_until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            while let Some(frame) = frame::parse(&mut self.buffer).expect("SPDY") {
                self.take(frame);
            }
            if done(self) {
                return true;
            }
            if self.connection.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return false;
            }
        }
    }

    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Data { stream, fin, bytes } => {
                self.received.entry(stream).or_default().extend_from_slice(&bytes);
                if fin {
                    self.ended.push(stream);
                }
            }
            Frame::SynReply { headers, .. } => drop(self.replies.read(&headers).expect("a header block")),
            Frame::Ping { id } => self.pongs.push(id),
            Frame::RstStream { stream, .. } => self.resets.push(stream),
            Frame::SynStream { .. } | Frame::GoAway { .. } | Frame::Headers { .. } | Frame::Other { .. } => {}
        }
    }
}
