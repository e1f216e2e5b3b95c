//! The protobuf form of the built-in kinds: `application/vnd.kubernetes.protobuf`.
//!
//! Inside Sampan an object is JSON. [`decode`] makes of a message exactly the JSON that Kubernetes
//! writes for the same object, [`encode`] the message of such JSON, byte by byte the one that
//! Kubernetes writes. Both are driven by one table (`crates/api/schema/protobuf.txt`), which is
//! parsed when the first message arrives. Custom resources have no protobuf form.
//!
//! A message travels in an envelope: four magic bytes, then `runtime.Unknown`, whose field 1 tells
//! version and kind and whose field 2 holds the object.
//!
//! No input makes this panic, recurse deeply or hold much more memory than [`Limits`] say: a message
//! of few bytes can stand for much JSON, as fields that must be there cost nothing on the wire.

mod decode;
mod encode;
mod stream;
mod table;
mod transcode;
mod wire;

pub use stream::{ListWriter, ObjectWriter, envelope, envelope_ends, watch_event};

use serde_json::Value;

use crate::quantity::QuantityError;
use crate::schema::DecodeError;
use table::Table;
use wire::{Reader, Wire};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every message begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// Bounds on what one message may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of the message.
    pub bytes: usize,
    /// JSON values that it stands for: scalars, lists and objects.
    pub values: usize,
    /// Lists and objects inside each other, free JSON included. The default is below the limit of
    /// the JSON reader, so that whatever was decoded can be read again.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: 3 << 20, values: 500_000, depth: 120 }
    }
}

/// A message that is none, or one that cannot be made. The words are those of Kubernetes' decoder.
#[derive(Debug, thiserror::Error)]
pub enum ProtobufError {
    #[error("empty data")]
    EmptyData,
    #[error("empty body")]
    EmptyBody,
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: negative length found during unmarshaling")]
    Length,
    #[error("proto: {message}: illegal tag {number} (wire type {wire})")]
    Tag { message: &'static str, number: i32, wire: u64 },
    #[error("proto: {message}: wiretype end group for non-group")]
    EndGroup { message: &'static str },
    #[error("proto: unexpected end of group")]
    StrayEndGroup,
    #[error("proto: illegal wireType {wire}")]
    IllegalWire { wire: u64 },
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WrongWire { field: &'static str, wire: u64 },
    #[error("Object 'Kind' is missing in 'runtime.TypeMeta{{APIVersion:{api_version:?}, Kind:\"\"}}'")]
    MissingKind { api_version: String },
    #[error("Object 'apiVersion' is missing in 'runtime.TypeMeta{{APIVersion:\"\", Kind:{kind:?}}}'")]
    MissingVersion { kind: String },
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    Unregistered { api_version: String, kind: String },
    #[error("Request entity too large: limit is {limit}")]
    TooLarge { limit: usize },
    #[error("the object has more than {limit} values")]
    TooMany { limit: usize },
    #[error("exceeded max depth")]
    Depth,
    #[error("{0}")]
    Quantity(QuantityError),
    #[error("impossible IntOrString.Type")]
    IntOrString,
    #[error("the time {seconds} s after 1970 is outside the years 1 to 9999")]
    Time { seconds: i64 },
    #[error("json: unsupported value in field {field}")]
    NotFinite { field: &'static str },
    #[error("{0}")]
    Json(DecodeError),
    /// Only from an [`ObjectWriter`].
    #[error("the object cannot be read: {0}")]
    Source(String),
    /// Only from [`encode`].
    #[error("{message}.{field}: the value is not of the field's type")]
    Mistyped { message: &'static str, field: &'static str },
}

/// Version, kind and JSON of one message.
///
/// `default` is the version and kind that a message is taken for where it tells none itself, as the
/// route of a request implies one. The JSON has `apiVersion` and `kind`.
pub fn decode(
    bytes: &[u8],
    default: Option<(&str, &str)>,
    limits: &Limits,
) -> Result<(String, String, Value), ProtobufError> {
    decode_kind(bytes, default, limits, false)
}

/// As [`decode`], of what a server answers: that may also be a list of objects.
pub fn decode_answer(bytes: &[u8], limits: &Limits) -> Result<Value, ProtobufError> {
    decode_kind(bytes, None, limits, true).map(|(_, _, value)| value)
}

fn decode_kind(
    bytes: &[u8],
    default: Option<(&str, &str)>,
    limits: &Limits,
    lists: bool,
) -> Result<(String, String, Value), ProtobufError> {
    if bytes.len() > limits.bytes {
        return Err(ProtobufError::TooLarge { limit: limits.bytes });
    }
    if bytes.is_empty() {
        return Err(ProtobufError::EmptyData);
    }
    let body = bytes.strip_prefix(&MAGIC).ok_or(ProtobufError::Magic)?;
    if body.is_empty() {
        return Err(ProtobufError::EmptyBody);
    }
    let Envelope { mut api_version, mut kind, raw } = Envelope::read(body)?;
    if let Some((default_version, default_kind)) = default {
        for (told, default) in [(&mut api_version, default_version), (&mut kind, default_kind)] {
            if told.is_empty() {
                default.clone_into(told);
            }
        }
    }
    if kind.is_empty() {
        return Err(ProtobufError::MissingKind { api_version });
    }
    if api_version.is_empty() {
        return Err(ProtobufError::MissingVersion { kind });
    }
    let table = Table::builtin();
    let item = kind.strip_suffix("List").filter(|_| lists).and_then(|kind| table.kind(&api_version, kind));
    let mut decoder = decode::Decoder::new(table, limits, bytes.len());
    let mut object = match (table.kind(&api_version, &kind), item) {
        (Some(id), _) => decoder.message(id, raw, 1)?,
        (None, Some(item)) => decoder.list(item, raw)?,
        (None, None) => return Err(ProtobufError::Unregistered { api_version, kind }),
    };
    object.insert("apiVersion".to_owned(), Value::from(api_version.as_str()));
    object.insert("kind".to_owned(), Value::from(kind.as_str()));
    Ok((api_version, kind, Value::Object(object)))
}

/// The message of an object, a list of objects, a `Status` or another body, with its envelope.
///
/// Version and kind are those of the answer; the value need not repeat them.
pub fn encode(api_version: &str, kind: &str, value: &Value) -> Result<Vec<u8>, ProtobufError> {
    let table = Table::builtin();
    let mut raw = Vec::new();
    let item = kind.strip_suffix("List").and_then(|kind| table.kind(api_version, kind));
    match (table.kind(api_version, kind), item) {
        (Some(id), _) => encode::message(table, id, value, &mut raw)?,
        (None, Some(item)) => encode::list(table, item, value, &mut raw)?,
        (None, None) => return Err(unregistered(api_version, kind)),
    }
    Ok(envelope(api_version, kind, &raw))
}

fn unregistered(api_version: &str, kind: &str) -> ProtobufError {
    ProtobufError::Unregistered { api_version: api_version.to_owned(), kind: kind.to_owned() }
}

/// Whether objects of this version and kind can travel as protobuf.
pub fn knows(api_version: &str, kind: &str) -> bool {
    Table::builtin().kind(api_version, kind).is_some()
}

/// `runtime.Unknown`.
#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8]) -> Result<Self, ProtobufError> {
        let mut envelope = Envelope::default();
        let mut reader = Reader::new(body);
        while let Some((number, wire)) = reader.tag("Unknown")? {
            match number {
                1 => envelope.read_type_meta(reader.length(wire, "TypeMeta")?)?,
                2 => envelope.raw = reader.length(wire, "Raw")?,
                3 => drop(reader.length(wire, "ContentEncoding")?),
                4 => drop(reader.length(wire, "ContentType")?),
                _ => reader.skip(wire)?,
            }
        }
        Ok(envelope)
    }

    fn read_type_meta(&mut self, bytes: &[u8]) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.tag("TypeMeta")? {
            match number {
                1 => self.api_version = text(reader.length(wire, "APIVersion")?),
                2 => self.kind = text(reader.length(wire, "Kind")?),
                _ => reader.skip(wire)?,
            }
        }
        Ok(())
    }
}

/// Bytes that are no UTF-8 become what Go's JSON makes of them.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Wire {
    fn check(self, expected: Wire, field: &'static str) -> Result<(), ProtobufError> {
        if self == expected { Ok(()) } else { Err(ProtobufError::WrongWire { field, wire: self as u64 }) }
    }
}

#[cfg(test)]
mod tests;
