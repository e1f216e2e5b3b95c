//! Kubernetes' quantities.

use std::cmp::Ordering;

use sampan_api::quantity::{Format, Quantity};

use super::{Library, invalid, no_overload, text};
use crate::eval::EvalError;
use crate::value::{Opaque, Value};

pub const LIBRARY: Library = &[
    (&["quantity(string) -> kubernetes.Quantity"], |_, args| {
        let quantity = text(args, 0)?.parse().map_err(|error| invalid(format!("{error}")))?;
        Ok(Value::Opaque(Opaque::Quantity(quantity)))
    }),
    (&["isQuantity(string) -> bool"], |_, args| Ok(Value::Bool(text(args, 0)?.parse::<Quantity>().is_ok()))),
    (&["kubernetes.Quantity~sign() -> int"], |_, args| {
        let one = quantity(args, 0)?;
        Ok(Value::Int(if one.is_negative() { -1 } else { i64::from(!one.is_zero()) }))
    }),
    // Quantities that are compared share a function with versions, which are told apart by value.
    (
        &[
            "kubernetes.Quantity~isGreaterThan(kubernetes.Quantity) -> bool",
            "kubernetes.Semver~isGreaterThan(kubernetes.Semver) -> bool",
        ],
        |_, args| Ok(Value::Bool(compared(args)? == Ordering::Greater)),
    ),
    (
        &[
            "kubernetes.Quantity~isLessThan(kubernetes.Quantity) -> bool",
            "kubernetes.Semver~isLessThan(kubernetes.Semver) -> bool",
        ],
        |_, args| Ok(Value::Bool(compared(args)? == Ordering::Less)),
    ),
    (
        &[
            "kubernetes.Quantity~compareTo(kubernetes.Quantity) -> int",
            "kubernetes.Semver~compareTo(kubernetes.Semver) -> int",
        ],
        |_, args| Ok(Value::Int(compared(args)? as i64)),
    ),
    (&["kubernetes.Quantity~asApproximateFloat() -> double"], |_, args| {
        Ok(Value::Double(quantity(args, 0)?.as_f64()))
    }),
    (&["kubernetes.Quantity~asInteger() -> int"], |_, args| {
        let one = quantity(args, 0)?;
        if !one.is_whole() {
            return Err(invalid("cannot convert value to integer"));
        }
        Ok(Value::Int(one.value()))
    }),
    (&["kubernetes.Quantity~isInteger() -> bool"], |_, args| Ok(Value::Bool(quantity(args, 0)?.is_whole()))),
    (
        &[
            "kubernetes.Quantity~add(kubernetes.Quantity) -> kubernetes.Quantity",
            "kubernetes.Quantity~add(int) -> kubernetes.Quantity",
        ],
        |_, args| Ok(Value::Opaque(Opaque::Quantity(quantity(args, 0)? + quantity(args, 1)?))),
    ),
    (
        &[
            "kubernetes.Quantity~sub(kubernetes.Quantity) -> kubernetes.Quantity",
            "kubernetes.Quantity~sub(int) -> kubernetes.Quantity",
        ],
        |_, args| Ok(Value::Opaque(Opaque::Quantity(quantity(args, 0)? - quantity(args, 1)?))),
    ),
];

fn quantity(args: &[Value<'_>], at: usize) -> Result<Quantity, EvalError> {
    match args.get(at) {
        Some(Value::Opaque(Opaque::Quantity(quantity))) => Ok(*quantity),
        Some(Value::Int(int)) => Ok(Quantity::new(*int, Format::DecimalSi)),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn compared(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    match args {
        [Value::Opaque(Opaque::Quantity(a)), Value::Opaque(Opaque::Quantity(b))] => Ok(a.cmp(b)),
        [Value::Opaque(Opaque::Semver(a)), Value::Opaque(Opaque::Semver(b))] => Ok(a.cmp_precedence(b)),
        _ => no_overload().map(|_| Ordering::Equal),
    }
}
