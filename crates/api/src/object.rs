//! An object as the system holds it: its JSON bytes and the small header that decisions need.
//!
//! The bytes are what clients receive; nothing is encoded again on the way out. The header is
//! parsed once, when an object enters the process, and answers selectors, owner look-ups and keys
//! without touching the JSON. Bytes that nobody has asked for in a while may be packed, which
//! nobody notices: see [`packed`].

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::RwLock;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

pub mod packed;

use packed::{Dictionary, Packed};

/// One API object at one revision. Shared, never changed.
pub struct Object {
    pub header: Header,
    /// The whole object as JSON, with `metadata.resourceVersion` set to the header's revision.
    json: RwLock<Json>,
}

/// The same bytes, as they are or packed.
enum Json {
    Plain(Bytes),
    Packed(Packed),
}

/// What decisions need of an object without its JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub name: Box<str>,
    /// Empty for objects of the cluster.
    pub namespace: Box<str>,
    pub uid: Box<str>,
    /// `metadata.resourceVersion`: the store's revision of the last write to this object; 0 when
    /// it was never stored.
    pub revision: u64,
    /// `metadata.generation`; 0 when absent.
    pub generation: i64,
    /// Sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// RFC 3339, as in the JSON; empty when absent.
    pub creation_timestamp: Box<str>,
    /// RFC 3339, as in the JSON; absent unless the object is being deleted.
    pub deletion_timestamp: Option<Box<str>>,
    pub finalizers: Box<[Box<str>]>,
    pub owners: Box<[OwnerReference]>,
    /// Values of the resource's selectable fields beyond `metadata.name` and
    /// `metadata.namespace`, in the order of the resource table's list. Set by the cache; empty
    /// for objects that did not come from one.
    pub fields: Box<[Box<str>]>,
}

/// `metadata.ownerReferences[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    pub api_version: Box<str>,
    pub kind: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

/// Bytes that are not an API object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("not a JSON object with metadata")]
    Decode(#[source] serde_json::Error),
    #[error("metadata.resourceVersion {0:?} is not a number")]
    Revision(String),
}

impl Object {
    /// An object of a header and the JSON that it was read from.
    pub fn new(header: Header, json: Bytes) -> Self {
        Object { header, json: RwLock::new(Json::Plain(json)) }
    }

    /// Reads the header of an object's JSON.
    pub fn parse(json: Bytes) -> Result<Self, ObjectError> {
        Ok(Object::new(Header::parse(&json)?, json))
    }

    /// The whole object as JSON. A pointer copy, unless the bytes are packed.
    pub fn bytes(&self) -> Bytes {
        match &*self.json.read() {
            Json::Plain(bytes) => bytes.clone(),
            Json::Packed(packed) => packed.unpack(),
        }
    }

    /// The length of the JSON.
    pub fn len(&self) -> usize {
        match &*self.json.read() {
            Json::Plain(bytes) => bytes.len(),
            Json::Packed(packed) => packed.len(),
        }
    }

    /// Whether there is no JSON, as of no object that was ever read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the JSON to a buffer: of packed bytes the only copy.
    pub fn append_to(&self, buffer: &mut BytesMut) {
        match &*self.json.read() {
            Json::Plain(bytes) => buffer.extend_from_slice(bytes),
            Json::Packed(packed) => packed.unpack_into(buffer),
        }
    }

    /// The length of what [`Object::append_untyped_to`] appends.
    pub fn untyped_len(&self) -> usize {
        match &*self.json.read() {
            Json::Plain(bytes) => bytes.len() - type_len(bytes),
            Json::Packed(packed) => packed.len() - packed.type_len(),
        }
    }

    /// Appends the JSON without kind and version: an item of a list, whose kind says them. They stay where
    /// the object does not begin with them, as all that this program stores does.
    pub fn append_untyped_to(&self, buffer: &mut BytesMut) {
        match &*self.json.read() {
            Json::Plain(bytes) => match type_len(bytes) {
                0 => buffer.extend_from_slice(bytes),
                length => {
                    buffer.extend_from_slice(b"{");
                    buffer.extend_from_slice(&bytes[1 + length..]);
                }
            },
            Json::Packed(packed) => packed.unpack_untyped_into(buffer),
        }
    }

    /// Packs the bytes where that makes them smaller. Answers the bytes of memory that it saved.
    pub fn pack(&self, dictionary: &Arc<Dictionary>) -> usize {
        let bytes = match &*self.json.read() {
            Json::Plain(bytes) => bytes.clone(),
            Json::Packed(_) => return 0,
        };
        let Some(packed) = Packed::new(&bytes, dictionary) else { return 0 };
        let saved = bytes.len() - packed.packed_len();
        *self.json.write() = Json::Packed(packed);
        saved
    }

    /// Decodes the whole object into a typed view.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        match &*self.json.read() {
            Json::Plain(bytes) => serde_json::from_slice(bytes),
            Json::Packed(packed) => serde_json::from_slice(&packed.unpack()),
        }
    }

    /// `namespace/name`, or `name` for objects of the cluster.
    pub fn key(&self) -> String {
        self.header.key()
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({} @{}, {} bytes)", self.key(), self.header.revision, self.len())
    }
}

/// How many bytes kind and version take behind the opening brace, with the commas behind them.
fn type_len(json: &[u8]) -> usize {
    fn value(text: &[u8]) -> Option<&[u8]> {
        let end = text.iter().position(|&byte| matches!(byte, b'"' | b'\\'))?;
        text[end..].strip_prefix(b"\",")
    }
    let rest = json.strip_prefix(b"{\"kind\":\"").and_then(value);
    let rest = rest.and_then(|rest| rest.strip_prefix(b"\"apiVersion\":\"")).and_then(value);
    rest.map_or(0, |rest| json.len() - 1 - rest.len())
}

/// The shape that [`Header::parse`] reads; everything else is skipped without allocation.
#[derive(Deserialize)]
struct RawObject<'a> {
    #[serde(borrow, default)]
    metadata: Braced<RawMetadata<'a>>,
}

/// A structure that stands in braces: serde would also read an array of its fields.
#[derive(Default)]
struct Braced<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Braced<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Braced<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Braced<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(entries)).map(Braced)
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawMetadata<'a> {
    name: Option<Box<str>>,
    namespace: Option<Box<str>>,
    uid: Option<Box<str>>,
    #[serde(borrow)]
    resource_version: Option<std::borrow::Cow<'a, str>>,
    generation: Option<i64>,
    labels: Option<std::collections::BTreeMap<Box<str>, Box<str>>>,
    creation_timestamp: Option<Box<str>>,
    deletion_timestamp: Option<Box<str>>,
    finalizers: Option<Vec<Box<str>>>,
    owner_references: Option<Vec<Braced<RawOwnerReference>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawOwnerReference {
    api_version: Option<Box<str>>,
    kind: Option<Box<str>>,
    name: Option<Box<str>>,
    uid: Option<Box<str>>,
    controller: Option<bool>,
    block_owner_deletion: Option<bool>,
}

impl Header {
    /// Reads the header out of an object's JSON.
    pub fn parse(json: &[u8]) -> Result<Self, ObjectError> {
        let Braced(raw): Braced<RawObject<'_>> = serde_json::from_slice(json).map_err(ObjectError::Decode)?;
        let Braced(metadata) = raw.metadata;
        let revision = match metadata.resource_version.as_deref() {
            None | Some("") => 0,
            Some(text) => text.parse().map_err(|_| ObjectError::Revision(text.to_owned()))?,
        };
        let owners =
            metadata.owner_references.unwrap_or_default().into_iter().map(|Braced(owner)| OwnerReference {
                api_version: owner.api_version.unwrap_or_default(),
                kind: owner.kind.unwrap_or_default(),
                name: owner.name.unwrap_or_default(),
                uid: owner.uid.unwrap_or_default(),
                controller: owner.controller.unwrap_or_default(),
                block_owner_deletion: owner.block_owner_deletion.unwrap_or_default(),
            });
        Ok(Header {
            name: metadata.name.unwrap_or_default(),
            namespace: metadata.namespace.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            revision,
            generation: metadata.generation.unwrap_or_default(),
            labels: metadata.labels.unwrap_or_default().into_iter().collect(),
            creation_timestamp: metadata.creation_timestamp.unwrap_or_default(),
            deletion_timestamp: metadata.deletion_timestamp,
            finalizers: metadata.finalizers.unwrap_or_default().into(),
            owners: owners.collect(),
            fields: Box::default(),
        })
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let at = self.labels.binary_search_by(|(candidate, _)| candidate.as_ref().cmp(key)).ok()?;
        Some(&self.labels[at].1)
    }

    /// The owner that controls this object (at most one may).
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owners.iter().find(|owner| owner.controller)
    }

    /// Whether deletion was asked for and waits for grace or finalizers.
    pub fn is_terminating(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// `namespace/name`, or `name` for objects of the cluster.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() {
            self.name.to_string()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

/// What most readers hold: an object that the cache, watchers and informers share.
pub type ObjectRef = Arc<Object>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_reads_what_decisions_need() {
        let json = br#"{"kind":"Pod","metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"7",
            "generation":2,"labels":{"z":"1","b":"2"},"creationTimestamp":null,
            "ownerReferences":[{"kind":"ReplicaSet","name":"r","uid":"x","apiVersion":"apps/v1","controller":true}]},
            "spec":{"containers":[{"name":"c"}]}}"#;
        let header = Header::parse(json).expect("a valid object");
        assert_eq!(header.key(), "n/a");
        assert_eq!(header.revision, 7);
        assert_eq!(header.label("b"), Some("2"));
        assert_eq!(header.label("c"), None);
        assert_eq!(header.controller().map(|owner| owner.uid.as_ref()), Some("x"));
        assert!(!header.is_terminating());
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for json in [
            &b"[]"[..],
            b"{\"metadata\":[]}",
            b"{\"metadata\":{\"ownerReferences\":[[]]}}",
            b"{\"metadata\":{\"resourceVersion\":\"x\"}}",
            b"",
            b"{",
        ] {
            assert!(Header::parse(json).is_err(), "{json:?}");
        }
    }

    #[test]
    fn an_item_of_a_list_leaves_out_what_the_list_says() {
        for (json, expected) in [
            (r#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#, r#"{"metadata":{}}"#),
            (r#"{"kind":"Role","apiVersion":"a.b/v1","x":1}"#, r#"{"x":1}"#),
            // Nothing that this program writes, and nothing that may be damaged.
            (r#"{"apiVersion":"v1","kind":"Pod","x":1}"#, r#"{"apiVersion":"v1","kind":"Pod","x":1}"#),
            (r#"{"kind":"Pod","apiVersion":"v1"}"#, r#"{"kind":"Pod","apiVersion":"v1"}"#),
            (r#"{"kind":"a\",","apiVersion":"v1","x":1}"#, r#"{"kind":"a\",","apiVersion":"v1","x":1}"#),
            ("{}", "{}"),
        ] {
            let object = Object::new(Header::default(), json.as_bytes().to_vec().into());
            let mut buffer = BytesMut::new();
            object.append_untyped_to(&mut buffer);
            assert_eq!((buffer, object.untyped_len()), (expected.into(), expected.len()), "{json}");
        }
    }
}
