//! Walking an object with the path at hand, and collecting what is wrong.

use std::fmt;

use serde_json::{Map, Value};

use crate::quantity::Quantity;
use crate::status::Cause;

static NULL: Value = Value::Null;

/// A value in an object and the way to it. Cheap to make: the path is only written for a fault.
#[derive(Clone, Copy)]
pub(super) struct At<'v, 'p> {
    pub value: &'v Value,
    parent: Option<&'p At<'v, 'p>>,
    step: Step<'p>,
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Root,
    Name(&'p str),
    Index(usize),
    Key(&'p str),
}

impl<'v, 'p> At<'v, 'p> {
    pub fn root(value: &'v Value) -> Self {
        At { value, parent: None, step: Step::Root }
    }

    /// A field of this object.
    pub fn get<'s>(&'s self, name: &'s str) -> At<'v, 's> {
        At { value: self.value.get(name).unwrap_or(&NULL), parent: Some(self), step: Step::Name(name) }
    }

    /// An entry of this map, whose path is `map[key]`.
    pub fn key<'s>(&'s self, key: &'s str) -> At<'v, 's> {
        At { value: self.value.get(key).unwrap_or(&NULL), parent: Some(self), step: Step::Key(key) }
    }

    /// An element of this list.
    pub fn index(&self, at: usize) -> At<'v, '_> {
        At { value: self.value.get(at).unwrap_or(&NULL), parent: Some(self), step: Step::Index(at) }
    }

    /// The elements of this list; none when it is something else.
    pub fn items(&self) -> impl Iterator<Item = At<'v, '_>> {
        (0..self.len()).map(|at| self.index(at))
    }

    /// The number of elements of this list, or of entries of this map.
    pub fn len(&self) -> usize {
        match self.value {
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the value is there.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// This text; empty when it is absent or something else.
    pub fn text(&self) -> &'v str {
        self.value.as_str().unwrap_or_default()
    }

    pub fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether this is `true`.
    pub fn is_true(&self) -> bool {
        self.value == &Value::Bool(true)
    }

    /// The entries of this map; none when it is something else.
    pub fn entries(&self) -> impl Iterator<Item = (&'v str, &'v Value)> + use<'v> {
        self.value.as_object().into_iter().flat_map(Map::iter).map(|(key, value)| (key.as_str(), value))
    }

    pub fn quantity(&self) -> Option<Quantity> {
        if self.value.is_null() { None } else { Quantity::from_json(self.value).ok() }
    }

    fn write(&self, text: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(text);
        }
        match self.step {
            Step::Root => {}
            Step::Name(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            Step::Index(at) => {
                text.push('[');
                text.push_str(&at.to_string());
                text.push(']');
            }
            Step::Key(key) => {
                text.push('[');
                text.push_str(key);
                text.push(']');
            }
        }
    }

    pub fn path(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }
}

/// What is wrong with an object, in order.
pub(super) struct Faults {
    causes: Vec<Cause>,
    limit: usize,
}

impl Faults {
    pub fn new(limit: usize) -> Self {
        Faults { causes: Vec::new(), limit }
    }

    pub fn into_causes(self) -> Vec<Cause> {
        self.causes
    }

    /// A fault that was found elsewhere.
    pub fn push(&mut self, cause: Cause) {
        if self.causes.len() < self.limit && !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
    }

    /// How many were found; to learn whether a part of an object added any.
    pub fn count(&self) -> usize {
        self.causes.len()
    }

    fn add(&mut self, reason: &str, at: &At<'_, '_>, text: impl fmt::Display, detail: &str) {
        if self.causes.len() >= self.limit {
            return;
        }
        let message = if detail.is_empty() { text.to_string() } else { format!("{text}: {detail}") };
        let cause = Cause { reason: reason.to_owned(), message, field: at.path() };
        if !self.causes.contains(&cause) {
            self.causes.push(cause);
        }
    }

    pub fn required(&mut self, at: &At<'_, '_>, detail: &str) {
        self.add("FieldValueRequired", at, "Required value", detail);
    }

    /// The value at hand is wrong.
    pub fn invalid(&mut self, at: &At<'_, '_>, detail: &str) {
        self.invalid_value(at, at.value, detail);
    }

    /// A value that stands elsewhere is wrong.
    pub fn invalid_value(&mut self, at: &At<'_, '_>, value: &Value, detail: &str) {
        self.add("FieldValueInvalid", at, format_args!("Invalid value: {}", Shown(value)), detail);
    }

    /// A text that is not itself in the object is wrong.
    pub fn invalid_text(&mut self, at: &At<'_, '_>, text: &str, detail: &str) {
        self.add("FieldValueInvalid", at, format_args!("Invalid value: {text:?}"), detail);
    }

    /// One fault for each message of a rule of [`crate::names`] about the text at hand.
    pub fn named(&mut self, at: &At<'_, '_>, messages: Vec<String>) {
        for message in messages {
            self.invalid(at, &message);
        }
    }

    pub fn unsupported(&mut self, at: &At<'_, '_>, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        // A text that is absent is the empty one.
        let empty = Value::from("");
        let value = if at.is_set() { at.value } else { &empty };
        self.add("FieldValueNotSupported", at, format_args!("Unsupported value: {}", Shown(value)), &detail);
    }

    /// The text at hand must be one of these; an absent one is required.
    pub fn one_of(&mut self, at: &At<'_, '_>, supported: &[&str]) {
        if at.text().is_empty() {
            self.required(at, "");
        } else if !supported.contains(&at.text()) {
            self.unsupported(at, supported);
        }
    }

    /// The text at hand, when it is there, must be one of these.
    pub fn one_of_or_none(&mut self, at: &At<'_, '_>, supported: &[&str]) {
        if at.is_set() && !supported.contains(&at.text()) {
            self.unsupported(at, supported);
        }
    }

    pub fn duplicate(&mut self, at: &At<'_, '_>, value: &Value) {
        self.add("FieldValueDuplicate", at, format_args!("Duplicate value: {}", Shown(value)), "");
    }

    pub fn forbidden(&mut self, at: &At<'_, '_>, detail: &str) {
        self.add("FieldValueForbidden", at, "Forbidden", detail);
    }

    pub fn not_found(&mut self, at: &At<'_, '_>) {
        let empty = Value::from("");
        let value = if at.is_set() { at.value } else { &empty };
        self.add("FieldValueNotFound", at, format_args!("Not found: {}", Shown(value)), "");
    }

    pub fn too_long(&mut self, at: &At<'_, '_>, limit: usize) {
        self.add("FieldValueTooLong", at, "Too long", &format!("may not be more than {limit} bytes"));
    }

    pub fn too_many(&mut self, at: &At<'_, '_>, count: usize, limit: usize) {
        let text = format_args!("Too many: {count}").to_string();
        self.add("FieldValueTooMany", at, text, &format!("must have at most {limit} items"));
    }

    /// Tells the faults found since `count` at another place than where they were seen.
    pub fn move_to(&mut self, count: usize, at: &At<'_, '_>) {
        for cause in self.causes.iter_mut().skip(count) {
            cause.field = at.path();
        }
    }

    /// The number at hand, when it is there, must not be below zero.
    pub fn not_negative(&mut self, at: &At<'_, '_>) {
        if at.int().is_some_and(|number| number < 0) {
            self.invalid(at, "must be greater than or equal to 0");
        }
    }

    /// A field that must be as it was.
    pub fn immutable(&mut self, at: &At<'_, '_>, before: &At<'_, '_>) {
        if !same(at.value, before.value) {
            self.invalid(at, "field is immutable");
        }
    }
}

/// Whether two values mean the same: absent, null and the empty or zero value of a type are one,
/// since an encoder may leave any of them out. Quantities are canonical by then.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(key, value)| same(value, b.get(key).unwrap_or(&NULL)))
                && b.iter().all(|(key, value)| a.contains_key(key) || is_empty(value))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (a, b) => a == b || (is_empty(a) && is_empty(b)),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
    }
}

/// A value as messages show it: texts quoted, long ones cut, everything else as JSON.
pub(super) struct Shown<'a>(pub &'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LIMIT: usize = 1024;
        let text = match self.0 {
            Value::String(text) => format!("{text:?}"),
            other => other.to_string(),
        };
        match text.char_indices().find(|(at, _)| *at >= LIMIT) {
            Some((at, _)) => write!(f, "{}…", &text[..at]),
            None => f.write_str(&text),
        }
    }
}
