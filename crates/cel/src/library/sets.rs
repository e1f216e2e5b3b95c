//! The `sets` extension, over lists.

use super::{Library, no_overload};
use crate::eval::{Budget, EvalError};
use crate::value::compare::equal;
use crate::value::{List, Value};

pub const LIBRARY: Library = &[
    (&["sets.contains(list(A), list(A)) -> bool"], |budget, args| match args {
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(contains(budget, a, b)?)),
        _ => no_overload(),
    }),
    (&["sets.equivalent(list(A), list(A)) -> bool"], |budget, args| match args {
        [Value::List(a), Value::List(b)] => {
            Ok(Value::Bool(contains(budget, a, b)? && contains(budget, b, a)?))
        }
        _ => no_overload(),
    }),
    (&["sets.intersects(list(A), list(A)) -> bool"], |budget, args| match args {
        [Value::List(a), Value::List(b)] => {
            for item in b.iter() {
                if has(budget, a, &item)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        _ => no_overload(),
    }),
];

fn contains(budget: &mut Budget, a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    for item in b.iter() {
        if !has(budget, a, &item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has(budget: &mut Budget, list: &List<'_>, wanted: &Value<'_>) -> Result<bool, EvalError> {
    for item in list.iter() {
        if equal(budget, &item, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}
