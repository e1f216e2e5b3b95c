//! Lists in a strategic merge: union, merge by key, and the order that results.
//!
//! Elements are told apart by their identity, the JSON text of their key (of the whole element in
//! lists of scalars), so that long lists merge in linear time.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{DIRECTIVE, MergeField, MergeSchema, StrategicError, cleaned, cleaned_list, go_text, merge_map};

/// What tells an element from others; `None` for a structure without its key.
fn identity(item: &Value, key: Option<&str>) -> Option<String> {
    match (item, key) {
        (Value::Object(map), Some(key)) => map.get(key).map(Value::to_string),
        (item, _) => Some(item.to_string()),
    }
}

/// The first place of each identity in a list.
pub(super) fn identities(list: &[Value], key: Option<&str>) -> HashMap<String, usize> {
    let mut places = HashMap::with_capacity(list.len());
    for (at, item) in list.iter().enumerate() {
        if let Some(identity) = identity(item, key) {
            places.entry(identity).or_insert(at);
        }
    }
    places
}

/// `$deleteFromPrimitiveList`.
pub(super) fn delete_from(list: &mut Vec<Value>, removed: &[Value]) {
    let removed: HashSet<String> = removed.iter().map(Value::to_string).collect();
    list.retain(|item| !removed.contains(&item.to_string()));
}

/// Merges two lists of a field whose strategy is to merge.
pub(super) fn merge<S: MergeSchema>(
    old: Vec<Value>,
    new: Vec<Value>,
    name: &str,
    field: Option<&MergeField<S>>,
) -> Result<Vec<Value>, StrategicError> {
    let Some(first) = old.first().or(new.first()) else { return Ok(old) };
    let shape = std::mem::discriminant(first);
    if old.iter().chain(&new).any(|item| std::mem::discriminant(item) != shape) {
        let both = [&old, &new].map(|list| go_text(&Value::Array(list.clone())));
        return Err(StrategicError::MixedList(format!("[{}]", both.join(" "))));
    }
    match first {
        Value::Array(_) => Err(StrategicError::ListOfLists),
        Value::Object(_) => {
            let key = field.and_then(|field| field.merge_key.as_deref());
            let key = key.ok_or_else(|| StrategicError::NoKeyDeclared(name.to_owned()))?;
            merge_structures(old, new, key, field.and_then(|field| field.schema.as_ref()))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(merge_scalars(old, new)),
    }
}

fn merge_scalars(old: Vec<Value>, new: Vec<Value>) -> Vec<Value> {
    let server_order = identities(&old, None);
    let patch_order = identities(&new, None);
    let mut seen = HashSet::new();
    let union = old.into_iter().chain(new).filter(|item| seen.insert(item.to_string())).collect();
    ordered(union, &patch_order, &server_order, None)
}

fn merge_structures<S: MergeSchema>(
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: &str,
    schema: Option<&S>,
) -> Result<Vec<Value>, StrategicError> {
    let mut replace = false;
    let mut deleted = HashSet::new();
    let mut patches: Vec<Map<String, Value>> = Vec::with_capacity(new.len());
    for item in new {
        let Value::Object(item) = item else { continue };
        match item.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
            None => patches.push(item),
            Some("replace") => replace = true,
            Some("delete") => {
                deleted.insert(item.get(key).ok_or_else(|| no_key(&item, key))?.to_string());
            }
            Some("merge") => return Err(StrategicError::MergeDirectiveInList),
            Some(_) => {
                let directive = go_text(&item[DIRECTIVE]);
                return Err(StrategicError::Directive { directive, map: go_text(&Value::Object(item)) });
            }
        }
    }
    if replace {
        return Ok(cleaned_list(patches.into_iter().map(Value::Object).collect()));
    }
    if !deleted.is_empty() {
        old.retain(|item| !identity(item, Some(key)).is_some_and(|identity| deleted.contains(&identity)));
    }
    let server_order = identities(&old, Some(key));
    let mut places = server_order.clone();
    let mut patch_order = HashMap::new();
    for patch in patches {
        let identity = patch.get(key).ok_or_else(|| no_key(&patch, key))?.to_string();
        let position = patch_order.len();
        patch_order.entry(identity.clone()).or_insert(position);
        match places.get(&identity) {
            Some(at) => {
                let before = old[*at].as_object_mut().map(std::mem::take).unwrap_or_default();
                old[*at] = Value::Object(merge_map(before, patch, schema)?);
            }
            None => {
                places.insert(identity, old.len());
                old.extend(cleaned(Value::Object(patch)));
            }
        }
    }
    Ok(ordered(old, &patch_order, &server_order, Some(key)))
}

fn no_key(map: &Map<String, Value>, key: &str) -> StrategicError {
    StrategicError::NoMergeKey { map: go_text(&Value::Object(map.clone())), key: key.to_owned() }
}

/// Elements that the patch names stand in its order; the others keep theirs and go before the
/// first named element that followed them on the server.
pub(super) fn ordered(
    items: Vec<Value>,
    patch_order: &HashMap<String, usize>,
    server_order: &HashMap<String, usize>,
    key: Option<&str>,
) -> Vec<Value> {
    let server_place = |item: &Value| server_order.get(&identity(item, key)?).copied();
    let patch_place = |item: &Value| patch_order.get(&identity(item, key)?).copied();
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in items {
        let server = server_place(&item);
        match patch_place(&item) {
            Some(place) => named.push((place, server, item)),
            None => others.push((server, item)),
        }
    }
    named.sort_by_key(|(place, _, _)| *place);
    others.sort_by_key(|(server, _)| server.unwrap_or(usize::MAX));
    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, server, item) in named {
        let precedes =
            |(other, _): &(Option<usize>, Value)| other.zip(server).is_some_and(|(other, at)| other < at);
        while let Some((_, other)) = others.next_if(precedes) {
            result.push(other);
        }
        result.push(item);
    }
    result.extend(others.map(|(_, item)| item));
    result
}

/// The elements of a patch's list must follow the order that its `$setElementOrder` gives.
pub(super) fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), StrategicError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut remaining = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let wanted = match (item, key) {
            (Value::Object(map), Some(key)) => map.get(key).ok_or_else(|| no_key(map, key))?.to_string(),
            (item, _) => item.to_string(),
        };
        if !remaining.any(|candidate| identity(candidate, key).as_ref() == Some(&wanted)) {
            let text = |list: &[Value]| go_text(&Value::Array(list.to_vec()));
            return Err(StrategicError::OrderMismatch { patch: text(patch), order: text(order) });
        }
    }
    Ok(())
}
