//! How one object of a resource is written: its shape in its encoding.
//!
//! Two clients that ask for the same form get the same bytes, which is what lets events be encoded
//! once for all watchers.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use sampan_api::object::{Object, ObjectRef};
use sampan_api::protobuf::{self, ObjectWriter};
use sampan_api::table::ResourceDef;
use sampan_api::{Status, printers};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::negotiate::{Accepted, Media, MetaVersion, Shape};
use crate::route::Query;

/// What a table's rows carry beside their cells (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Included {
    None,
    #[default]
    Metadata,
    Object,
}

impl Included {
    /// `includeObject` counts where a table is made, and nowhere else.
    pub fn of(accepted: Accepted, query: &Query) -> Result<Self, Status> {
        if !matches!(accepted.shape, Shape::Table(_)) {
            return Ok(Included::Metadata);
        }
        match query.get("includeObject") {
            None | Some("" | "Metadata") => Ok(Included::Metadata),
            Some("None") => Ok(Included::None),
            Some("Object") => Ok(Included::Object),
            Some(other) => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Unsupported value: {other:?}: \
                 supported values: \"Metadata\", \"None\", \"Object\", \"\""
            ))),
        }
    }
}

/// What tells two forms apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormKey {
    shape: Shape,
    protobuf: bool,
    included: Included,
}

impl FormKey {
    #[cfg(test)]
    pub fn json() -> Self {
        FormKey { shape: Shape::Object, protobuf: false, included: Included::Metadata }
    }

    #[cfg(test)]
    pub fn protobuf() -> Self {
        FormKey { protobuf: true, ..FormKey::json() }
    }

    /// Whether what is written in it depends on the time of writing.
    pub fn tells_ages(self) -> bool {
        matches!(self.shape, Shape::Table(_))
    }
}

/// Writes the objects of one resource in one form.
#[derive(Clone)]
pub struct Writer {
    def: Arc<ResourceDef>,
    shape: Shape,
    included: Included,
    protobuf: Option<ObjectWriter>,
}

impl Writer {
    /// YAML is made of JSON by whoever sends it.
    pub fn new(def: Arc<ResourceDef>, accepted: Accepted, included: Included) -> Result<Self, Status> {
        let protobuf = match (accepted.media, accepted.shape) {
            (Media::Json | Media::Yaml, _) | (Media::Protobuf, Shape::Table(_)) => None,
            (Media::Protobuf, Shape::Object) => Some(ObjectWriter::new(&def.gvr.api_version(), &def.kind)),
            (Media::Protobuf, Shape::Metadata(version) | Shape::MetadataList(version)) => {
                Some(ObjectWriter::new(version.api_version(), "PartialObjectMetadata"))
            }
        };
        let protobuf = protobuf.transpose().map_err(Status::internal)?;
        Ok(Writer { def, shape: accepted.shape, included, protobuf })
    }

    pub fn protobuf(&self) -> Option<&ObjectWriter> {
        self.protobuf.as_ref()
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    pub fn key(&self) -> FormKey {
        FormKey { shape: self.shape, protobuf: self.protobuf.is_some(), included: self.included }
    }

    /// One object by itself. Columns go with the first table of a watch only.
    pub fn object(&self, object: &ObjectRef, with_columns: bool) -> Result<Bytes, Status> {
        if let Some(writer) = &self.protobuf {
            return writer.enveloped(&object.bytes()).map(Bytes::from).map_err(Status::internal);
        }
        Ok(match self.shape {
            Shape::Object => object.bytes(),
            Shape::Metadata(version) | Shape::MetadataList(version) => metadata_only(object, version)?,
            Shape::Table(version) => {
                let metadata = json!({"resourceVersion": object.header.revision.to_string()});
                let mut bytes = self.table_head(version, &metadata, with_columns);
                self.row(object, version, &mut bytes)?;
                bytes.put_slice(b"]}");
                bytes.freeze()
            }
        })
    }

    /// The length of the whole objects in a list, in JSON.
    pub fn items_len(&self, objects: &[ObjectRef]) -> usize {
        let length = if self.def.custom { Object::len } else { Object::untyped_len };
        objects.iter().map(|object| length(object)).sum()
    }

    /// One object as an item of a list, or a row of a table, in JSON. Those of built-in kinds are without kind
    /// and version, as upstream's.
    pub fn item(&self, object: &ObjectRef, out: &mut BytesMut) -> Result<(), Status> {
        match self.shape {
            Shape::Object if self.def.custom => object.append_to(out),
            Shape::Object => object.append_untyped_to(out),
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                out.put_slice(&metadata_only(object, version)?);
            }
            Shape::Table(version) => self.row(object, version, out)?,
        }
        Ok(())
    }

    /// Version and kind of a list in this form.
    pub fn list_type(&self) -> (String, String) {
        match self.shape {
            Shape::Object => (self.def.gvr.api_version(), self.def.list_kind.to_string()),
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                (version.api_version().to_owned(), "PartialObjectMetadataList".to_owned())
            }
            Shape::Table(version) => (version.api_version().to_owned(), "Table".to_owned()),
        }
    }

    /// What goes before the items of a list, in JSON.
    pub fn list_head(&self, metadata: &Value) -> BytesMut {
        if let Shape::Table(version) = self.shape {
            return self.table_head(version, metadata, true);
        }
        let (version, kind) = self.list_type();
        let head =
            format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[");
        BytesMut::from(head.as_bytes())
    }

    fn table_head(&self, version: MetaVersion, metadata: &Value, with_columns: bool) -> BytesMut {
        let version = version.api_version();
        let columns = if with_columns { printers::columns(&self.def) } else { Value::Null };
        let head = format!(
            "{{\"kind\":\"Table\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\
             \"columnDefinitions\":{columns},\"rows\":["
        );
        BytesMut::from(head.as_bytes())
    }

    fn row(&self, object: &ObjectRef, version: MetaVersion, out: &mut BytesMut) -> Result<(), Status> {
        let value: Value = object.decode().map_err(Status::internal)?;
        let cells = Value::Array(printers::cells(&self.def, &value, Timestamp::now()));
        out.put_slice(format!("{{\"cells\":{cells},").as_bytes());
        if let Some(conditions) = printers::row_conditions(&self.def, &value) {
            out.put_slice(format!("\"conditions\":{conditions},").as_bytes());
        }
        out.put_slice(b"\"object\":");
        match self.included {
            Included::None => out.put_slice(b"null"),
            Included::Metadata => out.put_slice(&metadata_only(object, version)?),
            Included::Object => object.append_to(out),
        }
        out.put_u8(b'}');
        Ok(())
    }

    /// The object of a bookmark: nothing but a revision.
    pub fn bookmark(&self, revision: u64, ends_initial: bool, with_columns: bool) -> Result<Bytes, Status> {
        let revision = revision.to_string();
        let mut metadata = json!({"resourceVersion": &revision, "creationTimestamp": null});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (version, kind) = match self.shape {
            Shape::Object => (self.def.gvr.api_version(), self.def.kind.to_string()),
            Shape::Metadata(version) | Shape::MetadataList(version) => {
                (version.api_version().to_owned(), "PartialObjectMetadata".to_owned())
            }
            Shape::Table(version) => {
                return Ok(self.table_bookmark(version.api_version(), &revision, metadata, with_columns));
            }
        };
        let json = json!({"kind": kind, "apiVersion": version, "metadata": metadata}).to_string();
        match &self.protobuf {
            Some(writer) => writer.enveloped(json.as_bytes()).map(Bytes::from).map_err(Status::internal),
            None => Ok(json.into()),
        }
    }

    /// The one row is that of an object without anything in it.
    fn table_bookmark(&self, version: &str, revision: &str, metadata: Value, with_columns: bool) -> Bytes {
        let columns = if with_columns { printers::columns(&self.def) } else { Value::Null };
        let empty = json!({"metadata": metadata});
        let cells = printers::cells(&self.def, &empty, Timestamp::now());
        let object = match self.included {
            Included::None => Value::Null,
            Included::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata})
            }
            Included::Object => {
                let (version, kind) = (self.def.gvr.api_version(), &self.def.kind);
                json!({"kind": kind, "apiVersion": version, "metadata": metadata})
            }
        };
        let table = json!({"kind": "Table", "apiVersion": version, "metadata": {"resourceVersion": revision},
            "columnDefinitions": columns, "rows": [{"cells": cells, "object": object}]});
        table.to_string().into()
    }

    /// One event of a watch, ready to be sent.
    pub fn frame(&self, kind: &str, object: &[u8]) -> Bytes {
        if self.protobuf.is_some() {
            return protobuf::watch_event(kind, object).into();
        }
        let mut line = BytesMut::with_capacity(object.len() + 40);
        line.put_slice(b"{\"type\":\"");
        line.put_slice(kind.as_bytes());
        line.put_slice(b"\",\"object\":");
        line.put_slice(object);
        line.put_slice(b"}\n");
        line.freeze()
    }

    /// The event that ends a watch: what went wrong.
    pub fn error(&self, status: &Status) -> Bytes {
        let json = serde_json::to_value(status).unwrap_or_default();
        match (&self.protobuf, protobuf::encode("v1", "Status", &json)) {
            (Some(_), Ok(object)) => self.frame("ERROR", &object),
            (Some(_), Err(_)) | (None, _) => self.frame("ERROR", json.to_string().as_bytes()),
        }
    }
}

/// Only the metadata is looked at, and copied as it is.
#[derive(Deserialize)]
struct MetadataOnly<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// PartialObjectMetadata of an object.
fn metadata_only(object: &ObjectRef, version: MetaVersion) -> Result<Bytes, Status> {
    let json = object.bytes();
    let only: MetadataOnly<'_> = serde_json::from_slice(&json).map_err(Status::internal)?;
    let metadata = only.metadata.get();
    let mut bytes = BytesMut::with_capacity(metadata.len() + 96);
    bytes.put_slice(b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
    bytes.put_slice(version.api_version().as_bytes());
    bytes.put_slice(b"\",\"metadata\":");
    bytes.put_slice(metadata.as_bytes());
    bytes.put_u8(b'}');
    Ok(bytes.freeze())
}
