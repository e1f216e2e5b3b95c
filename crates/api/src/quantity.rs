//! `resource.Quantity`: the fixed-point numbers of resource requests, limits, capacities and quotas.
//!
//! A quantity is held as an `i128` count of nanos (10⁻⁹), which is the finest step the API knows,
//! and the suffix family that it was written in. Numbers beyond the range saturate; digits below a
//! nano round away from zero, so that a wish for too little is never a wish for nothing.

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

use serde_json::Value;

const NANOS: i128 = 1_000_000_000;
/// The largest binary quantity: 2⁶³ − 1 units.
const MAX_BINARY: i128 = i64::MAX as i128 * NANOS;
/// Longer texts are refused unread; no writer of quantities produces them.
const MAX_TEXT: usize = 256;
const DECIMAL_SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The suffix family that a quantity is printed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `n`, `u`, `m`, none, `k` … `E`: powers of 1000.
    #[default]
    DecimalSi,
    /// `Ki` … `Ei`: powers of 1024.
    BinarySi,
    /// `e3`, `e-6`: powers of ten.
    DecimalExponent,
}

/// A text that is not a quantity. The messages are those of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// A number of CPUs, bytes, objects or anything else that is counted.
///
/// Equality and order compare the number and ignore the format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    /// A whole number of units.
    pub const fn new(value: i64, format: Format) -> Self {
        Quantity { nanos: value as i128 * NANOS, format }
    }

    /// Thousandths of a unit, as CPU is counted.
    pub const fn from_milli(milli: i64) -> Self {
        Quantity { nanos: milli as i128 * (NANOS / 1000), format: Format::DecimalSi }
    }

    /// Billionths of a unit, as use of CPU is measured.
    pub const fn from_nano(nano: i64) -> Self {
        Quantity { nanos: nano as i128, format: Format::DecimalSi }
    }

    /// Reads a quantity as it stands in JSON: a string or a plain number.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            Value::Null => Ok(Quantity::ZERO),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(QuantityError::Format),
        }
    }

    pub const fn format(&self) -> Format {
        self.format
    }

    pub const fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub const fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whole units; a fraction rounds away from zero. Saturates.
    pub fn value(&self) -> i64 {
        self.scaled(NANOS)
    }

    /// Thousandths; a finer fraction rounds away from zero. Saturates.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANOS / 1000)
    }

    /// Whether the quantity is a whole number of units.
    pub const fn is_whole(&self) -> bool {
        self.nanos % NANOS == 0
    }

    /// Whether the quantity is a whole number of thousandths.
    pub const fn is_whole_milli(&self) -> bool {
        self.nanos % (NANOS / 1000) == 0
    }

    /// The nearest float, for ratios only.
    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }

    fn scaled(&self, step: i128) -> i64 {
        let whole = self.nanos / step + (self.nanos % step).signum();
        i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX })
    }
}

/// The sum, in the left one's format (in the right one's, when the left is zero). Saturates.
impl Add for Quantity {
    type Output = Quantity;

    fn add(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}

/// The difference, in the left one's format (in the right one's, when the left is zero). Saturates.
impl Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nanos: self.nanos.saturating_sub(other.nanos), format }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(quantities: I) -> Quantity {
        quantities.fold(Quantity::ZERO, Add::add)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.len() > MAX_TEXT {
            return Err(QuantityError::Format);
        }
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(number_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || !is_suffix_shape(suffix) {
            return Err(QuantityError::Format);
        }
        let scale = Scale::parse(suffix)?;
        let digits = format!("{whole}{fraction}");
        let magnitude = match scale {
            Scale::Ten { exponent, .. } => decimal(&digits, exponent.saturating_sub(fraction.len() as i64)),
            Scale::Two { exponent } => binary(whole, fraction, exponent),
        };
        let format = match scale {
            Scale::Ten { format, .. } => format,
            // A binary fraction of one unit keeps its digits only in decimal.
            Scale::Two { .. } if magnitude > 0 && magnitude < NANOS => Format::DecimalSi,
            Scale::Two { .. } => Format::BinarySi,
        };
        Ok(Quantity { nanos: if negative { -magnitude } else { magnitude }, format })
    }
}

/// What multiplies the number of a quantity.
#[derive(Clone, Copy)]
enum Scale {
    Ten { exponent: i64, format: Format },
    Two { exponent: u32 },
}

impl Scale {
    fn parse(suffix: &str) -> Result<Self, QuantityError> {
        if let Some(at) = DECIMAL_SUFFIXES.iter().position(|known| *known == suffix) {
            return Ok(Scale::Ten { exponent: at as i64 * 3 - 9, format: Format::DecimalSi });
        }
        if let Some(at) = BINARY_SUFFIXES.iter().position(|known| *known == suffix) {
            return Ok(Scale::Two { exponent: at as u32 * 10 });
        }
        let digits = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
        let exponent = digits.parse::<i64>().map_err(|_| QuantityError::Suffix)?;
        Ok(Scale::Ten { exponent, format: Format::DecimalExponent })
    }
}

/// Letters of the known suffixes, then a sign, then digits.
fn is_suffix_shape(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c: char| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// `digits` × 10^`exponent` in nanos, rounded up, saturated.
fn decimal(digits: &str, exponent: i64) -> i128 {
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let shift = exponent.saturating_add(9);
    if shift >= 0 {
        let factor = u32::try_from(shift).ok().and_then(|shift| 10_i128.checked_pow(shift));
        let number = digits.parse::<i128>().ok();
        return number
            .zip(factor)
            .and_then(|(number, factor)| number.checked_mul(factor))
            .unwrap_or(i128::MAX);
    }
    let dropped = usize::try_from(shift.unsigned_abs()).unwrap_or(usize::MAX);
    if dropped >= digits.len() {
        return 1;
    }
    let (kept, rest) = digits.split_at(digits.len() - dropped);
    let rounded_up = i128::from(rest.bytes().any(|byte| byte != b'0'));
    kept.parse::<i128>().unwrap_or(i128::MAX).saturating_add(rounded_up)
}

/// `whole`.`fraction` × 2^`exponent` in nanos, rounded up, saturated.
///
/// Eighteen places are read exactly; what stands behind them rounds the last nano up.
fn binary(whole: &str, fraction: &str, exponent: u32) -> i128 {
    const PLACES: usize = 18;
    let whole = whole.trim_start_matches('0');
    if whole.len() > 19 {
        return MAX_BINARY;
    }
    let factor = 1_i128 << exponent;
    let (read, rest) = fraction.split_at(fraction.len().min(PLACES));
    let unit = 10_i128.pow(read.len() as u32);
    let number = |digits: &str| digits.bytes().fold(0_i128, |sum, byte| sum * 10 + i128::from(byte - b'0'));
    let scaled = number(read) * factor;
    let nanos = (scaled % unit) * NANOS;
    let lost = nanos % unit != 0 || rest.bytes().any(|byte| byte != b'0');
    (number(whole) * factor + scaled / unit)
        .saturating_mul(NANOS)
        .saturating_add(nanos / unit + i128::from(lost))
        .min(MAX_BINARY)
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps every digit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANOS;
        match self.format {
            Format::BinarySi if !small && self.is_whole() => {
                let (number, at) = reduce(self.nanos / NANOS, 1024, BINARY_SUFFIXES.len() - 1);
                write!(f, "{number}{}", BINARY_SUFFIXES[at])
            }
            Format::BinarySi | Format::DecimalSi => {
                let (number, at) = reduce(self.nanos, 1000, DECIMAL_SUFFIXES.len() - 1);
                write!(f, "{number}{}", DECIMAL_SUFFIXES[at])
            }
            Format::DecimalExponent => {
                let (number, at) = reduce(self.nanos, 1000, usize::MAX);
                let exponent = at as i64 * 3 - 9;
                if exponent == 0 { write!(f, "{number}") } else { write!(f, "{number}e{exponent}") }
            }
        }
    }
}

/// Divides by `step` while nothing is lost, at most `most` times.
fn reduce(mut number: i128, step: i128, most: usize) -> (i128, usize) {
    let mut times = 0;
    while times < most && number % step == 0 {
        number /= step;
        times += 1;
    }
    (number, times)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> Result<String, QuantityError> {
        text.parse::<Quantity>().map(|quantity| quantity.to_string())
    }

    #[test]
    fn texts_become_canonical() {
        let table = [
            ("0", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("100m", "100m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1Gi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("1024", "1024"),
            ("1000", "1k"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e6", "12e6"),
            ("1e-3", "1e-3"),
            ("1E", "1E"),
            ("0.1Ki", "102400m"),
            ("512", "512"),
            ("500Ki", "500Ki"),
            ("-1.5", "-1500m"),
            ("+2", "2"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1.0000000001", "1000000001n"),
            ("2000m", "2"),
            ("9223372036854775807", "9223372036854775807"),
            ("8Ei", "9223372036854775807"),
            ("1e100", "170141183460469231731687303715884105727e-9"),
            ("1e-100", "1e-9"),
            ("1u", "1u"),
            ("1000000Ei", "9223372036854775807"),
            ("1.5", "1500m"),
            ("0.000Gi", "0"),
            ("0.0000000000000000000000000000000000000000000001Gi", "1n"),
        ];
        for (text, expected) in table {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_an_error() {
        let format =
            ["", "-", "m", ".", "1.1.M", "1+1.0M", "0.1am", "aoeu", "1 Gi", "1e3x", "١", "1--1", "++1"];
        for text in format {
            assert_eq!(canonical(text), Err(QuantityError::Format), "{text:?}");
        }
        for text in ["1i", "0.1mi", ".5i", "-3.01i", "-3.01e-", "1KK", "1e99999999999999999999"] {
            assert_eq!(canonical(text), Err(QuantityError::Suffix), "{text:?}");
        }
        assert_eq!(canonical("1GB"), Err(QuantityError::Format));
        assert_eq!(canonical(&"1".repeat(10_000)), Err(QuantityError::Format));
    }

    #[test]
    fn values_round_away_from_zero() {
        let parse = |text: &str| text.parse::<Quantity>().expect("a quantity");
        assert_eq!(parse("100m").value(), 1);
        assert_eq!(parse("-100m").value(), -1);
        assert_eq!(parse("1500m").milli_value(), 1500);
        assert_eq!(parse("1n").milli_value(), 1);
        assert_eq!(parse("1e30").value(), i64::MAX);
        assert_eq!(parse("1Gi").value(), 1 << 30);
        assert!(parse("1Gi") > parse("1G"));
        assert_eq!((parse("1") + parse("500m")).to_string(), "1500m");
        assert_eq!((parse("1Gi") - parse("512Mi")).to_string(), "512Mi");
        assert_eq!((Quantity::ZERO + parse("1Gi")).to_string(), "1Gi");
        assert_eq!(Quantity::from_json(&serde_json::json!(0.5)).map(|q| q.to_string()), Ok("500m".into()));
        assert!(Quantity::from_json(&serde_json::json!([])).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = canonical(&text);
        }

        #[test]
        fn canonical_form_is_a_fixed_point(text in "[+-]?[0-9]{1,20}(\\.[0-9]{0,25})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]{1,2})?") {
            let first: Quantity = text.parse().expect("of the grammar");
            let printed = first.to_string();
            let second: Quantity = printed.parse().expect("our own form");
            prop_assert_eq!(first, second, "{} -> {}", text, printed);
            prop_assert_eq!(second.to_string(), printed);
        }

        #[test]
        fn addition_is_undone(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (Quantity::from_milli(a), Quantity::from_milli(b));
            prop_assert_eq!(a + b - b, a);
        }
    }
}
