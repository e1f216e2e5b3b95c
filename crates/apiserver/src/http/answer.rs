//! Answers: objects, lists, tables and statuses as HTTP responses.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use sampan_api::object::ObjectRef;
use sampan_api::table::ResourceDef;
use sampan_api::{Status, printers};
use serde_json::{Map, Value, json};

use super::ResponseBody;
use super::negotiate::{Accepted, Shape};
use crate::registry::Page;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
const WARNING: HeaderName = HeaderName::from_static("warning");
/// The most warnings, and bytes of them, that one answer carries.
const MAX_WARNINGS: usize = 64;
const MAX_WARNING_BYTES: usize = 4096;

pub fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub fn with_type(
    code: StatusCode,
    content_type: HeaderValue,
    bytes: impl Into<Bytes>,
) -> Response<ResponseBody> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Response<ResponseBody> {
    with_type(code, HeaderValue::from_static("text/plain; charset=utf-8"), text)
}

/// JSON bytes, or the same as YAML.
pub fn json_bytes(code: StatusCode, bytes: Bytes, accepted: Accepted) -> Response<ResponseBody> {
    if !accepted.yaml {
        return with_type(code, JSON, bytes);
    }
    let yaml = serde_json::from_slice::<Value>(&bytes)
        .map_err(|error| error.to_string())
        .and_then(|value| yaml_serde::to_string(&value).map_err(|error| error.to_string()));
    match yaml {
        Ok(yaml) => with_type(code, YAML, yaml),
        Err(error) => status(&Status::internal(error)),
    }
}

pub fn value(code: StatusCode, value: &Value, accepted: Accepted) -> Response<ResponseBody> {
    json_bytes(code, value.to_string().into(), accepted)
}

pub fn status(status: &Status) -> Response<ResponseBody> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let bytes = serde_json::to_vec(status).unwrap_or_default();
    let mut response = with_type(code, JSON, bytes);
    let retry = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// Adds `Warning` headers (RFC 7234, code 299).
pub fn warn(response: &mut Response<ResponseBody>, warnings: &[String]) {
    let mut bytes = 0;
    for warning in warnings.iter().take(MAX_WARNINGS) {
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
    def: &ResourceDef,
    object: &ObjectRef,
    accepted: Accepted,
    included: Included,
) -> Response<ResponseBody> {
    match accepted.shape {
        Shape::Object => json_bytes(code, object.bytes.clone(), accepted),
        Shape::Metadata => json_bytes(code, metadata_only(object), accepted),
        Shape::Table => {
            let table =
                table(def, std::slice::from_ref(object), &object.header.revision.to_string(), included, true);
            value(code, &table, accepted)
        }
    }
}

/// A page in the asked shape.
pub fn list(
    def: &ResourceDef,
    page: &Page,
    accepted: Accepted,
    included: Included,
) -> Response<ResponseBody> {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(token) = &page.continue_token {
        metadata["continue"] = token.clone().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    let bytes = match accepted.shape {
        Shape::Object => join_list(
            &def.gvr.api_version(),
            &def.list_kind,
            &metadata,
            page.items.iter().map(|item| item.bytes.clone()),
        ),
        Shape::Metadata => {
            let items = page.items.iter().map(metadata_only);
            join_list("meta.k8s.io/v1", "PartialObjectMetadataList", &metadata, items)
        }
        Shape::Table => {
            let mut table = table(def, &page.items, &page.revision.to_string(), included, true);
            table["metadata"] = metadata;
            table.to_string().into()
        }
    };
    json_bytes(StatusCode::OK, bytes, accepted)
}

fn join_list(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items: impl Iterator<Item = Bytes> + Clone,
) -> Bytes {
    let size: usize = items.clone().map(|item| item.len() + 1).sum();
    let mut bytes = BytesMut::with_capacity(size + 256);
    bytes.put_slice(
        format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":[")
            .as_bytes(),
    );
    for (index, item) in items.enumerate() {
        if index > 0 {
            bytes.put_u8(b',');
        }
        bytes.put_slice(&item);
    }
    bytes.put_slice(b"]}");
    bytes.freeze()
}

/// What a table's rows carry beside their cells (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Included {
    None,
    #[default]
    Metadata,
    Object,
}

impl Included {
    pub fn parse(text: Option<&str>) -> Result<Self, Status> {
        match text {
            None | Some("" | "Metadata") => Ok(Included::Metadata),
            Some("None") => Ok(Included::None),
            Some("Object") => Ok(Included::Object),
            Some(other) => Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }
}

/// `meta.k8s.io/v1` Table of some objects.
pub fn table(
    def: &ResourceDef,
    objects: &[ObjectRef],
    revision: &str,
    included: Included,
    with_columns: bool,
) -> Value {
    let now = Timestamp::now();
    let columns = if with_columns { printers::columns(def) } else { Value::Null };
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let value: Value = object.decode().unwrap_or(Value::Null);
            let cells = printers::cells(def, &value, now);
            let carried = match included {
                Included::None => Value::Null,
                Included::Metadata => partial(value),
                Included::Object => value,
            };
            json!({"cells": cells, "object": carried})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision},
        "columnDefinitions": columns, "rows": rows})
}

fn partial(mut value: Value) -> Value {
    let metadata = value.get_mut("metadata").map_or_else(|| Value::Object(Map::new()), Value::take);
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// PartialObjectMetadata of an object.
pub fn metadata_only(object: &ObjectRef) -> Bytes {
    partial(object.decode().unwrap_or(Value::Null)).to_string().into()
}
