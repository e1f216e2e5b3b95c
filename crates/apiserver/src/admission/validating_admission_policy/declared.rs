//! The kinds of the cluster as types of expressions.

use std::collections::BTreeMap;
use std::sync::Arc;

use sampan_api::schema::{Node, NodeId, Schema, TypeBody, TypeId};
use sampan_cel::Type;
use sampan_cel::schema::escape;
use sampan_cel::types::{Decl, ListKind, ObjectField, ObjectType};

/// Deepest nesting of types that is looked at; what is below can be anything.
const MAX_DEPTH: usize = 32;

/// The declaration of a kind's objects.
///
/// A type that contains itself, and what a schema leaves open, is dynamic: a check of types finds
/// nothing there, which is better than something wrong.
pub fn object(schema: &Schema, id: TypeId) -> Arc<Decl> {
    let mut reader = Reader { schema, around: Vec::new(), known: BTreeMap::new() };
    reader.named(id)
}

struct Reader<'s> {
    schema: &'s Schema,
    /// The structures that contain the one that is being read.
    around: Vec<TypeId>,
    known: BTreeMap<TypeId, Arc<Decl>>,
}

impl Reader<'_> {
    fn named(&mut self, id: TypeId) -> Arc<Decl> {
        if let Some(known) = self.known.get(&id) {
            return known.clone();
        }
        if self.around.contains(&id) || self.around.len() >= MAX_DEPTH {
            return Arc::new(Decl::dynamic());
        }
        let definition = self.schema.type_def(id);
        let open = match definition.body {
            TypeBody::Alias(node) => return self.node(node),
            TypeBody::Struct { open, .. } => open,
        };
        if open && self.schema.fields(id).is_empty() {
            return Arc::new(Decl::dynamic());
        }
        self.around.push(id);
        let mut fields = BTreeMap::new();
        for field in self.schema.fields(id) {
            if let Some(name) = escape(&field.name) {
                let decl = self.node(self.schema.node(field.node));
                fields.insert(name, ObjectField { decl, json: field.name.as_ref().into() });
            }
        }
        self.around.pop();
        let object = ObjectType { name: definition.name.to_string(), fields, open: false };
        let decl = Arc::new(Decl::object(Arc::new(object), 2));
        self.known.insert(id, decl.clone());
        decl
    }

    fn inner(&mut self, id: NodeId) -> Arc<Decl> {
        self.node(self.schema.node(id))
    }

    fn node(&mut self, node: Node) -> Arc<Decl> {
        let scalar = |ty: Type| Decl::scalar(ty, u64::MAX, 1);
        Arc::new(match node {
            Node::String | Node::Quantity => scalar(Type::String),
            Node::Boolean => scalar(Type::Bool),
            Node::Int32 | Node::Int64 => scalar(Type::Int),
            Node::Number => scalar(Type::Double),
            Node::Bytes => scalar(Type::Bytes),
            Node::Time | Node::MicroTime => scalar(Type::Timestamp),
            Node::IntOrString | Node::Any => Decl::dynamic(),
            Node::List(of) => Decl::list(self.inner(of), ListKind::Atomic, u64::MAX),
            Node::Map(of) => Decl::map(self.inner(of), u64::MAX),
            Node::Type(id) => return self.named(id),
        })
    }
}
