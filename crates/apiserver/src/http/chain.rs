//! The inner chain of every request, in upstream's order: authentication, impersonation, fairness,
//! authorisation, and then the work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use sampan_api::Status;
use sampan_api::selector::FieldSelector;
use sampan_api::table::Verb;

use super::asked::Asked;
use super::negotiate::Accepted;
use super::{Connection, ResponseBody, answer, non_resource, observe, resource};
use crate::ApiServer;
use crate::aggregator;
use crate::fairness::{Seat, Work, work};
use crate::identity::User;
use crate::identity::authentication::Impersonation;
use crate::identity::authorization::Attributes;
use crate::metrics::Observed;
use crate::resource_metrics;
use crate::route::{ResourceRoute, Route};

/// How long a request waits for a seat that may last as long as it likes.
const WATCH_WAIT: Duration = Duration::from_secs(15);

/// Answers a request that was understood.
pub async fn respond(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    connection: &Connection,
    asked: &Asked,
    observed: &Observed,
    errors: Accepted,
) -> Result<Response<ResponseBody>, Status> {
    let user = authenticate(server, request.headers(), connection)?;
    let user = impersonate(server, user, request.headers())?;
    let method = request.method().as_str().to_ascii_lowercase();
    let selector = selector(asked);
    let attributes = attributes(&user, asked, &method, selector.exact("metadata.name"));
    // Logs, streams and proxied requests last, and cost this server little.
    if asked.is_long_running() && attributes.verb != "watch" {
        return authorized(server, request, asked, &user, &attributes).await;
    }
    let classified = server.fairness.classify(&attributes);
    let estimated = match &asked.route {
        Route::Resource(route) => {
            work::estimate(&server.registry, route, &asked.query, classified.level().max_seats)
        }
        Route::NonResource(_) => Work::seats(1),
    };
    let wait = observe::time_limit(asked).map_or(WATCH_WAIT, |limit| limit / 4);
    let queued = || server.metrics.requests.queued(asked);
    let (seat, waited) = classified.acquire(&server.fairness, estimated, wait, queued).await;
    observed.note_wait(waited);
    let answered = match seat {
        Ok(seat) => seated(server, request, asked, &user, &attributes, seat).await,
        Err(why) => {
            server.metrics.requests.terminated(observed, 429);
            tracing::debug!(
                user = user.name,
                schema = &*classified.schema().name,
                why = why.as_str(),
                "rejected"
            );
            Ok(too_many())
        }
    };
    let mut response = answered.unwrap_or_else(|status| answer::status(&status, errors));
    classified.sign(response.headers_mut());
    Ok(response)
}

/// Answers while a seat is held: until the answer is made or, of a watch, until it has begun.
async fn seated(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    asked: &Asked,
    user: &User,
    attributes: &Attributes<'_>,
    seat: Seat,
) -> Result<Response<ResponseBody>, Status> {
    let answered = authorized(server, request, asked, user, attributes).await;
    match answered {
        Ok(response) if attributes.verb == "list" => Ok(observe::keep_seat(response, seat)),
        other => other,
    }
}

async fn authorized(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    asked: &Asked,
    user: &User,
    attributes: &Attributes<'_>,
) -> Result<Response<ResponseBody>, Status> {
    match &asked.route {
        Route::NonResource(path) => {
            allow(server, attributes)?;
            if let Some(remote) = server.aggregator.remote_of_path(path) {
                return Ok(aggregator::forward(server, &remote, request, user).await);
            }
            non_resource::get(server, request.method(), path, &asked.query, request.headers()).await
        }
        Route::Resource(route) => {
            // Over WebSocket these arrive as GET. Whoever may only read must not open a shell.
            let acts = matches!(route.subresource.as_deref(), Some("exec" | "attach" | "portforward"));
            let verb = if acts { Verb::Create.as_str() } else { attributes.verb };
            allow(server, &Attributes { verb, ..*attributes })?;
            if let Some(remote) = server.aggregator.remote(&route.gvr.group, &route.gvr.version) {
                return Ok(aggregator::forward(server, &remote, request, user).await);
            }
            if resource_metrics::serves(&route.gvr) {
                return resource_metrics::answer(server, route, &asked.query, request.headers()).await;
            }
            let user = user.clone();
            let place = match route.verb {
                Verb::Watch => Some(server.watches.enter(&user.name)?),
                _ => None,
            };
            let mut response = resource(server, request, route.clone(), asked.query.clone(), user).await?;
            let deprecated = sampan_api::warnings::resource(&route.gvr);
            answer::warn(&mut response, deprecated.map(str::to_owned).as_slice());
            Ok(match place {
                Some(place) => observe::keep(response, place),
                None => response,
            })
        }
    }
}

/// What a request wants, for who decides whether it may and when.
fn attributes<'a>(
    user: &'a User,
    asked: &'a Asked,
    method: &'a str,
    selected: Option<&'a str>,
) -> Attributes<'a> {
    match &asked.route {
        Route::NonResource(path) => Attributes::path(user, method, if path.is_empty() { "/" } else { path }),
        Route::Resource(route) => Attributes {
            user,
            verb: route.verb.as_str(),
            group: &route.gvr.group,
            version: &route.gvr.version,
            resource: &route.gvr.resource,
            subresource: route.subresource.as_deref().unwrap_or_default(),
            namespace: route.namespace.as_deref().unwrap_or_default(),
            name: route.name.as_deref().or(selected).unwrap_or_default(),
            path: "",
        },
    }
}

/// What a list or watch selects: who may see one object by its name may also list and watch it alone.
fn selector(asked: &Asked) -> FieldSelector {
    match &asked.route {
        Route::Resource(ResourceRoute { verb: Verb::List | Verb::Watch, .. }) => {
            asked.query.get("fieldSelector").unwrap_or_default().parse().unwrap_or_default()
        }
        Route::Resource(_) | Route::NonResource(_) => FieldSelector::default(),
    }
}

/// 429, as upstream writes it: text, from which clients make a status.
fn too_many() -> Response<ResponseBody> {
    let mut response =
        answer::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    let no_sniff = HeaderName::from_static("x-content-type-options");
    response.headers_mut().insert(no_sniff, HeaderValue::from_static("nosniff"));
    response
}

fn authenticate(server: &ApiServer, headers: &HeaderMap, connection: &Connection) -> Result<User, Status> {
    let began = Instant::now();
    let registry = server.registry.as_ref();
    let certificate = connection.certificate.as_ref();
    let user = server.authenticator.authenticate(headers, certificate, registry, Timestamp::now());
    server.metrics.authenticated(user.as_ref().ok().map(|user| user.name.as_str()), began.elapsed());
    user.map_err(|error| {
        tracing::debug!(error = &error as &dyn std::error::Error, "a request was not authenticated");
        Status::unauthorized()
    })
}

/// Authorises, and counts it.
fn allow(server: &ApiServer, attributes: &Attributes<'_>) -> Result<(), Status> {
    let began = Instant::now();
    let allowed = server.authorize(attributes);
    server.metrics.authorized(allowed.is_ok(), began.elapsed());
    allowed
}

/// The user that the headers ask for, where the asking one may act for it.
fn impersonate(server: &ApiServer, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let asked = Impersonation::read(headers).map_err(|error| Status::bad_request(error.to_string()))?;
    let Some(asked) = asked else { return Ok(user) };
    for target in asked.targets() {
        server.authorize(&Attributes {
            user: &user,
            verb: "impersonate",
            group: target.group,
            version: target.version,
            resource: target.resource,
            subresource: &target.subresource,
            namespace: &target.namespace,
            name: &target.name,
            path: "",
        })?;
    }
    Ok(asked.user())
}
