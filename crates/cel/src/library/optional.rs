//! Optional values. `or` and `orValue` are the evaluator's, since they look at their argument late.

use std::sync::Arc;

use super::{Library, no_overload};
use crate::eval::EvalError;
use crate::value::Value;

pub const LIBRARY: Library = &[
    (&["optional.of(A) -> optional(A)"], |_, args| match args {
        [value] => some(value),
        _ => no_overload(),
    }),
    (&["optional.ofNonZeroValue(A) -> optional(A)"], |_, args| match args {
        [value] if is_zero(value) => Ok(Value::Optional(None)),
        [value] => some(value),
        _ => no_overload(),
    }),
    (&["optional.none() -> optional(A)"], |_, _| Ok(Value::Optional(None))),
    (&["optional(A)~value() -> A"], |_, args| match args {
        [Value::Optional(Some(inner))] => Ok(inner.as_ref().clone()),
        [Value::Optional(None)] => Err(EvalError::NoValue),
        _ => no_overload(),
    }),
    (&["optional(A)~hasValue() -> bool"], |_, args| match args {
        [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
        _ => no_overload(),
    }),
    (&["optional(A)~or(optional(A)) -> optional(A)"], |_, _| no_overload()),
    (&["optional(A)~orValue(A) -> A"], |_, _| no_overload()),
];

fn some<'a>(value: &Value<'a>) -> Result<Value<'a>, EvalError> {
    if value.depth() >= crate::value::MAX_DEPTH {
        return Err(EvalError::CostExceeded);
    }
    Ok(Value::Optional(Some(Arc::new(value.clone()))))
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => true,
        Value::Double(double) => *double == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Optional(None) => true,
        _ => false,
    }
}
