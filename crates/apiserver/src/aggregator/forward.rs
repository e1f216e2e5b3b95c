//! Requests on their way to a remote server.

use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::Remote;
use crate::ApiServer;
use crate::http::{ResponseBody, text};
use crate::identity::User;
use crate::proxy::{self, Manner, Target};

/// Passes a request of a user on. What goes wrong on the way is told as text, as upstream tells it.
pub async fn forward(
    server: &ApiServer,
    remote: &Remote,
    request: Request<Incoming>,
    user: &User,
) -> Response<ResponseBody> {
    let unavailable = |why: &str| text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    if !remote.is_available() {
        return unavailable("service unavailable");
    }
    let (client, upgrades) = match &remote.clients {
        Ok(clients) => clients,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    };
    if let Err(error) = remote.target.resolve() {
        tracing::debug!(name = remote.name, %error, "a remote server has no address");
        return unavailable("service unavailable");
    }
    let host = format!("{}:{}", remote.target.host(), remote.target.port);
    let Ok(authority) = host.parse() else { return unavailable("service unavailable") };
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let target =
        Target { client, upgrades, scheme: Scheme::HTTPS, authority, path, manner: Manner::Aggregated(user) };
    match proxy::forward(&server.sessions, request, &target).await {
        Ok(response) => response,
        Err(error @ proxy::ProxyError::Redirect) => text(StatusCode::BAD_GATEWAY, error.to_string()),
        Err(error) => unavailable(&error.to_string()),
    }
}
