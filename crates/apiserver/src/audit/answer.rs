//! An answer on its way: its record ends with it, and may want a copy.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use sampan_api::protobuf;
use serde_json::Value;

use super::record::Record;
use crate::http::ResponseBody;

/// The most bytes of an answer that are recorded. What is longer is recorded without its object.
const MAX_ANSWER: usize = 8 << 20;

/// Holds a record until an answer was sent, and records the answer itself where the policy wants it.
pub fn follow(
    response: Response<ResponseBody>,
    record: Arc<Record>,
    streams: bool,
) -> Response<ResponseBody> {
    let copy = (record.wants_response() && !streams).then(|| {
        let headers = response.headers();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Copy {
            protobuf: text(CONTENT_TYPE).starts_with("application/vnd.kubernetes.protobuf"),
            yaml: text(CONTENT_TYPE).starts_with("application/yaml"),
            gzip: text(CONTENT_ENCODING) == "gzip",
            bytes: BytesMut::new(),
            too_long: false,
        }
    });
    response.map(|body| ResponseBody::new(Followed { body, record, copy }))
}

struct Followed {
    body: ResponseBody,
    record: Arc<Record>,
    copy: Option<Copy>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(value) = self.copy.take().and_then(Copy::decode) {
            self.record.response_object(value);
        }
    }
}

impl Body for Followed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let (Poll::Ready(Some(Ok(frame))), Some(copy)) = (&polled, &mut self.copy)
            && let Some(bytes) = frame.data_ref()
        {
            copy.take(bytes);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The bytes of an answer, as they were sent.
struct Copy {
    protobuf: bool,
    yaml: bool,
    gzip: bool,
    bytes: BytesMut,
    too_long: bool,
}

impl Copy {
    fn take(&mut self, bytes: &Bytes) {
        if self.too_long || self.bytes.len() + bytes.len() > MAX_ANSWER {
            self.too_long = true;
            self.bytes = BytesMut::new();
            return;
        }
        self.bytes.put_slice(bytes);
    }

    /// None where it is no object, or not whole.
    fn decode(self) -> Option<Value> {
        if self.too_long {
            return None;
        }
        let mut bytes = self.bytes.freeze();
        if self.gzip {
            let mut plain = Vec::new();
            GzDecoder::new(&bytes[..]).take(MAX_ANSWER as u64 + 1).read_to_end(&mut plain).ok()?;
            if plain.len() > MAX_ANSWER {
                return None;
            }
            bytes = plain.into();
        }
        if self.protobuf {
            let limits = protobuf::Limits { bytes: MAX_ANSWER, ..protobuf::Limits::default() };
            return protobuf::decode_answer(&bytes, &limits).ok();
        }
        let value: Value = match self.yaml {
            true => yaml_serde::from_slice(&bytes).ok()?,
            false => serde_json::from_slice(&bytes).ok()?,
        };
        value.is_object().then_some(value)
    }
}
