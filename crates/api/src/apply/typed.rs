//! How server-side apply sees a type: which lists and maps it merges, which are one piece.

use serde_json::{Map, Value};

use super::path::Element;
use crate::schema::{Field, ListType, Name, Node, NodeId, Schema, TypeBody, TypeId, builtin};

/// Names of the structures' fields that are no pointers in Kubernetes' source.
const ALWAYS_WRITTEN: [&str; 7] =
    ["metadata", "spec", "status", "template", "jobTemplate", "strategy", "updateStrategy"];

/// A place in a schema.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'s> {
    schema: &'s Schema,
    node: Node,
    list: Option<&'s ListType>,
    atomic: bool,
}

/// The ways in which values are owned.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'s> {
    Scalar(Scalar),
    /// A list that is owned as a whole.
    AtomicList(Typed<'s>),
    /// A list of scalars, each owned.
    Set(Typed<'s>),
    /// A list of structures, told apart by their keys.
    Keyed(&'s [Name], Typed<'s>),
    /// A structure, or a map with free keys.
    Map {
        atomic: bool,
    },
    /// What no schema describes: the value tells.
    Untyped,
}

/// What a scalar must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Numeric,
    String,
    Boolean,
    Any,
}

/// A list item that cannot be told apart from others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    #[error("associative list with keys may not have a null element")]
    Null,
    #[error("associative list with keys may not have non-map elements")]
    NoMap,
    #[error(
        "associative list with keys has an element that omits all key fields [{0}] (and doesn't have default values for any key fields)"
    )]
    NoKeys(String),
    #[error("associative list without keys has an element that's a map type")]
    MapInSet,
    #[error("not supported: associative list with lists as elements")]
    ListInSet,
    #[error("associative list without keys has an element that's an explicit null")]
    NullInSet,
}

impl<'s> Typed<'s> {
    /// The type of a whole object.
    pub fn new(schema: &'s Schema, id: TypeId) -> Self {
        Typed { schema, node: Node::Type(id), list: None, atomic: false }
    }

    fn of(self, node: NodeId) -> Self {
        let extra = self.schema.inner_extra(node);
        Typed {
            schema: self.schema,
            node: self.schema.resolve(node),
            list: extra.and_then(|extra| extra.list.as_ref()),
            atomic: extra.is_some_and(|extra| extra.atomic),
        }
    }

    fn of_field(self, field: &'s Field) -> Self {
        let extra = self.schema.extra(field);
        Typed {
            schema: self.schema,
            node: self.schema.resolve(field.node),
            list: extra.and_then(|extra| extra.list.as_ref()),
            atomic: extra.is_some_and(|extra| extra.atomic),
        }
    }

    fn untyped(self) -> Self {
        Typed { schema: self.schema, node: Node::Any, list: None, atomic: false }
    }

    pub(super) fn shape(self) -> Shape<'s> {
        match self.node {
            Node::String | Node::Bytes => Shape::Scalar(Scalar::String),
            Node::Boolean => Shape::Scalar(Scalar::Boolean),
            Node::Int32 | Node::Int64 | Node::Number => Shape::Scalar(Scalar::Numeric),
            Node::Time | Node::MicroTime | Node::Quantity | Node::IntOrString => Shape::Scalar(Scalar::Any),
            Node::Any => Shape::Untyped,
            Node::List(of) => match self.list {
                Some(ListType::Set) => Shape::Set(self.of(of)),
                Some(ListType::Map(keys)) => Shape::Keyed(keys, self.of(of)),
                Some(ListType::Atomic) | None => Shape::AtomicList(self.of(of)),
            },
            Node::Map(_) => Shape::Map { atomic: self.atomic },
            Node::Type(id) => Shape::Map { atomic: self.atomic || self.schema.type_def(id).atomic },
        }
    }

    /// The shape that a value has where the schema leaves it open. Lists are then one piece.
    pub(super) fn shape_of(self, value: Option<&Value>) -> Shape<'s> {
        match (self.shape(), value) {
            (Shape::Untyped, Some(Value::Object(_))) => Shape::Map { atomic: false },
            (Shape::Untyped, Some(Value::Array(_))) => Shape::AtomicList(self),
            (Shape::Untyped, _) => Shape::Scalar(Scalar::Any),
            (shape, _) => shape,
        }
    }

    pub(super) fn is_atomic(self) -> bool {
        matches!(self.shape(), Shape::AtomicList(_) | Shape::Map { atomic: true })
    }

    /// Whether a structure has a field of this name. The keys of free maps are none.
    pub(super) fn declares(self, name: &str) -> bool {
        match self.node {
            Node::Type(id) => self.schema.field(id, name).is_some(),
            _ => false,
        }
    }

    /// The type of a field or of a map's value. None for what the schema does not have.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        match self.node {
            Node::Type(id) => match (self.schema.field(id, name), &self.schema.type_def(id).body) {
                (Some(field), _) => Some(self.of_field(field)),
                (None, TypeBody::Struct { open: true, .. }) => Some(self.untyped()),
                (None, TypeBody::Struct { .. } | TypeBody::Alias(_)) => None,
            },
            Node::Map(of) => Some(self.of(of)),
            Node::Any => Some(self),
            _ => None,
        }
    }

    /// The type of a list's items.
    pub(super) fn item(self) -> Option<Self> {
        match self.node {
            Node::List(of) => Some(self.of(of)),
            _ => None,
        }
    }

    /// The structures that Kubernetes' own types always write, with nothing in them: an object has
    /// these before anybody sets a field. Those of custom resources are written when they are there.
    pub fn skeleton(self) -> Value {
        let mut fields = Map::new();
        let Node::Type(id) = self.node else { return Value::Object(fields) };
        if builtin().lookup(&self.schema.type_def(id).name).is_none() {
            return Value::Object(fields);
        }
        for name in ALWAYS_WRITTEN {
            if let Some(field) = self.field(name).filter(|field| matches!(field.node, Node::Type(_))) {
                fields.insert(name.to_owned(), field.skeleton());
            }
        }
        Value::Object(fields)
    }

    /// The default of a key of this structure.
    fn key_default(self, name: &str) -> Option<Value> {
        let Node::Type(id) = self.node else { return None };
        let extra = self.schema.extra(self.schema.field(id, name)?)?;
        serde_json::from_str(extra.default.as_deref()?).ok()
    }
}

/// What tells an item of a keyed list from the others.
pub(super) fn keyed_item(keys: &[Name], item: Typed<'_>, value: &Value) -> Result<Element, ItemError> {
    let fields = match value {
        Value::Object(fields) => fields,
        Value::Null => return Err(ItemError::Null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(ItemError::NoMap);
        }
    };
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        if let Some(value) = fields.get(key.as_ref()).cloned().or_else(|| item.key_default(key)) {
            found.push((Box::from(key.as_ref()), value));
        }
    }
    if found.is_empty() && !keys.is_empty() {
        let names: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(ItemError::NoKeys(names.join(" ")));
    }
    Ok(Element::key(found))
}

/// What tells an item of a set from the others.
pub(super) fn set_item(value: &Value) -> Result<Element, ItemError> {
    match value {
        Value::Object(_) => Err(ItemError::MapInSet),
        Value::Array(_) => Err(ItemError::ListInSet),
        Value::Null => Err(ItemError::NullInSet),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(Element::Value(Box::new(value.clone()))),
    }
}

impl<'s> Shape<'s> {
    /// The identity of a list's item and its type, in lists that merge.
    pub(super) fn identify(self, value: &Value) -> Result<Option<(Element, Typed<'s>)>, ItemError> {
        match self {
            Shape::Set(item) => Ok(Some((set_item(value)?, item))),
            Shape::Keyed(keys, item) => Ok(Some((keyed_item(keys, item, value)?, item))),
            Shape::Scalar(_) | Shape::AtomicList(_) | Shape::Map { .. } | Shape::Untyped => Ok(None),
        }
    }
}
