//! Kubernetes' URLs, read as Go's `url.ParseRequestURI` reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Library, invalid, no_overload, text};
use crate::eval::{Budget, EvalError, Outcome};
use crate::value::{Key, Opaque, Value};

/// A URL in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    escaped_path: String,
    query: String,
}

pub const LIBRARY: Library = &[
    (&["url(string) -> kubernetes.URL"], |_, args| {
        let url = parse(text(args, 0)?).map_err(invalid)?;
        Ok(Value::Opaque(Opaque::Url(Arc::new(url))))
    }),
    (&["isURL(string) -> bool"], |_, args| Ok(Value::Bool(parse(text(args, 0)?).is_ok()))),
    (&["kubernetes.URL~getScheme() -> string"], |_, args| Ok(Value::string(url(args)?.scheme.as_str()))),
    (&["kubernetes.URL~getHost() -> string"], |_, args| Ok(Value::string(url(args)?.host.as_str()))),
    (&["kubernetes.URL~getHostname() -> string"], |_, args| Ok(Value::string(url(args)?.split_host().0))),
    (&["kubernetes.URL~getPort() -> string"], |_, args| Ok(Value::string(url(args)?.split_host().1))),
    (&["kubernetes.URL~getEscapedPath() -> string"], |_, args| {
        Ok(Value::string(url(args)?.escaped_path.as_str()))
    }),
    (&["kubernetes.URL~getQuery() -> map(string, list(string))"], query),
];

fn url<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, EvalError> {
    match args.first() {
        Some(Value::Opaque(Opaque::Url(url))) => Ok(url),
        _ => Err(EvalError::NoSuchOverload),
    }
}

impl Url {
    fn split_host(&self) -> (&str, &str) {
        if let Some((inner, rest)) = self.host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            return (inner, rest.strip_prefix(':').unwrap_or_default());
        }
        self.host.rsplit_once(':').unwrap_or((&self.host, ""))
    }
}

fn parse(raw: &str) -> Result<Url, String> {
    let fault = |why: &str| format!("URL parse error during conversion from string: parse {raw:?}: {why}");
    if raw.is_empty() {
        return Err(fault("empty url"));
    }
    if raw.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(fault("net/url: invalid control character in URL"));
    }
    let (scheme, rest) = match raw.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        Some(("", _)) => return Err(fault("missing protocol scheme")),
        _ => (String::new(), raw),
    };
    // What starts with no slash is opaque, which a request cannot have.
    if !rest.starts_with('/') {
        return Err(fault("invalid URI for request"));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) =
        match rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///")) {
            Some(rest) => rest.find('/').map_or((rest, ""), |at| rest.split_at(at)),
            None => ("", rest),
        };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '}', '|']) {
        return Err(fault(&format!("invalid character in host name {host:?}")));
    }
    let port = match host.rsplit_once(']') {
        Some((_, port)) => port.strip_prefix(':'),
        None if host.starts_with('[') => return Err(fault("missing ']' in host")),
        None => host.split_once(':').map(|(_, port)| port),
    };
    if let Some(port) = port.filter(|port| !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(fault(&format!("invalid port {:?} after host", format!(":{port}"))));
    }
    let unescaped = unescape(path).ok_or_else(|| fault("invalid URL escape"))?;
    let valid =
        path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"$&+,/:;=@-_.~!'()*[]%".contains(&byte));
    let escaped_path = if valid { path.to_owned() } else { escape(&unescaped) };
    Ok(Url { scheme, host: host.to_owned(), escaped_path, query: query.to_owned() })
}

/// Whether a text is a URL that a request may name.
pub(super) fn is_url(text: &str) -> bool {
    parse(text).is_ok()
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let hex = |byte: u8| (byte as char).to_digit(16);
        let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
        out.push((high * 16 + low) as u8);
    }
    Some(out)
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"$&+,/:;=@-_.~".contains(byte) {
            out.push(*byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn query<'a>(budget: &mut Budget, args: &[Value<'a>]) -> Outcome<'a> {
    let Some(Value::Opaque(Opaque::Url(url))) = args.first() else { return no_overload() };
    budget.work(url.query.len().saturating_mul(8))?;
    let plain = |text: &str| {
        unescape(&text.replace('+', " ")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let mut found: BTreeMap<Key, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let (Some(key), Some(value)) = (plain(key), plain(value)) {
            found.entry(Key::String(key.into())).or_default().push(Value::string(value));
        }
    }
    let entries = found.into_iter().map(|(key, values)| (key, Value::flat_list(values))).collect();
    Value::map(None, entries).ok_or(EvalError::CostExceeded)
}
