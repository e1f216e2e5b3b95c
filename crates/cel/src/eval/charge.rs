//! What a call costs at run time, in upstream's units.

use super::{Budget, EvalError};
use crate::value::Value;

/// How a function is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One unit.
    Unit,
    /// A tenth of the size of the first argument.
    Traverse,
    /// Of the second argument.
    TraverseSecond,
    /// Twice the first.
    TraverseTwice,
    /// A tenth of the shorter operand.
    Compare,
    Add,
    /// The size of the list on the right.
    In,
    /// Text times pattern, as a search through it or a regular expression.
    Contains,
    Matches,
    /// Of the result, twice.
    Result,
    /// Everything within the first argument.
    Tree,
    /// The product of two sizes.
    Product,
    /// An authorization check: two of them fill an expression.
    Check,
}

impl Class {
    /// The class of a function by name.
    pub fn of(function: &str) -> Class {
        match function {
            "check" => Class::Check,
            "isSorted" | "sum" | "min" | "max" | "indexOf" | "lastIndexOf" => Class::Tree,
            "url"
            | "lowerAscii"
            | "upperAscii"
            | "substring"
            | "trim"
            | "charAt"
            | "startsWithRaw"
            | "bytes"
            | "reverse"
            | "quantity"
            | "isQuantity"
            | "ip"
            | "isIP"
            | "cidr"
            | "isCIDR"
            | "semver"
            | "isSemver"
            | "strings.quote"
            | "format"
            | "jsonpatch.escapeKey"
            | "startsWith"
            | "endsWith" => Class::Traverse,
            "validate" | "containsIP" | "containsCIDR" => Class::TraverseSecond,
            "replace" | "split" | "ip.isCanonical" => Class::TraverseTwice,
            "join" => Class::Result,
            "find" | "findAll" | "matches" => Class::Matches,
            "contains" => Class::Contains,
            "@in" => Class::In,
            "_+_" => Class::Add,
            "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => Class::Compare,
            "sets.contains" | "sets.intersects" | "sets.equivalent" => Class::Product,
            _ => Class::Unit,
        }
    }
}

fn tenth(size: u64) -> u64 {
    size.div_ceil(10)
}

/// What is due before a function runs, so that it cannot run beyond the budget.
pub fn before(budget: &mut Budget, class: Class, args: &[Value<'_>]) -> Result<(), EvalError> {
    let size = |at: usize| args.get(at).map_or(1, Value::size);
    let cost = match class {
        Class::Unit => 1,
        Class::Check => 350_000,
        Class::Traverse => tenth(size(0)),
        Class::TraverseSecond => tenth(size(1)),
        Class::TraverseTwice => tenth(size(0).saturating_mul(2)),
        // By the measure of the outermost level; what is compared in full is work.
        Class::Compare => tenth(size(0).min(size(1))),
        Class::Add => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => tenth(size(0).saturating_add(size(1))),
            _ => 1,
        },
        Class::In => match args.get(1) {
            Some(Value::List(_)) => size(1),
            _ => 1,
        },
        Class::Contains => tenth(size(0)).saturating_mul(tenth(size(1))),
        Class::Matches => tenth(size(0).saturating_add(1)).saturating_mul(size(1).div_ceil(4)),
        Class::Result => match args.first() {
            Some(list) => tenth(tree(budget, list)?),
            None => 0,
        },
        Class::Tree => match args.first() {
            Some(Value::String(text)) => tenth(text.len() as u64),
            Some(value) => tree(budget, value)?,
            None => 1,
        },
        Class::Product => size(0).saturating_mul(size(1)).max(1),
    };
    budget.charge(cost)
}

/// What is due for the result.
pub fn after(budget: &mut Budget, class: Class, result: &Value<'_>) -> Result<(), EvalError> {
    match class {
        Class::Result => budget.charge(tenth(result.size().saturating_mul(2))),
        _ => Ok(()),
    }
}

/// The cost of going through a value.
fn tree(budget: &mut Budget, value: &Value<'_>) -> Result<u64, EvalError> {
    budget.work(1)?;
    let mut cost = 0u64;
    match value {
        Value::String(text) => cost = (text.len() / 10) as u64,
        Value::Bytes(bytes) => cost = (bytes.len() / 10) as u64,
        Value::List(list) => {
            for item in list.iter() {
                cost = cost.saturating_add(tree(budget, &item)?);
            }
        }
        Value::Map(map) => {
            for key in map.keys() {
                let value = map.get(&key).unwrap_or(Value::Null);
                cost = cost.saturating_add(tree(budget, &key.value())?).saturating_add(tree(budget, &value)?);
            }
        }
        _ => cost = 1,
    }
    Ok(cost)
}
