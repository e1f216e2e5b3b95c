use super::*;
use crate::streaming::command::SizeReader;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (http::HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        headers.append(name, value);
    }
    headers
}

#[test]
fn upgrades_are_recognised() {
    let transport = |connection, upgrade| {
        Transport::of(&headers(&[("connection", connection), ("upgrade", upgrade)])).ok()
    };
    assert_eq!(transport("keep-alive, Upgrade", "WebSocket"), Some(Transport::WebSocket));
    assert_eq!(transport("Upgrade", "SPDY/3.1"), Some(Transport::Spdy));
    assert_eq!(transport("close", "websocket"), None);
    assert_eq!(transport("upgrade", "h2c"), None);
    let refused = Transport::of(&HeaderMap::new()).expect_err("no upgrade");
    assert_eq!((refused.code, refused.message.as_str()), (400, "Upgrade request required"));
}

#[test]
fn subprotocols_are_agreed_on() {
    let accept = |protocols: &'static str| {
        let headers = headers(&[
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", protocols),
        ]);
        super::super::websocket::accept(&headers, super::super::websocket::COMMAND_PROTOCOLS)
    };
    let (_, response) =
        accept("base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io").expect("agreed");
    assert_eq!(response.headers()["sec-websocket-protocol"], "v4.channel.k8s.io");
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let refused = accept("base64url.bearer.authorization.k8s.io.c2VjcmV0").expect_err("nothing in common");
    assert_eq!(refused.code, 403);
    assert!(!refused.message.contains("c2VjcmV0"), "{refused}");
    let old = headers(&[("sec-websocket-version", "8"), ("sec-websocket-key", "x")]);
    assert!(super::super::websocket::accept(&old, super::super::websocket::COMMAND_PROTOCOLS).is_err());
}

#[test]
fn spdy_versions_are_agreed_on() {
    let negotiate = |pairs: &[(&'static str, &'static str)]| {
        super::super::spdy::negotiate(&headers(pairs), super::super::spdy::COMMAND_PROTOCOLS)
    };
    let version = |value| ("x-stream-protocol-version", value);
    assert_eq!(
        negotiate(&[version("v5.channel.k8s.io"), version("v4.channel.k8s.io")]),
        Ok("v4.channel.k8s.io")
    );
    assert_eq!(negotiate(&[]), Ok(""));
    assert_eq!(negotiate(&[version("v9.channel.k8s.io")]).expect_err("nothing in common").code, 403);
}

#[test]
fn queries_say_what_to_run() {
    let query = CommandQuery::exec(
        "command=sh&command=-c&command=&command=a%20b&container=c&stdin=true&stdout=1&stderr=1&tty=1",
    );
    let query = query.expect("a query");
    assert_eq!(query.command, ["sh", "-c", "", "a b"]);
    assert_eq!(query.streams, StreamFlags { stdin: true, stdout: true, stderr: false, tty: true });
    assert_eq!(CommandQuery::exec("stdin=true"), Err(QueryError::NoCommand));
    assert_eq!(CommandQuery::exec("command=a&stdout=false&stderr=0&tty=true"), Err(QueryError::NoStream));
    assert_eq!(CommandQuery::attach("command=a&stdin=true").expect("a query").command, Vec::<String>::new());
    assert_eq!(container_of("stdin=1&container=x"), Some("x".to_owned()));
    assert_eq!(container_of("container="), None);
    assert_eq!(port_list("ports=1,65535&ports=80"), Ok(vec![1, 65535, 80]));
    for bad in ["ports=0", "ports=65536", "ports=a", "ports="] {
        assert!(port_list(bad).is_err(), "{bad}");
    }
}

#[test]
fn log_queries_are_validated() {
    let options = log_options("follow=true&tailLines=0&sinceTime=2026-01-02T03:04:05Z&timestamps=true", "p");
    let options = options.expect("a query");
    assert!(options.follow && options.timestamps && !options.previous);
    assert_eq!(options.tail_lines, Some(0));
    assert!(options.since_time.is_some());
    let bad = ["tailLines=-1", "limitBytes=0", "sinceSeconds=0", "sinceTime=yesterday", "tailLines=x"];
    for query in bad.into_iter().chain(["sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z"]) {
        assert_eq!(log_options(query, "p").expect_err(query).code, 422, "{query}");
    }
}

#[test]
fn sizes_may_be_cut_anywhere() {
    let text = b"{\"Width\":80,\"Height\":24}\n{\"Width\":1,\"Height\":2}";
    for cut in 0..text.len() {
        let mut sizes = SizeReader::default();
        let mut found = sizes.feed(&text[..cut]).expect("a part");
        found.extend(sizes.feed(&text[cut..]).expect("the rest"));
        let size = |width, height| TerminalSize { width, height };
        assert_eq!(found, [size(80, 24), size(1, 2)], "cut at {cut}");
    }
    assert!(SizeReader::default().feed(b"[").is_ok());
    assert!(SizeReader::default().feed(b"x").is_err());
    assert!(SizeReader::default().feed(&[b' '; 5000]).is_err());
}

#[tokio::test]
async fn logs_are_a_plain_body() {
    let options = log_options("tailLines=3", "p").expect("a query");
    let response = logs(&EchoNode::default(), &container(), options).await.expect("answered");
    assert_eq!(response.headers()[http::header::CONTENT_TYPE], "text/plain");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(body, "n/p c Some(3)\n");
}
