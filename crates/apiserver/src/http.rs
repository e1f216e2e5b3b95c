//! Requests over HTTP: who asks, what for, may they, and then the work.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use sampan_api::Status;
use sampan_api::table::{ResourceDef, Verb};

use crate::ApiServer;
use crate::audit;
use crate::audit::policy::Stage;
use crate::identity::User;
use crate::identity::authentication::ClientCertificate;
use crate::metrics::Observed;
use crate::registry::{BodyFormat, Context, MAX_BODY};
use crate::resource_metrics;
use crate::route::{Query, ResourceRoute, Route};

mod answer;
mod asked;
mod body;
mod chain;
mod component_statuses;
mod connect;
mod form;
pub mod fuzzing;
mod health;
mod list;
mod negotiate;
mod non_resource;
mod observe;
mod options;
mod read;
mod watch;
mod watch_limit;
mod write;
mod write_options;

pub use asked::{Asked, host_of};
pub use form::FormKey;
pub(crate) use negotiate::{Accepted, MetaVersion, Offer, Shape, accepted};
use observe::Trace;
pub use watch_limit::WatchLimit;

pub(crate) use answer::value;

pub use answer::text;

/// The body of every response.
pub type ResponseBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// How long a client may take to send a body.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// What a connection says about its client.
#[derive(Clone, Debug)]
pub struct Connection {
    pub certificate: Option<ClientCertificate>,
    /// Where it comes from.
    pub peer: Option<SocketAddr>,
    pub since: Instant,
}

/// When the connection of a watch began.
#[derive(Clone, Copy)]
struct ConnectedAt(Instant);

/// Answers one request: the outer part of the chain, which goes on in [`chain`]. Never fails: what goes wrong is a `Status`.
pub async fn handle(
    server: Arc<ApiServer>,
    request: Request<Incoming>,
    connection: &Connection,
) -> Response<ResponseBody> {
    let received = Instant::now();
    let audit_id = observe::audit_id(request.headers());
    let mut response = match Asked::read(&request) {
        Ok(asked) => answer_asked(&server, request, connection, &asked, received, &audit_id).await,
        Err(status) => {
            let accepted = negotiate::accepted_error(request.headers(), request.uri().query());
            answer::status(&status, accepted)
        }
    };
    observe::sign(&mut response, audit_id);
    response
}

/// Answers a request that was understood, within its time, and counts it.
async fn answer_asked(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    connection: &Connection,
    asked: &Asked,
    received: Instant,
    audit_id: &HeaderValue,
) -> Response<ResponseBody> {
    let metrics = &server.metrics.requests;
    let observed = metrics.begin(asked, || is_served(server, asked), received);
    let trace = Trace::begin(&request, received);
    let errors = negotiate::accepted_error(request.headers(), request.uri().query());
    let exchange = Exchange {
        server,
        connection,
        asked,
        observed: &observed,
        errors,
        received,
        audit_id,
        record: OnceLock::new(),
    };
    let answered = within_time(&exchange, request).await;
    let record = exchange.record.into_inner();
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => answer::status(&status, errors),
        Err(panic) => {
            if let Some(record) = &record {
                record.panicked(panic_message(&*panic));
            }
            let status = Status::internal("this request caused a panic; see the server's log");
            answer::status(&status, errors)
        }
    };
    let code = response.status().as_u16();
    let running = metrics.finish(observed, code, observe::size(&response));
    let response = match record {
        Some(record) => audited(response, record, asked.is_long_running()),
        None => response,
    };
    if asked.is_long_running() {
        return observe::keep(response, running);
    }
    drop(running);
    trace.end(asked, code, audit_id);
    response
}

/// Writes the record of an answer: when a long one begins, and when it ends.
fn audited(
    response: Response<ResponseBody>,
    record: Arc<audit::Record>,
    long_running: bool,
) -> Response<ResponseBody> {
    record.responded(
        response.status().as_u16(),
        response.extensions().get::<Arc<Status>>().map(|status| &**status),
    );
    if long_running {
        record.write(Stage::ResponseStarted);
    }
    audit::answer::follow(response, record, long_running)
}

/// What a panic says.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

/// What goes with a request down the chain.
struct Exchange<'a> {
    server: &'a Arc<ApiServer>,
    connection: &'a Connection,
    asked: &'a Asked,
    observed: &'a Observed,
    errors: Accepted,
    received: Instant,
    audit_id: &'a HeaderValue,
    /// What is recorded of it, where the audit policy wants that.
    record: OnceLock<Arc<audit::Record>>,
}

/// Goes down the chain, and ends what takes too long. An `Err` is a panic on the way.
async fn within_time(
    exchange: &Exchange<'_>,
    request: Request<Incoming>,
) -> std::thread::Result<Result<Response<ResponseBody>, Status>> {
    let Exchange { server, asked, observed, .. } = exchange;
    let limit = match observe::time_limit(asked) {
        Err(status) if !asked.is_long_running() => return Ok(Err(status)),
        limit => limit.ok().filter(|_| !asked.is_long_running()),
    };
    // A fault in one request must not take the connection's other requests down.
    let chain = AssertUnwindSafe(chain::respond(exchange, request)).catch_unwind();
    let Some(limit) = limit else { return chain.await };
    match tokio::time::timeout(limit, chain).await {
        Ok(answered) => answered,
        Err(_) => {
            server.metrics.requests.terminated(observed, 504);
            Ok(Err(observe::timed_out()))
        }
    }
}

/// Whether the names in a request are those of something that is served.
fn is_served(server: &ApiServer, asked: &Asked) -> bool {
    let Route::Resource(route) = &asked.route else { return true };
    if resource_metrics::serves(&route.gvr) {
        return matches!(&*route.gvr.resource, "nodes" | "pods");
    }
    server.registry.table().get_gvr(&route.gvr).is_some_and(|def| {
        route.subresource.as_deref().is_none_or(|subresource| def.subresource(subresource).is_some())
    })
}

/// The refusal of a verb that a resource does not have.
fn not_allowed(def: &ResourceDef) -> Status {
    // Only the objects of a definition that is being deleted cannot be created.
    if def.version.as_ref().is_some_and(|version| version.terminating) {
        let mut status = Status::method_not_allowed(&def.gvr, "create");
        status.message = "create not allowed while custom resource definition is terminating".to_owned();
        return status;
    }
    let message = "the server does not allow this method on the requested resource";
    Status::failure(405, "MethodNotAllowed", message)
}

async fn resource(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    route: ResourceRoute,
    query: Query,
    user: User,
    record: Option<&Arc<audit::Record>>,
) -> Result<Response<ResponseBody>, Status> {
    let table = server.registry.table();
    let def = table.get_gvr(&route.gvr).ok_or_else(Status::no_such_route)?;
    if let Some(subresource) = route.subresource.as_deref() {
        let subresource = def.subresource(subresource).ok_or_else(Status::no_such_route)?;
        if subresource.role == sampan_api::table::SubresourceRole::Connect {
            let mut context = Context::new(user);
            let errors = negotiate::accepted_error(request.headers(), request.uri().query());
            let answered = connect::connect(server, request, &route, subresource, &mut context).await;
            let mut response = answered.unwrap_or_else(|status| answer::status(&status, errors));
            answer::warn(&mut response, &context.warnings);
            note(record, &context);
            return Ok(response);
        }
    } else if !def.verbs.contains(route.verb) {
        return Err(not_allowed(def));
    }
    match route.verb {
        Verb::Get => read::get(server, &route, &query, request.headers()).await,
        Verb::List => read::list(server, &route, &query, request.headers()).await,
        Verb::Watch => watch::watch(server, &route, &query, request).await,
        Verb::Create | Verb::Update | Verb::Patch | Verb::Delete | Verb::DeleteCollection => {
            let (parts, body) = request.into_parts();
            let bytes = read_body(body).await?;
            if let Some(record) = record {
                let is_patch = route.verb == Verb::Patch;
                let format = if is_patch {
                    BodyFormat::Json
                } else {
                    negotiate::body_format(&parts.headers).unwrap_or(BodyFormat::Json)
                };
                record.request_body(&bytes, format, is_patch);
            }
            let agent = parts.headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok());
            let mut context = Context::of_agent(user, agent.unwrap_or_default());
            let (query, headers) = (&query, &parts.headers);
            // What another server acknowledged before counts here: that a namespace is there, or an object.
            let fresh = server.registry.fresh().await;
            let answered = match route.verb {
                _ if let Err(status) = fresh => Err(status),
                Verb::Create => write::create(server, &route, query, headers, bytes, &mut context).await,
                Verb::Update | Verb::Patch => {
                    write::update(server, &route, query, headers, bytes, &mut context).await
                }
                _ => write::delete(server, &route, query, headers, bytes, &mut context).await,
            };
            let mut response = answered.unwrap_or_else(|status| {
                answer::status(&status, negotiate::accepted_error(headers, parts.uri.query()))
            });
            answer::warn(&mut response, &context.warnings);
            note(record, &context);
            Ok(response)
        }
    }
}

/// Keeps what admission noted for the audit log.
fn note(record: Option<&Arc<audit::Record>>, context: &Context) {
    if let Some(record) = record {
        record.annotate_all(&context.annotations);
    }
}

/// Reads a whole body within its limits.
async fn read_body(body: Incoming) -> Result<Bytes, Status> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Status::too_large(MAX_BODY)),
        Ok(Err(error)) => Err(Status::bad_request(format!("the request body could not be read: {error}"))),
        Err(_) => Err(Status::failure(408, "Timeout", "the request body did not arrive in time")),
    }
}

#[cfg(test)]
mod tests;
