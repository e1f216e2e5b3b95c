//! Answers made piece by piece: objects one at a time, lists around them, events of a watch.

use serde_json::Value;

use super::table::{MessageId, Table};
use super::wire::{Wire, put_bytes, put_tag, put_varint};
use super::{MAGIC, ProtobufError, encode, transcode, unregistered};

/// What follows the object in an envelope: no content encoding, no content type.
const ENVELOPE_TAIL: [u8; 4] = [0x1a, 0, 0x22, 0];

/// Writes objects of one version and kind.
#[derive(Clone)]
pub struct ObjectWriter {
    api_version: Box<str>,
    kind: Box<str>,
    id: MessageId,
}

impl ObjectWriter {
    pub fn new(api_version: &str, kind: &str) -> Result<Self, ProtobufError> {
        let id = Table::builtin().kind(api_version, kind).ok_or_else(|| unregistered(api_version, kind))?;
        Ok(ObjectWriter { api_version: api_version.into(), kind: kind.into(), id })
    }

    /// Appends the message of an object's JSON, without an envelope.
    pub fn append(&self, json: &[u8], out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        transcode::message(Table::builtin(), self.id, json, out)
    }

    /// The message of an object's JSON in its envelope.
    pub fn enveloped(&self, json: &[u8]) -> Result<Vec<u8>, ProtobufError> {
        let mut raw = Vec::with_capacity(json.len());
        self.append(json, &mut raw)?;
        Ok(envelope(&self.api_version, &self.kind, &raw))
    }
}

/// Writes the list of some objects, in the order head, items, tail.
pub struct ListWriter {
    api_version: String,
    kind: String,
    metadata: Vec<u8>,
    items_field: u32,
}

impl ListWriter {
    /// `metadata` is a `ListMeta`.
    pub fn new(api_version: &str, kind: &str, metadata: &Value) -> Result<Self, ProtobufError> {
        // The one list whose fields are numbered the other way round.
        let (metadata_field, items_field) = match api_version {
            "meta.k8s.io/v1beta1" => (2, 1),
            _ => (1, 2),
        };
        let mut content = Vec::new();
        encode::list_metadata(Table::builtin(), metadata, &mut content)?;
        let mut framed = Vec::new();
        put_bytes(&mut framed, metadata_field, &content);
        Ok(ListWriter {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            metadata: framed,
            items_field,
        })
    }

    /// The length of an item whose message has a length.
    pub fn item_length(&self, message: usize) -> usize {
        let mut head = Vec::new();
        self.item_head(message, &mut head);
        head.len() + message
    }

    /// What goes before the message of an item.
    pub fn item_head(&self, message: usize, out: &mut Vec<u8>) {
        put_tag(out, self.items_field, Wire::Length);
        put_varint(out, message as u64);
    }

    /// What goes before and after items that have a length together.
    pub fn ends(&self, items: usize) -> (Vec<u8>, [u8; 4]) {
        let (mut head, tail) = envelope_ends(&self.api_version, &self.kind, self.metadata.len() + items);
        head.extend_from_slice(&self.metadata);
        (head, tail)
    }
}

/// What goes before and after an object whose message has a length.
pub fn envelope_ends(api_version: &str, kind: &str, message: usize) -> (Vec<u8>, [u8; 4]) {
    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, api_version.as_bytes());
    put_bytes(&mut type_meta, 2, kind.as_bytes());
    let mut head = MAGIC.to_vec();
    put_bytes(&mut head, 1, &type_meta);
    put_tag(&mut head, 2, Wire::Length);
    put_varint(&mut head, message as u64);
    (head, ENVELOPE_TAIL)
}

/// A message in its envelope.
pub fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let (mut out, tail) = envelope_ends(api_version, kind, message.len());
    out.reserve_exact(message.len() + tail.len());
    out.extend_from_slice(message);
    out.extend_from_slice(&tail);
    out
}

/// One event of a watch: four bytes of length, then `meta.v1.WatchEvent` without an envelope around
/// the enveloped object.
pub fn watch_event(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(object.len() + 8);
    put_bytes(&mut raw, 1, object);
    let mut out = Vec::with_capacity(object.len() + 32);
    out.extend_from_slice(&[0; 4]);
    put_bytes(&mut out, 1, kind.as_bytes());
    put_bytes(&mut out, 2, &raw);
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}
