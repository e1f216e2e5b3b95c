//! Types of expressions, and declarations of values with the sizes that cost estimates need.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::parser::is_reserved;

/// The type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Decided at run time.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Object(Arc<ObjectType>),
    /// A library's type, as `kubernetes.URL`.
    Opaque(&'static str),
    Optional(Arc<Type>),
    Type(Arc<Type>),
    /// Yet to be found out; only within the checker.
    Var(u32),
}

/// A structure: the fields by the names that expressions use.
#[derive(Debug, Default)]
pub struct ObjectType {
    pub name: String,
    pub fields: BTreeMap<String, ObjectField>,
    /// Any field is one of it, of whatever type: what the expressions of mutating policies make.
    pub open: bool,
}

/// A field of a structure.
#[derive(Debug)]
pub struct ObjectField {
    pub decl: Arc<Decl>,
    /// The name in JSON, which need not be an identifier.
    pub json: Arc<str>,
}

impl ObjectType {
    /// The field of a name as expressions use it. Words that are reserved have an escaped form, `__namespace__`,
    /// which was the only one before Kubernetes 1.31; since then they also stand for themselves.
    pub fn field(&self, name: &str) -> Option<&ObjectField> {
        let escaped = || is_reserved(name).then(|| self.fields.get(&format!("__{name}__"))).flatten();
        self.fields.get(name).or_else(escaped)
    }
}

/// Structures are the same only when they are one; open ones have nothing but their name.
impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || (self.open && other.open && self.name == other.name)
    }
}

/// The declaration of a value: its type, and how large it can be.
#[derive(Debug)]
pub struct Decl {
    pub shape: Shape,
    /// Most elements, entries or bytes.
    pub max_elements: u64,
    /// Fewest bytes in JSON.
    pub min_size: u64,
    pub ty: Type,
}

/// What a declared value is made of.
#[derive(Debug)]
pub enum Shape {
    Scalar,
    List(Arc<Decl>, ListKind),
    Map(Arc<Decl>),
    Object(Arc<ObjectType>),
    /// A string that is read as another type.
    Format(Format),
}

/// `x-kubernetes-list-type`, which decides about equality and addition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

/// Strings of a format that have a type of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Bytes,
    Duration,
    Date,
    DateTime,
    /// Not a string: a number that is a double even when it is whole.
    Double,
}

impl Decl {
    pub fn scalar(ty: Type, max_elements: u64, min_size: u64) -> Self {
        Decl { shape: Shape::Scalar, max_elements, min_size, ty }
    }

    /// A value of which nothing is known.
    pub fn dynamic() -> Self {
        Decl::scalar(Type::Dyn, u64::MAX, 1)
    }

    pub fn list(of: Arc<Decl>, kind: ListKind, max_elements: u64) -> Self {
        let ty = Type::List(Arc::new(of.ty.clone()));
        Decl { shape: Shape::List(of, kind), max_elements, min_size: 2, ty }
    }

    pub fn map(of: Arc<Decl>, max_elements: u64) -> Self {
        let ty = Type::Map(Arc::new(Type::String), Arc::new(of.ty.clone()));
        Decl { shape: Shape::Map(of), max_elements, min_size: 2, ty }
    }

    pub fn object(of: Arc<ObjectType>, min_size: u64) -> Self {
        // Not counted by upstream, so that comparing whole structures is free in estimates.
        Decl { ty: Type::Object(of.clone()), shape: Shape::Object(of), max_elements: 0, min_size }
    }

    /// A structure whose fields are declared here.
    pub fn structure(name: &str, fields: impl IntoIterator<Item = (&'static str, Decl)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, decl)| (name.to_owned(), ObjectField { decl: Arc::new(decl), json: name.into() }));
        let object = ObjectType { name: name.to_owned(), fields: fields.collect(), open: false };
        Decl::object(Arc::new(object), 2)
    }
}

impl Type {
    pub fn list(of: Type) -> Self {
        Type::List(Arc::new(of))
    }

    pub fn map(key: Type, value: Type) -> Self {
        Type::Map(Arc::new(key), Arc::new(value))
    }

    /// The name that `type(x)` prints.
    pub fn runtime_name(&self) -> &str {
        match self {
            Type::Null => "null_type",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::List(_) => "list",
            Type::Map(..) => "map",
            Type::Optional(_) => "optional_type",
            Type::Type(_) => "type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Opaque(name) => name,
            Type::Object(object) => &object.name,
            Type::Dyn | Type::Var(_) => "dyn",
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Null => f.write_str("null"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::List(of) => write!(f, "list({of})"),
            Type::Map(key, value) => write!(f, "map({key}, {value})"),
            Type::Optional(of) => write!(f, "optional_type({of})"),
            Type::Type(of) => write!(f, "type({of})"),
            other => f.write_str(other.runtime_name()),
        }
    }
}
