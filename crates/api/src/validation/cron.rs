//! Cron schedules: five fields, or a descriptor such as `@daily` or `@every 1h30m`.

use std::str::FromStr;

/// A text that is not a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error("empty spec string")]
    Empty,
    #[error("expected exactly 5 fields, found {found}: [{fields}]")]
    FieldCount { found: usize, fields: String },
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}")]
    Duration(String),
    #[error("failed to parse int from {0}")]
    Number(String),
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    #[error("too many slashes: {0}")]
    Slashes(String),
    #[error("beginning of range ({start}) below minimum ({minimum}): {text}")]
    BelowMinimum { start: u32, minimum: u32, text: String },
    #[error("end of range ({end}) above maximum ({maximum}): {text}")]
    AboveMaximum { end: u32, maximum: u32, text: String },
    #[error("beginning of range ({start}) beyond end of range ({end}): {text}")]
    Backwards { start: u32, end: u32, text: String },
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

/// A parsed schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At every minute that all fields hold.
    Calendar(Calendar),
    /// Again and again after this many seconds.
    Every { seconds: u64 },
}

/// The five fields, as sets of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both day fields were narrowed: then one of them is enough.
    either_day: bool,
}

impl Calendar {
    /// Whether a minute is meant. `month` and `day` count from 1, `weekday` from Sunday as 0.
    pub fn matches(&self, month: u8, day: u8, weekday: u8, hour: u8, minute: u8) -> bool {
        let has = |set: u64, value: u8| value < 64 && set & (1 << value) != 0;
        let (day, weekday) = (has(self.days, day), has(self.weekdays, weekday));
        let right_day = if self.either_day { day || weekday } else { day && weekday };
        has(self.months, month) && right_day && has(self.hours, hour) && has(self.minutes, minute)
    }
}

struct Bounds {
    minimum: u32,
    maximum: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const BOUNDS: [Bounds; 5] = [
    Bounds { minimum: 0, maximum: 59, names: &[] },
    Bounds { minimum: 0, maximum: 23, names: &[] },
    Bounds { minimum: 1, maximum: 31, names: &[] },
    Bounds { minimum: 1, maximum: 12, names: &MONTHS },
    Bounds { minimum: 0, maximum: 6, names: &WEEKDAYS },
];

impl FromStr for Schedule {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        if text.is_empty() {
            return Err(CronError::Empty);
        }
        let mut text = text.trim();
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            text = text.split_once(' ').map_or("", |(_, rest)| rest.trim());
        }
        if text.starts_with('@') {
            return descriptor(text);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != BOUNDS.len() {
            return Err(CronError::FieldCount { found: fields.len(), fields: fields.join(" ") });
        }
        let mut sets = [(0, false); 5];
        for (at, (field, bounds)) in fields.iter().zip(&BOUNDS).enumerate() {
            sets[at] = parse_field(field, bounds)?;
        }
        let [(minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday)] = sets;
        let either_day = !any_day && !any_weekday;
        Ok(Schedule::Calendar(Calendar { minutes, hours, days, months, weekdays, either_day }))
    }
}

fn descriptor(text: &str) -> Result<Schedule, CronError> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let every = text.strip_prefix("@every ").ok_or_else(|| CronError::Descriptor(text.to_owned()))?;
            return duration(every).map(|seconds| Schedule::Every { seconds: seconds.max(1) });
        }
    };
    fields.parse()
}

/// Whole seconds of a duration such as `1h30m`; fractions of a second are dropped.
fn duration(text: &str) -> Result<u64, CronError> {
    let fault = || CronError::Duration(text.to_owned());
    let mut rest = text.trim();
    let mut nanos: u64 = 0;
    if rest.is_empty() {
        return Err(fault());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
        let number: u64 = rest[..digits].parse().map_err(|_| fault())?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit: u64 = match &rest[..unit_end] {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return Err(fault()),
        };
        rest = &rest[unit_end..];
        nanos = number.checked_mul(unit).and_then(|part| nanos.checked_add(part)).ok_or_else(fault)?;
    }
    Ok(nanos / 1_000_000_000)
}

/// The set of a field, and whether it was left open.
fn parse_field(field: &str, bounds: &Bounds) -> Result<(u64, bool), CronError> {
    let mut set = 0;
    let mut open = false;
    for range in field.split(',').filter(|range| !range.is_empty()) {
        let (bits, star) = parse_range(range, bounds)?;
        set |= bits;
        open |= star;
    }
    if set == 0 { Err(CronError::Number(field.to_owned())) } else { Ok((set, open)) }
}

fn parse_range(text: &str, bounds: &Bounds) -> Result<(u64, bool), CronError> {
    let (range, step_text) = match text.split_once('/') {
        None => (text, None),
        Some((_, step)) if step.contains('/') => return Err(CronError::Slashes(text.to_owned())),
        Some((range, step)) => (range, Some(step)),
    };
    let star = matches!(range, "*" | "?");
    let (start, mut end) = match range.split_once('-') {
        _ if star => (bounds.minimum, bounds.maximum),
        None => {
            let value = number(range, bounds)?;
            (value, value)
        }
        Some((_, end)) if end.contains('-') => return Err(CronError::Hyphens(text.to_owned())),
        Some((start, end)) => (number(start, bounds)?, number(end, bounds)?),
    };
    let step = match step_text {
        None => 1,
        Some(step) => {
            // `N/S` means from N on.
            if !range.contains('-') {
                end = bounds.maximum;
            }
            step.parse::<u32>().map_err(|_| CronError::Number(step.to_owned()))?
        }
    };
    let text = text.to_owned();
    if start < bounds.minimum {
        return Err(CronError::BelowMinimum { start, minimum: bounds.minimum, text });
    }
    if end > bounds.maximum {
        return Err(CronError::AboveMaximum { end, maximum: bounds.maximum, text });
    }
    if start > end {
        return Err(CronError::Backwards { start, end, text });
    }
    if step == 0 {
        return Err(CronError::Step(text));
    }
    let bits = (start..=end).step_by(step as usize).fold(0, |set, value| set | 1_u64 << value);
    Ok((bits, star && step == 1))
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, CronError> {
    if let Some(at) = bounds.names.iter().position(|name| text.eq_ignore_ascii_case(name)) {
        return Ok(at as u32 + bounds.minimum);
    }
    text.parse().map_err(|_| CronError::Number(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(schedule: &str, month: u8, day: u8, weekday: u8, hour: u8, minute: u8) -> bool {
        match schedule.parse::<Schedule>().expect("a schedule") {
            Schedule::Calendar(calendar) => calendar.matches(month, day, weekday, hour, minute),
            Schedule::Every { .. } => false,
        }
    }

    #[test]
    fn schedules_match() {
        assert!(at("*/15 * * * *", 1, 1, 0, 3, 45));
        assert!(!at("*/15 * * * *", 1, 1, 0, 3, 46));
        assert!(at("0 9-17 * * mon-fri", 6, 5, 1, 9, 0));
        assert!(!at("0 9-17 * * mon-fri", 6, 5, 0, 9, 0));
        assert!(at("0 0 13 * fri", 6, 12, 5, 0, 0), "one of the day fields is enough");
        assert!(at("@monthly", 2, 1, 4, 0, 0));
        assert!(at("5/20 1,2 * JAN *", 1, 9, 4, 2, 25));
        assert_eq!("@every 1h30m".parse(), Ok(Schedule::Every { seconds: 5400 }));
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for (text, expected) in [
            ("", "empty spec string"),
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            let error = text.parse::<Schedule>().map_err(|error| error.to_string());
            assert_eq!(error, Err(expected.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[@a-z0-9*/, -]{0,20}") {
            let _ = text.parse::<Schedule>();
        }
    }
}
