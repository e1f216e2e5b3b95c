//! Paths that are no resource: health, discovery, OpenAPI, version, metrics, token keys.

use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use sampan_api::Status;
use sampan_base::metrics::Format;
use serde_json::{Value, json};

use super::negotiate::Accepted;
use super::{ResponseBody, answer, host_of};
use crate::ApiServer;
use crate::fairness::dump;
use crate::route::Query;

pub async fn get(
    server: &ApiServer,
    request: &Request<Incoming>,
    path: &str,
    query: &Query,
) -> Result<Response<ResponseBody>, Status> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Status::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
    }
    if let Some(answered) = super::health::get(server, path, query).await {
        return answered;
    }
    match path {
        "" => Ok(answer::value(StatusCode::OK, &paths(server), Accepted::JSON)),
        "/metrics" => Ok(metrics(request.headers(), |format| server.metrics.encode(format))),
        "/metrics/slis" => Ok(metrics(request.headers(), |format| server.metrics.encode_indicators(format))),
        "/.well-known/openid-configuration" => {
            let host = host_of(request).unwrap_or("localhost");
            let configuration = server.authenticator.tokens.openid_configuration(&format!("https://{host}"));
            Ok(answer::value(StatusCode::OK, &configuration, Accepted::JSON))
        }
        "/openid/v1/jwks" => {
            Ok(answer::value(StatusCode::OK, &server.authenticator.tokens.json_web_keys(), Accepted::JSON))
        }
        _ => {
            let dump = path.strip_prefix("/debug/api_priority_and_fairness/");
            match dump.and_then(|name| dump::find(&server.fairness.plan(), name)) {
                Some(text) => Ok(answer::text(StatusCode::OK, text)),
                None => document(server, path, request.headers()),
            }
        }
    }
}

fn metrics(headers: &HeaderMap, encode: impl FnOnce(Format) -> String) -> Response<ResponseBody> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::negotiate(accept);
    let content_type = HeaderValue::from_static(format.content_type());
    answer::with_type(StatusCode::OK, content_type, encode(format))
}

fn document(server: &ApiServer, path: &str, headers: &HeaderMap) -> Result<Response<ResponseBody>, Status> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let document = server.documents.find(path, accept).ok_or_else(Status::no_such_route)?;
    let known = headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    let mut response = if known.is_some_and(|known| known == &*document.etag) {
        let mut response = Response::new(answer::full(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        Response::new(answer::full(document.bytes))
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(document.content_type));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        headers.insert(ETAG, etag);
    }
    Ok(response)
}

/// `/`: where to go from here.
fn paths(server: &ApiServer) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for group in server.registry.table().groups().iter().filter(|group| !group.name.is_empty()) {
        paths.push(format!("/apis/{}", group.name));
        paths.extend(group.versions.iter().map(|version| format!("/apis/{}/{version}", group.name)));
    }
    let fixed = [
        "/.well-known/openid-configuration",
        "/debug/api_priority_and_fairness/dump_priority_levels",
        "/debug/api_priority_and_fairness/dump_queues",
        "/debug/api_priority_and_fairness/dump_requests",
        "/healthz",
        "/livez",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ];
    paths.extend(fixed.map(str::to_owned));
    paths.sort();
    json!({"paths": paths})
}
