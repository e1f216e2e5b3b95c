//! A custom resource's `openAPIV3Schema`, read once into the tree that everything else walks.
//!
//! Structure (types, fields, what is kept) and value validation (bounds, patterns, junctors) are both
//! in it; schemas below `allOf`, `anyOf`, `oneOf` and `not` are trees of the same type, of which only
//! the validation counts.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::format::Format;
use super::pattern;

/// The most schemas, nested ones included, that one version may have.
const MAX_NODES: usize = 100_000;

/// `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Kind {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "object" => Kind::Object,
            "array" => Kind::Array,
            "string" => Kind::String,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Object => "object",
            Kind::Array => "array",
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Boolean => "boolean",
        }
    }
}

/// `additionalProperties`.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    #[default]
    Absent,
    /// `true` or `false`: says nothing about the values.
    Flag(bool),
    Of(Box<Structural>),
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    /// With its `x-kubernetes-list-map-keys`.
    Map(Vec<String>),
}

/// One schema.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    pub kind: Option<Kind>,
    pub nullable: bool,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Structural>,
    pub additional: Additional,
    pub items: Option<Box<Structural>>,
    pub preserve_unknown: bool,
    pub embedded: bool,
    pub int_or_string: bool,
    pub list: Option<ListKind>,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic_map: bool,
    /// Absent for most.
    pub checks: Option<Box<Checks>>,
}

/// What restricts values beyond their type.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    pub format: Option<Format>,
    pub maximum: Option<Bound>,
    pub minimum: Option<Bound>,
    pub multiple_of: Option<f64>,
    pub max_length: Option<usize>,
    pub min_length: Option<usize>,
    pub pattern: Option<Regex>,
    /// The pattern as it was written.
    pub pattern_text: String,
    pub max_items: Option<usize>,
    pub min_items: Option<usize>,
    pub max_properties: Option<usize>,
    pub min_properties: Option<usize>,
    pub required: Vec<String>,
    pub values: Vec<Value>,
    pub all_of: Vec<Structural>,
    pub any_of: Vec<Structural>,
    pub one_of: Vec<Structural>,
    pub not: Option<Box<Structural>>,
}

/// `maximum` or `minimum`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub value: f64,
    pub exclusive: bool,
}

/// A schema that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SchemaError {
    #[error("{path}: not an object")]
    NotAnObject { path: String },
    #[error("{path}.type: unsupported type {text:?}")]
    Type { path: String, text: String },
    #[error("{path}.pattern: {source}")]
    Pattern { path: String, source: regex::Error },
    #[error("more than {MAX_NODES} schemas")]
    TooLarge,
}

impl Structural {
    /// Reads an `openAPIV3Schema`. The root is an object with metadata.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let mut compiler = Compiler { nodes: 0 };
        let mut root = compiler.node(schema, "openAPIV3Schema")?;
        root.embedded = true;
        Ok(root)
    }

    /// The schema of the value of a field; None where nothing is said about it.
    pub fn field(&self, name: &str) -> Option<&Structural> {
        self.properties.get(name).or(match &self.additional {
            Additional::Of(schema) => Some(schema),
            Additional::Absent | Additional::Flag(_) => None,
        })
    }
}

struct Compiler {
    nodes: usize,
}

impl Compiler {
    fn node(&mut self, schema: &Value, path: &str) -> Result<Structural, SchemaError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(SchemaError::TooLarge);
        }
        let Value::Object(fields) = schema else {
            return Err(SchemaError::NotAnObject { path: path.to_owned() });
        };
        let flag = |key: &str| fields.get(key).and_then(Value::as_bool).unwrap_or_default();
        let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
        let kind = match text("type") {
            "" => None,
            name => Some(
                Kind::parse(name)
                    .ok_or_else(|| SchemaError::Type { path: path.to_owned(), text: name.to_owned() })?,
            ),
        };
        let list = match text("x-kubernetes-list-type") {
            "atomic" => Some(ListKind::Atomic),
            "set" => Some(ListKind::Set),
            "map" => Some(ListKind::Map(texts(fields, "x-kubernetes-list-map-keys"))),
            _ => None,
        };
        Ok(Structural {
            kind,
            nullable: flag("nullable"),
            default: fields.get("default").filter(|value| !value.is_null()).cloned(),
            properties: self.properties(fields, path)?,
            additional: self.additional(fields.get("additionalProperties"), path)?,
            items: self.optional(fields, "items", path)?,
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            list,
            atomic_map: text("x-kubernetes-map-type") == "atomic",
            checks: self.checks(fields, path)?,
        })
    }

    fn properties(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
    ) -> Result<BTreeMap<String, Structural>, SchemaError> {
        let properties = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
        properties
            .map(|(name, schema)| {
                Ok((name.clone(), self.node(schema, &format!("{path}.properties[{name}]"))?))
            })
            .collect()
    }

    fn additional(&mut self, schema: Option<&Value>, path: &str) -> Result<Additional, SchemaError> {
        Ok(match schema {
            None | Some(Value::Null) => Additional::Absent,
            Some(Value::Bool(flag)) => Additional::Flag(*flag),
            Some(schema) => {
                Additional::Of(Box::new(self.node(schema, &format!("{path}.additionalProperties"))?))
            }
        })
    }

    fn optional(
        &mut self,
        fields: &Map<String, Value>,
        key: &str,
        path: &str,
    ) -> Result<Option<Box<Structural>>, SchemaError> {
        let schema = fields.get(key).filter(|schema| !schema.is_null());
        schema.map(|schema| self.node(schema, &format!("{path}.{key}")).map(Box::new)).transpose()
    }

    fn several(
        &mut self,
        fields: &Map<String, Value>,
        key: &str,
        path: &str,
    ) -> Result<Vec<Structural>, SchemaError> {
        let schemas = fields.get(key).and_then(Value::as_array).into_iter().flatten().enumerate();
        schemas.map(|(at, schema)| self.node(schema, &format!("{path}.{key}[{at}]"))).collect()
    }

    fn checks(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
    ) -> Result<Option<Box<Checks>>, SchemaError> {
        const KEYS: [&str; 17] = [
            "format",
            "maximum",
            "minimum",
            "multipleOf",
            "maxLength",
            "minLength",
            "pattern",
            "maxItems",
            "minItems",
            "maxProperties",
            "minProperties",
            "required",
            "enum",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
        ];
        if !KEYS.iter().any(|key| fields.contains_key(*key)) {
            return Ok(None);
        }
        let number = |key: &str| fields.get(key).and_then(Value::as_f64);
        let count = |key: &str| {
            fields.get(key).and_then(Value::as_i64).map(|count| usize::try_from(count).unwrap_or(0))
        };
        let exclusive = |key: &str| fields.get(key).and_then(Value::as_bool).unwrap_or_default();
        let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
        let pattern = Some(text("pattern")).filter(|text| !text.is_empty());
        let pattern = pattern
            .map(pattern::compile)
            .transpose()
            .map_err(|source| SchemaError::Pattern { path: path.to_owned(), source })?;
        Ok(Some(Box::new(Checks {
            format: Format::parse(text("format")),
            maximum: number("maximum").map(|value| Bound { value, exclusive: exclusive("exclusiveMaximum") }),
            minimum: number("minimum").map(|value| Bound { value, exclusive: exclusive("exclusiveMinimum") }),
            multiple_of: number("multipleOf"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            pattern,
            pattern_text: text("pattern").to_owned(),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
            required: texts(fields, "required"),
            values: fields.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            all_of: self.several(fields, "allOf", path)?,
            any_of: self.several(fields, "anyOf", path)?,
            one_of: self.several(fields, "oneOf", path)?,
            not: self.optional(fields, "not", path)?,
        })))
    }
}

fn texts(fields: &Map<String, Value>, key: &str) -> Vec<String> {
    let items = fields.get(key).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}
