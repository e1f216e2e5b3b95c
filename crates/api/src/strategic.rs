//! Strategic merge patch: a merge patch that knows which lists are sets and which are keyed.
//!
//! How a list merges comes from a [`MergeSchema`]; without one, maps merge and lists are replaced.
//! All directives are understood: `$patch` (`replace`, `delete`), `$retainKeys`,
//! `$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>`. The result is what Kubernetes'
//! API server makes of the same patch, also in the order of list elements.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Map, Value};

mod list;
mod schema;

pub use schema::SchemaMerge;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

/// Where in a schema a merge stands: at a structure, whose fields it asks for.
pub trait MergeSchema: Clone {
    /// How a field of this structure merges; `None` for fields that the schema does not know and
    /// for the keys of free maps of scalars.
    fn field(&self, name: &str) -> Option<MergeField<Self>>;
}

/// How one field merges.
#[derive(Clone, Debug)]
pub struct MergeField<S> {
    /// The schema of the field's structure, or of the structures in its list.
    pub schema: Option<S>,
    /// The field is replaced as a whole (`x-kubernetes-patch-strategy: replace`).
    pub replace: bool,
    /// The field is a list that merges (`x-kubernetes-patch-strategy: merge`).
    pub merge: bool,
    /// The key that tells the elements of a merging list of structures apart.
    pub merge_key: Option<Cow<'static, str>>,
}

/// The schema that knows nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoSchema;

impl MergeSchema for NoSchema {
    fn field(&self, _name: &str) -> Option<MergeField<Self>> {
        None
    }
}

/// A strategic merge patch that cannot be applied. The messages are those of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    #[error("unknown patch type: {directive} in map: {map}")]
    Directive { directive: String, map: String },
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirectiveInList,
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey { map: String, key: String },
    #[error("cannot merge lists without merge key for {0}")]
    NoKeyDeclared(String),
    #[error("list element types are not identical: {0}")]
    MixedList(String),
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("invalid patch format of primitive list")]
    DeleteFromList,
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    SetOrder,
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    OrderMismatch { patch: String, order: String },
}

/// Merges a patch into an object.
pub fn apply<S: MergeSchema>(
    original: Map<String, Value>,
    patch: Map<String, Value>,
    schema: &S,
) -> Result<Map<String, Value>, StrategicError> {
    merge_map(original, patch, Some(schema))
}

fn merge_map<S: MergeSchema>(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Option<&S>,
) -> Result<Map<String, Value>, StrategicError> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => Ok(cleaned_map(patch)),
            Some("delete") => Ok(Map::new()),
            Some(_) | None => {
                let directive = go_text(&directive);
                Err(StrategicError::Directive { directive, map: go_text(&Value::Object(patch)) })
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    set_element_orders(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix(DELETE_FROM_LIST) {
            let removed = value.as_array().ok_or(StrategicError::DeleteFromList)?;
            if let Some(Value::Array(list)) = original.get_mut(name) {
                list::delete_from(list, removed);
            }
            continue;
        }
        merge_field(&mut original, key, value, schema)?;
    }
    Ok(original)
}

fn merge_field<S: MergeSchema>(
    original: &mut Map<String, Value>,
    key: String,
    value: Value,
    schema: Option<&S>,
) -> Result<(), StrategicError> {
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let field = schema.and_then(|schema| schema.field(&key));
    let replace = field.as_ref().is_some_and(|field| field.replace);
    let merged = match (original.remove(&key), value) {
        (Some(Value::Object(old)), Value::Object(new)) if !replace => {
            let inner = field.as_ref().and_then(|field| field.schema.as_ref());
            Some(Value::Object(merge_map(old, new, inner)?))
        }
        (Some(Value::Array(old)), Value::Array(new)) if field.as_ref().is_some_and(|field| field.merge) => {
            Some(Value::Array(list::merge(old, new, &key, field.as_ref())?))
        }
        (_, new) => cleaned(new),
    };
    if let Some(merged) = merged {
        original.insert(key, merged);
    }
    Ok(())
}

/// `$retainKeys`: fields that it does not list go away.
fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), StrategicError> {
    let Some(listed) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let listed = listed.as_array().ok_or(StrategicError::RetainKeys)?;
    let listed: HashSet<&str> = listed.iter().filter_map(Value::as_str).collect();
    let is_directive = |key: &str| key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER);
    if patch
        .iter()
        .any(|(key, value)| !value.is_null() && !is_directive(key) && !listed.contains(key.as_str()))
    {
        return Err(StrategicError::RetainKeys);
    }
    original.retain(|key, _| listed.contains(key.as_str()));
    Ok(())
}

/// `$setElementOrder/<field>`: merges the lists that it names and brings them into its order.
fn set_element_orders<S: MergeSchema>(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: Option<&S>,
) -> Result<(), StrategicError> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(StrategicError::SetOrder);
        };
        let name = &directive[SET_ORDER.len()..];
        let field = schema.and_then(|schema| schema.field(name));
        let take = |map: &mut Map<String, Value>| match map.remove(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(StrategicError::SetOrder),
        };
        let old = take(original)?;
        let new = take(patch)?;
        let key = field.as_ref().and_then(|field| field.merge_key.as_deref());
        if let Some(new) = &new {
            list::check_order(new, &order, key)?;
        }
        let server_order = list::identities(old.as_deref().unwrap_or_default(), key);
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => cleaned_list(new),
            (Some(old), Some(new)) if field.as_ref().is_some_and(|field| field.merge) => {
                list::merge(old, new, name, field.as_ref())?
            }
            (Some(_), Some(new)) => cleaned_list(new),
        };
        let ordered = list::ordered(merged, &list::identities(&order, key), &server_order, key);
        original.insert(name.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

/// A value of the patch that has nothing to merge with: without directives and nulls. `None` when
/// the value itself was only a directive.
fn cleaned(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => Some(Value::Object(cleaned_map(map))),
        Value::Array(list) => Some(Value::Array(cleaned_list(list))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value),
    }
}

fn cleaned_map(map: Map<String, Value>) -> Map<String, Value> {
    let is_directive =
        |key: &str| key == RETAIN_KEYS || key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER);
    map.into_iter()
        .filter(|(key, value)| !value.is_null() && !is_directive(key))
        .filter_map(|(key, value)| Some((key, cleaned(value)?)))
        .collect()
}

fn cleaned_list(list: Vec<Value>) -> Vec<Value> {
    list.into_iter().filter_map(cleaned).collect()
}

/// A value as Go's `%v` prints it, as messages carry it; cut after a kilobyte.
pub(crate) fn go_text(value: &Value) -> String {
    let mut text = String::new();
    write_go(&mut text, value);
    if let Some((at, _)) = text.char_indices().find(|(at, _)| *at >= 1024) {
        text.truncate(at);
        text.push('…');
    }
    text
}

fn write_go(text: &mut String, value: &Value) {
    if text.len() > 1024 {
        return;
    }
    match value {
        Value::Null => text.push_str("<nil>"),
        Value::Bool(_) | Value::Number(_) => {
            write!(text, "{value}").expect("writing to a string cannot fail")
        }
        Value::String(string) => text.push_str(string),
        Value::Array(list) => {
            text.push('[');
            for (at, item) in list.iter().enumerate() {
                text.push_str(if at > 0 { " " } else { "" });
                write_go(text, item);
            }
            text.push(']');
        }
        Value::Object(map) => {
            text.push_str("map[");
            for (at, (key, item)) in map.iter().enumerate() {
                text.push_str(if at > 0 { " " } else { "" });
                text.push_str(key);
                text.push(':');
                write_go(text, item);
            }
            text.push(']');
        }
    }
}

#[cfg(test)]
mod tests;
