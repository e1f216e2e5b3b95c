//! The merge keys and strategies of the built-in kinds.

use super::{MergeField, MergeSchema};
use crate::schema::{Node, Schema, TypeId};

/// A structure of a [`Schema`], as a merge walks it.
#[derive(Clone, Copy, Debug)]
pub struct SchemaMerge<'a> {
    schema: &'a Schema,
    at: TypeId,
}

impl<'a> SchemaMerge<'a> {
    /// Starts at the type of an object, such as `io.k8s.api.core.v1.Pod`.
    pub fn new(schema: &'a Schema, at: TypeId) -> Self {
        SchemaMerge { schema, at }
    }
}

impl MergeSchema for SchemaMerge<'_> {
    fn field(&self, name: &str) -> Option<MergeField<Self>> {
        let field = self.schema.field(self.at, name)?;
        let mut node = self.schema.resolve(field.node);
        if let Node::List(item) = node {
            node = self.schema.resolve(item);
        }
        let schema = match node {
            Node::Type(at) => Some(SchemaMerge { schema: self.schema, at }),
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
            | Node::Any
            | Node::List(_)
            | Node::Map(_) => None,
        };
        let extra = self.schema.extra(field);
        let strategies = extra.and_then(|extra| extra.patch_strategy.as_deref()).unwrap_or_default();
        let has = |wanted: &str| strategies.split(',').any(|strategy| strategy == wanted);
        Some(MergeField {
            schema,
            replace: has("replace"),
            merge: has("merge"),
            merge_key: extra.and_then(|extra| extra.merge_key.clone()),
        })
    }
}
