//! From JSON to a message.
//!
//! Fields are written as Kubernetes' encoder writes them: by number, entries of maps by key, and
//! what cannot be absent (anything but pointers, lists and maps) also when it is zero.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::ProtobufError;
use super::decode::wire_of;
use super::table::{Field, MessageId, Of, Shape, Table};
use super::wire::{Wire, put_bytes, put_tag, put_varint};

/// Appends the fields of a message.
pub(super) fn message(
    table: &Table,
    id: MessageId,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), ProtobufError> {
    let encoder = Encoder { table, message: table.message(id).name };
    if table.message(id).is_union {
        return encoder.union(table.fields(id), value, out);
    }
    let empty = Map::new();
    let object = value.as_object().unwrap_or(&empty);
    for field in table.fields(id) {
        if field.name.is_empty() {
            encoder.write(field, value, out)?;
        } else {
            encoder.field(field, object.get(field.name).unwrap_or(&Value::Null), out)?;
        }
    }
    Ok(())
}

/// Appends the fields of a list of a kind: metadata and items.
pub(super) fn list(
    table: &Table,
    item: MessageId,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), ProtobufError> {
    let mut content = Vec::new();
    list_metadata(table, &value["metadata"], &mut content)?;
    put_bytes(out, 1, &content);
    for one in value["items"].as_array().into_iter().flatten() {
        content.clear();
        message(table, item, one, &mut content)?;
        put_bytes(out, 2, &content);
    }
    Ok(())
}

/// Appends the fields of a `ListMeta`.
pub(super) fn list_metadata(table: &Table, value: &Value, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
    let metadata = table.kind("v1", "ListMeta").expect("the compiled-in table has it (tested)");
    message(table, metadata, value, out)
}

/// Appends one field of a message; what it is when absent for null.
pub(super) fn field(
    table: &Table,
    message: MessageId,
    field: &Field,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), ProtobufError> {
    Encoder { table, message: table.message(message).name }.field(field, value, out)
}

/// Appends one value under a number.
pub(super) fn scalar(
    table: &Table,
    message: MessageId,
    field: &Field,
    number: u32,
    value: &Value,
    out: &mut Vec<u8>,
) -> Result<(), ProtobufError> {
    Encoder { table, message: table.message(message).name }.write_as(field, number, value, out)
}

struct Encoder<'a> {
    table: &'a Table,
    /// The message around the fields, for errors.
    message: &'static str,
}

impl Encoder<'_> {
    fn mistyped(&self, field: &Field) -> ProtobufError {
        ProtobufError::Mistyped { message: self.message, field: field.name }
    }

    fn field(&self, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        match field.shape {
            Shape::Single => match value {
                Value::Null if field.is_pointer || field.of == Of::Bytes => Ok(()),
                value => self.write(field, value, out),
            },
            Shape::Repeated => {
                for item in self.items(field, value)? {
                    self.write(field, item, out)?;
                }
                Ok(())
            }
            Shape::Wrapped => match value {
                Value::Null => Ok(()),
                value => self.wrapped(field, field.number, value, out),
            },
            Shape::Map | Shape::MapOfWrapped => self.map(field, value, out),
        }
    }

    fn items<'v>(&self, field: &Field, value: &'v Value) -> Result<&'v [Value], ProtobufError> {
        match value {
            Value::Null => Ok(&[]),
            Value::Array(items) => Ok(items),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                Err(self.mistyped(field))
            }
        }
    }

    fn wrapped(
        &self,
        field: &Field,
        number: u32,
        value: &Value,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtobufError> {
        let mut content = Vec::new();
        for item in self.items(field, value)? {
            self.write_as(field, 1, item, &mut content)?;
        }
        put_bytes(out, number, &content);
        Ok(())
    }

    fn map(&self, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        let entries = match value {
            Value::Null => return Ok(()),
            Value::Object(entries) => entries,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(self.mistyped(field));
            }
        };
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| key.as_str());
        for (key, value) in sorted {
            let mut entry = Vec::new();
            put_bytes(&mut entry, 1, key.as_bytes());
            match (field.shape, field.of) {
                (Shape::MapOfWrapped, _) => self.wrapped(field, 2, value, &mut entry)?,
                (_, Of::Bytes) if value.is_null() => {}
                _ => self.write_as(field, 2, value, &mut entry)?,
            }
            put_bytes(out, field.number, &entry);
        }
        Ok(())
    }

    fn write(&self, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        self.write_as(field, field.number, value, out)
    }

    /// Writes one value; null is the type's zero.
    fn write_as(
        &self,
        field: &Field,
        number: u32,
        value: &Value,
        out: &mut Vec<u8>,
    ) -> Result<(), ProtobufError> {
        let mistyped = || self.mistyped(field);
        match field.of {
            Of::Boolean | Of::Int32 | Of::Int64 => {
                let bits = match value {
                    Value::Null => 0,
                    Value::Bool(flag) if field.of == Of::Boolean => u64::from(*flag),
                    // Negative numbers are extended to 64 bits, also those of 32.
                    Value::Number(number) if field.of != Of::Boolean => {
                        number.as_i64().ok_or_else(mistyped)? as u64
                    }
                    _ => return Err(mistyped()),
                };
                put_tag(out, number, Wire::Varint);
                put_varint(out, bits);
            }
            Of::Double => {
                let float = if value.is_null() { 0.0 } else { value.as_f64().ok_or_else(mistyped)? };
                put_tag(out, number, wire_of(field.of));
                out.extend_from_slice(&float.to_bits().to_le_bytes());
            }
            Of::String => put_bytes(out, number, self.text(field, value)?.as_bytes()),
            Of::Bytes => {
                let bytes = STANDARD.decode(self.text(field, value)?).map_err(|_| mistyped())?;
                put_bytes(out, number, &bytes);
            }
            Of::Time | Of::MicroTime => put_bytes(out, number, &self.time(field, value)?),
            Of::Quantity => {
                let mut content = Vec::new();
                let text = match value {
                    Value::Number(number) => number.to_string(),
                    value => self.text(field, value)?.to_owned(),
                };
                put_bytes(&mut content, 1, if text.is_empty() { b"0" } else { text.as_bytes() });
                put_bytes(out, number, &content);
            }
            Of::IntOrString => put_bytes(out, number, &self.int_or_string(field, value)?),
            Of::Json => {
                let mut content = Vec::new();
                if !value.is_null() {
                    put_bytes(&mut content, 1, value.to_string().as_bytes());
                }
                put_bytes(out, number, &content);
            }
            Of::Message(id) => {
                let is_free = self.table.message(id).is_union;
                if !(value.is_object() || value.is_null() || is_free) {
                    return Err(mistyped());
                }
                let mut content = Vec::new();
                message(self.table, id, value, &mut content)?;
                put_bytes(out, number, &content);
            }
        }
        Ok(())
    }

    fn text<'v>(&self, field: &Field, value: &'v Value) -> Result<&'v str, ProtobufError> {
        match value {
            Value::Null => Ok(""),
            value => value.as_str().ok_or_else(|| self.mistyped(field)),
        }
    }

    fn time(&self, field: &Field, value: &Value) -> Result<Vec<u8>, ProtobufError> {
        let mut content = Vec::new();
        if value.is_null() {
            return Ok(content);
        }
        let time: Timestamp = self.text(field, value)?.parse().map_err(|_| self.mistyped(field))?;
        let micros = time.as_microsecond();
        put_tag(&mut content, 1, Wire::Varint);
        put_varint(&mut content, micros.div_euclid(1_000_000) as u64);
        let nanos = if field.of == Of::MicroTime { micros.rem_euclid(1_000_000) * 1000 } else { 0 };
        put_tag(&mut content, 2, Wire::Varint);
        put_varint(&mut content, nanos as u64);
        Ok(content)
    }

    fn int_or_string(&self, field: &Field, value: &Value) -> Result<Vec<u8>, ProtobufError> {
        let (kind, number, text) = match value {
            Value::Null => (0, 0, ""),
            Value::Number(number) => (0, number.as_i64().ok_or_else(|| self.mistyped(field))?, ""),
            Value::String(text) => (1, 0, text.as_str()),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err(self.mistyped(field)),
        };
        let mut content = Vec::new();
        put_tag(&mut content, 1, Wire::Varint);
        put_varint(&mut content, kind);
        put_tag(&mut content, 2, Wire::Varint);
        put_varint(&mut content, number as u64);
        put_bytes(&mut content, 3, text.as_bytes());
        Ok(content)
    }

    /// A value goes into the field whose type it has; a boolean field beside a message says that
    /// there is something.
    fn union(&self, fields: &[Field], value: &Value, out: &mut Vec<u8>) -> Result<(), ProtobufError> {
        for field in fields {
            match (field.shape, field.of, value) {
                (Shape::Single, Of::Boolean, Value::Object(_)) => {
                    self.write(field, &Value::Bool(true), out)?;
                }
                (Shape::Single, Of::Boolean, value) => self.write(field, value, out)?,
                (Shape::Single, _, Value::Object(_)) | (Shape::Repeated, _, Value::Array(_)) => {
                    self.field(field, value, out)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
