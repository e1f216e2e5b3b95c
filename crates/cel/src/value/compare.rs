//! Equality and order.

use std::cmp::Ordering;

use super::{List, Map, Opaque, Value};
use crate::eval::{Budget, EvalError};
use crate::types::ListKind;

/// Whether two values are equal; values of different types are not.
///
/// What is looked at counts as work: lists that share their parts can be larger than what made them.
pub fn equal(budget: &mut Budget, a: &Value<'_>, b: &Value<'_>) -> Result<bool, EvalError> {
    budget.work(1)?;
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a.runtime_name() == b.runtime_name(),
        (Value::List(a), Value::List(b)) => equal_lists(budget, a, b)?,
        (Value::Map(a), Value::Map(b)) => equal_maps(budget, a, b)?,
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => equal(budget, a, b)?,
        (Value::Opaque(a), Value::Opaque(b)) => equal_opaque(a, b),
        (a, b) => numeric(a, b) == Some(Ordering::Equal),
    })
}

/// The order of two values; none for what has none.
pub fn order(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (a, b) => numeric(a, b),
    }
}

fn numeric(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(int) => Some(i128::from(*int)),
        Value::Uint(uint) => Some(i128::from(*uint)),
        _ => None,
    };
    match (whole(a), whole(b), a, b) {
        (Some(a), Some(b), _, _) => Some(a.cmp(&b)),
        (_, _, Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Some(a), None, _, Value::Double(b)) => with_double(a, *b),
        (None, Some(b), Value::Double(a), _) => with_double(b, *a).map(Ordering::reverse),
        _ => None,
    }
}

/// Exact also where a double cannot hold the whole number.
fn with_double(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double.abs() >= 1e30 {
        return Some(if double > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let floor = double.floor();
    Some(whole.cmp(&(floor as i128)).then(if double > floor { Ordering::Less } else { Ordering::Equal }))
}

fn equal_lists(budget: &mut Budget, a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    if a.len() != b.len() {
        return Ok(false);
    }
    // Of sets and maps of the schema the order does not matter.
    if let List::Json { kind, .. } = a
        && **kind != ListKind::Atomic
    {
        for one in a.iter() {
            let mut found = false;
            for other in b.iter() {
                found = found || equal(budget, &one, &other)?;
            }
            if !found {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    for (a, b) in a.iter().zip(b.iter()) {
        if !equal(budget, &a, &b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_maps(budget: &mut Budget, a: &Map<'_>, b: &Map<'_>) -> Result<bool, EvalError> {
    let left = a.keys();
    if left.len() != b.keys().len() {
        return Ok(false);
    }
    for key in &left {
        match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) if equal(budget, &a, &b)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

fn equal_opaque(a: &Opaque<'_>, b: &Opaque<'_>) -> bool {
    match (a, b) {
        (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
        (Opaque::Url(a), Opaque::Url(b)) => a == b,
        (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
        (Opaque::Cidr(a), Opaque::Cidr(b)) => a == b,
        (Opaque::Semver(a), Opaque::Semver(b)) => a.cmp_precedence(b) == Ordering::Equal,
        (Opaque::Format(a), Opaque::Format(b)) => a == b,
        _ => false,
    }
}
