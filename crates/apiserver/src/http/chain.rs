//! The inner chain of every request, in upstream's order: authentication, impersonation, fairness,
//! authorisation, and then the work.

use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use sampan_api::Status;
use sampan_api::selector::FieldSelector;
use sampan_api::table::Verb;

use super::asked::Asked;
use super::{ConnectedAt, Connection, Exchange, ResponseBody, answer, non_resource, observe, resource};
use crate::aggregator;
use crate::audit::Received;
use crate::audit::policy::Stage;
use crate::fairness::{Seat, Work, work};
use crate::identity::User;
use crate::identity::authentication::Impersonation;
use crate::identity::authorization::Attributes;
use crate::identity::authorization::webhook::Opinion;
use crate::resource_metrics;
use crate::route::{ResourceRoute, Route};
use crate::streaming::Held;

/// How long a request waits for a seat that may last as long as it likes.
const WATCH_WAIT: Duration = Duration::from_secs(15);

/// Answers a request that was understood.
pub(super) async fn respond(
    exchange: &Exchange<'_>,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Status> {
    let Exchange { server, asked, observed, errors, .. } = exchange;
    let method = request.method().as_str().to_ascii_lowercase();
    let selector = selector(asked);
    let user = match authenticate(exchange, &request).await {
        Ok(user) => user,
        Err(status) => {
            let nobody = User::default();
            audit_refused(exchange, &request, &attributes(&nobody, asked, &method, &selector));
            return Err(status);
        }
    };
    audit_begin(exchange, &mut request, &attributes(&user, asked, &method, &selector))?;
    let user = impersonate(exchange, user, request.headers()).await?;
    let attributes = attributes(&user, asked, &method, &selector);
    // Logs, streams and proxied requests last, and cost this server little.
    if asked.is_long_running() && attributes.verb != "watch" {
        return authorized(exchange, request, &user, &attributes).await;
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
        Ok(seat) => seated(exchange, request, &user, &attributes, seat).await,
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
    let mut response = answered.unwrap_or_else(|status| answer::status(&status, *errors));
    classified.sign(response.headers_mut());
    Ok(response)
}

/// Answers while a seat is held: until the answer is made or, of a watch, until it has begun.
async fn seated(
    exchange: &Exchange<'_>,
    request: Request<Incoming>,
    user: &User,
    attributes: &Attributes<'_>,
    seat: Seat,
) -> Result<Response<ResponseBody>, Status> {
    let answered = authorized(exchange, request, user, attributes).await;
    match answered {
        Ok(response) if attributes.verb == "list" => Ok(observe::keep_seat(response, seat)),
        other => other,
    }
}

async fn authorized(
    exchange: &Exchange<'_>,
    mut request: Request<Incoming>,
    user: &User,
    attributes: &Attributes<'_>,
) -> Result<Response<ResponseBody>, Status> {
    let Exchange { server, asked, .. } = exchange;
    match &asked.route {
        Route::NonResource(path) => {
            allow(exchange, attributes).await?;
            if let Some(remote) = server.aggregator.remote_of_path(path) {
                return Ok(aggregator::forward(server, &remote, request, user).await);
            }
            non_resource::get(server, &request, path, &asked.query).await
        }
        Route::Resource(route) => {
            // Over WebSocket these arrive as GET. Whoever may only read must not open a shell.
            let acts = matches!(route.subresource.as_deref(), Some("exec" | "attach" | "portforward"));
            let verb = if acts { Verb::Create.as_str() } else { attributes.verb };
            allow(exchange, &Attributes { verb, ..*attributes }).await?;
            if let Some(remote) = server.aggregator.remote(&route.gvr.group, &route.gvr.version) {
                return Ok(aggregator::forward(server, &remote, request, user).await);
            }
            if resource_metrics::serves(&route.gvr) {
                return resource_metrics::answer(server, route, &asked.query, request.headers()).await;
            }
            let user = user.clone();
            let place = match route.verb {
                Verb::Watch => {
                    request.extensions_mut().insert(ConnectedAt(exchange.connection.since));
                    Some(server.watches.enter(&user.name)?)
                }
                _ => None,
            };
            let record = exchange.record.get();
            let mut response =
                resource(server, request, route.clone(), asked.query.clone(), user, record).await?;
            let deprecated = sampan_api::warnings::resource(&route.gvr);
            if let (Some(record), Some(_)) = (record, &deprecated) {
                record.annotate("k8s.io/deprecated", "true");
            }
            answer::warn(&mut response, deprecated.map(str::to_owned).as_slice());
            Ok(match place {
                Some(place) => observe::keep(response, place),
                None => response,
            })
        }
    }
}

/// Begins the record of an authenticated request, where the audit policy wants one.
fn audit_begin(
    exchange: &Exchange<'_>,
    request: &mut Request<Incoming>,
    attributes: &Attributes<'_>,
) -> Result<(), Status> {
    let Some(audit) = &exchange.server.audit else { return Ok(()) };
    let Some(record) = audit.begin(&received(exchange, request, attributes)) else { return Ok(()) };
    let kept = record.write(Stage::RequestReceived);
    if exchange.asked.is_long_running() {
        request.extensions_mut().insert(Held(record.clone()));
    }
    let _ = exchange.record.set(record);
    if kept {
        return Ok(());
    }
    audit.rejected();
    Err(Status::internal("failed to store audit event"))
}

/// Records that nobody could be found in a request's credentials: one event, and that is all.
fn audit_refused(exchange: &Exchange<'_>, request: &Request<Incoming>, attributes: &Attributes<'_>) {
    let Some(audit) = &exchange.server.audit else { return };
    if let Some(record) = audit.begin(&received(exchange, request, attributes)) {
        let tried = credentials(request.headers(), exchange.connection);
        record.unauthenticated(&tried);
    }
}

fn received<'a>(
    exchange: &'a Exchange<'_>,
    request: &'a Request<Incoming>,
    attributes: &'a Attributes<'a>,
) -> Received<'a> {
    Received {
        id: exchange.audit_id,
        uri: request.uri(),
        headers: request.headers(),
        peer: exchange.connection.peer,
        since: exchange.received.elapsed(),
        attributes,
    }
}

/// The kinds of credentials that a request has, in upstream's words.
fn credentials(headers: &HeaderMap, connection: &Connection) -> Vec<&'static str> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scheme = header.trim().split_once(' ').map(|(scheme, _)| scheme.to_ascii_lowercase());
    let mut found = Vec::new();
    match scheme.as_deref() {
        Some("basic") => found.push("basic"),
        Some("bearer") => found.push("bearer"),
        _ => {}
    }
    if connection.certificate.is_some() {
        found.push("x509");
    }
    found
}

/// What a request wants, for who decides whether it may and when.
fn attributes<'a>(
    user: &'a User,
    asked: &'a Asked,
    method: &'a str,
    selector: &'a FieldSelector,
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
            name: route.name.as_deref().or(selected_name(route, selector)).unwrap_or_default(),
            path: "",
            field_selector: Some(selector).filter(|selector| !selector.is_everything()),
        },
    }
}

/// The object to which a list or a watch is limited: who may see one object by its name may also list and
/// watch it alone.
fn selected_name<'a>(route: &ResourceRoute, selector: &'a FieldSelector) -> Option<&'a str> {
    let reads = matches!(route.verb, Verb::List | Verb::Watch);
    selector.exact("metadata.name").filter(|_| reads)
}

/// What is selected of a collection.
fn selector(asked: &Asked) -> FieldSelector {
    match &asked.route {
        Route::Resource(ResourceRoute {
            verb: Verb::List | Verb::Watch | Verb::DeleteCollection, ..
        }) => asked.query.get("fieldSelector").unwrap_or_default().parse().unwrap_or_default(),
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

async fn authenticate(exchange: &Exchange<'_>, request: &Request<Incoming>) -> Result<User, Status> {
    let server = exchange.server;
    let began = Instant::now();
    let registry = server.registry.as_ref();
    let certificate = exchange.connection.certificate.as_ref();
    let (path, headers) = (request.uri().path(), request.headers());
    let once = || server.authenticator.authenticate(path, headers, certificate, registry, Timestamp::now());
    let user = match once().await {
        Err(error) if server.catches_up(&error).await => once().await,
        user => user,
    };
    server.metrics.authenticated(user.as_ref().ok().map(|user| user.name.as_str()), began.elapsed());
    user.map_err(|error| {
        tracing::debug!(error = &error as &dyn std::error::Error, "a request was not authenticated");
        Status::unauthorized()
    })
}

/// Authorises, counts it, and notes it for the audit log.
async fn allow(exchange: &Exchange<'_>, attributes: &Attributes<'_>) -> Result<(), Status> {
    let server = exchange.server;
    let began = Instant::now();
    let opinion = server.decide_request(attributes).await;
    let (allowed, word, reason) = match &opinion {
        Opinion::Allow(reason) => (true, "allow", reason),
        Opinion::Deny(reason) | Opinion::None(reason) => (false, "forbid", reason),
    };
    server.metrics.authorized(allowed, began.elapsed());
    if let Some(record) = exchange.record.get() {
        record.annotate("authorization.k8s.io/decision", word);
        record.annotate("authorization.k8s.io/reason", reason);
    }
    if allowed { Ok(()) } else { Err(attributes.forbidden(reason)) }
}

/// The user that the headers ask for, where the asking one may act for it.
async fn impersonate(exchange: &Exchange<'_>, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let asked = Impersonation::read(headers).map_err(|error| Status::bad_request(error.to_string()))?;
    let Some(asked) = asked else { return Ok(user) };
    for target in asked.targets() {
        let needed = Attributes {
            user: &user,
            verb: "impersonate",
            group: target.group,
            version: target.version,
            resource: target.resource,
            subresource: &target.subresource,
            namespace: &target.namespace,
            name: &target.name,
            path: "",
            field_selector: None,
        };
        exchange.server.authorize_request(&needed).await?;
    }
    let user = asked.user();
    if let Some(record) = exchange.record.get() {
        record.impersonated(&user);
    }
    Ok(user)
}
