//! Durations and timestamps.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use super::{Library, invalid, no_overload};
use crate::eval::{Budget, EvalError, Outcome};
use crate::value::Value;

/// The years that a timestamp may have, as seconds: 0001 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

pub const LIBRARY: Library = &[
    (&["duration(string) -> duration", "duration(duration) -> duration"], duration),
    (
        &[
            "timestamp(string) -> timestamp",
            "timestamp(int) -> timestamp",
            "timestamp(timestamp) -> timestamp",
        ],
        timestamp,
    ),
    (&["timestamp~getFullYear() -> int", "timestamp~getFullYear(string) -> int"], |_, args| {
        part(args, |at| i64::from(at.year()))
    }),
    (&["timestamp~getMonth() -> int", "timestamp~getMonth(string) -> int"], |_, args| {
        part(args, |at| i64::from(at.month()) - 1)
    }),
    (&["timestamp~getDate() -> int", "timestamp~getDate(string) -> int"], |_, args| {
        part(args, |at| i64::from(at.day()))
    }),
    (&["timestamp~getDayOfMonth() -> int", "timestamp~getDayOfMonth(string) -> int"], |_, args| {
        part(args, |at| i64::from(at.day()) - 1)
    }),
    (&["timestamp~getDayOfWeek() -> int", "timestamp~getDayOfWeek(string) -> int"], |_, args| {
        part(args, |at| i64::from(at.weekday().to_sunday_zero_offset()))
    }),
    (&["timestamp~getDayOfYear() -> int", "timestamp~getDayOfYear(string) -> int"], |_, args| {
        part(args, |at| i64::from(at.day_of_year()) - 1)
    }),
    (
        &["timestamp~getHours() -> int", "timestamp~getHours(string) -> int", "duration~getHours() -> int"],
        |_, args| match args {
            [Value::Duration(nanos)] => Ok(Value::Int(nanos / 3_600_000_000_000)),
            _ => part(args, |at| i64::from(at.hour())),
        },
    ),
    (
        &[
            "timestamp~getMinutes() -> int",
            "timestamp~getMinutes(string) -> int",
            "duration~getMinutes() -> int",
        ],
        |_, args| match args {
            [Value::Duration(nanos)] => Ok(Value::Int(nanos / 60_000_000_000)),
            _ => part(args, |at| i64::from(at.minute())),
        },
    ),
    (
        &[
            "timestamp~getSeconds() -> int",
            "timestamp~getSeconds(string) -> int",
            "duration~getSeconds() -> int",
        ],
        |_, args| match args {
            [Value::Duration(nanos)] => Ok(Value::Int(nanos / 1_000_000_000)),
            _ => part(args, |at| i64::from(at.second())),
        },
    ),
    (
        &[
            "timestamp~getMilliseconds() -> int",
            "timestamp~getMilliseconds(string) -> int",
            "duration~getMilliseconds() -> int",
        ],
        |_, args| match args {
            [Value::Duration(nanos)] => Ok(Value::Int(nanos / 1_000_000)),
            _ => part(args, |at| i64::from(at.millisecond())),
        },
    ),
];

fn duration<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ Value::Duration(_)] => Ok(value.clone()),
        [Value::String(text)] => parse_duration(text)
            .map(Value::Duration)
            .ok_or_else(|| EvalError::Conversion { from: "string".into(), to: "google.protobuf.Duration" }),
        _ => no_overload(),
    }
}

fn timestamp<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let at = match args {
        [Value::Timestamp(at)] => *at,
        [Value::Int(seconds)] => {
            Timestamp::from_second(*seconds).map_err(|_| EvalError::TimestampOverflow)?
        }
        [Value::String(text)] => text
            .parse()
            .map_err(|_| EvalError::Conversion { from: "string".into(), to: "google.protobuf.Timestamp" })?,
        _ => return no_overload(),
    };
    in_range(at)
}

fn in_range<'a>(at: Timestamp) -> Outcome<'a> {
    if SECONDS.contains(&at.as_second()) {
        Ok(Value::Timestamp(at))
    } else {
        Err(EvalError::TimestampOverflow)
    }
}

/// A timestamp later by some nanoseconds.
pub fn shifted<'a>(at: Timestamp, nanos: i64) -> Outcome<'a> {
    let moved =
        at.checked_add(SignedDuration::from_nanos(nanos)).map_err(|_| EvalError::TimestampOverflow)?;
    in_range(moved)
}

fn part<'a>(args: &[Value<'a>], of: fn(&Zoned) -> i64) -> Outcome<'a> {
    let (at, zone) = match args {
        [Value::Timestamp(at)] => (at, TimeZone::UTC),
        [Value::Timestamp(at), Value::String(zone)] => (at, zone_of(zone)?),
        _ => return no_overload(),
    };
    Ok(Value::Int(of(&at.to_zoned(zone))))
}

/// `UTC`, an offset as `+02:00`, or a name that the time zone database has.
fn zone_of(text: &str) -> Result<TimeZone, EvalError> {
    if matches!(text, "" | "UTC") {
        return Ok(TimeZone::UTC);
    }
    let offset = || {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let (hours, minutes) = rest.split_once(':')?;
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        let fits = (0..24).contains(&hours) && (0..60).contains(&minutes);
        let seconds = fits.then_some(sign * (hours * 3600 + minutes * 60))?;
        Offset::from_seconds(seconds).ok().map(TimeZone::fixed)
    };
    if let Some(zone) = offset() {
        return Ok(zone);
    }
    TimeZone::get(text).map_err(|_| invalid(format!("unknown time zone {text}")))
}

/// A duration as Go writes it, as `1h30m`, in nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let scale = 10i128.pow(fraction.len() as u32);
            total = total.checked_add(fraction.parse::<i128>().ok()? * unit / scale)?;
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// Seconds with a fraction, as `5400s`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, fraction) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{fraction:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// RFC 3339 in UTC.
pub fn format_timestamp(at: Timestamp) -> String {
    at.to_string()
}
