//! Values of expressions. What comes from JSON is borrowed and typed by its declaration as it is
//! looked at; nothing is copied up front.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map as JsonMap, Value as Json};

use crate::library::authz::Authz;
use crate::library::net::{Cidr, Ip};
use crate::library::semver::Semver;
use crate::library::url::Url;
use crate::types::{Decl, Format, ListKind, ObjectType, Shape, Type};

pub mod compare;
pub mod json;

/// Deepest value that an expression may make: what walks one recurses.
pub const MAX_DEPTH: u16 = 512;

/// A value.
#[derive(Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Type),
    Opaque(Opaque<'a>),
}

/// A string of an object, or one that was made.
#[derive(Clone)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

/// A list of an object, or one that was made.
#[derive(Clone)]
pub enum List<'a> {
    Json { items: &'a [Json], of: Option<&'a Decl>, kind: &'a ListKind },
    Owned { items: Arc<Vec<Value<'a>>>, depth: u16 },
}

/// A map or structure.
#[derive(Clone)]
pub enum Map<'a> {
    Json {
        fields: &'a JsonMap<String, Json>,
        of: Fields<'a>,
    },
    Owned(Arc<OwnedMap<'a>>),
    /// The variables of a policy: made when they are first asked for.
    Variables,
}

/// What is known about the values of a JSON object.
#[derive(Clone, Copy)]
pub enum Fields<'a> {
    Free,
    Of(&'a Decl),
    Object(&'a ObjectType),
}

/// A map or structure that an expression made.
#[derive(Clone, Default)]
pub struct OwnedMap<'a> {
    /// The type's name, for a structure.
    pub name: Option<Arc<str>>,
    pub entries: BTreeMap<Key, Value<'a>>,
    pub depth: u16,
}

/// A key of a map. Whole numbers of all types are one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Arc<str>),
}

/// Values of the libraries' types.
#[derive(Clone)]
pub enum Opaque<'a> {
    Quantity(sampan_api::quantity::Quantity),
    Url(Arc<Url>),
    Ip(Ip),
    Cidr(Cidr),
    Semver(Arc<Semver>),
    Format(&'static str),
    Authz(Authz<'a>),
}

impl<'a> Value<'a> {
    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Value::String(Text::Shared(text.into()))
    }

    /// A list that an expression made; none when it would be too deep.
    pub fn list(items: Vec<Value<'a>>) -> Option<Self> {
        let depth = items.iter().map(Value::depth).max().unwrap_or(0) + 1;
        (depth <= MAX_DEPTH).then(|| Value::List(List::Owned { items: Arc::new(items), depth }))
    }

    /// A list of flat values.
    pub fn flat_list(items: Vec<Value<'a>>) -> Self {
        Value::List(List::Owned { items: Arc::new(items), depth: 2 })
    }

    /// A map or structure that an expression made; none when it would be too deep.
    pub fn map(name: Option<Arc<str>>, entries: BTreeMap<Key, Value<'a>>) -> Option<Self> {
        let depth = entries.values().map(Value::depth).max().unwrap_or(0) + 1;
        (depth <= MAX_DEPTH).then(|| Value::Map(Map::Owned(Arc::new(OwnedMap { name, entries, depth }))))
    }

    pub fn depth(&self) -> u16 {
        match self {
            // JSON nests at most 128 deep.
            Value::List(List::Json { .. }) | Value::Map(Map::Json { .. }) => 128,
            Value::List(List::Owned { depth, .. }) => *depth,
            Value::Map(Map::Owned(map)) => map.depth,
            Value::Optional(Some(inner)) => inner.depth() + 1,
            _ => 1,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A value of JSON as its declaration says, or as it looks.
    pub fn from_json(json: &'a Json, decl: Option<&'a Decl>) -> Self {
        match (json, decl.map(|decl| &decl.shape)) {
            (Json::Null, _) => Value::Null,
            (Json::Bool(bool), _) => Value::Bool(*bool),
            (Json::Number(number), shape) => {
                let double = matches!(shape, Some(Shape::Format(Format::Double)));
                match number.as_i64().filter(|_| !double) {
                    Some(whole) => Value::Int(whole),
                    None => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
                }
            }
            (Json::String(text), Some(Shape::Format(format))) => {
                json::formatted(text, *format).unwrap_or(Value::String(Text::Borrowed(text)))
            }
            (Json::String(text), _) => Value::String(Text::Borrowed(text)),
            (Json::Array(items), Some(Shape::List(of, kind))) => {
                Value::List(List::Json { items, of: Some(of), kind })
            }
            (Json::Array(items), _) => Value::List(List::Json { items, of: None, kind: &ListKind::Atomic }),
            (Json::Object(fields), Some(Shape::Map(of))) => {
                Value::Map(Map::Json { fields, of: Fields::Of(of) })
            }
            (Json::Object(fields), Some(Shape::Object(of))) => {
                Value::Map(Map::Json { fields, of: Fields::Object(of) })
            }
            (Json::Object(fields), _) => Value::Map(Map::Json { fields, of: Fields::Free }),
        }
    }

    /// Elements, entries, characters or bytes; what has no size counts as one.
    pub fn size(&self) -> u64 {
        match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Optional(Some(inner)) => inner.size(),
            _ => 1,
        }
    }

    pub fn ty(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Duration(_) => Type::Duration,
            Value::Timestamp(_) => Type::Timestamp,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Value::Optional(_) => Type::Optional(Arc::new(Type::Dyn)),
            Value::Type(_) => Type::Type(Arc::new(Type::Dyn)),
            Value::Opaque(opaque) => Type::Opaque(opaque.name()),
        }
    }
}

impl Opaque<'_> {
    pub fn name(&self) -> &'static str {
        match self {
            Opaque::Quantity(_) => "kubernetes.Quantity",
            Opaque::Url(_) => "kubernetes.URL",
            Opaque::Ip(_) => "net.IP",
            Opaque::Cidr(_) => "net.CIDR",
            Opaque::Semver(_) => "kubernetes.Semver",
            Opaque::Format(_) => "kubernetes.NamedFormat",
            Opaque::Authz(authz) => authz.name(),
        }
    }
}

impl<'a> OwnedMap<'a> {
    /// The value of a text as key.
    pub fn get_str(&self, name: &str) -> Option<Value<'a>> {
        self.entries.get(&Key::String(name.into())).cloned()
    }
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Json { items, .. } => items.len(),
            List::Owned { items, .. } => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, at: usize) -> Option<Value<'a>> {
        match self {
            List::Json { items, of, .. } => items.get(at).map(|item| Value::from_json(item, *of)),
            List::Owned { items, .. } => items.get(at).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Map::Json { fields, .. } => fields.len(),
            Map::Owned(map) => map.entries.len(),
            Map::Variables => 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key; for a structure, of a field by the name that expressions use.
    pub fn get(&self, key: &Key) -> Option<Value<'a>> {
        match self {
            Map::Owned(map) => map.entries.get(key).cloned(),
            Map::Json { fields, of } => match key {
                Key::String(name) => field(fields, *of, name),
                _ => None,
            },
            Map::Variables => None,
        }
    }

    pub fn get_str(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Map::Json { fields, of } => field(fields, *of, name),
            other => other.get(&Key::String(name.into())),
        }
    }

    pub fn keys(&self) -> Vec<Key> {
        match self {
            Map::Json { fields, of: Fields::Object(object) } => object
                .fields
                .iter()
                .filter(|(_, field)| fields.contains_key(field.json.as_ref()))
                .map(|(name, _)| Key::String(name.as_str().into()))
                .collect(),
            Map::Json { fields, .. } => fields.keys().map(|name| Key::String(name.as_str().into())).collect(),
            Map::Owned(map) => map.entries.keys().cloned().collect(),
            Map::Variables => Vec::new(),
        }
    }
}

fn field<'a>(fields: &'a JsonMap<String, Json>, of: Fields<'a>, name: &str) -> Option<Value<'a>> {
    match of {
        Fields::Free => fields.get(name).map(|json| Value::from_json(json, None)),
        Fields::Of(decl) => fields.get(name).map(|json| Value::from_json(json, Some(decl))),
        Fields::Object(object) => {
            let known = object.field(name)?;
            fields.get(known.json.as_ref()).map(|json| Value::from_json(json, Some(&known.decl)))
        }
    }
}

impl Key {
    /// The key that a value is; none for what cannot be one.
    pub fn of(value: &Value<'_>) -> Option<Key> {
        Some(match value {
            Value::Bool(bool) => Key::Bool(*bool),
            Value::Int(int) => Key::Int(*int),
            Value::Uint(uint) => i64::try_from(*uint).map_or(Key::Uint(*uint), Key::Int),
            Value::Double(double) if double.fract() == 0.0 && double.abs() < 9e15 => Key::Int(*double as i64),
            Value::String(text) => Key::String(text.shared()),
            _ => return None,
        })
    }

    pub fn value<'a>(&self) -> Value<'a> {
        match self {
            Key::Bool(bool) => Value::Bool(*bool),
            Key::Int(int) => Value::Int(*int),
            Key::Uint(uint) => Value::Uint(*uint),
            Key::String(text) => Value::String(Text::Shared(text.clone())),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Bool(bool) => write!(f, "{bool}"),
            Key::Int(int) => write!(f, "{int}"),
            Key::Uint(uint) => write!(f, "{uint}"),
            Key::String(text) => f.write_str(text),
        }
    }
}

impl Text<'_> {
    pub fn shared(&self) -> Arc<str> {
        match self {
            Text::Borrowed(text) => (*text).into(),
            Text::Shared(text) => text.clone(),
        }
    }
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}
