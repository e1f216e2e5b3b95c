//! CEL's strings and the `strings` extension, version 2.

use super::convert::plain;
use super::{Library, int, invalid, no_overload, text};
use crate::eval::{Budget, EvalError, Outcome};
use crate::library::lists;
use crate::value::Value;

pub const LIBRARY: Library = &[
    (&["string~contains(string) -> bool"], |_, args| {
        Ok(Value::Bool(text(args, 0)?.contains(text(args, 1)?)))
    }),
    (&["string~startsWith(string) -> bool"], |_, args| {
        Ok(Value::Bool(text(args, 0)?.starts_with(text(args, 1)?)))
    }),
    (&["string~endsWith(string) -> bool"], |_, args| {
        Ok(Value::Bool(text(args, 0)?.ends_with(text(args, 1)?)))
    }),
    (&["string~charAt(int) -> string"], char_at),
    (
        &["string~indexOf(string) -> int", "string~indexOf(string, int) -> int", "list(A)~indexOf(A) -> int"],
        |budget, args| match args.first() {
            Some(Value::List(_)) => lists::index_of(budget, args, false),
            _ => index_of(args, false),
        },
    ),
    (
        &[
            "string~lastIndexOf(string) -> int",
            "string~lastIndexOf(string, int) -> int",
            "list(A)~lastIndexOf(A) -> int",
        ],
        |budget, args| match args.first() {
            Some(Value::List(_)) => lists::index_of(budget, args, true),
            _ => index_of(args, true),
        },
    ),
    (&["string~lowerAscii() -> string"], |budget, args| made(budget, text(args, 0)?.to_ascii_lowercase())),
    (&["string~upperAscii() -> string"], |budget, args| made(budget, text(args, 0)?.to_ascii_uppercase())),
    (&["string~trim() -> string"], |budget, args| made(budget, text(args, 0)?.trim().to_owned())),
    (&["string~reverse() -> string"], |budget, args| made(budget, text(args, 0)?.chars().rev().collect())),
    (&["string~replace(string, string) -> string", "string~replace(string, string, int) -> string"], replace),
    (&["string~split(string) -> list(string)", "string~split(string, int) -> list(string)"], split),
    (&["string~substring(int) -> string", "string~substring(int, int) -> string"], substring),
    (&["list(string)~join() -> string", "list(string)~join(string) -> string"], join),
    (&["strings.quote(string) -> string"], quote),
    (&["jsonpatch.escapeKey(string) -> string"], |budget, args| {
        made(budget, text(args, 0)?.replace('~', "~0").replace('/', "~1"))
    }),
    (&["string~format(list(dyn)) -> string"], format),
];

fn made<'a>(budget: &mut Budget, text: String) -> Outcome<'a> {
    budget.work(text.len())?;
    Ok(Value::string(text))
}

fn char_at<'a>(_: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let (on, at) = (text(args, 0)?, int(args, 1)?);
    let count = on.chars().count() as i64;
    if at < 0 || at > count {
        return Err(invalid(format!("index out of range: {at}")));
    }
    Ok(Value::string(on.chars().nth(at as usize).map(String::from).unwrap_or_default()))
}

/// Positions count characters.
fn index_of<'a>(args: &[Value<'a>], last: bool) -> Outcome<'a> {
    let (on, wanted) = (text(args, 0)?, text(args, 1)?);
    let count = on.chars().count() as i64;
    let at = if args.len() > 2 {
        int(args, 2)?
    } else if last {
        count
    } else {
        0
    };
    if at < 0 || at > count {
        return Err(invalid(format!("index out of range: {at}")));
    }
    let boundary = on.char_indices().nth(at as usize).map_or(on.len(), |(byte, _)| byte);
    let byte = if last {
        // The match may start at the offset and reach beyond it.
        let mut end = (boundary + wanted.len()).min(on.len());
        while !on.is_char_boundary(end) {
            end += 1;
        }
        on[..end].rfind(wanted).filter(|byte| *byte <= boundary)
    } else {
        on[boundary..].find(wanted).map(|byte| byte + boundary)
    };
    Ok(Value::Int(byte.map_or(-1, |byte| on[..byte].chars().count() as i64)))
}

fn replace<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let (on, from, to) = (text(args, 0)?, text(args, 1)?, text(args, 2)?);
    let most = if args.len() > 3 { int(args, 3)? } else { -1 };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    // Before it is made: an empty text stands between all characters.
    let matches = on.matches(from).take(most).count();
    budget.work(on.len().saturating_add(matches.saturating_mul(to.len())))?;
    Ok(Value::string(on.replacen(from, to, most)))
}

fn split<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let (on, by) = (text(args, 0)?, text(args, 1)?);
    let most = if args.len() > 2 { int(args, 2)? } else { -1 };
    budget.work(on.len().saturating_mul(if by.is_empty() { 32 } else { 16 }))?;
    let most = match most {
        0 => return Ok(Value::flat_list(Vec::new())),
        most => usize::try_from(most).unwrap_or(usize::MAX),
    };
    let parts: Vec<Value<'a>> = if by.is_empty() {
        let mut rest = on;
        let mut parts = Vec::new();
        while let Some(c) = rest.chars().next() {
            if parts.len() + 1 == most {
                parts.push(Value::string(rest));
                break;
            }
            parts.push(Value::string(&rest[..c.len_utf8()]));
            rest = &rest[c.len_utf8()..];
        }
        parts
    } else {
        on.splitn(most, by).map(Value::string).collect()
    };
    Ok(Value::flat_list(parts))
}

fn substring<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let (on, start) = (text(args, 0)?, int(args, 1)?);
    let count = on.chars().count() as i64;
    let end = if args.len() > 2 { int(args, 2)? } else { count };
    if args.len() > 2 && start > end {
        return Err(invalid(format!("invalid substring range. start: {start}, end: {end}")));
    }
    for at in [start, end] {
        if at < 0 || at > count {
            return Err(invalid(format!("index out of range: {at}")));
        }
    }
    made(budget, on.chars().skip(start as usize).take((end - start).max(0) as usize).collect())
}

fn join<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let Some(Value::List(list)) = args.first() else { return no_overload() };
    let separator = if args.len() > 1 { text(args, 1)? } else { "" };
    let mut out = String::new();
    for (at, item) in list.iter().enumerate() {
        let item = item.as_str().ok_or(EvalError::NoSuchOverload)?.to_owned();
        budget.work(item.len() + separator.len())?;
        if at > 0 {
            out.push_str(separator);
        }
        out.push_str(&item);
    }
    Ok(Value::string(out))
}

fn quote<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let mut out = String::from("\"");
    for c in text(args, 0)?.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    made(budget, out)
}

fn format<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let (pattern, Some(Value::List(list))) = (text(args, 0)?, args.get(1)) else { return no_overload() };
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let wanted: usize =
                digits.parse().map_err(|_| invalid("error while converting precision to integer"))?;
            precision = Some(wanted.min(1000));
        }
        let verb = chars
            .next()
            .ok_or_else(|| invalid("could not parse formatting clause: unexpected end of string"))?;
        let value = list.get(next).ok_or_else(|| invalid(format!("index {next} out of range")))?;
        next += 1;
        let shown = clause(budget, verb, precision, &value)?;
        budget.work(shown.len())?;
        out.push_str(&shown);
    }
    budget.work(out.len())?;
    Ok(Value::string(out))
}

fn clause(
    budget: &mut Budget,
    verb: char,
    precision: Option<usize>,
    value: &Value<'_>,
) -> Result<String, EvalError> {
    let unsupported = |kinds: &str| {
        invalid(format!("error during formatting: only {kinds}, was given {}", value.ty().runtime_name()))
    };
    Ok(match (verb, value) {
        ('s', value) => {
            let mut out = String::new();
            shown(budget, value, &mut out)?;
            out
        }
        ('d', Value::Int(_) | Value::Uint(_)) => plain(value).unwrap_or_default(),
        ('d', _) => return Err(unsupported("integers can be formatted as decimal")),
        ('f', Value::Double(double)) => format!("{double:.*}", precision.unwrap_or(6)),
        ('f', _) => return Err(unsupported("doubles can be formatted as fixed-point")),
        ('e', Value::Double(double)) => {
            let text = format!("{double:.*e}", precision.unwrap_or(6));
            match text.split_once('e') {
                Some((mantissa, exponent)) => {
                    let (sign, digits) = match exponent.strip_prefix('-') {
                        Some(digits) => ('-', digits),
                        None => ('+', exponent),
                    };
                    format!("{mantissa}e{sign}{digits:0>2}")
                }
                None => text,
            }
        }
        ('e', _) => return Err(unsupported("doubles can be formatted in scientific notation")),
        ('b', Value::Bool(bool)) => i32::from(*bool).to_string(),
        ('b', Value::Int(int)) if *int < 0 => format!("-{:b}", int.unsigned_abs()),
        ('b', Value::Int(int)) => format!("{int:b}"),
        ('b', Value::Uint(uint)) => format!("{uint:b}"),
        ('o', Value::Int(int)) if *int < 0 => format!("-{:o}", int.unsigned_abs()),
        ('o', Value::Int(int)) => format!("{int:o}"),
        ('o', Value::Uint(uint)) => format!("{uint:o}"),
        ('x' | 'X', value) => {
            let hex = match value {
                Value::Int(int) if *int < 0 => format!("-{:x}", int.unsigned_abs()),
                Value::Int(int) => format!("{int:x}"),
                Value::Uint(uint) => format!("{uint:x}"),
                Value::String(text) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
                Value::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => return Err(unsupported("integers, byte buffers, and strings can be formatted as hex")),
            };
            if verb == 'X' { hex.to_ascii_uppercase() } else { hex }
        }
        (verb, _) => {
            return Err(invalid(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
            )));
        }
    })
}

/// What `%s` prints of any value.
fn shown(budget: &mut Budget, value: &Value<'_>, out: &mut String) -> Result<(), EvalError> {
    budget.work(1)?;
    match value {
        Value::Bytes(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Value::List(list) => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                shown(budget, &item, out)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (at, key) in map.keys().into_iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                out.push_str(&key.to_string());
                out.push_str(": ");
                shown(budget, &map.get(&key).unwrap_or(Value::Null), out)?;
            }
            out.push('}');
        }
        value => out.push_str(&plain(value).ok_or_else(|| {
            invalid(format!(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                value.ty().runtime_name()
            ))
        })?),
    }
    budget.work(out.len().min(64))
}
