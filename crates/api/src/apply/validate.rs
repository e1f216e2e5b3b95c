//! Holds an applied configuration against its type, in the words of Kubernetes.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::path::Element;
use super::typed::{Scalar, Shape, Typed};

/// The most faults that are collected.
const MAX_FAULTS: usize = 64;

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mismatch {
    faults: Vec<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "errors:\n  {}", many.join("\n  ")),
        }
    }
}

/// Whether lists may hold an item twice: those that are stored may, those that are applied may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    Allowed,
    Refused,
}

/// Fields must be of the type, and items of lists must be told apart by their keys.
pub fn validate(typed: Typed<'_>, value: &Value, duplicates: Duplicates) -> Result<(), Mismatch> {
    let mut walk = Walk { path: Vec::new(), faults: Vec::new(), duplicates };
    walk.value(typed, value);
    if walk.faults.is_empty() { Ok(()) } else { Err(Mismatch { faults: walk.faults }) }
}

struct Walk {
    path: Vec<Element>,
    faults: Vec<String>,
    duplicates: Duplicates,
}

impl Walk {
    fn fault(&mut self, what: impl fmt::Display) {
        if self.faults.len() < MAX_FAULTS {
            let path: String = self.path.iter().map(Element::to_string).collect();
            self.faults.push(if path.is_empty() { what.to_string() } else { format!("{path}: {what}") });
        }
    }

    fn value(&mut self, typed: Typed<'_>, value: &Value) {
        if value.is_null() {
            return;
        }
        let shape = typed.shape_of(Some(value));
        match (shape, value) {
            (Shape::Scalar(scalar), value) => self.scalar(scalar, value),
            (Shape::Map { .. }, Value::Object(fields)) => {
                for (key, value) in fields {
                    self.path.push(Element::field(key.as_str()));
                    match typed.field(key) {
                        Some(inner) => self.value(inner, value),
                        None => self.fault("field not declared in schema"),
                    }
                    self.path.pop();
                }
            }
            (Shape::AtomicList(item), Value::Array(items)) => {
                let item = typed.item().unwrap_or(item);
                for (at, value) in items.iter().enumerate() {
                    self.path.push(Element::Index(at as i64));
                    self.value(item, value);
                    self.path.pop();
                }
            }
            (Shape::Set(_) | Shape::Keyed(..), Value::Array(items)) => self.items(shape, items),
            (Shape::Map { .. }, value) => self.fault(format_args!("expected map, got {}", go_value(value))),
            (Shape::AtomicList(_) | Shape::Set(_) | Shape::Keyed(..), value) => {
                self.fault(format_args!("expected list, got {}", go_value(value)));
            }
            (Shape::Untyped, _) => {}
        }
    }

    fn items(&mut self, shape: Shape<'_>, items: &[Value]) {
        let mut seen = BTreeSet::new();
        for (at, item) in items.iter().enumerate() {
            match shape.identify(item) {
                Err(error) => return self.fault(format_args!("element {at}: {error}")),
                Ok(None) => {}
                Ok(Some((element, typed))) => {
                    if !seen.insert(element.clone()) && self.duplicates == Duplicates::Refused {
                        self.fault(format_args!("duplicate entries for key {element}"));
                    }
                    self.path.push(element);
                    self.value(typed, item);
                    self.path.pop();
                }
            }
        }
    }

    fn scalar(&mut self, scalar: Scalar, value: &Value) {
        match (scalar, value) {
            (Scalar::Numeric, Value::Number(_))
            | (Scalar::String, Value::String(_))
            | (Scalar::Boolean, Value::Bool(_))
            | (Scalar::Any, Value::Number(_) | Value::String(_) | Value::Bool(_)) => {}
            (Scalar::Numeric, value) => {
                self.fault(format_args!("expected numeric (int or float), got {}", go_type(value)));
            }
            (Scalar::String, value) => {
                self.fault(format_args!("expected string, got {}", go_value(value)));
            }
            (Scalar::Boolean, value) => {
                self.fault(format_args!("expected boolean, got {}", go_value(value)));
            }
            (Scalar::Any, value) => {
                self.fault(format_args!("expected any scalar, got {}", go_value(value)));
            }
        }
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as the wrapper of Kubernetes' merge library prints it.
fn go_value(value: &Value) -> String {
    format!("&{{{}}}", crate::strategic::go_text(value))
}
