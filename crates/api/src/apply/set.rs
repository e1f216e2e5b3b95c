//! Sets of fields: the trie that `fieldsV1` writes down.
//!
//! A node is a member or leads to members, or both. A member that has members below it (`"."`) is
//! owned itself, apart from what is inside.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::path::{Element, ElementError};
use super::typed::Typed;

/// Deepest nesting of a set that is read: what an object may nest.
const MAX_DEPTH: usize = 128;

/// A set of fields of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Sorted by element; none is empty.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    element: Element,
    member: bool,
    below: FieldSet,
}

/// A `fieldsV1` that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error(transparent)]
    Element(#[from] ElementError),
    #[error("a set of fields must be an object")]
    Shape,
    #[error("a set of fields may nest at most {MAX_DEPTH} deep")]
    Depth,
}

static NONE: FieldSet = FieldSet { nodes: Vec::new() };

impl FieldSet {
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a field; its parents do not become members. The whole object is nobody's.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.node(first);
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    fn node(&mut self, element: &Element) -> &mut Node {
        let at = match self.find(element) {
            Ok(at) => at,
            Err(at) => {
                let node = Node { element: element.clone(), member: false, below: FieldSet::default() };
                self.nodes.insert(at, node);
                at
            }
        };
        &mut self.nodes[at]
    }

    fn find(&self, element: &Element) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| node.element.cmp(element))
    }

    /// Whether a field is a member.
    pub fn has(&self, path: &[Element]) -> bool {
        match path.split_first() {
            None => false,
            Some((one, [])) => self.contains(one),
            Some((first, rest)) => self.below(first).has(rest),
        }
    }

    /// Whether this step itself is a member.
    pub fn contains(&self, element: &Element) -> bool {
        self.find(element).is_ok_and(|at| self.nodes[at].member)
    }

    /// What is inside of a step.
    pub fn below(&self, element: &Element) -> &FieldSet {
        self.find(element).map_or(&NONE, |at| &self.nodes[at].below)
    }

    /// What is in either.
    pub fn union(&self, other: &FieldSet) -> FieldSet {
        let join = |a: Option<&Node>, b: Option<&Node>| match (a, b) {
            (Some(a), Some(b)) => Some(Node {
                element: a.element.clone(),
                member: a.member || b.member,
                below: a.below.union(&b.below),
            }),
            (one, other) => one.or(other).cloned(),
        };
        self.joined(other, join)
    }

    /// What is in both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        self.joined(other, |a, b| {
            let (a, b) = (a?, b?);
            let below = a.below.intersection(&b.below);
            let member = a.member && b.member;
            (member || !below.is_empty()).then(|| Node { element: a.element.clone(), member, below })
        })
    }

    /// What is here and not in the other. A parent in the other takes no children away.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        self.joined(other, |a, b| {
            let a = a?;
            let Some(b) = b else { return Some(a.clone()) };
            let below = a.below.difference(&b.below);
            let member = a.member && !b.member;
            (member || !below.is_empty()).then(|| Node { element: a.element.clone(), member, below })
        })
    }

    /// What is neither in the other nor inside of one of its members.
    pub fn recursive_difference(&self, other: &FieldSet) -> FieldSet {
        self.joined(other, |a, b| {
            let a = a?;
            let Some(b) = b else { return Some(a.clone()) };
            if b.member {
                return None;
            }
            let below = a.below.recursive_difference(&b.below);
            (a.member || !below.is_empty()).then(|| Node {
                element: a.element.clone(),
                member: a.member,
                below,
            })
        })
    }

    /// Walks both in order and keeps what `join` makes of each step.
    fn joined<'a>(
        &'a self,
        other: &'a FieldSet,
        join: impl Fn(Option<&'a Node>, Option<&'a Node>) -> Option<Node>,
    ) -> FieldSet {
        let (mut a, mut b) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        let mut nodes = Vec::new();
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return FieldSet { nodes },
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(other)) => one.element.cmp(&other.element),
            };
            let one = if order.is_le() { a.next() } else { None };
            let two = if order.is_ge() { b.next() } else { None };
            nodes.extend(join(one, two));
        }
    }

    /// Makes members of the structures' fields that lead to members: removing everything inside of
    /// one removes it too.
    pub fn with_named_fields(&self, typed: Option<Typed<'_>>) -> FieldSet {
        let named = |node: &Node| {
            let declared = match (&node.element, typed) {
                (Element::Field(name), Some(typed)) => typed.declares(name),
                _ => false,
            };
            let inner = match &node.element {
                Element::Field(name) => typed.and_then(|typed| typed.field(name)),
                Element::Key(_) => typed.and_then(Typed::item),
                Element::Value(_) | Element::Index(_) => None,
            };
            Node {
                element: node.element.clone(),
                member: node.member || (declared && !node.below.is_empty()),
                below: node.below.with_named_fields(inner),
            }
        };
        FieldSet { nodes: self.nodes.iter().map(named).collect() }
    }

    /// Follows types that became atomic since the set was written: who owned a part owns the whole.
    pub fn reconcile(&mut self, typed: Typed<'_>) {
        for node in &mut self.nodes {
            if node.below.is_empty() {
                continue;
            }
            let inner = match &node.element {
                Element::Field(name) => typed.field(name),
                Element::Key(_) | Element::Value(_) | Element::Index(_) => typed.item(),
            };
            match inner {
                Some(inner) if inner.is_atomic() => {
                    node.member = true;
                    node.below = FieldSet::default();
                }
                Some(inner) => node.below.reconcile(inner),
                None => {}
            }
        }
    }

    /// Every member, in order.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<Element>, paths: &mut Vec<Vec<Element>>) {
        for node in &self.nodes {
            prefix.push(node.element.clone());
            if node.member {
                paths.push(prefix.clone());
            }
            node.below.collect(prefix, paths);
            prefix.pop();
        }
    }

    /// Reads a `fieldsV1`. Kinds of steps that this version does not know are skipped.
    pub fn from_json(fields: &Value) -> Result<Self, SetError> {
        let fields = fields.as_object().ok_or(SetError::Shape)?;
        FieldSet::from_map(fields, 0)
    }

    fn from_map(fields: &Map<String, Value>, depth: usize) -> Result<Self, SetError> {
        if depth > MAX_DEPTH {
            return Err(SetError::Depth);
        }
        let mut nodes = Vec::with_capacity(fields.len());
        for (key, value) in fields {
            if key == "." {
                continue;
            }
            let Some(element) = Element::parse(key)? else { continue };
            let inner = value.as_object().ok_or(SetError::Shape)?;
            let below = FieldSet::from_map(inner, depth + 1)?;
            // A step with nothing inside is a member, also when all of its inside was skipped.
            let member = below.is_empty() || inner.contains_key(".");
            nodes.push(Node { element, member, below });
        }
        nodes.sort_by(|a, b| a.element.cmp(&b.element));
        nodes.dedup_by(|a, b| a.element == b.element);
        Ok(FieldSet { nodes })
    }

    /// Writes a `fieldsV1`.
    pub fn to_json(&self) -> Value {
        Value::Object(self.to_map())
    }

    fn to_map(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        for node in &self.nodes {
            let mut inner = node.below.to_map();
            if node.member && !inner.is_empty() {
                inner.insert(".".to_owned(), Value::Object(Map::new()));
            }
            fields.insert(node.element.serialized(), Value::Object(inner));
        }
        fields
    }
}

/// A set of paths that consist of fields only, each as `metadata.name`.
pub fn fields<'a>(paths: impl IntoIterator<Item = &'a str>) -> FieldSet {
    let mut set = FieldSet::default();
    for path in paths {
        let path: Vec<Element> = path.split('.').map(Element::field).collect();
        set.insert(&path);
    }
    set
}
