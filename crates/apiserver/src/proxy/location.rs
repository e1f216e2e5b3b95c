//! Links of a proxied server, as its client must see them.

/// How links are changed: those to the server itself get the path under which it is seen here.
pub struct Rewrite<'a> {
    /// Without a slash at its end.
    pub prefix: &'a str,
    /// Host and port of the server.
    pub target: &'a str,
    /// The host that the client asked.
    pub asked: &'a str,
}

impl Rewrite<'_> {
    /// A link that fits: unchanged where it is relative or leads to another host.
    pub fn url(&self, url: &str) -> String {
        let (scheme, host, rest) = split(url);
        if !host.is_empty() && host != self.target && host != self.asked {
            return url.to_owned();
        }
        if !rest.starts_with('/') {
            return url.to_owned();
        }
        let keeps_host = !host.is_empty() && host == self.asked;
        let start = if keeps_host { format!("{scheme}//{host}") } else { String::new() };
        if rest.starts_with(self.prefix) {
            return format!("{start}{rest}");
        }
        format!("{start}{}{rest}", self.prefix)
    }
}

/// `scheme:` (or nothing), host, and the rest from the path on.
fn split(url: &str) -> (&str, &str, &str) {
    let (scheme, after) = match url.find("//") {
        Some(0) => ("", &url[2..]),
        Some(at) if url[..at].ends_with(':') && !url[..at].contains('/') => (&url[..at], &url[at + 2..]),
        _ => return ("", "", url),
    };
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    (scheme, &after[..end], &after[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_server_itself_get_the_prefix() {
        let rewrite = Rewrite { prefix: "/api/v1/x/proxy", target: "10.0.0.1:80", asked: "localhost:6443" };
        let check = |url: &str, expected: &str| assert_eq!(rewrite.url(url), expected, "{url}");
        check("/a?b#c", "/api/v1/x/proxy/a?b#c");
        check("/", "/api/v1/x/proxy/");
        check("a/b", "a/b");
        check("?q=/", "?q=/");
        check("#top", "#top");
        check("http://10.0.0.1:80/a", "/api/v1/x/proxy/a");
        check("//10.0.0.1:80/a", "/api/v1/x/proxy/a");
        check("https://localhost:6443/a/", "https://localhost:6443/api/v1/x/proxy/a/");
        check("https://elsewhere.example/a", "https://elsewhere.example/a");
        check("/api/v1/x/proxy/a", "/api/v1/x/proxy/a");
        check("mailto:a@b", "mailto:a@b");
    }
}
