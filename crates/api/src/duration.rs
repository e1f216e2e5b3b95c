//! Durations as Go's flags, query parameters and configuration files have them.

use std::time::Duration;

/// A duration as Go writes it: `1m30.5s`. None where it is negative or not one.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text.strip_prefix('+').unwrap_or(text), 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|character: char| character.is_ascii_digit() || character == '.');
        let (unit, after) = rest.split_at(unit_end.unwrap_or(rest.len()));
        seconds += amount
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(parse(text).map(|duration| duration.as_secs_f64()), expected, "{text}");
        };
        check("0", Some(0.0));
        check("30s", Some(30.0));
        check("1m30.5s", Some(90.5));
        check("250ms", Some(0.25));
        check("2h", Some(7200.0));
        for wrong in ["", "5", "-1s", "s", "1x", "1.2.3s", "ms5", "1e99h1"] {
            check(wrong, None);
        }
    }
}
