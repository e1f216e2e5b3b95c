//! What a request asks for, read from its method, path and query: the first step of every request.
//!
//! Parsing only describes; nothing is looked up here. The rules are those of Kubernetes'
//! `RequestInfo`, since authorisation depends on them.

use std::collections::BTreeMap;

use http::Method;
use percent_encoding::percent_decode_str;
use sampan_api::table::Verb;
use sampan_api::{Gvr, Status};

/// The longest request target that is read.
pub const MAX_TARGET: usize = 64 << 10;

/// A parsed request line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    Resource(ResourceRoute),
    /// `/version`, `/openapi/v3`, `/readyz`, …: the path without its closing slash.
    NonResource(String),
}

/// A request on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRoute {
    pub verb: Verb,
    pub gvr: Gvr,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
    /// What follows the subresource (only `proxy` has such a rest), without its first slash.
    pub rest: String,
}

/// The query of a request; the first value of a repeated name counts, except for [`Query::all`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    pub fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        Query { pairs }
    }

    /// The value of a parameter; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    /// A boolean as Go's `strconv.ParseBool` reads it; a bare name is true.
    pub fn flag(&self, name: &str) -> Result<bool, Status> {
        match self.all(name).next() {
            None => Ok(false),
            Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => {
                Err(Status::bad_request(format!("strconv.ParseBool: parsing \"{other}\": invalid syntax")))
            }
        }
    }

    pub fn integer(&self, name: &str) -> Result<Option<i64>, Status> {
        self.get(name)
            .map(|text| {
                text.parse().map_err(|_| {
                    Status::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
                })
            })
            .transpose()
    }

    /// Every parameter by name, for code that takes a map.
    pub fn into_map(self) -> BTreeMap<String, Vec<String>> {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in self.pairs {
            map.entry(name).or_default().push(value);
        }
        map
    }
}

/// Reads a request line.
pub fn parse(method: &Method, path: &str, query: &Query) -> Result<Route, Status> {
    let non_resource = || Ok(Route::NonResource(path.trim_end_matches('/').to_owned()));
    let segments: Vec<String> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode_str(segment).decode_utf8().map(|text| text.into_owned()))
        .collect::<Result<_, _>>()
        .map_err(|_| Status::bad_request("the request path is not UTF-8"))?;
    let (group, version, rest) = match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest.to_vec()),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest.to_vec()),
        _ => return non_resource(),
    };
    let (watch_path, rest) = match rest.as_slice() {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest.to_vec()),
        _ => (false, rest),
    };
    let (namespace, parts) = match rest.as_slice() {
        ["namespaces"] => (None, rest.clone()),
        ["namespaces", name] | ["namespaces", name, "status" | "finalize"] => (Some(*name), rest.clone()),
        ["namespaces", name, parts @ ..] => (Some(*name), parts.to_vec()),
        _ => (None, rest.clone()),
    };
    let resource = parts[0];
    let name = parts.get(1).map(|name| (*name).to_owned());
    // A name in the path asks for that object, whatever the query says.
    let watch = watch_path || (name.is_none() && query.flag("watch")?);
    let verb = verb(method, name.is_some(), watch).ok_or_else(|| {
        Status::failure(405, "MethodNotAllowed", format!("{method} is not a method of the API"))
    })?;
    Ok(Route::Resource(ResourceRoute {
        verb,
        gvr: Gvr {
            group: group.to_owned().into(),
            version: version.to_owned().into(),
            resource: resource.to_owned().into(),
        },
        namespace: namespace.map(str::to_owned),
        name,
        subresource: parts.get(2).map(|part| (*part).to_owned()),
        rest: parts.get(3..).unwrap_or_default().join("/"),
    }))
}

fn verb(method: &Method, named: bool, watch: bool) -> Option<Verb> {
    match (method, named) {
        (&Method::GET | &Method::HEAD, _) if watch => Some(Verb::Watch),
        (&Method::GET | &Method::HEAD, true) => Some(Verb::Get),
        (&Method::GET | &Method::HEAD, false) => Some(Verb::List),
        (&Method::POST, _) => Some(Verb::Create),
        (&Method::PUT, _) => Some(Verb::Update),
        (&Method::PATCH, _) => Some(Verb::Patch),
        (&Method::DELETE, true) => Some(Verb::Delete),
        (&Method::DELETE, false) => Some(Verb::DeleteCollection),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `verb group/version resource namespace name subresource rest`
    fn check(method: Method, target: &str, expected: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let actual = match parse(&method, path, &Query::parse(query)) {
            Ok(Route::Resource(route)) => format!(
                "{} {} {} {} {} {} {}",
                route.verb.as_str(),
                route.gvr.api_version(),
                route.gvr.resource,
                route.namespace.as_deref().unwrap_or("-"),
                route.name.as_deref().unwrap_or("-"),
                route.subresource.as_deref().unwrap_or("-"),
                if route.rest.is_empty() { "-" } else { &route.rest },
            ),
            Ok(Route::NonResource(path)) => format!("path {path}"),
            Err(status) => format!("{}", status.code),
        };
        assert_eq!(actual, expected, "{method} {target}");
    }

    #[test]
    fn request_lines_are_read_as_kubernetes_reads_them() {
        check(Method::GET, "/api/v1/pods", "list v1 pods - - - -");
        check(Method::GET, "/api/v1/pods?watch=1", "watch v1 pods - - - -");
        check(Method::GET, "/api/v1/namespaces/a/pods/b?watch=1", "get v1 pods a b - -");
        check(Method::GET, "/api/v1/watch/namespaces/a/pods/b", "watch v1 pods a b - -");
        check(Method::GET, "/api/v1/namespaces/a/pods/b/log", "get v1 pods a b log -");
        check(Method::POST, "/apis/apps/v1/namespaces/a/deployments", "create apps/v1 deployments a - - -");
        check(Method::GET, "/api/v1/namespaces/a", "get v1 namespaces a a - -");
        check(Method::PUT, "/api/v1/namespaces/a/finalize", "update v1 namespaces a a finalize -");
        check(Method::DELETE, "/api/v1/namespaces/a/pods", "deletecollection v1 pods a - - -");
        check(Method::GET, "/api/v1/nodes/n/proxy/a/b", "get v1 nodes - n proxy a/b");
        check(Method::GET, "/api/v1/pods/a%2Fb", "get v1 pods - a/b - -");
        check(Method::GET, "/apis/apps/v1", "path /apis/apps/v1");
        check(Method::GET, "/apis/", "path /apis");
        check(Method::GET, "/", "path ");
        check(Method::GET, "/api/v1/pods?watch=maybe", "400");
        check(Method::OPTIONS, "/api/v1/pods", "405");
        check(Method::GET, "/api/v1/%ff", "400");
    }
}
