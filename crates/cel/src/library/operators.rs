//! Arithmetic, comparison, indices.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Library, no_overload};
use crate::eval::{Budget, EvalError, Outcome};
use crate::library::time;
use crate::value::compare::{equal, order};
use crate::value::{Key, List, Map, Value};

pub const LIBRARY: Library = &[
    (
        &[
            "_+_(int, int) -> int",
            "_+_(uint, uint) -> uint",
            "_+_(double, double) -> double",
            "_+_(string, string) -> string",
            "_+_(bytes, bytes) -> bytes",
            "_+_(list(A), list(A)) -> list(A)",
            "_+_(duration, duration) -> duration",
            "_+_(duration, timestamp) -> timestamp",
            "_+_(timestamp, duration) -> timestamp",
        ],
        add,
    ),
    (
        &[
            "_-_(int, int) -> int",
            "_-_(uint, uint) -> uint",
            "_-_(double, double) -> double",
            "_-_(duration, duration) -> duration",
            "_-_(timestamp, duration) -> timestamp",
            "_-_(timestamp, timestamp) -> duration",
        ],
        subtract,
    ),
    (&["_*_(int, int) -> int", "_*_(uint, uint) -> uint", "_*_(double, double) -> double"], multiply),
    (&["_/_(int, int) -> int", "_/_(uint, uint) -> uint", "_/_(double, double) -> double"], divide),
    (&["_%_(int, int) -> int", "_%_(uint, uint) -> uint"], modulo),
    (&["-_(int) -> int", "-_(double) -> double"], negate),
    (&["!_(bool) -> bool"], not),
    (&["@not_strictly_false(bool) -> bool"], not_strictly_false),
    (&["_==_(A, A) -> bool"], |budget, args| Ok(Value::Bool(equal(budget, &args[0], &args[1])?))),
    (&["_!=_(A, A) -> bool"], |budget, args| Ok(Value::Bool(!equal(budget, &args[0], &args[1])?))),
    (&LESS, |_, args| ordered(args, |order| order == Ordering::Less)),
    (&LESS_EQUAL, |_, args| ordered(args, |order| order != Ordering::Greater)),
    (&GREATER, |_, args| ordered(args, |order| order == Ordering::Greater)),
    (&GREATER_EQUAL, |_, args| ordered(args, |order| order != Ordering::Less)),
    (&["@in(A, list(A)) -> bool", "@in(A, map(A, B)) -> bool"], contained),
    (
        &[
            "_[_](list(A), int) -> A",
            "_[_](map(A, B), A) -> B",
            "_[_](optional(list(A)), int) -> optional(A)",
            "_[_](optional(map(A, B)), A) -> optional(B)",
        ],
        index,
    ),
    (
        &[
            "_[?_](list(A), int) -> optional(A)",
            "_[?_](map(A, B), A) -> optional(B)",
            "_[?_](optional(list(A)), int) -> optional(A)",
            "_[?_](optional(map(A, B)), A) -> optional(B)",
        ],
        optional_index,
    ),
    // Its target and field are looked at by the checker and the evaluator.
    (&["_?._(dyn, string) -> optional(dyn)"], |_, _| no_overload()),
    (&["_?_:_(bool, A, A) -> A"], |_, _| no_overload()),
    (&["cel.@mapInsert(map(A, B), map(A, B)) -> map(A, B)"], |_, _| no_overload()),
    (
        &[
            "size(string) -> int",
            "size(bytes) -> int",
            "size(list(A)) -> int",
            "size(map(A, B)) -> int",
            "string~size() -> int",
            "bytes~size() -> int",
            "list(A)~size() -> int",
            "map(A, B)~size() -> int",
        ],
        size,
    ),
];

macro_rules! comparison {
    ($name:ident, $op:literal) => {
        const $name: [&str; 14] = [
            concat!($op, "(bool, bool) -> bool"),
            concat!($op, "(int, int) -> bool"),
            concat!($op, "(int, double) -> bool"),
            concat!($op, "(int, uint) -> bool"),
            concat!($op, "(uint, uint) -> bool"),
            concat!($op, "(uint, double) -> bool"),
            concat!($op, "(uint, int) -> bool"),
            concat!($op, "(double, double) -> bool"),
            concat!($op, "(double, int) -> bool"),
            concat!($op, "(double, uint) -> bool"),
            concat!($op, "(string, string) -> bool"),
            concat!($op, "(bytes, bytes) -> bool"),
            concat!($op, "(timestamp, timestamp) -> bool"),
            concat!($op, "(duration, duration) -> bool"),
        ];
    };
}
comparison!(LESS, "_<_");
comparison!(LESS_EQUAL, "_<=_");
comparison!(GREATER, "_>_");
comparison!(GREATER_EQUAL, "_>=_");

fn add<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_add(*b).ok_or(EvalError::Overflow)?),
        [Value::Uint(a), Value::Uint(b)] => {
            Value::Uint(a.checked_add(*b).ok_or(EvalError::UnsignedOverflow)?)
        }
        [Value::Double(a), Value::Double(b)] => Value::Double(a + b),
        [Value::String(a), Value::String(b)] => {
            budget.work(a.len() + b.len())?;
            Value::string([&**a, &**b].concat())
        }
        [Value::Bytes(a), Value::Bytes(b)] => {
            budget.work(a.len() + b.len())?;
            Value::Bytes([&**a, &**b].concat().into())
        }
        [Value::List(a), Value::List(b)] => {
            budget.work((a.len() + b.len()).saturating_mul(16))?;
            add_lists(budget, a, b)?
        }
        [Value::Duration(a), Value::Duration(b)] => {
            Value::Duration(a.checked_add(*b).ok_or(EvalError::DurationOverflow)?)
        }
        [Value::Duration(by), Value::Timestamp(at)] | [Value::Timestamp(at), Value::Duration(by)] => {
            time::shifted(*at, *by)?
        }
        _ => return no_overload(),
    })
}

/// Lists of the schema add as their type says: sets as a union, maps by key.
fn add_lists<'a>(budget: &mut Budget, a: &List<'a>, b: &List<'a>) -> Outcome<'a> {
    let mut items: Vec<Value<'a>> = a.iter().collect();
    let keys = match a {
        List::Json { kind: crate::types::ListKind::Set, .. } => Some(&[][..]),
        List::Json { kind: crate::types::ListKind::Map(keys), .. } => Some(keys.as_slice()),
        _ => None,
    };
    for item in b.iter() {
        let mut held = None;
        if let Some(keys) = keys {
            for (at, known) in items.iter().enumerate() {
                if same_entry(budget, keys, known, &item)? {
                    held = Some(at);
                    break;
                }
            }
        }
        match held {
            Some(at) => items[at] = item,
            None => items.push(item),
        }
    }
    Value::list(items).ok_or(EvalError::CostExceeded)
}

fn same_entry(budget: &mut Budget, keys: &[String], a: &Value<'_>, b: &Value<'_>) -> Result<bool, EvalError> {
    if keys.is_empty() {
        return equal(budget, a, b);
    }
    let (Value::Map(a), Value::Map(b)) = (a, b) else { return Ok(false) };
    for key in keys {
        let same = match (a.get_str(key), b.get_str(key)) {
            (Some(a), Some(b)) => equal(budget, &a, &b)?,
            (None, None) => true,
            _ => false,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn subtract<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_sub(*b).ok_or(EvalError::Overflow)?),
        [Value::Uint(a), Value::Uint(b)] => {
            Value::Uint(a.checked_sub(*b).ok_or(EvalError::UnsignedOverflow)?)
        }
        [Value::Double(a), Value::Double(b)] => Value::Double(a - b),
        [Value::Duration(a), Value::Duration(b)] => {
            Value::Duration(a.checked_sub(*b).ok_or(EvalError::DurationOverflow)?)
        }
        [Value::Timestamp(at), Value::Duration(by)] => {
            time::shifted(*at, by.checked_neg().ok_or(EvalError::DurationOverflow)?)?
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            let nanos = a.as_nanosecond() - b.as_nanosecond();
            Value::Duration(i64::try_from(nanos).map_err(|_| EvalError::DurationOverflow)?)
        }
        _ => return no_overload(),
    })
}

fn multiply<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_mul(*b).ok_or(EvalError::Overflow)?),
        [Value::Uint(a), Value::Uint(b)] => {
            Value::Uint(a.checked_mul(*b).ok_or(EvalError::UnsignedOverflow)?)
        }
        [Value::Double(a), Value::Double(b)] => Value::Double(a * b),
        _ => return no_overload(),
    })
}

fn divide<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            return Err(EvalError::DivisionByZero);
        }
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_div(*b).ok_or(EvalError::Overflow)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a / b),
        [Value::Double(a), Value::Double(b)] => Value::Double(a / b),
        _ => return no_overload(),
    })
}

fn modulo<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            return Err(EvalError::ModulusByZero);
        }
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_rem(*b).ok_or(EvalError::Overflow)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a % b),
        _ => return no_overload(),
    })
}

fn negate<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(int)] => Ok(Value::Int(int.checked_neg().ok_or(EvalError::Overflow)?)),
        [Value::Double(double)] => Ok(Value::Double(-double)),
        _ => no_overload(),
    }
}

fn not<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bool(bool)] => Ok(Value::Bool(!bool)),
        _ => no_overload(),
    }
}

fn not_strictly_false<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(!matches!(args, [Value::Bool(false)])))
}

fn ordered<'a>(args: &[Value<'a>], accept: fn(Ordering) -> bool) -> Outcome<'a> {
    match args {
        [Value::Double(a), _] | [_, Value::Double(a)] if a.is_nan() => {
            Err(EvalError::Argument("NaN values cannot be ordered".into()))
        }
        [a, b] => order(a, b).map(|order| Value::Bool(accept(order))).ok_or(EvalError::NoSuchOverload),
        _ => no_overload(),
    }
}

fn contained<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [item, Value::List(list)] => {
            for one in list.iter() {
                if equal(budget, item, &one)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [key, Value::Map(map)] => Ok(Value::Bool(Key::of(key).is_some_and(|key| map.get(&key).is_some()))),
        _ => no_overload(),
    }
}

fn index<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(None), _] => Ok(Value::Optional(None)),
        [Value::Optional(Some(on)), at] => found(on, at).map(optional),
        [on, at] => match (found(on, at)?, on) {
            (Some(value), _) => Ok(value),
            (None, Value::List(_)) => Err(EvalError::OutOfBounds(position(at)?)),
            (None, _) => {
                Err(EvalError::NoSuchKey(Key::of(at).map(|key| key.to_string()).unwrap_or_default()))
            }
        },
        _ => no_overload(),
    }
}

fn optional_index<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(None), _] => Ok(Value::Optional(None)),
        [Value::Optional(Some(on)), at] => found(on, at).map(optional),
        [on, at] => found(on, at).map(optional),
        _ => no_overload(),
    }
}

fn optional(value: Option<Value<'_>>) -> Value<'_> {
    match value {
        Some(nested @ Value::Optional(_)) => nested,
        value => Value::Optional(value.map(Arc::new)),
    }
}

fn position(at: &Value<'_>) -> Result<i64, EvalError> {
    match Key::of(at) {
        Some(Key::Int(at)) => Ok(at),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn found<'a>(on: &Value<'a>, at: &Value<'a>) -> Result<Option<Value<'a>>, EvalError> {
    match on {
        Value::List(list) => {
            let at = position(at)?;
            Ok(usize::try_from(at).ok().and_then(|at| list.get(at)))
        }
        Value::Map(Map::Variables) => Err(EvalError::NoSuchOverload),
        Value::Map(map) => Ok(Key::of(at).and_then(|key| map.get(&key))),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn size<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(value.size() as i64))
        }
        _ => no_overload(),
    }
}
