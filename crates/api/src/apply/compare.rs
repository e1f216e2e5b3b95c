//! What differs between two states of an object, as sets of fields.

use std::collections::BTreeMap;
use std::mem::discriminant;

use serde_json::{Map, Value};

use super::path::Element;
use super::set::FieldSet;
use super::typed::{ItemError, Shape, Typed};

/// The fields that one state has beyond another. No field is in two of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub removed: FieldSet,
    pub modified: FieldSet,
    pub added: FieldSet,
}

impl Comparison {
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// Modified and added fields.
    pub(super) fn into_changed(self) -> FieldSet {
        let mut changed = self.modified;
        changed.merge(self.added);
        changed
    }

    /// Leaves out fields and all that is inside of them.
    pub(super) fn without(mut self, ignored: &FieldSet) -> Self {
        for fields in [&mut self.removed, &mut self.modified, &mut self.added] {
            fields.subtract_recursively(ignored);
        }
        self
    }
}

/// Compares two states of an object of a type.
pub fn compare(typed: Typed<'_>, old: &Value, new: &Value) -> Result<Comparison, ItemError> {
    let mut walk = Walk { path: Vec::new(), found: Comparison::default() };
    walk.both(typed, Some(old), Some(new))?;
    Ok(walk.found)
}

struct Walk {
    path: Vec<Element>,
    found: Comparison,
}

impl Walk {
    /// Compares what is at the current path. What is equal costs no allocation.
    fn both(&mut self, typed: Typed<'_>, old: Option<&Value>, new: Option<&Value>) -> Result<(), ItemError> {
        if old == new {
            return Ok(());
        }
        let (before, after) = (typed.shape_of(old), typed.shape_of(new));
        let leaf = match (old, new) {
            (_, None) => self.parts(typed, before, old, new)?,
            (Some(_), Some(_)) if discriminant(&before) != discriminant(&after) => {
                // A value without a type changed its kind: both of its forms differ.
                self.parts(typed, before, old, new)?;
                self.parts(typed, after, old, new)?
            }
            (_, Some(_)) => self.parts(typed, after, old, new)?,
        };
        if !leaf {
            match (old, new) {
                (None, _) => self.found.added.insert(&self.path),
                (_, None) => self.found.removed.insert(&self.path),
                (Some(_), Some(_)) => {}
            }
        }
        Ok(())
    }

    /// Returns whether it was one piece.
    fn parts(
        &mut self,
        typed: Typed<'_>,
        shape: Shape<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<bool, ItemError> {
        match shape {
            Shape::Map { atomic: false } => {
                let (old_map, new_map) = (entries(old), entries(new));
                if is_empty(old_map) && is_empty(new_map) {
                    self.leaf(old, new);
                    return Ok(true);
                }
                self.maps(typed, old_map, new_map)?;
                Ok(false)
            }
            Shape::Set(_) | Shape::Keyed(..) => {
                let (old_items, new_items) = (items(old), items(new));
                if old_items.is_empty() && new_items.is_empty() {
                    self.leaf(old, new);
                    return Ok(true);
                }
                self.lists(shape, old_items, new_items)?;
                Ok(false)
            }
            Shape::Scalar(_) | Shape::AtomicList(_) | Shape::Map { atomic: true } | Shape::Untyped => {
                self.leaf(old, new);
                Ok(true)
            }
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, Some(_)) => self.found.added.insert(&self.path),
            (Some(_), None) => self.found.removed.insert(&self.path),
            (Some(old), Some(new)) if old != new => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    fn maps(
        &mut self,
        typed: Typed<'_>,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
    ) -> Result<(), ItemError> {
        let mut visit = |key: &str, old: Option<&Value>, new: Option<&Value>| {
            if old == new {
                return Ok(());
            }
            let Some(inner) = typed.field(key) else { return Ok(()) };
            self.path.push(Element::field(key));
            let visited = self.both(inner, old, new);
            self.path.pop();
            visited
        };
        for (key, value) in old.into_iter().flatten() {
            visit(key, Some(value), new.and_then(|new| new.get(key)))?;
        }
        for (key, value) in new.into_iter().flatten() {
            if !old.is_some_and(|old| old.contains_key(key)) {
                visit(key, None, Some(value))?;
            }
        }
        Ok(())
    }

    fn lists(&mut self, shape: Shape<'_>, old: &[Value], new: &[Value]) -> Result<(), ItemError> {
        let mut known: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        let mut item_type = None;
        for (is_new, item) in old.iter().map(|item| (false, item)).chain(new.iter().map(|item| (true, item)))
        {
            let Some((element, typed)) = shape.identify(item)? else { continue };
            item_type = Some(typed);
            let (old, new) = known.entry(element).or_default();
            if is_new { new.push(item) } else { old.push(item) }
        }
        let Some(typed) = item_type else { return Ok(()) };
        for (element, (old, new)) in known {
            self.path.push(element);
            match (old.as_slice(), new.as_slice()) {
                (old @ ([] | [_]), new @ ([] | [_])) => {
                    self.both(typed, old.first().copied(), new.first().copied())?;
                }
                // Items that occur more than once are one piece.
                ([_, _, ..], [_, _, ..]) => {
                    if old != new {
                        self.found.modified.insert(&self.path);
                    }
                }
                ([_, _, ..], new) => {
                    if let Some(one) = new.first() {
                        self.both(typed, None, Some(one))?;
                    }
                    self.found.removed.insert(&self.path);
                }
                (old, _) => {
                    if let Some(one) = old.first() {
                        self.both(typed, Some(one), None)?;
                    }
                    self.found.added.insert(&self.path);
                }
            }
            self.path.pop();
        }
        Ok(())
    }
}

pub(super) fn entries(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

pub(super) fn is_empty(map: Option<&Map<String, Value>>) -> bool {
    map.is_none_or(Map::is_empty)
}

pub(super) fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
