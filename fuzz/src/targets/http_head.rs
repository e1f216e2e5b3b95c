//! The head of a request: target, query, headers.

use http::{HeaderName, HeaderValue, Method, Request};
use sampan_apiserver::http::fuzzing::read_head;
use sampan_apiserver::route::{self, Query, Route};

use crate::input;

/// A line of method and target, then a header a line.
pub fn run(data: &[u8]) {
    let Some(text) = input::text(data) else { return };
    let mut lines = text.split('\n');
    let (method, target) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or(("GET", text));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::GET);
    routes(&method, path, query);
    let Ok(mut request) = Request::builder().method(method).uri(target).body(()) else { return };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value.trim())) {
            request.headers_mut().append(name, value);
        }
    }
    if let Err(status) = read_head(&request) {
        assert!((400..500).contains(&status.code), "{status:?}");
    }
}

/// What is written of a route leads to that route again.
fn routes(method: &Method, path: &str, query: &str) {
    let query = Query::parse(query);
    let Ok(Route::Resource(read)) = route::parse(method, path, &query) else { return };
    assert!(!read.gvr.resource.is_empty());
    assert!(read.subresource.is_none() || read.name.is_some());
    assert!(read.rest.is_empty() || read.subresource.is_some());
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let parts = [Some(&read.gvr.group[..]), Some(&read.gvr.version), Some(&read.gvr.resource)];
    let more = [read.namespace.as_deref(), read.name.as_deref(), read.subresource.as_deref()];
    let special = ["namespaces", "watch"].contains(&&*read.gvr.resource);
    if special || !parts.iter().chain(&more).flatten().all(|part| is_plain(part)) || !read.rest.is_empty() {
        return;
    }
    let mut written = read.gvr.path(read.namespace.as_deref(), read.name.as_deref());
    if let Some(subresource) = &read.subresource {
        written = format!("{written}/{subresource}");
    }
    if path.contains("/watch/") {
        return;
    }
    let again = route::parse(method, &written, &query).expect("it was read before");
    assert_eq!(again, Route::Resource(read), "{path} is written as {written}");
}
