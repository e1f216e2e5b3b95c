//! From the bytes of JSON to a message, without a tree of values in between.
//!
//! JSON comes in the order of names, a message goes in the order of numbers: each field is written
//! where it is met, and the parts are put in order at the end of their message. What this makes is
//! byte by byte what [`super::encode`] makes of the same object.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::table::{Field, MessageId, Of, Shape, Table};
use super::wire::{Wire, put_bytes, put_tag, put_varint};
use super::{ProtobufError, encode};

/// Appends the fields of a message.
pub(super) fn message(
    table: &Table,
    id: MessageId,
    json: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ProtobufError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let mut pool = Pool { table, buffers: Vec::new() };
    Message { pool: &mut pool, id, out }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(|error| ProtobufError::Source(error.to_string()))
}

/// Buffers that were used and wait to be used again.
struct Pool<'t> {
    table: &'t Table,
    buffers: Vec<Vec<u8>>,
}

impl Pool<'_> {
    fn take(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    fn give(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.buffers.push(buffer);
    }
}

/// Where the parts of a message lie, one per field of its flat list; empty where it was not met.
type Parts = Vec<(u32, u32)>;

struct Message<'p, 't, 'o> {
    pool: &'p mut Pool<'t>,
    id: MessageId,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Message<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Message<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object for {}", self.pool.table.message(self.id).name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Message { pool, id, out } = self;
        let table = pool.table;
        let flat = table.flat(id);
        let mut parts: Parts = vec![(0, 0); flat.len()];
        let mut met = pool.take();
        while let Some(found) = map.next_key_seed(Name { table, id })? {
            let Some(at) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let start = met.len();
            map.next_value_seed(Put { pool, id, field: table.field(flat[at]), out: &mut met })?;
            parts[at] = (start as u32, met.len() as u32);
        }
        arrange(pool, id, &mut 0, &parts, &met, out);
        pool.give(met);
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        let flat = self.pool.table.flat(self.id);
        arrange(self.pool, self.id, &mut 0, &vec![(0, 0); flat.len()], &[], self.out);
        Ok(())
    }
}

/// Puts the parts of a message into the order of its fields, with what must be there in between.
fn arrange(pool: &mut Pool<'_>, id: MessageId, at: &mut usize, parts: &Parts, met: &[u8], out: &mut Vec<u8>) {
    let table = pool.table;
    for field in table.fields(id) {
        if let (true, Of::Message(inner)) = (field.name.is_empty(), field.of) {
            let mut content = pool.take();
            arrange(pool, inner, at, parts, met, &mut content);
            put_bytes(out, field.number, &content);
            pool.give(content);
            continue;
        }
        let (start, end) = parts[*at];
        *at += 1;
        match start == end {
            true => out.extend_from_slice(table.absent(field)),
            false => out.extend_from_slice(&met[start as usize..end as usize]),
        }
    }
}

/// Finds a field by its name in the JSON.
struct Name<'t> {
    table: &'t Table,
    id: MessageId,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.table.flat_index(self.id, name))
    }
}

/// Writes the value of one field with its tag; nothing where its absence stands for the value.
struct Put<'p, 't, 'o> {
    pool: &'p mut Pool<'t>,
    /// The message around it.
    id: MessageId,
    field: &'t Field,
    out: &'o mut Vec<u8>,
}

impl<'t> Put<'_, 't, '_> {
    fn mistyped<E: serde::de::Error>(&self) -> E {
        let (message, field) = (self.pool.table.message(self.id).name, self.field.name);
        E::custom(ProtobufError::Mistyped { message, field })
    }

    /// One value under a number that need not be the field's own.
    fn one<'s>(&'s mut self, number: u32) -> One<'s, 't> {
        One { pool: self.pool, id: self.id, field: self.field, number, out: self.out }
    }
}

impl<'de> DeserializeSeed<'de> for Put<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        let is_union = matches!(self.field.of, Of::Message(id) if self.pool.table.message(id).is_union);
        match self.field.shape {
            // Few kinds have these: they go the long way.
            Shape::Wrapped | Shape::MapOfWrapped => self.long_way(deserializer),
            _ if is_union => self.long_way(deserializer),
            Shape::Single if self.field.is_pointer || self.field.of == Of::Bytes => {
                deserializer.deserialize_option(self)
            }
            Shape::Single => self.one(self.field.number).deserialize(deserializer),
            Shape::Repeated | Shape::Map => deserializer.deserialize_any(self),
        }
    }
}

impl Put<'_, '_, '_> {
    fn long_way<'de, D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let value = <Value as serde::Deserialize>::deserialize(deserializer)?;
        encode::field(self.pool.table, self.id, self.field, &value, self.out).map_err(D::Error::custom)
    }
}

impl<'de> Visitor<'de> for Put<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}.{}", self.pool.table.message(self.id).name, self.field.name)
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        let number = self.field.number;
        self.one(number).deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        if self.field.shape != Shape::Repeated {
            return Err(self.mistyped());
        }
        let number = self.field.number;
        while items.next_element_seed(self.one(number))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        if self.field.shape != Shape::Map {
            return Err(self.mistyped());
        }
        let mut written: Vec<(String, Vec<u8>)> = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let mut entry = self.pool.take();
            put_bytes(&mut entry, 1, key.as_bytes());
            let Put { pool, id, field, .. } = &mut self;
            let one = One { pool, id: *id, field, number: 2, out: &mut entry };
            match field.of {
                Of::Bytes => drop(entries.next_value_seed(Optional(one))?),
                _ => entries.next_value_seed(one)?,
            }
            written.push((key, entry));
        }
        // Of two entries with one name the last one counts, as it does in a tree of values.
        written.sort_by(|a, b| a.0.cmp(&b.0));
        for (at, (key, entry)) in written.iter().enumerate() {
            if written.get(at + 1).is_none_or(|(next, _)| next != key) {
                put_bytes(self.out, self.field.number, entry);
            }
        }
        written.into_iter().for_each(|(_, entry)| self.pool.give(entry));
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        Err(self.mistyped())
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        Err(self.mistyped())
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        Err(self.mistyped())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.mistyped())
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(self.mistyped())
    }
}

/// A value whose null is not written.
struct Optional<'s, 't>(One<'s, 't>);

impl<'de> DeserializeSeed<'de> for Optional<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Optional<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.deserialize(deserializer)
    }
}

/// Writes one value with its tag; null is the type's zero.
struct One<'s, 't> {
    pool: &'s mut Pool<'t>,
    id: MessageId,
    field: &'t Field,
    number: u32,
    out: &'s mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for One<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.field.of {
            Of::Json => {
                let raw = <&RawValue as serde::Deserialize>::deserialize(deserializer)?.get();
                let mut content = self.pool.take();
                if raw != "null" {
                    put_bytes(&mut content, 1, raw.as_bytes());
                }
                put_bytes(self.out, self.number, &content);
                self.pool.give(content);
                Ok(())
            }
            Of::Message(inner) if !self.pool.table.message(inner).is_union => {
                let mut content = self.pool.take();
                Message { pool: self.pool, id: inner, out: &mut content }.deserialize(deserializer)?;
                put_bytes(self.out, self.number, &content);
                self.pool.give(content);
                Ok(())
            }
            Of::String
            | Of::Bytes
            | Of::Boolean
            | Of::Int32
            | Of::Int64
            | Of::Double
            | Of::Time
            | Of::MicroTime
            | Of::Quantity
            | Of::IntOrString
            | Of::Message(_) => deserializer.deserialize_any(self),
        }
    }
}

impl One<'_, '_> {
    /// What is rare goes the long way.
    fn scalar<E: serde::de::Error>(self, value: &Value) -> Result<(), E> {
        encode::scalar(self.pool.table, self.id, self.field, self.number, value, self.out).map_err(E::custom)
    }
}

impl<'de> Visitor<'de> for One<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}.{}", self.pool.table.message(self.id).name, self.field.name)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar(&Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        if self.field.of != Of::Boolean {
            return self.scalar(&Value::Bool(value));
        }
        put_tag(self.out, self.number, Wire::Varint);
        put_varint(self.out, u64::from(value));
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match self.field.of {
            Of::Int32 | Of::Int64 => {
                put_tag(self.out, self.number, Wire::Varint);
                put_varint(self.out, value as u64);
                Ok(())
            }
            _ => self.scalar(&value.into()),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.scalar(&value.into()),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.scalar(&value.into())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        match self.field.of {
            Of::String => put_bytes(self.out, self.number, text.as_bytes()),
            _ => return self.scalar(&Value::String(text.to_owned())),
        }
        Ok(())
    }
}
