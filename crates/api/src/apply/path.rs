//! Steps of a path to a field, as they stand in `fieldsV1` and in messages.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Number, Value};

/// One step from a value to a part of it.
#[derive(Clone, Debug)]
pub enum Element {
    /// `f:`: a field of a structure or a key of a map.
    Field(Box<str>),
    /// `k:`: the item of a keyed list that has these values in its key fields; sorted by name.
    Key(Box<[(Box<str>, Value)]>),
    /// `v:`: an item of a set.
    Value(Box<Value>),
    /// `i:`: an item by its place. Only read, for sets that other servers wrote.
    Index(i64),
}

/// A step of `fieldsV1` that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    #[error("key must be 2 characters long:")]
    TooShort,
    #[error("missing colon: {0}")]
    NoColon(String),
    #[error("{0:?} does not carry what its prefix says")]
    Content(String),
}

impl Element {
    pub fn field(name: impl Into<Box<str>>) -> Self {
        Element::Field(name.into())
    }

    /// A key of a list; `fields` in any order.
    pub fn key(mut fields: Vec<(Box<str>, Value)>) -> Self {
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Element::Key(fields.into())
    }

    /// Reads a key of `fieldsV1`. None for kinds of steps that this version does not know.
    pub fn parse(text: &str) -> Result<Option<Self>, ElementError> {
        if text.len() < 2 {
            return Err(ElementError::TooShort);
        }
        let Some((kind, rest)) = text.split_once(':').filter(|(kind, _)| kind.len() == 1) else {
            return Err(ElementError::NoColon(text.to_owned()));
        };
        let content = || ElementError::Content(text.to_owned());
        Ok(match kind {
            "f" => Some(Element::field(rest)),
            "k" => {
                let fields: Map<String, Value> = serde_json::from_str(rest).map_err(|_| content())?;
                Some(Element::key(fields.into_iter().map(|(name, value)| (name.into(), value)).collect()))
            }
            "v" => Some(Element::Value(Box::new(serde_json::from_str(rest).map_err(|_| content())?))),
            "i" => Some(Element::Index(rest.parse().map_err(|_| content())?)),
            _ => None,
        })
    }

    /// The key in `fieldsV1`.
    pub fn serialized(&self) -> String {
        match self {
            Element::Field(name) => ["f:", name].concat(),
            Element::Key(fields) => {
                let mut text = String::from("k:{");
                for (at, (name, value)) in fields.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    text.extend([comma, &Value::from(name.as_ref()).to_string(), ":", &value.to_string()]);
                }
                text.push('}');
                text
            }
            Element::Value(value) => format!("v:{value}"),
            Element::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Element::Field(_) => 0,
            Element::Key(_) => 1,
            Element::Value(_) => 2,
            Element::Index(_) => 3,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(fields) => {
                f.write_str("[")?;
                for (at, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name}={value}", if at > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Element::Value(value) => write!(f, "[={value}]"),
            Element::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Element::Field(a), Element::Field(b)) => a.cmp(b),
            (Element::Key(a), Element::Key(b)) => compare_keys(a, b),
            (Element::Value(a), Element::Value(b)) => compare_values(a, b),
            (Element::Index(a), Element::Index(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Element {}

fn compare_keys(a: &[(Box<str>, Value)], b: &[(Box<str>, Value)]) -> Ordering {
    for ((a_name, a_value), (b_name, b_value)) in a.iter().zip(b) {
        let order = a_name.cmp(b_name).then_with(|| compare_values(a_value, b_value));
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// A total order of JSON values: numbers, texts, booleans, lists, maps, null.
fn compare_values(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let first = a.iter().zip(b).map(|(a, b)| compare_values(a, b)).find(|order| order.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let pairs = a
                .iter()
                .zip(b)
                .map(|((a_key, a), (b_key, b))| a_key.cmp(b_key).then_with(|| compare_values(a, b)));
            pairs.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        // JSON has neither infinities nor NaN.
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}
