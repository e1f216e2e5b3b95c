//! An applied configuration over the live object.
//!
//! Nothing is removed here: what the configuration mentions replaces or joins what is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::compare::{entries, is_empty, items};
use super::path::Element;
use super::typed::{ItemError, Shape, Typed};

/// The live object with the configuration in it. Lists keep the live order of what the
/// configuration does not name; what it names stands in its order.
pub fn merge(typed: Typed<'_>, live: &Value, config: &Value) -> Result<Value, ItemError> {
    Ok(both(typed, Some(live), Some(config))?.unwrap_or_else(|| Value::Object(Map::new())))
}

fn both(typed: Typed<'_>, live: Option<&Value>, config: Option<&Value>) -> Result<Option<Value>, ItemError> {
    let leaf = || config.or(live).cloned();
    let shape = typed.shape_of(config.or(live));
    match shape {
        Shape::Map { atomic: false } => {
            let (live_map, config_map) = (entries(live), entries(config));
            if is_empty(live_map) && is_empty(config_map) {
                return Ok(leaf());
            }
            maps(typed, live_map, config_map)
        }
        Shape::Set(_) | Shape::Keyed(..) => {
            let (live_items, config_items) = (items(live), items(config));
            if live_items.is_empty() && config_items.is_empty() {
                return Ok(leaf());
            }
            lists(shape, live_items, config_items)
        }
        Shape::Scalar(_) | Shape::AtomicList(_) | Shape::Map { atomic: true } | Shape::Untyped => Ok(leaf()),
    }
}

fn maps(
    typed: Typed<'_>,
    live: Option<&Map<String, Value>>,
    config: Option<&Map<String, Value>>,
) -> Result<Option<Value>, ItemError> {
    let mut merged = Map::new();
    for (key, value) in live.into_iter().flatten() {
        let config = config.and_then(|config| config.get(key));
        let value = match (typed.field(key), config) {
            // Most of the live object is named by nobody.
            (_, None) => Some(value.clone()),
            (None, Some(config)) => Some(config.clone()),
            (Some(inner), config) => both(inner, Some(value), config)?,
        };
        merged.extend(value.map(|value| (key.clone(), value)));
    }
    for (key, value) in config.into_iter().flatten() {
        if live.is_some_and(|live| live.contains_key(key)) {
            continue;
        }
        let value = match typed.field(key) {
            Some(inner) => both(inner, None, Some(value))?,
            None => Some(value.clone()),
        };
        merged.extend(value.map(|value| (key.clone(), value)));
    }
    Ok((!merged.is_empty()).then_some(Value::Object(merged)))
}

type Items<'a, 's> = (Vec<(Element, Typed<'s>)>, BTreeMap<Element, Option<&'a Value>>);

/// The identities of a list in order, and its items by them; duplicates of the live list have none.
fn index<'a, 's>(shape: Shape<'s>, items: &'a [Value]) -> Result<Items<'a, 's>, ItemError> {
    let (mut order, mut known) = (Vec::with_capacity(items.len()), BTreeMap::new());
    for item in items {
        let Some((element, typed)) = shape.identify(item)? else { continue };
        known.entry(element.clone()).and_modify(|known| *known = None).or_insert(Some(item));
        order.push((element, typed));
    }
    Ok((order, known))
}

fn lists(shape: Shape<'_>, live: &[Value], config: &[Value]) -> Result<Option<Value>, ItemError> {
    let (live_order, live_known) = index(shape, live)?;
    let (config_order, config_known) = index(shape, config)?;
    let mut shared: VecDeque<&Element> = config_order
        .iter()
        .map(|(element, _)| element)
        .filter(|element| live_known.contains_key(element))
        .collect();
    let mut next_shared = shared.pop_front();
    let mut placed: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    let (mut at, mut to) = (0, 0);
    let join = |element: &Element, typed: Typed<'_>| {
        let live = live_known.get(element).copied().flatten();
        let config = config_known.get(element).copied().flatten();
        both(typed, live, config)
    };
    while at < live_order.len() || to < config_order.len() {
        if let (Some((one, typed)), Some((other, _))) = (live_order.get(at), config_order.get(to)) {
            if one == other {
                placed.insert(one);
                out.extend(join(one, *typed)?);
                at += 1;
                to += 1;
                next_shared = shared.pop_front();
                continue;
            }
            // It comes later in the configuration's order.
            if config_known.contains_key(one) && next_shared.is_some_and(|next| next != one) {
                at += 1;
                continue;
            }
        }
        if let Some((one, _)) = live_order.get(at) {
            if !config_known.contains_key(one) {
                out.push(live[at].clone());
                at += 1;
                continue;
            }
            if placed.contains(one) {
                at += 1;
            }
        }
        if let Some((other, typed)) = config_order.get(to) {
            placed.insert(other);
            out.extend(join(other, *typed)?);
            to += 1;
            if next_shared == Some(other) {
                next_shared = shared.pop_front();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}
