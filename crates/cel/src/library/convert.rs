//! Conversions between types.

use std::sync::Arc;

use super::{Library, no_overload};
use crate::eval::{Budget, EvalError, Outcome};
use crate::library::time;
use crate::value::Value;

pub const LIBRARY: Library = &[
    (
        &[
            "int(int) -> int",
            "int(uint) -> int",
            "int(double) -> int",
            "int(string) -> int",
            "int(timestamp) -> int",
        ],
        to_int,
    ),
    (&["uint(uint) -> uint", "uint(int) -> uint", "uint(double) -> uint", "uint(string) -> uint"], to_uint),
    (
        &[
            "double(double) -> double",
            "double(int) -> double",
            "double(uint) -> double",
            "double(string) -> double",
        ],
        to_double,
    ),
    (
        &[
            "string(string) -> string",
            "string(bool) -> string",
            "string(int) -> string",
            "string(uint) -> string",
            "string(double) -> string",
            "string(bytes) -> string",
            "string(timestamp) -> string",
            "string(duration) -> string",
            "string(net.IP) -> string",
            "string(net.CIDR) -> string",
        ],
        to_string,
    ),
    (&["bool(bool) -> bool", "bool(string) -> bool"], to_bool),
    (&["bytes(bytes) -> bytes", "bytes(string) -> bytes"], to_bytes),
    (&["dyn(A) -> dyn"], |_, args| args.first().cloned().ok_or(EvalError::NoSuchOverload)),
    (&["type(A) -> type(A)"], |_, args| match args {
        [value] => Ok(Value::Type(value.ty())),
        _ => no_overload(),
    }),
];

fn conversion(from: &Value<'_>, to: &'static str) -> EvalError {
    EvalError::Conversion { from: from.ty().runtime_name().to_owned(), to }
}

fn to_int<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Int(match args {
        [Value::Int(int)] => *int,
        [Value::Uint(uint)] => i64::try_from(*uint).map_err(|_| EvalError::Overflow)?,
        [Value::Double(double)] if double.is_finite() && double.abs() < 9_223_372_036_854_775_807.0 => {
            *double as i64
        }
        [Value::Double(_)] => return Err(EvalError::Overflow),
        [from @ Value::String(text)] => text.parse().map_err(|_| conversion(from, "int"))?,
        [Value::Timestamp(at)] => at.as_second(),
        _ => return no_overload(),
    }))
}

fn to_uint<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Uint(match args {
        [Value::Uint(uint)] => *uint,
        [Value::Int(int)] => u64::try_from(*int).map_err(|_| EvalError::UnsignedOverflow)?,
        [Value::Double(double)] if (0.0..18_446_744_073_709_551_615.0).contains(double) => *double as u64,
        [Value::Double(_)] => return Err(EvalError::UnsignedOverflow),
        [from @ Value::String(text)] => text.parse().map_err(|_| conversion(from, "uint"))?,
        _ => return no_overload(),
    }))
}

fn to_double<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Double(match args {
        [Value::Double(double)] => *double,
        [Value::Int(int)] => *int as f64,
        [Value::Uint(uint)] => *uint as f64,
        [from @ Value::String(text)] => text.parse().map_err(|_| conversion(from, "double"))?,
        _ => return no_overload(),
    }))
}

fn to_string<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let text = match args {
        [value @ Value::String(_)] => return Ok(value.clone()),
        [Value::Bytes(bytes)] => {
            budget.charge(bytes.len().div_ceil(10) as u64)?;
            budget.work(bytes.len())?;
            let text = std::str::from_utf8(bytes).map_err(|_| {
                EvalError::Argument("invalid UTF-8 in bytes, cannot convert to string".into())
            })?;
            return Ok(Value::string(text));
        }
        [value] => plain(value).ok_or(EvalError::NoSuchOverload)?,
        _ => return no_overload(),
    };
    Ok(Value::string(text))
}

/// A scalar as text.
pub(super) fn plain(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => text.to_string(),
        Value::Bool(bool) => bool.to_string(),
        Value::Int(int) => int.to_string(),
        Value::Uint(uint) => uint.to_string(),
        Value::Double(double) if double.is_infinite() => {
            if *double > 0.0 {
                "+Inf".into()
            } else {
                "-Inf".into()
            }
        }
        Value::Double(double) => double.to_string(),
        Value::Timestamp(at) => time::format_timestamp(*at),
        Value::Duration(nanos) => time::format_duration(*nanos),
        Value::Type(ty) => ty.runtime_name().to_owned(),
        Value::Opaque(crate::value::Opaque::Ip(ip)) => ip.to_string(),
        Value::Opaque(crate::value::Opaque::Cidr(cidr)) => cidr.to_string(),
        _ => return None,
    })
}

fn to_bool<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bool(bool)] => Ok(Value::Bool(*bool)),
        [from @ Value::String(text)] => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(conversion(from, "bool")),
        },
        _ => no_overload(),
    }
}

fn to_bytes<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ Value::Bytes(_)] => Ok(value.clone()),
        [Value::String(text)] => {
            budget.work(text.len())?;
            Ok(Value::Bytes(Arc::from(text.as_bytes())))
        }
        _ => no_overload(),
    }
}
