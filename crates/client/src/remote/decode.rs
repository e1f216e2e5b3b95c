//! Answers of a server: lists, events of watches, errors.

use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::stream;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sampan_api::Status;
use sampan_api::object::{Object, ObjectRef};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::is_gateway;
use crate::{ObjectList, WatchEvent, WatchStream};

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The error of an answer that is not a success; made up where the body is none.
pub fn status(code: StatusCode, body: &[u8]) -> Status {
    if let Ok(status) = serde_json::from_slice::<Status>(body)
        && status.status == "Failure"
    {
        return Status { code: if status.code == 0 { code.as_u16() } else { status.code }, ..status };
    }
    let start = String::from_utf8_lossy(&body[..body.len().min(1024)]);
    let message = match start.trim() {
        "" => format!("the server answered {code}"),
        text => text.to_owned(),
    };
    match code {
        StatusCode::UNAUTHORIZED => Status::unauthorized(),
        StatusCode::FORBIDDEN => Status::failure(403, "Forbidden", message),
        StatusCode::NOT_FOUND => Status::no_such_route(),
        StatusCode::TOO_MANY_REQUESTS => Status::too_many_requests(message, 1),
        code if is_gateway(code) => Status::unavailable(message),
        code => Status::failure(code.as_u16(), "Unknown", message),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawList<'a> {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    metadata: RawListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
}

#[derive(Deserialize)]
struct HasKind {
    kind: Option<serde::de::IgnoredAny>,
}

/// Reads one page of a list. Each object gets bytes of its own, so that keeping one does not keep
/// the page.
pub fn list(bytes: &[u8]) -> Result<ObjectList, Status> {
    let undecodable = |error: &dyn std::error::Error| Status::internal(format!("a list: {}", chain(error)));
    let raw: RawList<'_> = serde_json::from_slice(bytes).map_err(|error| undecodable(&error))?;
    let kind = raw.kind.strip_suffix("List").unwrap_or(&raw.kind);
    let items = raw.items.unwrap_or_default().into_iter().map(|item| {
        let bytes = with_kind(item.get(), kind, &raw.api_version);
        Object::parse(bytes).map(Arc::new).map_err(|error| undecodable(&error))
    });
    Ok(ObjectList {
        items: items.collect::<Result<_, _>>()?,
        revision: raw.metadata.resource_version.parse().unwrap_or_default(),
        continue_token: Some(raw.metadata.continue_token).filter(|token| !token.is_empty()),
    })
}

/// An item with its kind, which servers leave out in lists.
fn with_kind(item: &str, kind: &str, api_version: &str) -> Bytes {
    let known = serde_json::from_str::<HasKind>(item).is_ok_and(|item| item.kind.is_some());
    let Some(rest) = item.trim_start().strip_prefix('{').filter(|_| !known) else {
        return Bytes::copy_from_slice(item.as_bytes());
    };
    let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
    let (kind, api_version) = (serde_json::Value::from(kind), serde_json::Value::from(api_version));
    Bytes::from(format!("{{\"kind\":{kind},\"apiVersion\":{api_version}{comma}{rest}"))
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Reads the line of one event.
pub fn event(line: &[u8]) -> Result<WatchEvent, Status> {
    let undecodable =
        |error: &dyn std::error::Error| Status::internal(format!("an event of a watch: {}", chain(error)));
    let raw: RawEvent<'_> = serde_json::from_slice(line).map_err(|error| undecodable(&error))?;
    if raw.kind == "ERROR" {
        let status = serde_json::from_str::<Status>(raw.object.get()).map_err(|error| undecodable(&error))?;
        return Err(status);
    }
    let bytes = Bytes::copy_from_slice(raw.object.get().as_bytes());
    let object: ObjectRef = Arc::new(Object::parse(bytes).map_err(|error| undecodable(&error))?);
    match raw.kind {
        "ADDED" => Ok(WatchEvent::Added(object)),
        "MODIFIED" => Ok(WatchEvent::Modified(object)),
        "DELETED" => Ok(WatchEvent::Deleted(object)),
        "BOOKMARK" => Ok(WatchEvent::Bookmark(object.header.revision)),
        other => Err(Status::internal(format!("an event of a watch: unknown type {other:?}"))),
    }
}

/// The lines of a body, as they come.
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
    /// Up to here the buffer has no end of a line.
    searched: usize,
    limit: usize,
}

impl Lines {
    pub fn new(body: Incoming, limit: usize) -> Self {
        Lines { body, buffer: BytesMut::new(), searched: 0, limit }
    }

    /// The next line without its end; `None` at the end of the body.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.searched > self.limit {
                return Err(Status::internal(format!("a line of an answer has over {} bytes", self.limit)));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => {
                    return Err(Status::unavailable(format!("the answer broke off: {}", chain(&error))));
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    self.searched = 0;
                    return Ok(Some(self.buffer.split().freeze()));
                }
            }
        }
    }
}

/// The events of a watch's body. The first error is the last event.
pub fn watch(body: Incoming, limit: usize) -> WatchStream {
    let lines = Some(Lines::new(body, limit));
    Box::pin(stream::unfold(lines, |lines| async {
        let mut lines = lines?;
        loop {
            match lines.next().await {
                Ok(Some(line)) if line.iter().all(u8::is_ascii_whitespace) => {}
                Ok(Some(line)) => {
                    let event = event(&line);
                    let rest = event.is_ok().then_some(lines);
                    return Some((event, rest));
                }
                Ok(None) => return None,
                Err(status) => return Some((Err(status), None)),
            }
        }
    }))
}
