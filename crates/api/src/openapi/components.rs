//! The types of a document.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Dialect;
use crate::custom::{Version, open_api};
use crate::schema::{self, Descriptions, Extra, ListType, Node, Schema, TypeBody, TypeId};

pub(super) const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Collects the types that operations name, and everything that those refer to.
pub(super) struct Components {
    pub(super) dialect: Dialect,
    descriptions: Descriptions,
    /// Written types by name; null while one waits to be written.
    done: BTreeMap<String, Value>,
    /// Group, version and kind of types that have one.
    kinds: BTreeMap<String, BTreeSet<(String, String, String)>>,
}

impl Components {
    pub(super) fn new(dialect: Dialect) -> Self {
        let descriptions = schema::descriptions();
        Components { dialect, descriptions, done: BTreeMap::new(), kinds: BTreeMap::new() }
    }

    /// A reference to a built-in type, which becomes part of the document.
    pub(super) fn builtin(&mut self, name: &str) -> Value {
        let schema = schema::builtin();
        if let Some(id) = schema.lookup(name) {
            self.add(schema, id);
        }
        self.dialect.reference(name)
    }

    /// A reference to a type of any schema.
    pub(super) fn of_schema(&mut self, schema: &Schema, id: TypeId) -> Value {
        self.add(schema, id);
        self.dialect.reference(&schema.type_def(id).name)
    }

    /// A reference to the type of a custom resource, written as its definition has it.
    pub(super) fn custom(&mut self, name: &str, version: &Version) -> Value {
        let metadata = self.builtin(&format!("{META}.ObjectMeta"));
        let mut common = open_api::Common {
            api_version: json!({"type": "string"}),
            kind: json!({"type": "string"}),
            metadata: self.wrap(metadata),
        };
        // Any built-in kind's will do: they are the same for all.
        let described = [
            ("apiVersion", &mut common.api_version),
            ("kind", &mut common.kind),
            ("metadata", &mut common.metadata),
        ];
        for (field, value) in described {
            value["description"] = self.field_description("io.k8s.api.core.v1.ConfigMap", field).into();
        }
        let document = open_api::document(&version.source, self.dialect == Dialect::V2, &common);
        self.done.insert(name.to_owned(), document);
        self.dialect.reference(name)
    }

    fn field_description(&self, type_name: &str, field: &str) -> String {
        let schema = schema::builtin();
        let Some(id) = schema.lookup(type_name) else { return String::new() };
        let index = schema.fields(id).iter().position(|known| known.name == field);
        index.map_or_else(String::new, |index| self.descriptions.of_field(schema, id, index))
    }

    /// A reference to the list of a type.
    pub(super) fn list_of(&mut self, item: &str, list_kind: &str) -> Value {
        let package = item.rsplit_once('.').map_or("", |(package, _)| package);
        let name = format!("{package}.{list_kind}");
        let metadata = self.builtin(&format!("{META}.ListMeta"));
        let items = self.wrap(self.dialect.reference(item));
        let metadata = self.wrap(metadata);
        let list = json!({
            "type": "object",
            "description": format!("{list_kind} is a list of objects."),
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string", "description": "The version of this representation."},
                "kind": {"type": "string", "description": "The kind of this list."},
                "items": {"type": "array", "description": "The objects.", "items": items},
                "metadata": metadata,
            },
        });
        let reference = self.dialect.reference(&name);
        self.done.insert(name, list);
        reference
    }

    /// States the group, version and kind of a type.
    pub(super) fn name_kind(&mut self, type_name: &str, group: &str, version: &str, kind: &str) {
        let kinds = self.kinds.entry(type_name.to_owned()).or_default();
        kinds.insert((group.to_owned(), version.to_owned(), kind.to_owned()));
    }

    /// All collected types by name.
    pub(super) fn finish(self) -> Map<String, Value> {
        let mut out: Map<String, Value> = self.done.into_iter().collect();
        for (name, kinds) in self.kinds {
            let Some(one) = out.get_mut(&name) else { continue };
            one["x-kubernetes-group-version-kind"] = kinds
                .into_iter()
                .map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind}))
                .collect();
        }
        out
    }

    fn add(&mut self, schema: &Schema, root: TypeId) {
        let mut waiting = vec![root];
        while let Some(id) = waiting.pop() {
            let name = schema.type_def(id).name.to_string();
            if self.done.contains_key(&name) {
                continue;
            }
            let value = self.type_value(schema, id, &mut waiting);
            self.done.insert(name, value);
        }
    }

    fn type_value(&self, schema: &Schema, id: TypeId, waiting: &mut Vec<TypeId>) -> Value {
        let definition = schema.type_def(id);
        // The descriptions are those of built-in types, of which custom schemas hold copies.
        let described = schema::builtin().lookup(&definition.name).is_some();
        let mut value = match definition.body {
            TypeBody::Alias(node) => self.alias_value(node, &definition.name),
            TypeBody::Struct { open, .. } => {
                let mut properties = Map::new();
                let mut required = Vec::new();
                for (index, field) in schema.fields(id).iter().enumerate() {
                    let mut property = self.node_value(schema, schema.node(field.node), waiting);
                    if described {
                        property["description"] = self.descriptions.of_field(schema, id, index).into();
                    }
                    if let Some(extra) = schema.extra(field) {
                        if let Some(text) = extra.documentation.as_deref() {
                            property["description"] = text.into();
                        }
                        add_extra(&mut property, extra);
                    }
                    if field.required {
                        required.push(field.name.to_string());
                    }
                    properties.insert(field.name.to_string(), property);
                }
                let mut value = json!({"type": "object", "properties": properties});
                if !required.is_empty() {
                    value["required"] = required.into();
                }
                if open {
                    value["x-kubernetes-preserve-unknown-fields"] = true.into();
                }
                value
            }
        };
        if described {
            value["description"] = self.descriptions.of_type(schema, id).into();
        } else if let Some(text) = definition.documentation.as_deref() {
            value["description"] = text.into();
        }
        if definition.atomic {
            value["x-kubernetes-map-type"] = "atomic".into();
        }
        value
    }

    /// Version 3 allows nothing beside a reference, so that it stands alone in `allOf`.
    fn wrap(&self, reference: Value) -> Value {
        match self.dialect {
            Dialect::V2 => reference,
            Dialect::V3 => json!({"allOf": [reference]}),
        }
    }

    fn node_value(&self, schema: &Schema, node: Node, waiting: &mut Vec<TypeId>) -> Value {
        match node {
            Node::Type(id) if schema.type_def(id).inline => self.type_value(schema, id, waiting),
            Node::Type(id) => {
                waiting.push(id);
                self.wrap(self.dialect.reference(&schema.type_def(id).name))
            }
            Node::List(of) => {
                json!({"type": "array", "items": self.node_value(schema, schema.node(of), waiting)})
            }
            Node::Map(of) => {
                let values = self.node_value(schema, schema.node(of), waiting);
                json!({"type": "object", "additionalProperties": values})
            }
            scalar => self.alias_value(scalar, ""),
        }
    }

    fn alias_value(&self, node: Node, name: &str) -> Value {
        match (node, self.dialect) {
            (Node::String, _) => json!({"type": "string"}),
            (Node::Boolean, _) => json!({"type": "boolean"}),
            (Node::Int32, _) => json!({"type": "integer", "format": "int32"}),
            (Node::Int64, _) => json!({"type": "integer", "format": "int64"}),
            (Node::Number, _) => json!({"type": "number", "format": "double"}),
            (Node::Bytes, _) => json!({"type": "string", "format": "byte"}),
            (Node::Time | Node::MicroTime, _) => json!({"type": "string", "format": "date-time"}),
            (Node::Quantity, Dialect::V2) => json!({"type": "string"}),
            (Node::Quantity, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            (Node::IntOrString, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
            (Node::IntOrString, Dialect::V3) => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            // The parts of a JSON schema may be of any type; everything else free is an object.
            (Node::Any, _) if name.contains(".apiextensions.v1.JSON") => json!({}),
            (Node::Any | Node::List(_) | Node::Map(_) | Node::Type(_), _) => json!({"type": "object"}),
        }
    }
}

fn add_extra(property: &mut Value, extra: &Extra) {
    match &extra.list {
        None => {}
        Some(ListType::Atomic) => property["x-kubernetes-list-type"] = "atomic".into(),
        Some(ListType::Set) => property["x-kubernetes-list-type"] = "set".into(),
        Some(ListType::Map(keys)) => {
            property["x-kubernetes-list-type"] = "map".into();
            property["x-kubernetes-list-map-keys"] = json!(keys);
        }
    }
    if extra.nullable {
        property["nullable"] = true.into();
    }
    if extra.atomic {
        property["x-kubernetes-map-type"] = "atomic".into();
    }
    if let Some(key) = &extra.merge_key {
        property["x-kubernetes-patch-merge-key"] = json!(key);
    }
    if let Some(strategy) = &extra.patch_strategy {
        property["x-kubernetes-patch-strategy"] = json!(strategy);
    }
    if let Some(default) = extra.default.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
        property["default"] = default;
    }
    if !extra.enumeration.is_empty() {
        let target = if property["type"] == "array" { &mut property["items"] } else { property };
        target["enum"] = json!(extra.enumeration);
    }
}
