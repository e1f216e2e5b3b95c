//! The two directions of a call.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::HeaderMap;
use tokio::sync::mpsc;

use super::frame::{Deframer, frame};
use super::{CallError, status};

/// Messages that wait for the connection.
const QUEUE: usize = 4;

/// The body of a request.
pub(super) enum Outgoing {
    One(Option<Bytes>),
    Stream(mpsc::Receiver<Bytes>),
}

impl Outgoing {
    pub fn stream() -> (Sender, Outgoing) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Sender(sender), Outgoing::Stream(receiver))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Outgoing::One(message) => Poll::Ready(message.take().map(|message| Ok(Frame::data(message)))),
            Outgoing::Stream(messages) => {
                messages.poll_recv(context).map(|message| message.map(|message| Ok(Frame::data(message))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Outgoing::One(None))
    }
}

/// What goes to the other side. Dropping it ends that direction.
pub struct Sender(mpsc::Sender<Bytes>);

impl Sender {
    /// Queues a message; `false` when the call is over.
    pub async fn send(&self, message: &[u8]) -> bool {
        self.0.send(frame(message)).await.is_ok()
    }
}

/// What comes from the other side.
pub struct Receiver {
    body: Incoming,
    deframer: Deframer,
    /// Who has nothing to say but the status says it in the headers.
    headers: Option<HeaderMap>,
    limit: usize,
    ended: bool,
}

impl Receiver {
    pub(super) fn new(response: Response<Incoming>, limit: usize) -> Self {
        let (head, body) = response.into_parts();
        Receiver { body, deframer: Deframer::default(), headers: Some(head.headers), limit, ended: false }
    }

    /// The next message; `None` when the call ended well. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = self.deframer.next(self.limit)? {
                return Ok(Some(message));
            }
            if self.ended {
                return Ok(None);
            }
            let Some(piece) = self.body.frame().await else {
                self.ended = true;
                if !self.deframer.is_empty() {
                    return Err(CallError::Protocol("it ends within a message"));
                }
                // Without trailers, the headers must have said how it ends.
                status::check(&self.headers.take().unwrap_or_default())?;
                return Ok(None);
            };
            match piece?.into_data() {
                Ok(data) => self.deframer.push(&data),
                Err(other) => {
                    if let Ok(trailers) = other.into_trailers() {
                        self.ended = true;
                        status::check(&trailers)?;
                    }
                }
            }
        }
    }
}
