//! The functions of the environment, one file per library.
//!
//! A library is a list of functions: how each may be called, and what runs it. Functions look at the
//! types of their arguments, since those are not always known before.

use crate::eval::{Budget, EvalError};
use crate::value::Value;

pub mod authz;
mod convert;
pub mod format;
mod lists;
pub mod net;
mod operators;
mod optional;
pub mod patch;
mod quantity;
pub mod regex;
pub mod semver;
mod sets;
mod strings;
pub mod time;
pub mod url;

/// What runs a function: the target of a member call is the first argument.
pub type Native = for<'a> fn(&mut Budget, &[Value<'a>]) -> Result<Value<'a>, EvalError>;

/// Signatures that share what runs them.
pub type Library = &'static [(&'static [&'static str], Native)];

/// Every library.
pub const LIBRARIES: [Library; 15] = [
    operators::LIBRARY,
    convert::LIBRARY,
    time::LIBRARY,
    strings::LIBRARY,
    lists::LIBRARY,
    regex::LIBRARY,
    url::LIBRARY,
    quantity::LIBRARY,
    net::LIBRARY,
    format::LIBRARY,
    sets::LIBRARY,
    semver::LIBRARY,
    optional::LIBRARY,
    authz::LIBRARY,
    patch::LIBRARY,
];

pub(crate) fn no_overload<'a>() -> Result<Value<'a>, EvalError> {
    Err(EvalError::NoSuchOverload)
}

pub(crate) fn text<'v>(args: &'v [Value<'_>], at: usize) -> Result<&'v str, EvalError> {
    args.get(at).and_then(Value::as_str).ok_or(EvalError::NoSuchOverload)
}

pub(crate) fn int(args: &[Value<'_>], at: usize) -> Result<i64, EvalError> {
    match args.get(at) {
        Some(Value::Int(int)) => Ok(*int),
        _ => Err(EvalError::NoSuchOverload),
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> EvalError {
    EvalError::Argument(message.into())
}
