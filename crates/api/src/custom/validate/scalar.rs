//! Bounds of numbers; length, pattern and format of texts.

use serde_json::{Number, Value};

use super::super::format::Format;
use super::super::structural::{Bound, Checks, Kind};
use super::Found;

/// Holds a scalar against what restricts it; does nothing to other values.
pub(super) fn check(checks: &Checks, kind: Option<Kind>, value: &Value, path: &str, found: &mut Found) {
    match value {
        Value::String(text) => string(checks, text, value, path, found),
        Value::Number(number) => self::number(checks, kind, number, value, path, found),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
    }
}

fn string(checks: &Checks, text: &str, value: &Value, path: &str, found: &mut Found) {
    if checks.max_length.is_some() || checks.min_length.is_some() {
        let length = text.chars().count();
        if let Some(most) = checks.max_length.filter(|most| length > *most) {
            found.add("FieldValueTooLong", path, format!("Too long: may not be more than {most} bytes"));
            return;
        }
        if let Some(least) = checks.min_length.filter(|least| length < *least) {
            found.invalid(path, value, &format!("should be at least {least} chars long"));
            return;
        }
    }
    if checks.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
        found.invalid(path, value, &format!("should match '{}'", checks.pattern_text));
    }
    if let Some(format) = checks.format.filter(|format| !format.accepts(text)) {
        found.invalid(path, value, &format!("must be of type {}: {text:?}", format.as_str()));
    }
}

fn number(
    checks: &Checks,
    kind: Option<Kind>,
    number: &Number,
    value: &Value,
    path: &str,
    found: &mut Found,
) {
    if checks.format == Some(Format::Int32) && kind == Some(Kind::Integer) && outside_int32(number) {
        found.general("Checked value must be of type integer with format int32".to_owned());
    }
    let Some(float) = number.as_f64() else { return };
    if let Some(by) = checks.multiple_of.filter(|by| *by > 0.0) {
        let times = float / by;
        if (times - times.round()).abs() > 1e-9 * times.abs().max(1.0) {
            found.invalid(path, value, &format!("should be a multiple of {}", plain(by)));
        }
    }
    if let Some(Bound { value: most, exclusive }) = checks.maximum
        && (float > most || (exclusive && float == most))
    {
        let than = if exclusive { "less than" } else { "less than or equal to" };
        found.invalid(path, value, &format!("should be {than} {}", plain(most)));
    }
    if let Some(Bound { value: least, exclusive }) = checks.minimum
        && (float < least || (exclusive && float == least))
    {
        let than = if exclusive { "greater than" } else { "greater than or equal to" };
        found.invalid(path, value, &format!("should be {than} {}", plain(least)));
    }
}

fn outside_int32(number: &Number) -> bool {
    number.as_f64().is_some_and(|number| number < f64::from(i32::MIN) || number > f64::from(i32::MAX))
}

/// Whether a number has no fraction, however it is written.
pub(super) fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
}

/// Whether two values are equal, numbers by their value.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// A float as Go's `%v` shows it.
fn plain(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e21 { format!("{number:.0}") } else { number.to_string() }
}
