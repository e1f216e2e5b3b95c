//! Links in HTML pages of a proxied server.
//!
//! No parser of HTML: start tags are found, and the values of those attributes that hold links are
//! changed where they stand. Everything else passes as it came.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::ProxyError;
use super::location::Rewrite;

/// The most bytes of a page that is rewritten, as sent and unpacked.
const MAX_PAGE: usize = 16 << 20;

/// The attributes that hold links, by element.
fn links(element: &str) -> &'static [&'static str] {
    match element {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

pub fn is_html(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let plain = match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None => true,
        Some(encoding) => encoding == b"gzip" || encoding.is_empty(),
    };
    plain && kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/html")
}

/// Reads a page and answers it with its links changed; sets its length.
pub async fn rewrite(
    headers: &mut HeaderMap,
    body: Incoming,
    rewrite: &Rewrite<'_>,
) -> Result<Bytes, ProxyError> {
    let failed = |error: &dyn std::fmt::Display| ProxyError::Body(error.to_string());
    let body = Limited::new(body, MAX_PAGE).collect().await.map_err(|error| failed(&error))?.to_bytes();
    let packed = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip");
    let bytes = if packed {
        let mut page = Vec::new();
        let limit = MAX_PAGE as u64 + 1;
        GzDecoder::new(&body[..]).take(limit).read_to_end(&mut page).map_err(|error| failed(&error))?;
        if page.len() > MAX_PAGE {
            return Err(failed(&format!("the page is larger than {MAX_PAGE} bytes")));
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let written = encoder.write_all(&rewrite_page(&page, rewrite)).and_then(|()| encoder.finish());
        Bytes::from(written.map_err(|error| failed(&error))?)
    } else {
        Bytes::from(rewrite_page(&body, rewrite))
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok(bytes)
}

/// Changes the links of a page. What is no UTF-8 or no HTML passes as it is.
fn rewrite_page(page: &[u8], rewrite: &Rewrite<'_>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(page) else { return page.to_vec() };
    let mut out = String::with_capacity(text.len() + 256);
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        if let Some(comment) = tag.strip_prefix("<!--") {
            let end = comment.find("-->").map_or(tag.len(), |end| end + 4 + 3);
            out.push_str(&tag[..end]);
            rest = &tag[end..];
            continue;
        }
        let Some(end) = end_of_tag(tag) else {
            rest = tag;
            break;
        };
        rewrite_tag(&tag[..end], rewrite, &mut out);
        rest = &tag[end..];
    }
    out.push_str(rest);
    out.into_bytes()
}

/// Where a tag ends: after the first `>` that is in no quotes.
fn end_of_tag(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    None
}

fn rewrite_tag(tag: &str, rewrite: &Rewrite<'_>, out: &mut String) {
    let inner = &tag[1..];
    let name_end = inner.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(inner.len());
    let wanted = links(&inner[..name_end].to_ascii_lowercase());
    let mut rest = inner;
    out.push('<');
    if wanted.is_empty() {
        out.push_str(rest);
        return;
    }
    out.push_str(&rest[..name_end]);
    rest = &rest[name_end..];
    // `name="value"`, `name='value'`, `name=value`.
    while let Some(equals) = rest.find('=') {
        let (before, after) = rest.split_at(equals + 1);
        let name = before[..equals].trim_end();
        let name =
            name.rsplit(|letter: char| letter.is_whitespace() || letter == '/').next().unwrap_or_default();
        let trimmed = after.trim_start();
        let space = after.len() - trimmed.len();
        let (open, value_end) = match trimmed.as_bytes().first() {
            Some(quote @ (b'"' | b'\'')) => {
                let quote = char::from(*quote);
                (1, trimmed[1..].find(quote).map_or(trimmed.len(), |end| end + 1))
            }
            _ => (
                0,
                trimmed.find(|letter: char| letter.is_whitespace() || letter == '>').unwrap_or(trimmed.len()),
            ),
        };
        let value = &trimmed[open..value_end];
        out.push_str(before);
        out.push_str(&after[..space + open]);
        if wanted.contains(&name.to_ascii_lowercase().as_str()) {
            out.push_str(&rewrite.url(value));
        } else {
            out.push_str(value);
        }
        rest = &trimmed[value_end..];
        if open == 1 && !rest.is_empty() {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REWRITE: Rewrite<'_> = Rewrite { prefix: "/p", target: "10.0.0.1:80", asked: "h" };

    fn check(page: &str, expected: &str) {
        let rewritten = rewrite_page(page.as_bytes(), &REWRITE);
        assert_eq!(String::from_utf8_lossy(&rewritten), expected);
    }

    #[test]
    fn links_of_pages_are_changed_where_they_stand() {
        check("<a href=\"/x\">/x</a>", "<a href=\"/p/x\">/x</a>");
        check("<A class='b' HREF='/x' title=\"/y\">", "<A class='b' HREF='/p/x' title=\"/y\">");
        check("<img src=/x alt=y><p src=\"/x\">", "<img src=/p/x alt=y><p src=\"/x\">");
        check(
            "<a href = \"rel\"><form action=\"http://10.0.0.1:80/f\">",
            "<a href = \"rel\"><form action=\"/p/f\">",
        );
        check(
            "<!-- <a href=\"/x\"> --><br/><a href=\"//elsewhere/\">",
            "<!-- <a href=\"/x\"> --><br/><a href=\"//elsewhere/\">",
        );
        check(
            "<pre>\n<a href=\"/logs/\">l</a>\n</pre> 1 < 2",
            "<pre>\n<a href=\"/p/logs/\">l</a>\n</pre> 1 < 2",
        );
        check("<a href=\"/x", "<a href=\"/x");
    }

    proptest! {
        #[test]
        fn nothing_is_lost(page in "[<>a-c ='\"é!\\-]{0,64}") {
            // Without a link that starts with a slash, a page stays as it is.
            prop_assert_eq!(rewrite_page(page.as_bytes(), &REWRITE), page.as_bytes());
        }
    }
}
