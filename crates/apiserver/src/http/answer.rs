//! Answers: objects, lists, tables and statuses as HTTP responses.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, RETRY_AFTER, VARY};
use http::{HeaderName, Response, StatusCode};
use sampan_api::object::ObjectRef;
use sampan_api::table::ResourceDef;
use sampan_api::{Status, protobuf};
use serde_json::Value;

use super::ResponseBody;
pub use super::body::full;
use super::body::{self, COMPRESS_FROM, Pieces};
use super::form::{Included, Writer};
use super::list::{JsonList, ProtobufList};
use super::negotiate::{Accepted, Media, Shape};
use crate::registry::Page;

const WARNING: HeaderName = HeaderName::from_static("warning");
/// The most warnings, and bytes of them, that one answer carries.
const MAX_WARNINGS: usize = 64;
const MAX_WARNING_BYTES: usize = 4096;
/// Lists with more objects are encoded where they keep no other request waiting.
const MANY: usize = 1000;

pub fn with_type(
    code: StatusCode,
    content_type: HeaderValue,
    bytes: impl Into<Bytes>,
) -> Response<ResponseBody> {
    with_body(code, content_type, full(bytes), false)
}

pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<ResponseBody> {
    with_type(code, HeaderValue::from_static("text/plain; charset=utf-8"), text)
}

fn with_body(
    code: StatusCode,
    content_type: HeaderValue,
    body: ResponseBody,
    compressed: bool,
) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    if compressed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// Bytes that are complete, compressed where they are many.
fn whole(code: StatusCode, bytes: Bytes, accepted: Accepted) -> Response<ResponseBody> {
    let content_type = HeaderValue::from_static(accepted.media.content_type());
    if accepted.gzip && bytes.len() > COMPRESS_FROM {
        return match body::compress(&bytes) {
            Ok(bytes) => with_body(code, content_type, full(bytes), true),
            Err(error) => status(&Status::internal(error), Accepted::JSON),
        };
    }
    with_type(code, content_type, bytes)
}

/// JSON, with a line feed at its end, or made YAML of, or indented.
fn json_bytes(code: StatusCode, bytes: Bytes, accepted: Accepted) -> Response<ResponseBody> {
    let text = match (accepted.media, accepted.pretty) {
        (Media::Yaml, _) => parsed(&bytes).and_then(|v| yaml_serde::to_string(&v).map_err(Status::internal)),
        (_, true) => parsed(&bytes).and_then(|v| serde_json::to_string_pretty(&v).map_err(Status::internal)),
        (_, false) => {
            let mut line = BytesMut::with_capacity(bytes.len() + 1);
            line.put(bytes);
            line.put_u8(b'\n');
            return whole(code, line.freeze(), accepted);
        }
    };
    match text {
        Ok(text) => whole(code, text.into(), accepted),
        Err(error) => status(&error, Accepted::JSON),
    }
}

fn parsed(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(Status::internal)
}

/// A body of a kind that it names itself.
pub fn value(code: StatusCode, value: &Value, accepted: Accepted) -> Response<ResponseBody> {
    if accepted.media != Media::Protobuf {
        return json_bytes(code, value.to_string().into(), accepted);
    }
    let name = |key: &str| value[key].as_str().unwrap_or_default();
    match protobuf::encode(name("apiVersion"), name("kind"), value) {
        Ok(bytes) => whole(code, bytes.into(), accepted),
        Err(error) => status(&Status::internal(error), Accepted::JSON),
    }
}

/// An error as the client likes it ([`super::negotiate::accepted_error`]).
pub fn status(status: &Status, accepted: Accepted) -> Response<ResponseBody> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = status_with(code, status, accepted);
    let retry = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// A status under a code that it need not name itself. Its JSON has the fields in upstream's order, since there
/// are clients that compare the text.
pub fn status_with(code: StatusCode, status: &Status, accepted: Accepted) -> Response<ResponseBody> {
    let mut response = if accepted.media == Media::Protobuf {
        value(code, &serde_json::to_value(status).unwrap_or_default(), accepted)
    } else {
        json_bytes(code, serde_json::to_vec(status).unwrap_or_default().into(), accepted)
    };
    // For the audit log, which tells what an answer said also where it keeps no answers.
    response.extensions_mut().insert(Arc::new(status.clone()));
    response
}

/// Adds `Warning` headers (RFC 7234, code 299).
pub fn warn(response: &mut Response<ResponseBody>, warnings: &[String]) {
    let mut bytes = 0;
    for (index, warning) in warnings.iter().take(MAX_WARNINGS).enumerate() {
        // What a write did again after a conflict, it told again.
        if warnings[..index].contains(warning) {
            continue;
        }
        let escaped = warning.replace('\\', "\\\\").replace('"', "\\\"");
        bytes += escaped.len();
        if bytes > MAX_WARNING_BYTES {
            return;
        }
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{escaped}\"")) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

/// One object in the asked shape.
pub fn object(
    code: StatusCode,
    def: &Arc<ResourceDef>,
    object: &ObjectRef,
    accepted: Accepted,
    included: Included,
) -> Response<ResponseBody> {
    let made = match accepted.shape {
        Shape::MetadataList(_) => Err(not_acceptable(def, "List", "is not a list", "")),
        Shape::Object | Shape::Metadata(_) | Shape::Table(_) => {
            Writer::new(def.clone(), accepted, included).and_then(|writer| writer.object(object, true))
        }
    };
    match made {
        Ok(bytes) if accepted.media == Media::Protobuf => whole(code, bytes, accepted),
        Ok(bytes) => json_bytes(code, bytes, accepted),
        Err(error) => status(&error, Accepted { shape: Shape::Object, ..accepted }),
    }
}

fn not_acceptable(def: &ResourceDef, asked: &str, why: &str, suffix: &str) -> Status {
    let go_type = match def.gvr.group.split('.').next().unwrap_or_default() {
        _ if def.custom => format!("unstructured.Unstructured{suffix}"),
        "" => format!("core.{}{suffix}", def.kind),
        package => format!("{package}.{}{suffix}", def.kind),
    };
    let message =
        format!("you requested PartialObjectMetadata{asked}, but the requested object {why} (*{go_type})");
    Status::failure(406, "NotAcceptable", message)
}

/// A page in the asked shape.
pub async fn list(
    def: &Arc<ResourceDef>,
    page: Page,
    accepted: Accepted,
    included: Included,
) -> Result<Response<ResponseBody>, Status> {
    if matches!(accepted.shape, Shape::Metadata(_)) {
        return Err(not_acceptable(def, "", "is a list", "List"));
    }
    let writer = Writer::new(def.clone(), accepted, included)?;
    if accepted.media == Media::Yaml || (accepted.pretty && accepted.media == Media::Json) {
        let mut pieces = JsonList::new(writer, page);
        let mut json = BytesMut::new();
        while let Some(piece) = pieces.next() {
            json.put(piece.map_err(unmade)?);
        }
        return Ok(json_bytes(StatusCode::OK, json.freeze(), accepted));
    }
    let many = page.items.len() > MANY;
    let make = move || match writer.protobuf().cloned() {
        Some(object) => body::of(ProtobufList::new(&writer, object, page)?, accepted.gzip).map_err(unmade),
        None => body::of(JsonList::new(writer, page), accepted.gzip).map_err(unmade),
    };
    let made = match many && accepted.media == Media::Protobuf {
        true => tokio::task::spawn_blocking(make).await.map_err(Status::internal)?,
        false => make(),
    };
    let (body, compressed) = made?;
    let content_type = HeaderValue::from_static(accepted.media.content_type());
    Ok(with_body(StatusCode::OK, content_type, body, compressed))
}

fn unmade(error: io::Error) -> Status {
    Status::internal(error)
}
