//! Holds a JSON value against its type, as decoding into Kubernetes' structures does.
//!
//! Unknown fields are found and removed, `null` becomes absence (in lists and maps: the empty value
//! of the type), quantities and times take their canonical form, and the first value of a wrong type
//! is described in the words of Kubernetes' decoder. Checking a checked value changes nothing.

use std::fmt;

use serde_json::{Map, Value};

use super::decode::MAX_FAULTS;
use super::message::{self, Mistyped};
use super::{Extra, Node, NodeId, Schema, TypeBody, TypeId};
use crate::quantity::{Quantity, QuantityError};

/// What was found in a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Paths of fields that the type does not have, as `spec.containers[0].foo`; they were removed.
    pub unknown: Vec<String>,
    /// The first value of a wrong type: the decoder's error text.
    pub mistyped: Option<String>,
}

/// Checks and prunes a value in place. When `mistyped` is set the value is not to be used.
pub fn check(schema: &Schema, id: TypeId, value: &mut Value) -> Report {
    let mut checker = Checker { schema, report: Report::default() };
    let name = message::go_struct(schema, id);
    let context = Context { owner: name, path: &Path::root(), go_path: &Path::root(), extra: None };
    match schema.type_def(id).body {
        TypeBody::Struct { .. } => checker.structure(id, value, &context),
        TypeBody::Alias(node) => checker.node(node, value, &context),
    }
    checker.report
}

/// One step of a path.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'p> {
    Root,
    Name(&'p str),
    Index(usize),
}

/// A path as a list on the stack, from the leaf to the root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    step: Step<'p>,
}

impl<'p> Path<'p> {
    pub(super) fn root() -> Self {
        Path { parent: None, step: Step::Root }
    }

    pub(super) fn then(&'p self, step: Step<'p>) -> Path<'p> {
        Path { parent: Some(self), step }
    }
}

impl fmt::Display for Path<'_> {
    /// `spec.containers[0].foo`; keys of maps stand like fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // From the root down. Paths are as deep as the value, which the decoder bounds.
        let mut steps = Vec::new();
        let mut at = Some(self);
        while let Some(path) = at {
            steps.push(path.step);
            at = path.parent;
        }
        let mut first = true;
        for step in steps.into_iter().rev() {
            match step {
                Step::Root => continue,
                Step::Name(name) if first => f.write_str(name)?,
                Step::Name(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
            first = false;
        }
        Ok(())
    }
}

/// Where a value is.
struct Context<'p> {
    /// Name of the structure that has the field.
    owner: &'p str,
    path: &'p Path<'p>,
    /// Fields of structures only: how messages of wrong types name a place.
    go_path: &'p Path<'p>,
    extra: Option<&'p Extra>,
}

impl<'p> Context<'p> {
    fn inside(&self, path: &'p Path<'p>) -> Context<'p>
    where
        Self: 'p,
    {
        Context { owner: self.owner, path, go_path: self.go_path, extra: self.extra }
    }
}

struct Checker<'s> {
    schema: &'s Schema,
    report: Report,
}

impl Checker<'_> {
    fn structure(&mut self, id: TypeId, value: &mut Value, context: &Context<'_>) {
        let schema = self.schema;
        let TypeBody::Struct { open, .. } = schema.type_def(id).body else { return };
        let fields = match value {
            Value::Object(fields) => fields,
            // The whole body: its fields are all absent.
            Value::Null => return,
            other => return self.mistype(Node::Type(id), other, context),
        };
        let owner = message::go_struct(schema, id);
        fields.retain(|key, value| {
            let path = context.path.then(Step::Name(key));
            let Some(field) = schema.field(id, key) else {
                if !open && self.report.unknown.len() < MAX_FAULTS {
                    self.report.unknown.push(path.to_string());
                }
                return open;
            };
            if value.is_null() {
                return schema.extra(field).is_some_and(|extra| extra.nullable);
            }
            let go_path = context.go_path.then(Step::Name(key));
            let inner = Context { owner, path: &path, go_path: &go_path, extra: schema.extra(field) };
            self.node(schema.node(field.node), value, &inner);
            true
        });
    }

    fn node(&mut self, node: Node, value: &mut Value, context: &Context<'_>) {
        let node = self.schema.resolve_node(node);
        match (node, &mut *value) {
            (Node::Type(id), _) => self.structure(id, value, context),
            (Node::Any, _) | (Node::String, Value::String(_)) | (Node::Boolean, Value::Bool(_)) => {}
            (Node::List(of), Value::Array(items)) => self.list(of, items, context),
            (Node::Map(of), Value::Object(entries)) => self.map(of, entries, context),
            (Node::Number, Value::Number(_)) => {}
            (Node::Int64, Value::Number(number)) if number.is_i64() => {}
            (Node::Int32 | Node::IntOrString, Value::Number(number)) if fits_int32(number) => {}
            (Node::IntOrString, Value::String(_)) => {}
            (Node::Bytes, Value::String(text)) => {
                if let Err(at) = check_base64(text) {
                    self.fault(format!("illegal base64 data at input byte {at}"));
                }
            }
            (Node::Time | Node::MicroTime, Value::String(text)) => match canonical_time(text, node) {
                Ok(time) => *text = time,
                Err(fault) => self.fault(fault),
            },
            (Node::Quantity, Value::String(_) | Value::Number(_)) => match canonical_quantity(value) {
                Ok(quantity) => *value = Value::String(quantity),
                Err(fault) => self.fault(fault.to_string()),
            },
            (
                Node::String
                | Node::Boolean
                | Node::Int32
                | Node::Int64
                | Node::Number
                | Node::Bytes
                | Node::Time
                | Node::MicroTime
                | Node::Quantity
                | Node::IntOrString
                | Node::List(_)
                | Node::Map(_),
                _,
            ) => self.mistype(node, value, context),
        }
    }

    fn list(&mut self, of: NodeId, items: &mut [Value], context: &Context<'_>) {
        for (index, item) in items.iter_mut().enumerate() {
            let path = context.path.then(Step::Index(index));
            self.element(of, item, &context.inside(&path));
        }
    }

    fn map(&mut self, of: NodeId, entries: &mut Map<String, Value>, context: &Context<'_>) {
        for (key, item) in entries.iter_mut() {
            let path = context.path.then(Step::Name(key));
            self.element(of, item, &context.inside(&path));
        }
    }

    /// An item of a list or a map, where `null` stands for the empty value.
    fn element(&mut self, of: NodeId, item: &mut Value, context: &Context<'_>) {
        let node = self.schema.node(of);
        if item.is_null() {
            *item = zero(self.schema.resolve_node(node));
        } else {
            self.node(node, item, context);
        }
    }

    fn mistype(&mut self, node: Node, value: &Value, context: &Context<'_>) {
        let go_path = context.go_path.to_string();
        let fault = Mistyped {
            schema: self.schema,
            node,
            value,
            owner: context.owner,
            go_path: &go_path,
            extra: context.extra,
        };
        self.fault(fault.to_string());
    }

    fn fault(&mut self, text: String) {
        self.report.mistyped.get_or_insert(text);
    }
}

fn fits_int32(number: &serde_json::Number) -> bool {
    number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
}

/// What decoding `null` leaves in a new element of a list or a map.
fn zero(node: Node) -> Value {
    match node {
        Node::String | Node::Bytes => Value::String(String::new()),
        Node::Boolean => Value::Bool(false),
        Node::Int32 | Node::Int64 | Node::Number | Node::IntOrString => Value::Number(0.into()),
        Node::Quantity => Value::String("0".to_owned()),
        Node::Type(_) => Value::Object(Map::new()),
        Node::Time | Node::MicroTime | Node::Any | Node::List(_) | Node::Map(_) => Value::Null,
    }
}

/// Standard alphabet with padding; line breaks are skipped. The error is the place of the fault.
fn check_base64(text: &str) -> Result<(), usize> {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let mut digits = 0;
    let mut padding = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'\r' | b'\n' => {}
            b'=' if digits % 4 >= 2 && digits % 4 + padding < 4 => padding += 1,
            byte if is_digit(byte) && padding == 0 => digits += 1,
            _ => return Err(at),
        }
    }
    if (digits + padding) % 4 == 0 { Ok(()) } else { Err(text.len() / 4 * 4) }
}

/// `metav1.Time` in UTC to the second, `metav1.MicroTime` to the microsecond.
fn canonical_time(text: &str, node: Node) -> Result<String, String> {
    message::check_time(text)?;
    let time: jiff::Timestamp = text.parse().map_err(|_| message::time_out_of_range(text))?;
    let format = if node == Node::MicroTime { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(format).to_string())
}

/// A quantity as upstream's decoder leaves it: a string, even of a number.
fn canonical_quantity(value: &Value) -> Result<String, QuantityError> {
    let quantity = match value {
        Value::String(text) => text.trim().parse()?,
        other => Quantity::from_json(other)?,
    };
    Ok(quantity.to_string())
}
