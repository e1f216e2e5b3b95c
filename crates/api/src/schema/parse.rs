//! Reads the compiled-in table of types.
//!
//! The format, line by line: `#` begins a comment, `@package` opens a package, `:Name` a type in
//! it, and a line that begins with a space is a field of that type: `name type`, with `!` after the
//! name of a required field. A type expression is any number of `[` (list of) and `{` (map to),
//! then one of `s` string, `y` base64 bytes, `t` date-time, `b` boolean, `i` int32, `l` int64, `d`
//! number, `?` integer or string, `*` any JSON, `.Name` of the same package, or a full name. A type
//! with an expression after its name is an alias. Attributes may end both lines:
//! `list=atomic|set|map:key,…`, `map=atomic`, `merge=key`, `patch=strategy`, `default=JSON`,
//! `go=name`, `enum=a|b`.
//!
//! Types are sorted by full name within their package, fields by name. The `n`th line that is a
//! type or a field has the `n`th line of the descriptions.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Extra, Field, ListType, Name, Node, NodeId, Schema, TypeBody, TypeDef, TypeId};

/// A line of the table that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParseError {
    #[error("line {line}: a field before the first type, or of an alias")]
    StrayField { line: usize },
    #[error("line {line}: no type expression {text:?}")]
    Expression { line: usize, text: String },
    #[error("line {line}: no attribute {text:?}")]
    Attribute { line: usize, text: String },
    #[error("{fields} fields of {type_name} are not sorted")]
    Order { type_name: String, fields: usize },
}

/// Builds nodes once per distinct expression.
#[derive(Default)]
pub(super) struct Nodes {
    known: HashMap<Node, NodeId>,
}

impl Nodes {
    pub(super) fn add(&mut self, schema: &mut Schema, node: Node) -> NodeId {
        *self.known.entry(node).or_insert_with(|| {
            schema.nodes.push(node);
            NodeId(schema.nodes.len() as u32 - 1)
        })
    }
}

pub(super) fn parse(text: &'static str) -> Result<Schema, ParseError> {
    let mut schema = Schema::default();
    number_types(&mut schema, text);
    let mut nodes = Nodes::default();
    let mut package = "";
    let mut open: Option<usize> = None;
    let mut types = 0;
    let mut described = 0;
    for (line, content) in text.lines().enumerate().map(|(at, content)| (at + 1, content)) {
        if let Some(name) = content.strip_prefix('@') {
            package = name;
        } else if let Some(rest) = content.strip_prefix(':') {
            let mut words = rest.split(' ').skip(1).peekable();
            let definition = &mut schema.types[types];
            definition.description = described;
            let is_alias = words.peek().is_some_and(|word| !word.contains('='));
            definition.body = TypeBody::Struct { first: schema.fields.len() as u32, count: 0, open: false };
            if is_alias {
                let word = words.next().unwrap_or_default();
                let node = expression(&mut schema, &mut nodes, package, word, line)?;
                let node = special(&schema.types[types].name).unwrap_or(schema.nodes[node.0 as usize]);
                schema.types[types].body = TypeBody::Alias(node);
            }
            let extra = attributes(words, line)?.unwrap_or_default();
            schema.types[types].atomic = extra.atomic;
            open = (!is_alias).then_some(types);
            types += 1;
            described += 1;
        } else if let Some(rest) = content.strip_prefix(' ') {
            let at = open.ok_or(ParseError::StrayField { line })?;
            field(&mut schema, &mut nodes, package, at, rest, line)?;
            described += 1;
        }
    }
    check_order(&schema)?;
    Ok(schema)
}

/// Types may be used before they are defined, so they get their numbers first.
fn number_types(schema: &mut Schema, text: &'static str) {
    let mut package = "";
    for content in text.lines() {
        if let Some(name) = content.strip_prefix('@') {
            package = name;
        } else if let Some(rest) = content.strip_prefix(':') {
            let short = rest.split(' ').next().unwrap_or_default();
            // Leaked on purpose: built once per process, and every resource refers to it.
            let name: &'static str = Box::leak(format!("{package}.{short}").into_boxed_str());
            schema.by_name.insert(Cow::Borrowed(name), TypeId(schema.types.len() as u32));
            schema.types.push(TypeDef {
                name: Cow::Borrowed(name),
                body: TypeBody::Alias(Node::Any),
                atomic: false,
                inline: false,
                documentation: None,
                description: 0,
            });
        }
    }
}

/// Types with a JSON form of their own, which the expression alone does not tell.
fn special(name: &str) -> Option<Node> {
    match name {
        "io.k8s.apimachinery.pkg.api.resource.Quantity" => Some(Node::Quantity),
        "io.k8s.apimachinery.pkg.util.intstr.IntOrString" => Some(Node::IntOrString),
        "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime" => Some(Node::MicroTime),
        _ => None,
    }
}

fn expression(
    schema: &mut Schema,
    nodes: &mut Nodes,
    package: &str,
    text: &str,
    line: usize,
) -> Result<NodeId, ParseError> {
    let bad = || ParseError::Expression { line, text: text.to_owned() };
    let at = text.find(|c| c != '[' && c != '{').ok_or_else(bad)?;
    let (nesting, of) = text.split_at(at);
    let innermost = match of {
        "s" => Node::String,
        "y" => Node::Bytes,
        "t" => Node::Time,
        "b" => Node::Boolean,
        "i" => Node::Int32,
        "l" => Node::Int64,
        "d" => Node::Number,
        "?" => Node::IntOrString,
        "*" => Node::Any,
        name => {
            let full = if name.starts_with('.') {
                Cow::Owned(format!("{package}{name}"))
            } else {
                Cow::Borrowed(name)
            };
            Node::Type(schema.lookup(&full).ok_or_else(bad)?)
        }
    };
    let mut node = nodes.add(schema, innermost);
    for wrapper in nesting.chars().rev() {
        node = nodes.add(schema, if wrapper == '[' { Node::List(node) } else { Node::Map(node) });
    }
    Ok(node)
}

fn field(
    schema: &mut Schema,
    nodes: &mut Nodes,
    package: &str,
    of: usize,
    text: &'static str,
    line: usize,
) -> Result<(), ParseError> {
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default();
    let node = expression(schema, nodes, package, words.next().unwrap_or_default(), line)?;
    let extra = match attributes(words, line)? {
        None => 0,
        Some(extra) => {
            schema.extras.push(extra);
            schema.extras.len() as u32
        }
    };
    let (name, required) = name.strip_suffix('!').map_or((name, false), |name| (name, true));
    schema.fields.push(Field { name: Cow::Borrowed(name), node, required, extra });
    if let TypeBody::Struct { count, .. } = &mut schema.types[of].body {
        *count += 1;
    }
    Ok(())
}

fn attributes(words: impl Iterator<Item = &'static str>, line: usize) -> Result<Option<Extra>, ParseError> {
    let mut extra: Option<Extra> = None;
    for word in words {
        let bad = || ParseError::Attribute { line, text: word.to_owned() };
        let (key, value) = word.split_once('=').ok_or_else(bad)?;
        let all = |separator: char| value.split(separator).map(Name::Borrowed).collect::<Vec<_>>();
        let extra = extra.get_or_insert_default();
        match key {
            "list" => {
                extra.list = Some(match value {
                    "atomic" => ListType::Atomic,
                    "set" => ListType::Set,
                    map => {
                        let keys = map.strip_prefix("map:").ok_or_else(bad)?;
                        ListType::Map(keys.split(',').map(Name::Borrowed).collect())
                    }
                });
            }
            "map" if value == "atomic" => extra.atomic = true,
            "merge" => extra.merge_key = Some(Name::Borrowed(value)),
            "patch" => extra.patch_strategy = Some(Name::Borrowed(value)),
            "default" => extra.default = Some(Name::Borrowed(value)),
            "go" => extra.go_type = Some(Name::Borrowed(value)),
            "enum" => extra.enumeration = all('|'),
            _ => return Err(bad()),
        }
    }
    Ok(extra)
}

fn check_order(schema: &Schema) -> Result<(), ParseError> {
    for (id, definition) in schema.types() {
        let fields = schema.fields(id);
        if !fields.is_sorted_by(|a, b| a.name < b.name) {
            return Err(ParseError::Order { type_name: definition.name.to_string(), fields: fields.len() });
        }
    }
    Ok(())
}
