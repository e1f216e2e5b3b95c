//! The types of the API: which fields an object may have, and of which type.
//!
//! A [`Schema`] is an arena: types, fields and type expressions in flat vectors that refer to each
//! other by index. The one of the built-in kinds ([`builtin`]) borrows its names from a table that
//! is compiled in (`crates/api/schema/types.txt`, written by `cargo xtask generate-schemas`); a
//! custom resource definition brings one of its own ([`Schema::from_structural`]). The descriptions
//! of types and fields are kept compressed and apart, as only OpenAPI wants them ([`descriptions`]).
//!
//! [`decode`] reads a request's bytes under limits, [`check`] holds a value against its type.

pub mod check;
pub mod decode;
mod message;
mod order;
mod parse;
mod structural;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;
use std::sync::OnceLock;

pub use check::{Report, check};
pub use decode::{DecodeError, Decoded, decode};
pub use message::{FieldValidation, cannot_be_handled, unrecognized};
pub use parse::ParseError;
pub use structural::StructuralError;

/// A name that is compiled in or that came with a custom resource definition.
pub type Name = Cow<'static, str>;

/// Index of a type in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(u32);

/// Index of a type expression in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

/// A type expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    String,
    Boolean,
    Int32,
    Int64,
    Number,
    /// Standard base64 in a string.
    Bytes,
    /// RFC 3339 in a string (`metav1.Time`).
    Time,
    /// RFC 3339 with microseconds in a string (`metav1.MicroTime`).
    MicroTime,
    /// `resource.Quantity`: a string or a number.
    Quantity,
    /// A string or an int32.
    IntOrString,
    /// Any JSON value, kept as it is.
    Any,
    /// An array.
    List(NodeId),
    /// An object with free keys.
    Map(NodeId),
    /// A named type: a structure, or an alias of a scalar.
    Type(TypeId),
}

/// A named type.
#[derive(Clone, Debug)]
pub struct TypeDef {
    /// Full name, as `io.k8s.api.core.v1.Pod`.
    pub name: Name,
    pub body: TypeBody,
    /// `x-kubernetes-map-type: atomic`: owned and replaced as a whole.
    pub atomic: bool,
    /// Written out where it is used instead of referred to by name.
    pub inline: bool,
    /// A custom resource's own description.
    pub documentation: Option<Box<str>>,
    /// Line of a built-in type's description; the fields' lines follow.
    description: u32,
}

/// What stands behind a type's name.
#[derive(Clone, Debug)]
pub enum TypeBody {
    /// A structure; its fields are sorted by name.
    Struct { first: u32, count: u32, open: bool },
    /// Another name for a type expression, as `Time` for a date-time string.
    Alias(Node),
}

/// A field of a structure.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: Name,
    pub node: NodeId,
    pub required: bool,
    /// Index into the arena's extras, plus one; 0 for none.
    extra: u32,
}

/// What few fields have beyond a type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// How server-side apply merges a list.
    pub list: Option<ListType>,
    /// `x-kubernetes-map-type: atomic` on this use of a type.
    pub atomic: bool,
    /// `x-kubernetes-patch-merge-key`: the key of list items in a strategic merge patch.
    pub merge_key: Option<Name>,
    /// `x-kubernetes-patch-strategy`.
    pub patch_strategy: Option<Name>,
    /// The value that a list's key has where it is left out, as JSON text.
    pub default: Option<Name>,
    /// The type's name in Kubernetes' source where it is a named scalar: messages show it.
    pub go_type: Option<Name>,
    /// The values that are documented for a string.
    pub enumeration: Vec<Name>,
    /// Whether a custom resource keeps `null` here.
    pub nullable: bool,
    /// A custom resource's own description.
    pub documentation: Option<Box<str>>,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    /// With its `x-kubernetes-list-map-keys`.
    Map(Vec<Name>),
}

/// An arena of types.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    types: Vec<TypeDef>,
    fields: Vec<Field>,
    nodes: Vec<Node>,
    extras: Vec<Extra>,
    /// Lists and maps that merge in their own way where no field says so: inside of another list or
    /// map of a custom resource. Index into the extras.
    inner_extras: HashMap<NodeId, usize>,
    by_name: HashMap<Name, TypeId>,
}

impl Schema {
    /// The type of a full name, as `io.k8s.api.apps.v1.Deployment`.
    pub fn lookup(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    pub fn type_def(&self, id: TypeId) -> &TypeDef {
        &self.types[id.0 as usize]
    }

    pub fn node(&self, id: NodeId) -> Node {
        self.nodes[id.0 as usize]
    }

    /// All types, in order of name.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &TypeDef)> {
        self.types.iter().enumerate().map(|(at, one)| (TypeId(at as u32), one))
    }

    /// The fields of a structure, sorted by name; none for an alias.
    pub fn fields(&self, id: TypeId) -> &[Field] {
        match self.type_def(id).body {
            TypeBody::Struct { first, count, open: _ } => {
                &self.fields[first as usize..(first + count) as usize]
            }
            TypeBody::Alias(_) => &[],
        }
    }

    /// A field of a structure.
    pub fn field(&self, id: TypeId, name: &str) -> Option<&Field> {
        let fields = self.fields(id);
        let at = fields.binary_search_by(|field| field.name.as_ref().cmp(name)).ok()?;
        Some(&fields[at])
    }

    /// What a field has beyond its type; None for most.
    pub fn extra(&self, field: &Field) -> Option<&Extra> {
        self.extras.get((field.extra as usize).checked_sub(1)?)
    }

    /// How a list or a map merges that stands inside of another one.
    pub fn inner_extra(&self, node: NodeId) -> Option<&Extra> {
        self.extras.get(*self.inner_extras.get(&node)?)
    }

    /// The full name of a type that is compiled in.
    pub fn static_name(&self, name: &str) -> Option<&'static str> {
        match self.type_def(self.lookup(name)?).name {
            Cow::Borrowed(name) => Some(name),
            Cow::Owned(_) => None,
        }
    }

    /// A type expression with the names of aliases resolved.
    pub fn resolve(&self, id: NodeId) -> Node {
        self.resolve_node(self.node(id))
    }

    fn resolve_node(&self, node: Node) -> Node {
        match node {
            Node::Type(id) => match self.type_def(id).body {
                TypeBody::Alias(node) => node,
                TypeBody::Struct { .. } => node,
            },
            node => node,
        }
    }

    /// Feeds everything that tells two schemas apart to a digest.
    pub fn fingerprint(&self, mut feed: impl FnMut(&[u8])) {
        feed(format!("{:?}{:?}{:?}{:?}", self.types, self.fields, self.nodes, self.extras).as_bytes());
    }

    /// Walks from a type along field names, through lists and maps (whose keys count as a step,
    /// whose indices do not). For merging: the last field of `spec.template.spec.containers`.
    pub fn walk(&self, from: TypeId, path: &[&str]) -> Option<&Field> {
        let mut at = from;
        let (last, way) = path.split_last()?;
        for step in way {
            let mut node = self.resolve(self.field(at, step)?.node);
            while let Node::List(of) | Node::Map(of) = node {
                node = self.resolve(of);
            }
            let Node::Type(next) = node else { return None };
            at = next;
        }
        self.field(at, last)
    }
}

/// The schema of every built-in kind.
pub fn builtin() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        parse::parse(include_str!("../schema/types.txt"))
            .expect("the compiled-in table is well formed (tested)")
    })
}

/// Inflates the descriptions of the built-in types: about a megabyte, so hold it only while in use.
pub fn descriptions() -> Descriptions {
    let packed: &[u8] = include_bytes!("../schema/descriptions.zz");
    let mut text = String::new();
    flate2::read::ZlibDecoder::new(packed)
        .read_to_string(&mut text)
        .expect("the compiled-in descriptions are well formed (tested)");
    let mut starts: Vec<u32> = vec![0];
    starts.extend(text.match_indices('\n').map(|(at, _)| at as u32 + 1));
    Descriptions { text, starts }
}

/// The inflated descriptions of the built-in types.
pub struct Descriptions {
    text: String,
    starts: Vec<u32>,
}

impl Descriptions {
    /// What upstream's documentation says about a type.
    pub fn of_type(&self, schema: &Schema, id: TypeId) -> String {
        self.line(schema.type_def(id).description as usize)
    }

    /// What it says about the `index`th field of a type.
    pub fn of_field(&self, schema: &Schema, id: TypeId, index: usize) -> String {
        self.line(schema.type_def(id).description as usize + 1 + index)
    }

    fn line(&self, at: usize) -> String {
        let (Some(start), Some(end)) = (self.starts.get(at), self.starts.get(at + 1)) else {
            return String::new();
        };
        let raw = &self.text[*start as usize..*end as usize - 1];
        let mut out = String::with_capacity(raw.len());
        let mut chars = raw.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => out.push(if chars.next() == Some('n') { '\n' } else { '\\' }),
                c => out.push(c),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
