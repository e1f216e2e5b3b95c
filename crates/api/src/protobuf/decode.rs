//! From a message to JSON.
//!
//! A message is read in two steps: its bytes into one slot per field (a field may come in several
//! parts, in any order), then the slots into JSON, field by field, so that what must be there is.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::table::{Field, MessageId, Of, Shape, Table};
use super::wire::{Reader, Wire};
use super::{Limits, ProtobufError, text};
use crate::quantity::Quantity;
use crate::schema;

/// Reads messages within one budget.
pub(super) struct Decoder<'a> {
    table: &'a Table,
    limits: &'a Limits,
    /// Values that may still be made.
    values_left: usize,
    /// Bytes that may still be copied to join the parts of split messages.
    joins_left: usize,
}

/// What was read of one field so far.
enum Slot<'m> {
    Empty,
    One(Payload<'m>),
    Items(Vec<Value>),
    Entries(Map<String, Value>),
}

/// One value as it lies on the wire.
#[derive(Clone)]
enum Payload<'m> {
    Number(u64),
    Bytes(Cow<'m, [u8]>),
}

impl Payload<'_> {
    fn zero(of: Of) -> Self {
        match wire_of(of) {
            Wire::Length => Payload::Bytes(Cow::Borrowed(&[])),
            Wire::Varint | Wire::Fixed64 | Wire::Fixed32 | Wire::StartGroup | Wire::EndGroup => {
                Payload::Number(0)
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Bytes(bytes) => bytes,
            Payload::Number(_) => &[],
        }
    }

    fn number(&self) -> u64 {
        match self {
            Payload::Number(number) => *number,
            Payload::Bytes(_) => 0,
        }
    }

    fn is_zero(&self) -> bool {
        self.bytes().is_empty() && self.number() == 0
    }
}

pub(super) fn wire_of(of: Of) -> Wire {
    match of {
        Of::Boolean | Of::Int32 | Of::Int64 => Wire::Varint,
        Of::Double => Wire::Fixed64,
        Of::String
        | Of::Bytes
        | Of::Time
        | Of::MicroTime
        | Of::Quantity
        | Of::IntOrString
        | Of::Json
        | Of::Message(_) => Wire::Length,
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn new(table: &'a Table, limits: &'a Limits, length: usize) -> Self {
        Decoder { table, limits, values_left: limits.values, joins_left: length }
    }

    /// The JSON of a message that stands at a depth; 1 is the object itself.
    pub(super) fn message(
        &mut self,
        id: MessageId,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Map<String, Value>, ProtobufError> {
        let mut out = Map::new();
        self.message_into(id, bytes, depth, &mut out)?;
        Ok(out)
    }

    /// The JSON of a list: its metadata and its items.
    pub(super) fn list(
        &mut self,
        item: MessageId,
        bytes: &[u8],
    ) -> Result<Map<String, Value>, ProtobufError> {
        let metadata = self.table.kind("v1", "ListMeta").expect("the compiled-in table has it (tested)");
        let (mut out, mut items) = (Map::new(), Vec::new());
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.tag("List")? {
            match number {
                1 => {
                    let part = reader.length(wire, "metadata")?;
                    out.insert("metadata".to_owned(), Value::Object(self.message(metadata, part, 2)?));
                }
                2 => {
                    let part = reader.length(wire, "items")?;
                    items.push(Value::Object(self.message(item, part, 2)?));
                }
                _ => reader.skip(wire)?,
            }
        }
        out.insert("items".to_owned(), Value::Array(items));
        Ok(out)
    }

    fn message_into(
        &mut self,
        id: MessageId,
        bytes: &[u8],
        depth: usize,
        out: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        let table = self.table;
        for (field, slot) in table.fields(id).iter().zip(self.read(id, bytes, depth)?) {
            if let (true, Of::Message(inner)) = (field.name.is_empty(), field.of) {
                let payload = slot.one().unwrap_or_else(|| Payload::zero(field.of));
                self.message_into(inner, payload.bytes(), depth, out)?;
            } else if let Some(value) = self.field(field, slot, depth)? {
                out.insert(field.name.to_owned(), value);
            }
        }
        Ok(())
    }

    /// The value of a message that is the value of its second field, or else of its first.
    fn union(&mut self, id: MessageId, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        let table = self.table;
        let slots = self.read(id, bytes, depth)?;
        let mut value = Value::Null;
        for (field, slot) in table.fields(id).iter().zip(slots) {
            let is_set = !matches!(slot, Slot::Empty);
            if is_set || matches!(field.of, Of::Boolean) {
                let payload = slot.one_or_items();
                value = match payload {
                    Ok(payload) => {
                        let payload = payload.unwrap_or_else(|| Payload::zero(field.of));
                        // It takes its message's place, not one inside.
                        self.value(field, &payload, depth - 1)?
                    }
                    Err(items) if items.is_empty() => value,
                    Err(items) => Value::Array(items),
                };
            }
        }
        Ok(value)
    }

    fn charge(&mut self) -> Result<(), ProtobufError> {
        self.values_left =
            self.values_left.checked_sub(1).ok_or(ProtobufError::TooMany { limit: self.limits.values })?;
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> Result<(), ProtobufError> {
        if depth > self.limits.depth { Err(ProtobufError::Depth) } else { Ok(()) }
    }

    fn read<'m>(
        &mut self,
        id: MessageId,
        bytes: &'m [u8],
        depth: usize,
    ) -> Result<Vec<Slot<'m>>, ProtobufError> {
        self.check_depth(depth)?;
        let table = self.table;
        let name = table.message(id).name;
        let fields = table.fields(id);
        let mut slots: Vec<Slot<'m>> = fields.iter().map(|_| Slot::Empty).collect();
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.tag(name)? {
            match fields.binary_search_by_key(&number, |field| field.number) {
                Ok(at) => self.take(&fields[at], &mut slots[at], wire, &mut reader, depth)?,
                Err(_) => reader.skip(wire)?,
            }
        }
        Ok(slots)
    }

    /// Adds the next part of a field to its slot.
    fn take<'m>(
        &mut self,
        field: &'a Field,
        slot: &mut Slot<'m>,
        wire: Wire,
        reader: &mut Reader<'m>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        match field.shape {
            Shape::Single => {
                let part = payload(field, wire, reader)?;
                self.join(field, slot, part)
            }
            Shape::Repeated => {
                let items = slot.items();
                if wire == Wire::Length && wire_of(field.of) != Wire::Length {
                    return self.packed(field, items, reader.length(wire, field.name)?, depth);
                }
                let part = payload(field, wire, reader)?;
                items.push(self.value(field, &part, depth + 1)?);
                Ok(())
            }
            Shape::Wrapped => self.wrapped(field, slot.items(), reader.length(wire, field.name)?, depth + 1),
            Shape::Map | Shape::MapOfWrapped => {
                let (key, value) = self.entry(field, reader.length(wire, field.name)?, depth + 1)?;
                slot.entries().insert(key, value);
                Ok(())
            }
        }
    }

    /// The last scalar wins; the parts of a message are one message.
    fn join<'m>(
        &mut self,
        field: &Field,
        slot: &mut Slot<'m>,
        part: Payload<'m>,
    ) -> Result<(), ProtobufError> {
        match (&mut *slot, part) {
            (Slot::One(Payload::Bytes(before)), Payload::Bytes(part))
                if !matches!(field.of, Of::String | Of::Bytes) =>
            {
                let cost = before.len() + part.len();
                let limit = self.limits.bytes;
                self.joins_left =
                    self.joins_left.checked_sub(cost).ok_or(ProtobufError::TooLarge { limit })?;
                before.to_mut().extend_from_slice(&part);
            }
            (_, part) => *slot = Slot::One(part),
        }
        Ok(())
    }

    fn packed(
        &mut self,
        field: &'a Field,
        items: &mut Vec<Value>,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let part = payload(field, wire_of(field.of), &mut reader)?;
            items.push(self.value(field, &part, depth + 1)?);
        }
        Ok(())
    }

    /// The items of a message whose field 1 repeats.
    fn wrapped(
        &mut self,
        field: &'a Field,
        items: &mut Vec<Value>,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.tag(field.name)? {
            if number == 1 {
                let part = payload(field, wire, &mut reader)?;
                items.push(self.value(field, &part, depth + 1)?);
            } else {
                reader.skip(wire)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        field: &'a Field,
        bytes: &[u8],
        depth: usize,
    ) -> Result<(String, Value), ProtobufError> {
        let mut key: &[u8] = &[];
        let mut part = None;
        let mut reader = Reader::new(bytes);
        let expected = match field.shape {
            Shape::MapOfWrapped => Wire::Length,
            Shape::Map | Shape::Single | Shape::Repeated | Shape::Wrapped => wire_of(field.of),
        };
        while let Some((number, wire)) = reader.tag(field.name)? {
            match number {
                1 => key = reader.length(wire, field.name)?,
                2 => {
                    wire.check(expected, field.name)?;
                    part = Some(payload_on(expected, &mut reader)?);
                }
                _ => reader.skip(wire)?,
            }
        }
        self.charge()?;
        let value = if field.shape == Shape::MapOfWrapped {
            let mut items = Vec::new();
            self.check_depth(depth)?;
            if let Some(part) = part {
                self.wrapped(field, &mut items, part.bytes(), depth)?;
            }
            Value::Array(items)
        } else {
            let part = part.unwrap_or_else(|| Payload::zero(field.of));
            self.value(field, &part, depth)?
        };
        Ok((text(key), value))
    }

    /// What stands in the JSON for a field of the message at `depth`.
    fn field(
        &mut self,
        field: &'a Field,
        slot: Slot<'_>,
        depth: usize,
    ) -> Result<Option<Value>, ProtobufError> {
        let null = || field.always.then_some(Value::Null);
        match (field.shape, slot) {
            (Shape::Single, slot) => self.single(field, slot, depth),
            (_, Slot::Items(items)) => {
                self.check_depth(depth + 1)?;
                Ok((field.always || !items.is_empty()).then_some(Value::Array(items)))
            }
            (_, Slot::Entries(entries)) => {
                self.check_depth(depth + 1)?;
                Ok(Some(Value::Object(entries)))
            }
            (_, Slot::Empty | Slot::One(_)) => Ok(null()),
        }
    }

    fn single(
        &mut self,
        field: &'a Field,
        slot: Slot<'_>,
        depth: usize,
    ) -> Result<Option<Value>, ProtobufError> {
        let payload = match slot.one() {
            Some(payload) => payload,
            None if field.is_pointer || field.of == Of::Bytes => {
                return Ok(field.always.then_some(Value::Null));
            }
            None => Payload::zero(field.of),
        };
        let is_plain = match field.of {
            Of::String | Of::Bytes | Of::Boolean | Of::Int32 | Of::Int64 | Of::Double => true,
            Of::Time | Of::MicroTime | Of::Quantity | Of::IntOrString | Of::Json | Of::Message(_) => false,
        };
        if is_plain && payload.is_zero() && !field.always && !field.is_pointer {
            return Ok(None);
        }
        let value = self.value(field, &payload, depth)?;
        Ok((!(field.omit_zero && value.is_null())).then_some(value))
    }

    /// One value, inside the list or object at `depth`.
    fn value(
        &mut self,
        field: &'a Field,
        payload: &Payload<'_>,
        depth: usize,
    ) -> Result<Value, ProtobufError> {
        self.charge()?;
        Ok(match field.of {
            Of::String => Value::String(text(payload.bytes())),
            Of::Bytes => Value::String(STANDARD.encode(payload.bytes())),
            Of::Boolean => Value::Bool(payload.number() != 0),
            Of::Int32 => Value::from(payload.number() as i32),
            Of::Int64 => Value::from(payload.number() as i64),
            Of::Double => double(field, f64::from_bits(payload.number()))?,
            Of::Time => time(payload.bytes())?,
            Of::MicroTime => micro_time(payload.bytes())?,
            Of::Quantity => quantity(payload.bytes())?,
            Of::IntOrString => int_or_string(payload.bytes())?,
            Of::Json => self.json(payload.bytes(), depth)?,
            Of::Message(id) if self.table.message(id).is_union => {
                self.union(id, payload.bytes(), depth + 1)?
            }
            Of::Message(id) => Value::Object(self.message(id, payload.bytes(), depth + 1)?),
        })
    }

    fn json(&mut self, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        let mut raw: &[u8] = &[];
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.tag("RawExtension")? {
            match number {
                1 => raw = reader.length(wire, "Raw")?,
                _ => reader.skip(wire)?,
            }
        }
        if raw.is_empty() {
            return Ok(Value::Null);
        }
        let value = schema::decode(raw, self.limits.bytes).map_err(ProtobufError::Json)?.value;
        self.charge_json(&value, depth)?;
        Ok(value)
    }

    /// Holds JSON that is already there against the limits; its own depth is bounded by its reader.
    fn charge_json(&mut self, value: &Value, depth: usize) -> Result<(), ProtobufError> {
        self.charge()?;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
            Value::Array(items) => {
                self.check_depth(depth + 1)?;
                items.iter().try_for_each(|item| self.charge_json(item, depth + 1))
            }
            Value::Object(entries) => {
                self.check_depth(depth + 1)?;
                entries.values().try_for_each(|value| self.charge_json(value, depth + 1))
            }
        }
    }
}

impl<'m> Slot<'m> {
    fn one(self) -> Option<Payload<'m>> {
        self.one_or_items().unwrap_or_default()
    }

    fn one_or_items(self) -> Result<Option<Payload<'m>>, Vec<Value>> {
        match self {
            Slot::One(payload) => Ok(Some(payload)),
            Slot::Empty | Slot::Entries(_) => Ok(None),
            Slot::Items(items) => Err(items),
        }
    }

    fn items(&mut self) -> &mut Vec<Value> {
        if !matches!(self, Slot::Items(_)) {
            *self = Slot::Items(Vec::new());
        }
        let Slot::Items(items) = self else { unreachable!("made above") };
        items
    }

    fn entries(&mut self) -> &mut Map<String, Value> {
        if !matches!(self, Slot::Entries(_)) {
            *self = Slot::Entries(Map::new());
        }
        let Slot::Entries(entries) = self else { unreachable!("made above") };
        entries
    }
}

fn payload<'m>(field: &Field, wire: Wire, reader: &mut Reader<'m>) -> Result<Payload<'m>, ProtobufError> {
    let expected = wire_of(field.of);
    wire.check(expected, field.name)?;
    payload_on(expected, reader)
}

fn payload_on<'m>(wire: Wire, reader: &mut Reader<'m>) -> Result<Payload<'m>, ProtobufError> {
    Ok(match wire {
        Wire::Varint => Payload::Number(reader.varint()?),
        Wire::Fixed64 => Payload::Number(reader.fixed64()?),
        Wire::Length => Payload::Bytes(Cow::Borrowed(reader.length(wire, "")?)),
        Wire::Fixed32 | Wire::StartGroup | Wire::EndGroup => {
            return Err(ProtobufError::IllegalWire { wire: wire as u64 });
        }
    })
}

/// A whole number has no fraction in Kubernetes' JSON.
fn double(field: &Field, number: f64) -> Result<Value, ProtobufError> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2⁵³
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return Ok(Value::from(number as i64));
    }
    Number::from_f64(number).map(Value::Number).ok_or(ProtobufError::NotFinite { field: field.name })
}

/// Seconds since 1970 and nanoseconds.
fn timestamp(bytes: &[u8]) -> Result<(i64, i32), ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag("Timestamp")? {
        match number {
            1 | 2 => {
                wire.check(Wire::Varint, if number == 1 { "Seconds" } else { "Nanos" })?;
                let value = reader.varint()?;
                if number == 1 { seconds = value as i64 } else { nanos = value as i32 }
            }
            _ => reader.skip(wire)?,
        }
    }
    Ok((seconds, nanos))
}

/// 0001-01-01T00:00:00Z: no time at all, as no bytes are.
const NO_TIME: i64 = -62_135_596_800;
const END_OF_TIME: i64 = 253_402_300_799;

fn point_in_time(seconds: i64, micros: i32) -> Result<Timestamp, ProtobufError> {
    let out_of_range = ProtobufError::Time { seconds };
    let total = i128::from(seconds) * 1_000_000 + i128::from(micros);
    let range = i128::from(NO_TIME) * 1_000_000..(i128::from(END_OF_TIME) + 1) * 1_000_000;
    match i64::try_from(total).map(Timestamp::from_microsecond) {
        Ok(Ok(time)) if range.contains(&total) => Ok(time),
        Ok(Ok(_) | Err(_)) | Err(_) => Err(out_of_range),
    }
}

/// Kubernetes' times have whole seconds; what is below is dropped.
fn time(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (seconds, _) = timestamp(bytes)?;
    if bytes.is_empty() || seconds == NO_TIME {
        return Ok(Value::Null);
    }
    Ok(Value::from(point_in_time(seconds, 0)?.to_string()))
}

fn micro_time(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (seconds, nanos) = timestamp(bytes)?;
    let micros = nanos / 1000;
    if bytes.is_empty() || (seconds == NO_TIME && micros == 0) {
        return Ok(Value::Null);
    }
    Ok(Value::from(format!("{:.6}", point_in_time(seconds, micros)?)))
}

/// In its canonical form, as Kubernetes' decoder keeps the number and not the text.
fn quantity(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut quantity = Quantity::ZERO;
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.tag("Quantity")? {
        match number {
            1 => quantity = text(reader.length(wire, "String_")?).parse().map_err(ProtobufError::Quantity)?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(Value::from(quantity.to_string()))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut kind, mut number, mut string): (u64, u64, &[u8]) = (0, 0, &[]);
    let mut reader = Reader::new(bytes);
    while let Some((at, wire)) = reader.tag("IntOrString")? {
        match at {
            1 => {
                wire.check(Wire::Varint, "Type")?;
                kind = reader.varint()?;
            }
            2 => {
                wire.check(Wire::Varint, "IntVal")?;
                number = reader.varint()?;
            }
            3 => string = reader.length(wire, "StrVal")?,
            _ => reader.skip(wire)?,
        }
    }
    match kind {
        0 => Ok(Value::from(number as i32)),
        1 => Ok(Value::String(text(string))),
        _ => Err(ProtobufError::IntOrString),
    }
}
