//! Where a request came from: what proxies say, and the peer itself.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

/// More addresses than this are not recorded.
const MAX_ADDRESSES: usize = 32;

/// The addresses on a request's way, the client's first: of `X-Forwarded-For`, `X-Real-Ip`, and the peer's
/// unless it is the last of those already.
pub fn addresses(headers: &HeaderMap, peer: Option<SocketAddr>) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut found: Vec<IpAddr> = text("x-forwarded-for")
        .split(',')
        .filter_map(|part| part.trim().parse().ok())
        .take(MAX_ADDRESSES - 2)
        .collect();
    if let Ok(real) = text("x-real-ip").parse::<IpAddr>()
        && !found.contains(&real)
    {
        found.push(real);
    }
    if let Some(peer) = peer {
        let peer = peer.ip().to_canonical();
        if found.last() != Some(&peer) {
            found.push(peer);
        }
    }
    found.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn proxies_come_before_the_peer() {
        let check = |forwarded: &'static str, real: &'static str, expected: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_static(forwarded));
            headers.insert("x-real-ip", HeaderValue::from_static(real));
            let peer = "[::ffff:10.0.0.9]:1234".parse().ok();
            assert_eq!(addresses(&headers, peer), expected, "{forwarded} {real}");
        };
        check("", "", &["10.0.0.9"]);
        check("1.2.3.4, 5.6.7.8", "", &["1.2.3.4", "5.6.7.8", "10.0.0.9"]);
        check("1.2.3.4, 10.0.0.9", "1.2.3.4", &["1.2.3.4", "10.0.0.9"]);
        check("who, 1.2.3.4", "2001:db8::1", &["1.2.3.4", "2001:db8::1", "10.0.0.9"]);
    }
}
