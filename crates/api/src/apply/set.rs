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
        let mut all = self.clone();
        all.merge(other.clone());
        all
    }

    /// Adds what is in the other.
    pub fn merge(&mut self, other: FieldSet) {
        if self.nodes.is_empty() || other.nodes.is_empty() {
            if self.nodes.is_empty() {
                self.nodes = other.nodes;
            }
            return;
        }
        let mut merged = Vec::with_capacity(self.nodes.len() + other.nodes.len());
        let mut ours = std::mem::take(&mut self.nodes).into_iter().peekable();
        for theirs in other.nodes {
            while let Some(before) = ours.next_if(|own| own.element < theirs.element) {
                merged.push(before);
            }
            merged.push(match ours.next_if(|own| own.element == theirs.element) {
                Some(mut own) => {
                    own.member |= theirs.member;
                    own.below.merge(theirs.below);
                    own
                }
                None => theirs,
            });
        }
        merged.extend(ours);
        self.nodes = merged;
    }

    /// What is in both.
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let (mut ours, mut theirs) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        let mut nodes = Vec::new();
        while let (Some(a), Some(b)) = (ours.peek(), theirs.peek()) {
            match a.element.cmp(&b.element) {
                Ordering::Less => drop(ours.next()),
                Ordering::Greater => drop(theirs.next()),
                Ordering::Equal => {
                    let below = a.below.intersection(&b.below);
                    let member = a.member && b.member;
                    if member || !below.is_empty() {
                        nodes.push(Node { element: a.element.clone(), member, below });
                    }
                    ours.next();
                    theirs.next();
                }
            }
        }
        FieldSet { nodes }
    }

    /// What is here and not in the other. A parent in the other takes no children away.
    pub fn difference(&self, other: &FieldSet) -> FieldSet {
        let mut left = self.clone();
        left.subtract(other);
        left
    }

    /// Takes out what is in the other. A parent there takes no children away.
    pub fn subtract(&mut self, other: &FieldSet) {
        self.retain(other, &|own, theirs| {
            own.below.subtract(&theirs.below);
            own.member &= !theirs.member;
            own.member || !own.below.is_empty()
        });
    }

    /// Takes out what is in the other or inside of one of its members.
    pub fn subtract_recursively(&mut self, other: &FieldSet) {
        self.retain(other, &|own, theirs| {
            if theirs.member {
                return false;
            }
            own.below.subtract_recursively(&theirs.below);
            own.member || !own.below.is_empty()
        });
    }

    /// Keeps of what is in both what `keep` says, and all that only this set has.
    fn retain(&mut self, other: &FieldSet, keep: &dyn Fn(&mut Node, &Node) -> bool) {
        if other.nodes.is_empty() {
            return;
        }
        self.nodes.retain_mut(|own| match other.find(&own.element) {
            Ok(at) => keep(own, &other.nodes[at]),
            Err(_) => true,
        });
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
