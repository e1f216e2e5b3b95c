//! The bodies of lists.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_api::protobuf::{ListWriter, ObjectWriter};
use serde_json::{Value, json};

use super::body::{PIECE, Pieces};
use super::form::Writer;
use super::negotiate::Shape;
use crate::registry::Page;

/// Lists with less JSON than this are encoded once and kept until they are sent; longer ones are
/// encoded twice, first only to learn the lengths that protobuf wants to know before.
const KEPT: usize = 32 << 20;

/// `ListMeta` of a page.
fn metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(token) = &page.continue_token {
        metadata["continue"] = token.clone().into();
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

/// A page in JSON.
pub struct JsonList {
    writer: Writer,
    head: Option<BytesMut>,
    items: std::vec::IntoIter<ObjectRef>,
    at: usize,
    length: Option<u64>,
}

impl JsonList {
    pub fn new(writer: Writer, page: Page) -> Self {
        let head = writer.list_head(&metadata(&page));
        let commas = page.items.len().saturating_sub(1);
        let length = (writer.shape() == Shape::Object)
            .then(|| (head.len() + writer.items_len(&page.items) + commas + END.len()) as u64);
        JsonList { writer, head: Some(head), items: page.items.into_iter(), at: 0, length }
    }
}

const END: &[u8] = b"]}\n";

impl Pieces for JsonList {
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        let mut piece = match self.head.take() {
            Some(head) => head,
            None if self.at == usize::MAX => return None,
            None => BytesMut::with_capacity(PIECE + (PIECE >> 2)),
        };
        while piece.len() < PIECE {
            let Some(item) = self.items.next() else {
                self.at = usize::MAX;
                piece.put_slice(END);
                break;
            };
            if self.at > 0 {
                piece.put_u8(b',');
            }
            self.at += 1;
            if let Err(status) = self.writer.item(&item, &mut piece) {
                return Some(Err(io::Error::other(status)));
            }
        }
        Some(Ok(piece.freeze()))
    }

    fn length(&self) -> Option<u64> {
        self.length
    }
}

/// A page in protobuf.
pub struct ProtobufList {
    writer: ObjectWriter,
    list: ListWriter,
    head: Option<Vec<u8>>,
    tail: Option<[u8; 4]>,
    items: std::vec::IntoIter<ObjectRef>,
    /// The items' messages, where they were kept.
    kept: Option<Bytes>,
    length: u64,
}

impl ProtobufList {
    /// Encodes every item: the caller keeps this away from other requests when there are many.
    pub fn new(writer: &Writer, object: ObjectWriter, page: Page) -> Result<Self, Status> {
        let (version, kind) = writer.list_type();
        let list = ListWriter::new(&version, &kind, &metadata(&page)).map_err(Status::internal)?;
        let source: usize = page.items.iter().map(|item| item.len()).sum();
        let keep = source <= KEPT;
        let (mut kept, mut length, mut message) = (Vec::new(), 0, Vec::new());
        for item in &page.items {
            message.clear();
            object.append(&item.bytes(), &mut message).map_err(Status::internal)?;
            if keep {
                list.item_head(message.len(), &mut kept);
                kept.extend_from_slice(&message);
            } else {
                length += list.item_length(message.len());
            }
        }
        let (head, tail) = list.ends(if keep { kept.len() } else { length });
        let total = (head.len() + if keep { kept.len() } else { length } + tail.len()) as u64;
        Ok(ProtobufList {
            writer: object,
            list,
            head: Some(head),
            tail: Some(tail),
            items: if keep { Vec::new().into_iter() } else { page.items.into_iter() },
            kept: keep.then(|| kept.into()),
            length: total,
        })
    }
}

impl Pieces for ProtobufList {
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(head) = self.head.take() {
            return Some(Ok(head.into()));
        }
        if let Some(kept) = self.kept.take() {
            return Some(Ok(kept));
        }
        let (mut piece, mut message) = (Vec::with_capacity(PIECE), Vec::new());
        while piece.len() < PIECE {
            let Some(item) = self.items.next() else { break };
            message.clear();
            if let Err(error) = self.writer.append(&item.bytes(), &mut message) {
                return Some(Err(io::Error::other(error)));
            }
            self.list.item_head(message.len(), &mut piece);
            piece.extend_from_slice(&message);
        }
        if piece.is_empty() {
            return self.tail.take().map(|tail| Ok(Bytes::copy_from_slice(&tail)));
        }
        Some(Ok(piece.into()))
    }

    fn length(&self) -> Option<u64> {
        Some(self.length)
    }
}
