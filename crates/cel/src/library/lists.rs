//! Kubernetes' lists: `isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`.

use std::cmp::Ordering;

use super::{Library, invalid, no_overload};
use crate::eval::{Budget, EvalError, Outcome};
use crate::value::compare::{equal, order};
use crate::value::{List, Value};

pub const LIBRARY: Library = &[
    (
        &[
            "list(int)~isSorted() -> bool",
            "list(uint)~isSorted() -> bool",
            "list(double)~isSorted() -> bool",
            "list(bool)~isSorted() -> bool",
            "list(duration)~isSorted() -> bool",
            "list(timestamp)~isSorted() -> bool",
            "list(string)~isSorted() -> bool",
            "list(bytes)~isSorted() -> bool",
        ],
        is_sorted,
    ),
    (
        &[
            "list(int)~sum() -> int",
            "list(uint)~sum() -> uint",
            "list(double)~sum() -> double",
            "list(duration)~sum() -> duration",
        ],
        sum,
    ),
    (
        &[
            "list(int)~min() -> int",
            "list(uint)~min() -> uint",
            "list(double)~min() -> double",
            "list(bool)~min() -> bool",
            "list(duration)~min() -> duration",
            "list(timestamp)~min() -> timestamp",
            "list(string)~min() -> string",
            "list(bytes)~min() -> bytes",
        ],
        |_, args| extreme(args, "min", Ordering::Less),
    ),
    (
        &[
            "list(int)~max() -> int",
            "list(uint)~max() -> uint",
            "list(double)~max() -> double",
            "list(bool)~max() -> bool",
            "list(duration)~max() -> duration",
            "list(timestamp)~max() -> timestamp",
            "list(string)~max() -> string",
            "list(bytes)~max() -> bytes",
        ],
        |_, args| extreme(args, "max", Ordering::Greater),
    ),
];

fn list<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v List<'a>, EvalError> {
    match args.first() {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn is_sorted<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let mut before: Option<Value<'a>> = None;
    for item in list(args)?.iter() {
        if let Some(before) = &before {
            match order(before, &item) {
                Some(Ordering::Greater) => return Ok(Value::Bool(false)),
                Some(_) => {}
                None => return no_overload(),
            }
        }
        before = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let mut total: Option<Value<'a>> = None;
    for item in list(args)?.iter() {
        total = Some(match (total, item) {
            (None, item) => item,
            (Some(Value::Int(a)), Value::Int(b)) => Value::Int(a.checked_add(b).ok_or(EvalError::Overflow)?),
            (Some(Value::Uint(a)), Value::Uint(b)) => {
                Value::Uint(a.checked_add(b).ok_or(EvalError::UnsignedOverflow)?)
            }
            (Some(Value::Double(a)), Value::Double(b)) => Value::Double(a + b),
            (Some(Value::Duration(a)), Value::Duration(b)) => {
                Value::Duration(a.checked_add(b).ok_or(EvalError::DurationOverflow)?)
            }
            _ => return no_overload(),
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Outcome<'a> {
    let mut found: Option<Value<'a>> = None;
    for item in list(args)?.iter() {
        let better = match &found {
            None => true,
            Some(found) => order(&item, found).ok_or(EvalError::NoSuchOverload)? == wanted,
        };
        if better {
            found = Some(item);
        }
    }
    found.ok_or_else(|| invalid(format!("{name} called on empty list")))
}

pub(super) fn index_of<'a>(budget: &mut Budget, args: &[Value<'a>], last: bool) -> Outcome<'a> {
    let [Value::List(list), wanted] = args else { return no_overload() };
    let mut found = -1;
    for (at, item) in list.iter().enumerate() {
        if equal(budget, &item, wanted)? {
            found = at as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}
