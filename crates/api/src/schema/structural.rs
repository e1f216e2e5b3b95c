//! Makes a schema out of a custom resource definition's `openAPIV3Schema`.
//!
//! The definition must be structural (every value has a type), which is what Kubernetes requires
//! of `apiextensions.k8s.io/v1`. Structures get names of their own but stand in line in OpenAPI.
//! What validates values beyond their type (patterns, bounds, rules) is not kept here.

use std::borrow::Cow;

use serde_json::Value;

use super::parse::Nodes;
use super::{Extra, Field, ListType, Name, Node, NodeId, Schema, TypeBody, TypeDef, TypeId, builtin};

/// The most fields that one custom resource may have.
const MAX_FIELDS: usize = 50_000;
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// A definition that is not structural.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StructuralError {
    #[error("{path}.type: Required value: must not be empty for specified object fields")]
    NoType { path: String },
    #[error("{path}.type: Unsupported value: {text:?}")]
    UnknownType { path: String, text: String },
    #[error("{path}.items: Required value: must be specified")]
    NoItems { path: String },
    #[error("openAPIV3Schema: Too many: must have at most {MAX_FIELDS} fields")]
    TooLarge,
}

impl Schema {
    /// Reads an `openAPIV3Schema`. `name` becomes the full name of the type: reversed group,
    /// version and kind, as `com.example.v1.Thing`.
    pub fn from_structural(name: &str, definition: &Value) -> Result<(Schema, TypeId), StructuralError> {
        let mut builder = Builder { schema: Schema::default(), nodes: Nodes::default() };
        let id = builder.structure(name.to_owned(), definition, "openAPIV3Schema", true)?;
        Ok((builder.schema, id))
    }
}

struct Builder {
    schema: Schema,
    nodes: Nodes,
}

impl Builder {
    /// A value of a type. `name` is the one of a structure, should it be one; `path` is for errors.
    fn value(&mut self, name: String, definition: &Value, path: &str) -> Result<NodeId, StructuralError> {
        if flag(definition, "x-kubernetes-int-or-string") {
            return Ok(self.add(Node::IntOrString));
        }
        let node = match text(definition, "type") {
            "" if flag(definition, "x-kubernetes-preserve-unknown-fields") => Node::Any,
            "" => return Err(StructuralError::NoType { path: path.to_owned() }),
            "string" => Node::String,
            "boolean" => Node::Boolean,
            "number" => Node::Number,
            "integer" if text(definition, "format") == "int32" => Node::Int32,
            "integer" => Node::Int64,
            "array" => {
                let items = definition
                    .get("items")
                    .ok_or_else(|| StructuralError::NoItems { path: path.to_owned() })?;
                Node::List(self.value(name, items, &format!("{path}.items"))?)
            }
            "object" => self.object(name, definition, path)?,
            other => {
                return Err(StructuralError::UnknownType { path: path.to_owned(), text: other.to_owned() });
            }
        };
        Ok(self.add_merging(node, definition))
    }

    /// A list or a map that does not merge as others do is a node of its own.
    fn add_merging(&mut self, node: Node, definition: &Value) -> NodeId {
        let list = list_type(definition).filter(|list| *list != ListType::Atomic);
        let atomic = is_atomic(definition);
        if list.is_none() && !(atomic && matches!(node, Node::Map(_))) {
            return self.add(node);
        }
        self.schema.nodes.push(node);
        let id = NodeId(self.schema.nodes.len() as u32 - 1);
        self.schema.inner_extras.insert(id, self.schema.extras.len());
        self.schema.extras.push(Extra { list, atomic, ..Extra::default() });
        id
    }

    fn object(&mut self, name: String, definition: &Value, path: &str) -> Result<Node, StructuralError> {
        let embedded = flag(definition, "x-kubernetes-embedded-resource");
        let has_properties = definition.get("properties").is_some_and(Value::is_object);
        match definition.get("additionalProperties") {
            Some(Value::Bool(true)) => return Ok(Node::Any),
            Some(values @ Value::Object(_)) if !has_properties => {
                let path = format!("{path}.additionalProperties");
                return Ok(Node::Map(self.value(name, values, &path)?));
            }
            Some(_) | None => {}
        }
        if !has_properties && !embedded && flag(definition, "x-kubernetes-preserve-unknown-fields") {
            return Ok(Node::Any);
        }
        self.structure(name, definition, path, embedded).map(Node::Type)
    }

    /// A structure; `resource` adds what every object has.
    fn structure(
        &mut self,
        name: String,
        definition: &Value,
        path: &str,
        resource: bool,
    ) -> Result<TypeId, StructuralError> {
        let required: Vec<&str> = definition
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut fields = Vec::new();
        if resource {
            let string = self.add(Node::String);
            let meta = builtin().lookup(OBJECT_META).expect("every object has metadata (tested)");
            let meta = self.import(builtin(), meta);
            let meta = self.add(Node::Type(meta));
            for (name, node) in [("apiVersion", string), ("kind", string), ("metadata", meta)] {
                fields.push(Field { name: Cow::Borrowed(name), node, required: false, extra: 0 });
            }
        }
        for (key, property) in definition.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let path = format!("{path}.properties[{key}]");
            let node = self.value(format!("{name}.{key}"), property, &path)?;
            let extra = self.extra(property);
            fields.push(Field {
                name: Cow::Owned(key.clone()),
                node,
                required: required.contains(&key.as_str()),
                extra,
            });
            if self.schema.fields.len() + fields.len() > MAX_FIELDS {
                return Err(StructuralError::TooLarge);
            }
        }
        let open = flag(definition, "x-kubernetes-preserve-unknown-fields");
        let body = self.place(fields, open);
        let is_root = path == "openAPIV3Schema";
        Ok(self.define(TypeDef {
            name: Cow::Owned(name),
            body,
            atomic: is_atomic(definition),
            inline: !is_root,
            documentation: documentation(definition),
            description: 0,
        }))
    }

    fn extra(&mut self, definition: &Value) -> u32 {
        let extra = Extra {
            list: list_type(definition),
            atomic: is_atomic(definition),
            nullable: flag(definition, "nullable"),
            default: definition.get("default").map(|value| Cow::Owned(value.to_string())),
            enumeration: names(definition, "enum"),
            documentation: documentation(definition),
            ..Extra::default()
        };
        if extra == Extra::default() {
            return 0;
        }
        self.schema.extras.push(extra);
        self.schema.extras.len() as u32
    }

    /// Copies a type and everything that it refers to.
    fn import(&mut self, from: &Schema, id: TypeId) -> TypeId {
        let definition = from.type_def(id);
        if let Some(known) = self.schema.lookup(&definition.name) {
            return known;
        }
        // Known by its name before its fields are copied, as types may refer to themselves.
        let copy = self.define(definition.clone());
        let body = match definition.body {
            TypeBody::Alias(node) => TypeBody::Alias(self.import_node(from, node)),
            TypeBody::Struct { open, .. } => {
                let fields = from.fields(id).iter().map(|field| self.import_field(from, field)).collect();
                self.place(fields, open)
            }
        };
        self.schema.types[copy.0 as usize].body = body;
        copy
    }

    fn import_field(&mut self, from: &Schema, field: &Field) -> Field {
        let node = self.import_node(from, from.node(field.node));
        let node = self.add(node);
        let extra = match from.extra(field) {
            None => 0,
            Some(extra) => {
                self.schema.extras.push(extra.clone());
                self.schema.extras.len() as u32
            }
        };
        Field { name: field.name.clone(), node, required: field.required, extra }
    }

    fn import_node(&mut self, from: &Schema, node: Node) -> Node {
        match node {
            Node::Type(id) => Node::Type(self.import(from, id)),
            Node::List(of) => {
                let of = self.import_node(from, from.node(of));
                Node::List(self.add(of))
            }
            Node::Map(of) => {
                let of = self.import_node(from, from.node(of));
                Node::Map(self.add(of))
            }
            scalar => scalar,
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.add(&mut self.schema, node)
    }

    /// Puts a structure's fields in one row, sorted.
    fn place(&mut self, mut fields: Vec<Field>, open: bool) -> TypeBody {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let body =
            TypeBody::Struct { first: self.schema.fields.len() as u32, count: fields.len() as u32, open };
        self.schema.fields.extend(fields);
        body
    }

    fn define(&mut self, definition: TypeDef) -> TypeId {
        let id = TypeId(self.schema.types.len() as u32);
        self.schema.by_name.insert(definition.name.clone(), id);
        self.schema.types.push(definition);
        id
    }
}

fn list_type(definition: &Value) -> Option<ListType> {
    match text(definition, "x-kubernetes-list-type") {
        "atomic" => Some(ListType::Atomic),
        "set" => Some(ListType::Set),
        "map" => Some(ListType::Map(names(definition, "x-kubernetes-list-map-keys"))),
        _ => None,
    }
}

fn is_atomic(definition: &Value) -> bool {
    text(definition, "x-kubernetes-map-type") == "atomic"
}

fn text<'a>(definition: &'a Value, key: &str) -> &'a str {
    definition.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn flag(definition: &Value, key: &str) -> bool {
    definition.get(key).and_then(Value::as_bool).unwrap_or_default()
}

fn names(definition: &Value, key: &str) -> Vec<Name> {
    let items = definition.get(key).and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_str).map(|name| Cow::Owned(name.to_owned())).collect()
}

fn documentation(definition: &Value) -> Option<Box<str>> {
    Some(text(definition, "description")).filter(|text| !text.is_empty()).map(Box::from)
}
