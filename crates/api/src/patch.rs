//! The three patch formats that change an object by a document: JSON patch (RFC 6902), JSON merge
//! patch (RFC 7386) and strategic merge patch.
//!
//! Patches come from outside: their number of operations, what `copy` may add and how deep the
//! result may nest are bounded.

use json_patch::jsonptr::Pointer;
use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde_json::{Map, Value};

use crate::status::Status;
use crate::strategic::{self, MergeSchema, StrategicError};

/// Most operations of a JSON patch, as in Kubernetes.
pub const MAX_OPERATIONS: usize = 10_000;
/// Most bytes of JSON that the `copy` operations of one patch may add together, as in Kubernetes.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;
/// Deepest nesting that an operation may make: what a JSON parser will read again.
const MAX_DEPTH: usize = 120;

/// A patch that could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    #[error("error decoding patch: {0}")]
    Decode(String),
    #[error("Invalid JSON Patch")]
    NotAnObject,
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    #[error("testing value {path} failed: test failed")]
    TestFailed { path: String },
    #[error("{operation} operation does not apply: doc is missing path: {path:?}: missing value")]
    MissingPath { operation: &'static str, path: String },
    #[error("{operation} operation does not apply: doc is missing from path: {path:?}: missing value")]
    MissingFrom { operation: &'static str, path: String },
    #[error("move operation does not apply: {path:?} is inside of what moves")]
    MoveInsideItself { path: String },
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED_BYTES}"
    )]
    Copied { copied: usize },
    #[error("{operation} operation does not apply: {path:?} would nest deeper than {MAX_DEPTH}")]
    TooDeep { operation: &'static str, path: String },
    #[error(transparent)]
    Strategic(#[from] StrategicError),
}

impl PatchError {
    /// What the client is told.
    pub fn status(&self) -> Status {
        match self {
            PatchError::Decode(_) | PatchError::NotAnObject => Status::bad_request(self.to_string()),
            PatchError::TooManyOperations(_) => {
                Status::failure(413, "RequestEntityTooLarge", format!("Request entity too large: {self}"))
            }
            // Kubernetes does not say which operation failed.
            PatchError::TestFailed { .. }
            | PatchError::MissingPath { .. }
            | PatchError::MissingFrom { .. }
            | PatchError::MoveInsideItself { .. }
            | PatchError::Copied { .. }
            | PatchError::TooDeep { .. }
            | PatchError::Strategic(StrategicError::ListOfLists) => Status::failure(
                422,
                "Invalid",
                "the server rejected our request due to an error in our request",
            ),
            PatchError::Strategic(error) => Status::bad_request(error.to_string()),
        }
    }
}

/// Applies a JSON patch: all operations or none.
pub fn json(mut object: Value, body: &[u8]) -> Result<Value, PatchError> {
    let operations: Vec<Value> =
        serde_json::from_slice(body).map_err(|error| PatchError::Decode(error.to_string()))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let patch: Patch = serde_json::from_value(Value::Array(operations))
        .map_err(|error| PatchError::Decode(error.to_string()))?;
    let mut copied = 0;
    for operation in patch.0 {
        apply_operation(&mut object, operation, &mut copied)?;
    }
    Ok(object)
}

/// Applies a JSON merge patch: `null` deletes, objects merge, anything else replaces.
pub fn merge(mut object: Value, body: &[u8]) -> Result<Value, PatchError> {
    let patch = Value::Object(parse_object(body)?);
    json_patch::merge(&mut object, &patch);
    Ok(object)
}

/// Applies a strategic merge patch by the schema of the object's kind.
pub fn strategic<S: MergeSchema>(object: Value, body: &[u8], schema: &S) -> Result<Value, PatchError> {
    let patch = parse_object(body)?;
    let Value::Object(object) = object else { return Err(PatchError::NotAnObject) };
    Ok(Value::Object(strategic::apply(object, patch, schema)?))
}

fn parse_object(body: &[u8]) -> Result<Map<String, Value>, PatchError> {
    match serde_json::from_slice(body).map_err(|error| PatchError::Decode(error.to_string()))? {
        Value::Object(patch) => Ok(patch),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(PatchError::NotAnObject)
        }
    }
}

fn apply_operation(
    object: &mut Value,
    operation: PatchOperation,
    copied: &mut usize,
) -> Result<(), PatchError> {
    let name = operation_name(&operation);
    let path = operation.path().to_string();
    match &operation {
        PatchOperation::Add(add) => check_depth(name, &add.path, Some(&add.value))?,
        PatchOperation::Replace(replace) => check_depth(name, &replace.path, Some(&replace.value))?,
        PatchOperation::Move(change) => check_depth(name, &change.path, at(object, &change.from))?,
        PatchOperation::Copy(copy) => {
            let source = at(object, &copy.from);
            check_depth(name, &copy.path, source)?;
            *copied = copied.saturating_add(source.map_or(0, size));
            if *copied > MAX_COPIED_BYTES {
                return Err(PatchError::Copied { copied: *copied });
            }
        }
        // An absent value equals null: clients test so that something is not there.
        PatchOperation::Test(test) if test.value.is_null() && at(object, &test.path).is_none() => {
            return Ok(());
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => {}
    }
    let from = match &operation {
        PatchOperation::Move(change) => change.from.to_string(),
        PatchOperation::Copy(copy) => copy.from.to_string(),
        PatchOperation::Add(_)
        | PatchOperation::Remove(_)
        | PatchOperation::Replace(_)
        | PatchOperation::Test(_) => String::new(),
    };
    json_patch::patch_unsafe(object, &[operation]).map_err(|error| match error.kind {
        PatchErrorKind::TestFailed => PatchError::TestFailed { path },
        PatchErrorKind::InvalidFromPointer => PatchError::MissingFrom { operation: name, path: from },
        PatchErrorKind::CannotMoveInsideItself => PatchError::MoveInsideItself { path },
        // The crate reserves the right to add kinds; whatever they are, the path did not apply.
        _ => PatchError::MissingPath { operation: name, path },
    })
}

fn operation_name(operation: &PatchOperation) -> &'static str {
    match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    }
}

fn at<'a>(object: &'a Value, path: &Pointer) -> Option<&'a Value> {
    object.pointer(path.as_str())
}

fn check_depth(operation: &'static str, path: &Pointer, value: Option<&Value>) -> Result<(), PatchError> {
    if path.count() + value.map_or(0, depth) > MAX_DEPTH {
        return Err(PatchError::TooDeep { operation, path: path.to_string() });
    }
    Ok(())
}

/// Levels of nesting; the values here are never deeper than a parser or [`check_depth`] let them be.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or_default(),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// About the bytes of a value's JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(list) => 2 + list.iter().map(|item| size(item) + 1).sum::<usize>(),
        Value::Object(map) => 2 + map.iter().map(|(key, item)| key.len() + 4 + size(item)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests;
