//! What goes around every request: its identifier, its time limit, its place in the metrics, and a
//! line in the log when it was slow.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use sampan_api::{Status, duration};
use tokio::task::AbortHandle;

use super::ResponseBody;
use super::asked::Asked;
use super::body::COMPRESS_FROM;
use crate::fairness::Seat;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
/// The longest identifier that is taken from a client.
const MAX_AUDIT_ID: usize = 64;
/// The longest that a request may take, and what it may take where the client does not say.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Answers of this length are made at once, longer ones while they are sent.
const AT_ONCE: u64 = COMPRESS_FROM as u64;
/// Requests that took longer leave a line in the log.
const SLOW: Duration = Duration::from_millis(500);

/// The identifier of a request: the client's, or a new one.
pub fn audit_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(given) = headers.get(AUDIT_ID)
        && (1..=MAX_AUDIT_ID).contains(&given.len())
    {
        return given.clone();
    }
    let fresh = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let mut buffer = uuid::Uuid::encode_buffer();
    HeaderValue::from_str(fresh.hyphenated().encode_lower(&mut buffer))
        .expect("hexadecimal digits and dashes")
}

/// Headers of every response.
pub fn sign(response: &mut Response<ResponseBody>, mut audit_id: HeaderValue) {
    let headers = response.headers_mut();
    // No answer has it again: HTTP/2 need not remember it, nor compare it with those that it remembers.
    audit_id.set_sensitive(true);
    headers.insert(AUDIT_ID, audit_id);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
}

/// How long a request may take: what it says (`?timeout=`), at most a minute.
pub fn time_limit(asked: &Asked) -> Result<Duration, Status> {
    let Some(text) = asked.query.get("timeout") else { return Ok(REQUEST_TIMEOUT) };
    let invalid = || Status::bad_request("invalid timeout specified in the request URL");
    let limit = duration::parse(text).ok_or_else(invalid)?;
    Ok(if limit.is_zero() { REQUEST_TIMEOUT } else { limit.min(REQUEST_TIMEOUT) })
}

/// The answer to a request that took too long.
pub fn timed_out() -> Status {
    let mut status = Status::timeout("Timeout: request did not complete within the allotted timeout");
    status.details = Some(Default::default());
    status
}

/// The bytes of an answer, where they are known before it is sent.
pub fn size(response: &Response<ResponseBody>) -> Option<u64> {
    response.body().size_hint().exact()
}

/// Keeps something alive for as long as an answer is sent.
pub fn keep<T: Send + 'static>(response: Response<ResponseBody>, held: T) -> Response<ResponseBody> {
    response.map(|body| ResponseBody::new(Kept { body, _held: held }))
}

/// A body and what lives as long as it.
struct Kept<T> {
    body: ResponseBody,
    _held: T,
}

// The body is boxed, and what is held is never pinned.
impl<T> Unpin for Kept<T> {}

impl<T: Send + 'static> Body for Kept<T> {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Keeps a seat for as long as a long answer is made, which is while it is sent; but no longer than a
/// request may take, since a client that does not read must not keep others from theirs.
pub fn keep_seat(response: Response<ResponseBody>, seat: Seat) -> Response<ResponseBody> {
    if size(&response).is_some_and(|bytes| bytes <= AT_ONCE) {
        return response;
    }
    let seat = Arc::new(Mutex::new(Some(seat)));
    let held = seat.clone();
    let timer = tokio::spawn(async move {
        tokio::time::sleep(REQUEST_TIMEOUT).await;
        held.lock().take();
    });
    keep(response, HeldSeat { seat, timer: timer.abort_handle() })
}

struct HeldSeat {
    seat: Arc<Mutex<Option<Seat>>>,
    timer: AbortHandle,
}

impl Drop for HeldSeat {
    fn drop(&mut self) {
        self.timer.abort();
        self.seat.lock().take();
    }
}

/// What a line about a slow request says; taken before the request is used up.
pub struct Trace {
    method: http::Method,
    uri: http::Uri,
    user_agent: Option<HeaderValue>,
    received: Instant,
}

impl Trace {
    pub fn begin<B>(request: &Request<B>, received: Instant) -> Self {
        Trace {
            method: request.method().clone(),
            uri: request.uri().clone(),
            user_agent: request.headers().get(USER_AGENT).cloned(),
            received,
        }
    }

    /// Logs one line if the request was slow.
    pub fn end(&self, asked: &Asked, code: u16, audit_id: &HeaderValue) {
        let took = self.received.elapsed();
        if took < SLOW {
            return;
        }
        tracing::info!(
            verb = asked.verb(),
            method = %self.method,
            url = %self.uri,
            user_agent = self.user_agent.as_ref().and_then(|agent| agent.to_str().ok()).unwrap_or_default(),
            audit_id = audit_id.to_str().unwrap_or_default(),
            code,
            total_ms = took.as_millis() as u64,
            "Trace: a slow request",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_of_the_client_is_kept_within_limits() {
        let mut headers = HeaderMap::new();
        headers.insert(AUDIT_ID, HeaderValue::from_static("mine"));
        assert_eq!(audit_id(&headers), "mine");
        headers.insert(AUDIT_ID, HeaderValue::from_str(&"x".repeat(65)).expect("text"));
        assert_eq!(audit_id(&headers).len(), 36);
        assert_ne!(audit_id(&headers), audit_id(&headers));
    }
}
