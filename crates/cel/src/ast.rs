//! Expressions as a tree, with macros already expanded into folds.

use std::sync::Arc;

/// Deepest tree: everything that walks one recurses, so this bounds the stack.
pub const MAX_DEPTH: u16 = 250;

/// Number of a node, dense from 0, by which the checker keeps types.
pub type Id = u32;

/// One expression.
#[derive(Clone, Debug)]
pub struct Expr {
    pub id: Id,
    /// Byte offset in the source that errors point at.
    pub at: u32,
    /// Levels below and including this one.
    pub depth: u16,
    pub kind: Kind,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub enum Kind {
    Literal(Literal),
    Ident(Arc<str>),
    /// `operand.field`; `test` is the `has()` of it.
    Select {
        operand: Box<Expr>,
        field: Arc<str>,
        test: bool,
    },
    /// Operators are functions with upstream's names, as `_+_`. `_&&_` and `_||_` take two or more.
    Call {
        function: Arc<str>,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    List(Vec<Element>),
    Map(Vec<Entry>),
    /// `Object.spec{replicas: 3}`.
    Struct {
        name: Arc<str>,
        fields: Vec<StructField>,
    },
    Fold(Box<Fold>),
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// `x` or `?x` in a list.
#[derive(Clone, Debug)]
pub struct Element {
    pub value: Expr,
    pub optional: bool,
}

/// `key: value` or `?key: value` in a map.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Expr,
    pub value: Expr,
    pub optional: bool,
}

/// `name: value` or `?name: value` in a structure.
#[derive(Clone, Debug)]
pub struct StructField {
    pub name: Arc<str>,
    pub at: u32,
    pub value: Expr,
    pub optional: bool,
}

/// A comprehension: what `all`, `exists`, `map`, `filter` and others become.
#[derive(Clone, Debug)]
pub struct Fold {
    pub range: Expr,
    /// The element, or the key of a map; with `second`, the index or key.
    pub variable: Arc<str>,
    pub second: Option<Arc<str>>,
    pub accumulator: Arc<str>,
    pub init: Expr,
    pub condition: Expr,
    pub step: Expr,
    pub result: Expr,
}

/// The name of a fold's accumulator, which no source can spell.
pub const ACCUMULATOR: &str = "@result";
/// The range variable of a fold that only binds a name.
pub const UNUSED: &str = "#unused";

impl Expr {
    /// The dotted name that this spells, as `optional.none`.
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select { operand, field, test: false } => {
                Some(format!("{}.{field}", operand.qualified_name()?))
            }
            _ => None,
        }
    }
}

impl Kind {
    /// Levels below a node of this kind.
    pub fn depth(&self) -> u16 {
        let deepest = |all: &mut dyn Iterator<Item = &Expr>| all.map(|one| one.depth).max().unwrap_or(0);
        match self {
            Kind::Literal(_) | Kind::Ident(_) => 0,
            Kind::Select { operand, .. } => operand.depth,
            Kind::Call { target, args, .. } => deepest(&mut args.iter().chain(target.as_deref())),
            Kind::List(elements) => deepest(&mut elements.iter().map(|one| &one.value)),
            Kind::Map(entries) => deepest(&mut entries.iter().flat_map(|one| [&one.key, &one.value])),
            Kind::Struct { fields, .. } => deepest(&mut fields.iter().map(|one| &one.value)),
            Kind::Fold(fold) => {
                let Fold { range, init, condition, step, result, .. } = fold.as_ref();
                deepest(&mut [range, init, condition, step, result].into_iter())
            }
        }
    }
}
