//! The texts of decoding errors, as clients of Kubernetes know them.

use std::fmt;

use serde_json::Value;

use super::check::Report;
use super::order::{self, Fault};
use super::{Extra, Node, Schema, TypeBody, TypeId};
use crate::status::Status;

/// What is done about fields that a type does not have (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them in silence.
    Ignore,
    /// Drop them and answer with warnings.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    /// The value of the query parameter; None for one that Kubernetes does not know.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(FieldValidation::default()),
            "Ignore" => Some(FieldValidation::Ignore),
            "Warn" => Some(FieldValidation::Warn),
            "Strict" => Some(FieldValidation::Strict),
            _ => None,
        }
    }
}

impl Report {
    /// Decides about a checked body: the warnings to send, or the status to refuse it with.
    /// `duplicates` are those of [`super::Decoded`]. Faults are told as they stand in the `document`,
    /// which is JSON; without one the duplicates come first.
    #[expect(
        clippy::result_large_err,
        reason = "a status is what every request path returns; refusals are rare"
    )]
    pub fn verdict(
        &self,
        validation: FieldValidation,
        kind: &str,
        version: &str,
        duplicates: &[String],
        document: Option<&[u8]>,
    ) -> Result<Vec<String>, Status> {
        if let Some(fault) = &self.mistyped {
            return Err(cannot_be_handled(kind, version, fault));
        }
        if validation == FieldValidation::Ignore {
            return Ok(Vec::new());
        }
        let duplicates = duplicates.iter().map(|path| (Fault::Duplicate, path.as_str()));
        let unknown = self.unknown.iter().map(|path| (Fault::Unknown, path.as_str()));
        let mut faults: Vec<(Fault, &str)> = duplicates.chain(unknown).collect();
        if let Some(document) = document.filter(|_| faults.len() > 1) {
            order::sort(&mut faults, document);
        }
        let text = |(fault, path)| match fault {
            Fault::Duplicate => format!("duplicate field {path:?}"),
            Fault::Unknown => format!("unknown field {path:?}"),
        };
        let faults: Vec<String> = faults.into_iter().map(text).collect();
        match validation {
            FieldValidation::Ignore | FieldValidation::Warn => Ok(faults),
            FieldValidation::Strict if faults.is_empty() => Ok(faults),
            FieldValidation::Strict => {
                let fault = format!("strict decoding error: {}", faults.join(", "));
                Err(cannot_be_handled(kind, version, &fault))
            }
        }
    }
}

/// A body of the right kind that could not be decoded.
pub fn cannot_be_handled(kind: &str, version: &str, fault: &str) -> Status {
    Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {fault}"))
}

/// A body whose kind could not even be read.
pub fn unrecognized(expected_kind: &str, fault: impl fmt::Display, body: &[u8]) -> Status {
    const SHOWN: usize = 30;
    let head = &body[..body.len().min(SHOWN)];
    let more = if body.len() > SHOWN { " ..." } else { "" };
    let summary = match head.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(head)),
        Some(_) => format!("{}{more}", head.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    };
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {expected_kind}): \
         couldn't get version/kind; {fault} ({summary})"
    ))
}

/// The name of a structure in Kubernetes' source: what follows the last dot.
pub(super) fn go_struct(schema: &Schema, id: TypeId) -> &str {
    let name = &schema.type_def(id).name;
    name.rsplit('.').next().unwrap_or(name)
}

/// A value of a wrong type.
pub(super) struct Mistyped<'a> {
    pub schema: &'a Schema,
    pub node: Node,
    pub value: &'a Value,
    /// The structure that has the field, and the fields that lead to it.
    pub owner: &'a str,
    pub go_path: &'a str,
    pub extra: Option<&'a Extra>,
}

impl fmt::Display for Mistyped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A quantity parses its own text and finds no number in it, whatever it is.
        if self.node == Node::Quantity {
            return f.write_str(QUANTITY_FORMAT);
        }
        let integer = matches!(self.node, Node::Int32 | Node::Int64 | Node::IntOrString);
        let what = match self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if integer => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let target = self.go_type(self.node);
        if self.go_path.is_empty() {
            return write!(f, "json: cannot unmarshal {what} into Go value of type {target}");
        }
        let (owner, path) = (self.owner, self.go_path);
        write!(f, "json: cannot unmarshal {what} into Go struct field {owner}.{path} of type {target}")
    }
}

const QUANTITY_FORMAT: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

impl Mistyped<'_> {
    fn go_type(&self, node: Node) -> String {
        let named = self.extra.and_then(|extra| extra.go_type.as_deref());
        match node {
            Node::Int32 | Node::Int64 | Node::String | Node::Boolean if named.is_some() => {
                named.unwrap_or_default().to_owned()
            }
            // Both decode into the plain type inside their own.
            Node::IntOrString => "int32".to_owned(),
            Node::Time | Node::MicroTime | Node::String => "string".to_owned(),
            Node::Boolean => "bool".to_owned(),
            Node::Int32 => "int32".to_owned(),
            Node::Int64 => "int64".to_owned(),
            Node::Number => "float64".to_owned(),
            Node::Bytes => "[]uint8".to_owned(),
            Node::Quantity => "resource.Quantity".to_owned(),
            Node::Any => "interface {}".to_owned(),
            Node::List(of) => format!("[]{}", self.go_type(self.schema.node(of))),
            Node::Map(_) if named.is_some() => named.unwrap_or_default().to_owned(),
            Node::Map(of) => format!("map[string]{}", self.go_type(self.schema.node(of))),
            Node::Type(id) => match self.schema.type_def(id).body {
                TypeBody::Alias(node) if matches!(node, Node::Quantity) => self.go_type(node),
                TypeBody::Struct { .. } | TypeBody::Alias(_) => {
                    let mut parts = self.schema.type_def(id).name.rsplit('.');
                    let name = parts.next().unwrap_or_default();
                    format!("{}.{name}", parts.next().unwrap_or_default())
                }
            },
        }
    }
}

const TIME_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";

/// Whether a text has the form of RFC 3339; the error is the one of Go's parser.
pub(super) fn check_time(text: &str) -> Result<(), String> {
    const PARTS: [&str; 11] = ["2006", "-", "01", "-", "02", "T", "15", ":", "04", ":", "05"];
    let fault = |rest: &str, part: &str| {
        format!("parsing time {text:?} as {TIME_LAYOUT:?}: cannot parse {rest:?} as {part:?}")
    };
    let mut rest = text;
    for part in PARTS {
        let is_number = part.len() > 1;
        let fits =
            |head: &str| if is_number { head.bytes().all(|b| b.is_ascii_digit()) } else { head == part };
        match rest.split_at_checked(part.len()) {
            Some((head, tail)) if fits(head) => rest = tail,
            _ => return Err(fault(rest, part)),
        }
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        let tail = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if tail.len() == fraction.len() {
            return Err(fault(rest, "Z07:00"));
        }
        rest = tail;
    }
    let bytes = rest.as_bytes();
    let digit = |at: usize| bytes[at].is_ascii_digit();
    match bytes.first() {
        Some(b'Z') if bytes.len() == 1 => Ok(()),
        Some(b'Z') => Err(format!("parsing time {text:?}: extra text: {:?}", &rest[1..])),
        Some(b'+' | b'-')
            if bytes.len() == 6 && digit(1) && digit(2) && bytes[3] == b':' && digit(4) && digit(5) =>
        {
            Ok(())
        }
        _ => Err(fault(rest, "Z07:00")),
    }
}

/// A time of the right form that names no moment; which part is at fault is told by its range.
pub(super) fn time_out_of_range(text: &str) -> String {
    let number = |range: std::ops::Range<usize>| {
        text.get(range).and_then(|part| part.parse::<u32>().ok()).unwrap_or(0)
    };
    let part = if !(1..=12).contains(&number(5..7)) {
        "month"
    } else if number(11..13) > 23 {
        "hour"
    } else if number(14..16) > 59 {
        "minute"
    } else if number(17..19) > 59 {
        "second"
    } else {
        "day"
    };
    format!("parsing time {text:?}: {part} out of range")
}
