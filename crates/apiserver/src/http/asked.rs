//! What a request asks for, read once: its route and query, and under which labels it is counted.

use http::header::{CONTENT_TYPE, HOST};
use http::uri::Authority;
use http::{HeaderMap, Method, Request};
use sampan_api::Status;
use sampan_api::table::Verb;

use crate::route::{self, MAX_TARGET, Query, ResourceRoute, Route};

/// Subresources that connect to a node: `CONNECT` to whoever counts.
const CONNECTS: [&str; 5] = ["log", "exec", "portforward", "attach", "proxy"];
/// Paths that are no resource and are counted by name, with everything below them.
const PATHS: [&str; 9] = [
    "/livez",
    "/readyz",
    "/healthz",
    "/version",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/debug/pprof",
];

/// A request line that was understood.
#[derive(Clone, Debug)]
pub struct Asked {
    pub route: Route,
    pub query: Query,
    verb: &'static str,
    dry_run: &'static str,
}

/// The host, with its port, that the client asked: a header in HTTP/1.1, part of the target in HTTP/2.
pub fn host_of<B>(request: &Request<B>) -> Option<&str> {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| request.uri().authority().map(Authority::as_str))
}

impl Asked {
    pub fn read<B>(request: &Request<B>) -> Result<Self, Status> {
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > MAX_TARGET {
            return Err(Status::failure(414, "RequestURITooLong", "the request URI is too long"));
        }
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let route = route::parse(request.method(), request.uri().path(), &query)?;
        let verb = match &route {
            Route::Resource(route) => resource_verb(route, request.headers()),
            Route::NonResource(_) => method_verb(request.method()),
        };
        let dry_run = match query.all("dryRun").collect::<Vec<_>>().as_slice() {
            [] => "",
            values if values.iter().all(|value| *value == "All") => "All",
            _ => "invalid",
        };
        Ok(Asked { route, query, verb, dry_run })
    }

    /// The verb as metrics and logs have it.
    pub fn verb(&self) -> &'static str {
        self.verb
    }

    /// Whether it may last: watches, logs, streams, proxied requests, profiles.
    pub fn is_long_running(&self) -> bool {
        match &self.route {
            Route::Resource(_) => matches!(self.verb, "WATCH" | "CONNECT"),
            Route::NonResource(path) => path.starts_with("/debug/pprof"),
        }
    }

    pub fn is_mutating(&self) -> bool {
        !matches!(self.verb, "GET" | "LIST" | "WATCH")
    }

    /// Dry run, component, group, resource, scope, subresource, verb, version.
    pub fn labels(&self) -> [&str; 8] {
        match &self.route {
            Route::Resource(route) => [
                self.dry_run,
                "apiserver",
                &route.gvr.group,
                &route.gvr.resource,
                scope(route),
                route.subresource.as_deref().unwrap_or_default(),
                self.verb,
                &route.gvr.version,
            ],
            Route::NonResource(path) => {
                let below = |known: &&&str| {
                    path.strip_prefix(**known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                let known = PATHS.iter().find(below).copied().unwrap_or_default();
                [self.dry_run, "", "", "", "", known, self.verb, ""]
            }
        }
    }

    /// The labels of a request on something that is not served: names from outside are left out.
    pub fn unknown_labels(labels: [&str; 8]) -> [&str; 8] {
        let [dry_run, component, .., verb, _] = labels;
        [dry_run, component, "", "", "", "", verb, ""]
    }
}

fn scope(route: &ResourceRoute) -> &'static str {
    if route.name.is_some() || route.verb == Verb::Create {
        "resource"
    } else if route.namespace.is_some() {
        "namespace"
    } else {
        "cluster"
    }
}

fn resource_verb(route: &ResourceRoute, headers: &HeaderMap) -> &'static str {
    if route.subresource.as_deref().is_some_and(|subresource| CONNECTS.contains(&subresource)) {
        return "CONNECT";
    }
    match route.verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch => {
            let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            if kind.starts_with("application/apply-patch+") { "APPLY" } else { "PATCH" }
        }
        Verb::Delete | Verb::DeleteCollection => "DELETE",
    }
}

fn method_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_a_header_or_part_of_the_target() {
        let host = |target: &str, header: Option<&str>| {
            let mut request = Request::builder().uri(target);
            if let Some(host) = header {
                request = request.header(HOST, host);
            }
            host_of(&request.body(()).expect("a request")).map(str::to_owned)
        };
        assert_eq!(host("/version", Some("a:1")).as_deref(), Some("a:1"));
        assert_eq!(host("https://b:2/version", None).as_deref(), Some("b:2"));
        assert_eq!(host("/version", None), None);
    }

    #[test]
    fn requests_are_counted_under_upstreams_labels() {
        let check = |method: &str, target: &str, kind: &str, expected: &str| {
            let request = Request::builder().method(method).uri(target).header(CONTENT_TYPE, kind);
            let asked = Asked::read(&request.body(()).expect("a request")).expect("understood");
            let mut actual = asked.labels().join(",");
            if asked.is_long_running() {
                actual.push_str(" long");
            }
            assert_eq!(actual, expected, "{method} {target}");
        };
        let pods = "/api/v1/namespaces/a/pods";
        check("GET", pods, "", ",apiserver,,pods,namespace,,LIST,v1");
        check("GET", "/api/v1/pods", "", ",apiserver,,pods,cluster,,LIST,v1");
        check("HEAD", "/api/v1/nodes/n", "", ",apiserver,,nodes,resource,,GET,v1");
        check("GET", "/api/v1/pods?watch=1", "", ",apiserver,,pods,cluster,,WATCH,v1 long");
        check("GET", &format!("{pods}/b/log"), "", ",apiserver,,pods,resource,log,CONNECT,v1 long");
        check("POST", &format!("{pods}?dryRun=All"), "", "All,apiserver,,pods,resource,,POST,v1");
        check("POST", &format!("{pods}?dryRun=x"), "", "invalid,apiserver,,pods,resource,,POST,v1");
        check("DELETE", pods, "", ",apiserver,,pods,namespace,,DELETE,v1");
        let scale = "/apis/apps/v1/namespaces/a/deployments/d/scale";
        check(
            "PATCH",
            scale,
            "application/merge-patch+json",
            ",apiserver,apps,deployments,resource,scale,PATCH,v1",
        );
        check(
            "PATCH",
            scale,
            "application/apply-patch+yaml",
            ",apiserver,apps,deployments,resource,scale,APPLY,v1",
        );
        check("GET", "/readyz/ping", "", ",,,,,/readyz,GET,");
        check("GET", "/readyzz", "", ",,,,,,GET,");
    }
}
