//! The types as the table holds them, made from JSON schemas.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// All types, by full name.
pub struct Table {
    pub types: BTreeMap<String, Type>,
}

/// One definition.
#[derive(Default)]
pub struct Type {
    /// The type expression of what is no structure with fields.
    pub alias: Option<String>,
    pub fields: BTreeMap<String, Field>,
    pub attributes: Vec<String>,
    description: String,
}

/// One property of a structure.
pub struct Field {
    /// `[` list of, `{` map to, then a letter for a scalar or a full type name.
    shape: String,
    pub required: bool,
    pub attributes: Vec<String>,
    description: String,
}

impl Table {
    pub fn from_definitions(definitions: &Map<String, Value>) -> Result<Self> {
        let mut types = BTreeMap::new();
        for (name, schema) in definitions {
            let one = Type::from_schema(schema).with_context(|| name.clone())?;
            types.insert(name.clone(), one);
        }
        Ok(Table { types })
    }

    /// The two texts: types and descriptions.
    pub fn render(&self) -> (String, String) {
        let mut out =
            String::from("# Written by `cargo xtask generate-schemas`; change overlay.txt instead.\n");
        let mut docs = String::new();
        let mut package = "";
        for (name, one) in &self.types {
            let (of, short) = split(name);
            if of != package {
                let _ = writeln!(out, "@{of}");
                package = of;
            }
            out.push(':');
            out.push_str(short);
            if let Some(alias) = &one.alias {
                let _ = write!(out, " {alias}");
            }
            push_attributes(&mut out, &one.attributes);
            push_line(&mut docs, &one.description);
            for (field_name, field) in &one.fields {
                let mark = if field.required { "!" } else { "" };
                let _ = write!(out, " {field_name}{mark} {}", relative(&field.shape, package));
                push_attributes(&mut out, &field.attributes);
                push_line(&mut docs, &field.description);
            }
        }
        (out, docs)
    }
}

/// Package and name of a full type name.
pub fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

fn relative(shape: &str, package: &str) -> String {
    let at = shape.find(|c| c != '[' && c != '{').unwrap_or(shape.len());
    let (nesting, of) = shape.split_at(at);
    match of.strip_prefix(package) {
        Some(rest) if rest.starts_with('.') && !rest[1..].contains('.') => format!("{nesting}{rest}"),
        _ => shape.to_owned(),
    }
}

fn push_attributes(out: &mut String, attributes: &[String]) {
    for attribute in attributes {
        out.push(' ');
        out.push_str(attribute);
    }
    out.push('\n');
}

fn push_line(docs: &mut String, text: &str) {
    docs.push_str(&text.replace('\\', "\\\\").replace('\n', "\\n"));
    docs.push('\n');
}

impl Type {
    fn from_schema(schema: &Value) -> Result<Self> {
        let description = text(schema, "description").to_owned();
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            let alias = if schema.get("x-kubernetes-int-or-string").is_some() {
                "?".to_owned()
            } else if schema.get("oneOf").is_some() || text(schema, "type") == "object" {
                "*".to_owned()
            } else {
                shape(schema)?
            };
            return Ok(Type { alias: Some(alias), description, ..Type::default() });
        };
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mut fields = BTreeMap::new();
        for (name, property) in properties {
            // The crate's own mark, to make the Rust field no Option; Kubernetes requires no metadata.
            let is_metadata = name == "metadata" && properties.contains_key("kind");
            let field = Field {
                shape: shape(property).with_context(|| name.clone())?,
                required: required.contains(&name.as_str()) && !is_metadata,
                attributes: Vec::new(),
                description: text(property, "description").to_owned(),
            };
            fields.insert(name.clone(), field);
        }
        Ok(Type { fields, description, ..Type::default() })
    }
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn shape(schema: &Value) -> Result<String> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return Ok(name.to_owned());
    }
    Ok(match (text(schema, "type"), text(schema, "format")) {
        ("string", "") => "s".to_owned(),
        ("string", "byte") => "y".to_owned(),
        ("string", "date-time") => "t".to_owned(),
        ("boolean", _) => "b".to_owned(),
        ("integer", "int32") => "i".to_owned(),
        ("integer", "int64" | "") => "l".to_owned(),
        ("number", _) => "d".to_owned(),
        ("array", _) => format!("[{}", shape(schema.get("items").context("array without items")?)?),
        ("object", _) => match schema.get("additionalProperties") {
            Some(of) => format!("{{{}", shape(of)?),
            None => "*".to_owned(),
        },
        ("", _) => "*".to_owned(),
        (kind, format) => bail!("unknown type {kind:?} with format {format:?}"),
    })
}
