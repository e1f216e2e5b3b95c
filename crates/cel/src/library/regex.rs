//! `matches`, `find`, `findAll`: regular expressions in linear time.

use regex::{Regex, RegexBuilder};

use super::{Library, int, invalid, text};
use crate::eval::{Budget, EvalError, Outcome};
use crate::value::Value;

/// Largest compiled expression, in bytes.
const MAX_SIZE: usize = 1 << 20;

pub const LIBRARY: Library = &[
    (&["matches(string, string) -> bool", "string~matches(string) -> bool"], |budget, args| {
        dynamic("matches", budget, args)
    }),
    (&["string~find(string) -> string"], |budget, args| dynamic("find", budget, args)),
    (
        &["string~findAll(string) -> list(string)", "string~findAll(string, int) -> list(string)"],
        |budget, args| dynamic("findAll", budget, args),
    ),
];

/// Compiles a pattern within limits.
pub fn compile(pattern: &str) -> Result<Regex, EvalError> {
    RegexBuilder::new(pattern).size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build().map_err(|error| {
        let last = error.to_string();
        let last = last.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        invalid(format!("error parsing regexp: {last}: `{pattern}`"))
    })
}

/// A pattern that is known only now. Compiling it is work beyond what the match costs.
fn dynamic<'a>(function: &str, budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let pattern = text(args, 1)?;
    budget.work(pattern.len().saturating_mul(64).saturating_add(8192))?;
    with(&compile(pattern)?, function, budget, args)
}

/// Runs a function with its pattern compiled.
pub fn with<'a>(regex: &Regex, function: &str, budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let on = text(args, 0)?;
    Ok(match function {
        "matches" => Value::Bool(regex.is_match(on)),
        "find" => Value::string(regex.find(on).map_or("", |found| found.as_str())),
        _ => {
            let most = if args.len() > 2 { int(args, 2)? } else { -1 };
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            budget.work(on.len().saturating_mul(16))?;
            Value::flat_list(
                regex.find_iter(on).take(most).map(|found| Value::string(found.as_str())).collect(),
            )
        }
    })
}
