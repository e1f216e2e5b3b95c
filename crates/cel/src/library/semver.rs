//! Kubernetes' semantic versions.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Library, invalid, no_overload, text};
use crate::eval::EvalError;
use crate::value::{Opaque, Value};

/// A version of semver.org, 2.0.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    before: Vec<String>,
}

pub const LIBRARY: Library = &[
    (&["semver(string) -> kubernetes.Semver", "semver(string, bool) -> kubernetes.Semver"], |_, args| {
        let version = parse(text(args, 0)?, normalized(args)?).map_err(invalid)?;
        Ok(Value::Opaque(Opaque::Semver(Arc::new(version))))
    }),
    (&["isSemver(string) -> bool", "isSemver(string, bool) -> bool"], |_, args| {
        Ok(Value::Bool(parse(text(args, 0)?, normalized(args)?).is_ok()))
    }),
    (&["kubernetes.Semver~major() -> int"], |_, args| number(args, 0)),
    (&["kubernetes.Semver~minor() -> int"], |_, args| number(args, 1)),
    (&["kubernetes.Semver~patch() -> int"], |_, args| number(args, 2)),
];

fn normalized(args: &[Value<'_>]) -> Result<bool, EvalError> {
    match args.get(1) {
        None => Ok(false),
        Some(Value::Bool(bool)) => Ok(*bool),
        Some(_) => Err(EvalError::NoSuchOverload),
    }
}

fn number<'a>(args: &[Value<'a>], at: usize) -> Result<Value<'a>, EvalError> {
    match args {
        [Value::Opaque(Opaque::Semver(version))] => {
            Ok(Value::Int(i64::try_from(version.numbers[at]).unwrap_or(i64::MAX)))
        }
        _ => no_overload(),
    }
}

/// Reads a version; a lenient one may start with `v`, lack numbers, and have leading zeros.
fn parse(raw: &str, lenient: bool) -> Result<Semver, String> {
    let mut text = raw;
    if lenient {
        text = text.strip_prefix('v').unwrap_or(text);
    }
    if text.is_empty() {
        return Err("Version string empty".into());
    }
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, before) = text.split_once('-').map_or((text, None), |(core, before)| (core, Some(before)));
    let parts: Vec<&str> = core.split('.').collect();
    if parts.len() > 3 || (parts.len() < 3 && !lenient) {
        return Err("No Major.Minor.Patch elements found".into());
    }
    let mut numbers = [0; 3];
    for (slot, part) in numbers.iter_mut().zip(&parts) {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("Invalid character(s) found in version number {part:?}"));
        }
        if part.len() > 1 && part.starts_with('0') && !lenient {
            return Err(format!("Version number must not contain leading zeroes {part:?}"));
        }
        *slot = part.parse().map_err(|_| format!("Version number {part:?} is too large"))?;
    }
    let identifiers = |text: &str| -> Result<Vec<String>, String> {
        text.split('.')
            .map(|one| {
                let valid =
                    !one.is_empty() && one.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                if valid { Ok(one.to_owned()) } else { Err(format!("Invalid character(s) found in {one:?}")) }
            })
            .collect()
    };
    if let Some(build) = build {
        identifiers(build)?;
    }
    Ok(Semver { numbers, before: before.map_or(Ok(Vec::new()), identifiers)? })
}

impl Semver {
    /// Precedence; build metadata plays no part.
    pub fn cmp_precedence(&self, other: &Semver) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.before.is_empty(), other.before.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => {
                    let pairs = self.before.iter().zip(&other.before);
                    let differing = pairs.map(|(a, b)| identifier(a, b)).find(|order| order.is_ne());
                    differing.unwrap_or_else(|| self.before.len().cmp(&other.before.len()))
                }
            }
        })
    }
}

fn identifier(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}
