//! The values of `format` that are checked; Kubernetes ignores every other one.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A known `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    BsonObjectId,
    Byte,
    Cidr,
    CreditCard,
    Date,
    DateTime,
    Duration,
    Email,
    HexColor,
    Hostname,
    Int32,
    Int64,
    Ipv4,
    Ipv6,
    Isbn,
    Isbn10,
    Isbn13,
    Mac,
    Password,
    RgbColor,
    Ssn,
    Uri,
    Uuid,
    Uuid3,
    Uuid4,
    Uuid5,
    /// A DNS label (1.34).
    ShortName,
    /// A DNS subdomain (1.34).
    LongName,
}

const NAMES: [(&str, Format); 30] = [
    ("bsonobjectid", Format::BsonObjectId),
    ("byte", Format::Byte),
    ("cidr", Format::Cidr),
    ("creditcard", Format::CreditCard),
    ("date", Format::Date),
    ("date-time", Format::DateTime),
    ("datetime", Format::DateTime),
    ("duration", Format::Duration),
    ("email", Format::Email),
    ("hexcolor", Format::HexColor),
    ("hostname", Format::Hostname),
    ("int32", Format::Int32),
    ("int64", Format::Int64),
    ("ipv4", Format::Ipv4),
    ("ipv6", Format::Ipv6),
    ("isbn", Format::Isbn),
    ("isbn10", Format::Isbn10),
    ("isbn13", Format::Isbn13),
    ("mac", Format::Mac),
    ("password", Format::Password),
    ("rgbcolor", Format::RgbColor),
    ("ssn", Format::Ssn),
    ("uri", Format::Uri),
    ("uuid", Format::Uuid),
    ("uuid3", Format::Uuid3),
    ("uuid4", Format::Uuid4),
    ("uuid5", Format::Uuid5),
    ("k8s-short-name", Format::ShortName),
    ("k8s-long-name", Format::LongName),
    ("bsonObjectId", Format::BsonObjectId),
];

impl Format {
    /// A format that is checked; None for every other name.
    pub fn parse(text: &str) -> Option<Self> {
        NAMES.iter().find(|(name, _)| *name == text).map(|(_, format)| *format)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Format::DateTime => "date-time",
            format => NAMES.iter().find(|(_, one)| *one == format).map_or("", |(name, _)| name),
        }
    }

    /// Whether a text has this format.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Format::Int32 | Format::Int64 | Format::Password => true,
            Format::BsonObjectId => text.len() == 24 && is_hex(text),
            Format::Byte => STANDARD.decode(text.replace(['\r', '\n'], "")).is_ok(),
            Format::Cidr => is_cidr(text),
            Format::CreditCard => is_credit_card(text),
            Format::Date => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
            Format::DateTime => is_date_time(text),
            Format::Duration => is_duration(text),
            Format::Email => is_email(text),
            Format::HexColor => {
                let digits = text.strip_prefix('#').unwrap_or(text);
                matches!(digits.len(), 3 | 6) && is_hex(digits)
            }
            Format::Hostname => is_hostname(text),
            Format::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Format::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Format::Isbn => is_isbn10(text) || is_isbn13(text),
            Format::Isbn10 => is_isbn10(text),
            Format::Isbn13 => is_isbn13(text),
            Format::Mac => is_mac(text),
            Format::RgbColor => is_rgb(text),
            Format::Ssn => {
                let groups: Vec<&str> = text.split(['-', ' ']).collect();
                groups.len() == 3
                    && groups.iter().map(|group| group.len()).eq([3, 2, 4])
                    && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_digit()))
            }
            Format::Uri => is_uri(text),
            Format::Uuid => is_uuid(text, None),
            Format::Uuid3 => is_uuid(text, Some(b'3')),
            Format::Uuid4 => is_uuid(text, Some(b'4')),
            Format::Uuid5 => is_uuid(text, Some(b'5')),
            Format::ShortName => crate::names::dns1123_label(text).is_empty(),
            Format::LongName => crate::names::dns1123_subdomain(text).is_empty(),
        }
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    (address.parse::<Ipv4Addr>().is_ok() && bits <= 32)
        || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}

fn is_credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let checksum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    (12..=19).contains(&digits.len()) && checksum.is_multiple_of(10)
}

/// RFC 3339, where a blank may stand for the `T`.
fn is_date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20
        && matches!(bytes[10], b'T' | b't')
        && text.to_ascii_uppercase().parse::<jiff::Timestamp>().is_ok()
}

/// Go's durations, and a number with a word as `2 days`.
fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 31] = [
        "ns",
        "us",
        "µs",
        "ms",
        "s",
        "m",
        "h",
        "d",
        "w",
        "nano",
        "nanosecond",
        "nanoseconds",
        "micro",
        "microsecond",
        "microseconds",
        "milli",
        "millisecond",
        "milliseconds",
        "second",
        "seconds",
        "minute",
        "minutes",
        "hour",
        "hours",
        "hr",
        "day",
        "days",
        "week",
        "weeks",
        "mil",
        "sec",
    ];
    let mut rest = text.trim().trim_start_matches(['+', '-']);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        if number.len() == rest.len() {
            return false;
        }
        let unit = number.trim_start();
        let end = unit.find(|c: char| !c.is_alphabetic()).unwrap_or(unit.len());
        if !UNITS.contains(&&unit[..end]) {
            return false;
        }
        rest = unit[end..].trim_start();
    }
    true
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    !local.is_empty()
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains(char::is_whitespace)
        && !domain.is_empty()
        && (is_hostname(domain) || (domain.starts_with('[') && domain.ends_with(']')))
}

fn is_hostname(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
    };
    (1..=255).contains(&text.len()) && name.split('.').all(is_label)
}

fn isbn_digits(text: &str) -> Vec<char> {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = isbn_digits(text);
    let value = |(at, c): (usize, &char)| match c {
        'X' | 'x' if at == 9 => Some(10),
        c => c.to_digit(10),
    };
    let digits: Option<Vec<u32>> = digits.iter().enumerate().map(value).collect();
    digits.is_some_and(|digits| {
        digits.len() == 10
            && digits.iter().zip(1..).map(|(digit, at)| digit * at).sum::<u32>().is_multiple_of(11)
    })
}

fn is_isbn13(text: &str) -> bool {
    let digits: Option<Vec<u32>> = isbn_digits(text).into_iter().map(|c| c.to_digit(10)).collect();
    digits.is_some_and(|digits| {
        let weights = [1, 3].into_iter().cycle();
        let checksum: u32 = digits.iter().zip(weights).map(|(digit, by)| digit * by).sum();
        digits.len() == 13 && checksum.is_multiple_of(10)
    })
}

fn is_mac(text: &str) -> bool {
    let groups = |separator: char, width: usize, counts: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| part.len() == width && is_hex(part))
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

fn is_rgb(text: &str) -> bool {
    let Some(inner) = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')')) else { return false };
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

/// What Go's `url.ParseRequestURI` takes: an absolute path or an address with a scheme.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        && !rest.is_empty()
}

fn is_uuid(text: &str, version: Option<u8>) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let dashes = text.len() - digits.len();
    digits.len() == 32
        && dashes <= 4
        && digits.iter().all(u8::is_ascii_hexdigit)
        && version.is_none_or(|version| digits[12] == version)
        && (!matches!(version, Some(b'4' | b'5'))
            || matches!(digits[16].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_what_they_name() {
        let check = |format: &str, good: &[&str], bad: &[&str]| {
            let format = Format::parse(format).expect("known");
            good.iter().for_each(|text| assert!(format.accepts(text), "{format:?} {text}"));
            bad.iter().for_each(|text| assert!(!format.accepts(text), "{format:?} {text}"));
        };
        check(
            "date-time",
            &["2020-01-01T00:00:00Z", "2020-01-01T00:00:00.5+01:00"],
            &["2020-01-01", "x", ""],
        );
        check("date", &["2020-02-29"], &["2021-02-29", "2020-1-1"]);
        check("ipv4", &["10.0.0.1"], &["10.0.0", "::1"]);
        check("ipv6", &["::1"], &["10.0.0.1"]);
        check("cidr", &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33"]);
        check("uuid", &["123e4567-e89b-12d3-a456-426614174000"], &["123"]);
        check("email", &["a@b.c"], &["a", "@b"]);
        check("hostname", &["a.b", "a"], &["-a", "a b", ""]);
        check("uri", &["https://a/b", "/a"], &["a b", "a"]);
        check("byte", &["aGk="], &["?"]);
        check("duration", &["1h30m", "5s", "2 days"], &["x", "1", ""]);
        check("mac", &["01:02:03:04:05:06"], &["01:02"]);
        check("hexcolor", &["#fff", "ffffff"], &["#ff"]);
        check("isbn13", &["978-3-16-148410-0"], &["978-3-16-148410-1"]);
        check("isbn10", &["0-306-40615-2"], &["0-306-40615-3"]);
        check("creditcard", &["4111 1111 1111 1111"], &["4111 1111 1111 1112"]);
        check("k8s-short-name", &["a-b"], &["A"]);
        assert_eq!(Format::parse("unknown"), None);
    }
}
