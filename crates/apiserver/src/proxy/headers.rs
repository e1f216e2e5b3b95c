//! Headers on their way through.

use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CONNECTION, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::identity::User;

const REMOTE_USER: HeaderName = HeaderName::from_static("x-remote-user");
const REMOTE_UID: HeaderName = HeaderName::from_static("x-remote-uid");
const REMOTE_GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const REMOTE_EXTRA: &str = "x-remote-extra-";
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Bytes that a header's name may have beside letters and digits; `%` is what escapes the others.
const TOKEN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'*')
    .remove(b'+')
    .remove(b'^')
    .remove(b'`')
    .remove(b'|');

/// Drops what concerns one connection only, and what concerns this server only.
pub fn prepare(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>) {
    strip_hop_by_hop(headers);
    headers.remove(AUTHORIZATION);
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-") || name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol.clone());
    }
}

pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let fixed =
        [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    let further = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for name in named.into_iter().chain(fixed).chain(further) {
        headers.remove(name);
    }
}

/// Says who asks, for a server that believes our certificate.
pub fn identify(headers: &mut HeaderMap, user: &User) {
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.append(name, value);
        }
    };
    set(REMOTE_USER, &user.name);
    if !user.uid.is_empty() {
        set(REMOTE_UID, &user.uid);
    }
    for group in &user.groups {
        set(REMOTE_GROUP, group);
    }
    for (key, values) in &user.extra {
        let name = format!("{REMOTE_EXTRA}{}", utf8_percent_encode(&key.to_ascii_lowercase(), TOKEN));
        let Ok(name) = name.parse::<HeaderName>() else { continue };
        for value in values {
            set(name.clone(), value);
        }
    }
}

/// Says which path the client sees.
pub fn forwarded(headers: &mut HeaderMap, prefix: &str, path: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("{}{path}", prefix.trim_end_matches('/'))) {
        headers.insert(FORWARDED_URI, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_other_servers_business_goes_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("authorization", "Bearer secret"),
            ("x-remote-user", "admin"),
            ("x-remote-extra-a", "b"),
            ("impersonate-user", "admin"),
            ("accept", "*/*"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        prepare(&mut headers, None);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
        prepare(&mut headers, Some(&HeaderValue::from_static("websocket")));
        assert_eq!(headers[UPGRADE], "websocket");
    }

    #[test]
    fn a_user_is_told_in_headers() {
        let mut user = User { name: "a".into(), groups: vec!["g".into(), "h".into()], ..User::default() };
        user.extra.insert("example.com/Key".into(), vec!["v".into()]);
        let mut headers = HeaderMap::new();
        identify(&mut headers, &user);
        assert_eq!(headers[REMOTE_USER], "a");
        assert_eq!(headers.get_all(REMOTE_GROUP).iter().count(), 2);
        assert_eq!(headers["x-remote-extra-example.com%2fkey"], "v");
    }
}
