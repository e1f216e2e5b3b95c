//! POST, PUT, PATCH and DELETE on resources.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use sampan_api::status::StatusDetails;
use sampan_api::table::{SubresourceRole, Verb};
use sampan_api::{Gvr, Status};
use sampan_client::{DeleteOptions, PatchKind};
use serde_json::Value;

use super::ResponseBody;
use super::answer;
use super::form::Included;
use super::negotiate::{Accepted, Offer, accepted, body_format, patch_kind};
use super::write_options::{authorize_creation, check_apply, write_options};
use crate::ApiServer;
use crate::registry::{Body, BodyFormat, Context, Deleted, Part, Place, decode_value, read_delete_options};
use crate::route::{Query, ResourceRoute};

const PODS: Gvr = Gvr::new("", "v1", "pods");

fn offered(
    server: &ApiServer,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Accepted, Status> {
    let table = server.registry.table();
    let def = table.get_gvr(&route.gvr).ok_or_else(Status::no_such_route)?;
    accepted(headers, query, Offer::for_route(def, route))
}

pub async fn create(
    server: &Arc<ApiServer>,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
    bytes: Bytes,
    context: &mut Context,
) -> Result<Response<ResponseBody>, Status> {
    let accepted = offered(server, route, query, headers)?;
    context.options = write_options(query, "CreateOptions")?;
    let body = Body { bytes, format: body_format(headers)? };
    let (namespace, name) = (route.namespace.as_deref(), route.name.as_deref());
    if let Some(answered) = crate::reviews::create(server, route, &body, context).await? {
        return Ok(answer::value(StatusCode::CREATED, &answered, accepted));
    }
    if route.gvr == Gvr::new("", "v1", "bindings") {
        let binding = decode_value(&body)?.value;
        let pods = server.registry.resource(&PODS)?;
        let pod = binding.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let answered = server.registry.bind(&pods, namespace, pod, &binding, context).await?;
        return Ok(answer::value(StatusCode::CREATED, &answered, accepted));
    }
    let resource = server.registry.resource(&route.gvr)?;
    if let Some(subresource) = route.subresource.as_deref() {
        let subresource = resource.def.subresource(subresource).ok_or_else(Status::no_such_route)?;
        if subresource.role != SubresourceRole::Action {
            return Err(Status::method_not_allowed(&route.gvr, "create"));
        }
        let name = name.unwrap_or_default();
        let answered = server.registry.act(&resource, subresource, namespace, name, &body, context).await?;
        return Ok(answer::value(StatusCode::CREATED, &answered, accepted));
    }
    if name.is_some() {
        return Err(Status::method_not_allowed(&route.gvr, "POST"));
    }
    let namespace = scope(&resource.def.namespaced, namespace)?;
    let object = server.registry.create(&resource, namespace, &body, context).await?;
    Ok(answer::object(StatusCode::CREATED, &resource.def, &object, accepted, Included::of(accepted, query)?))
}

/// A namespaced object needs a namespace in the path, another one must have none.
fn scope<'a>(namespaced: &bool, namespace: Option<&'a str>) -> Result<Option<&'a str>, Status> {
    match (namespaced, namespace) {
        (true, None) => Err(Status::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
        (false, Some(_)) => Err(Status::no_such_route()),
        (_, namespace) => Ok(namespace),
    }
}

pub async fn update(
    server: &ApiServer,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
    bytes: Bytes,
    context: &mut Context,
) -> Result<Response<ResponseBody>, Status> {
    let accepted = offered(server, route, query, headers)?;
    let patch = (route.verb == Verb::Patch).then(|| patch_kind(headers)).transpose()?;
    context.options = write_options(query, if patch.is_some() { "PatchOptions" } else { "UpdateOptions" })?;
    if let Some(kind) = patch {
        check_apply(kind, query)?;
    }
    // Patches are JSON, whatever their media type says about their meaning.
    let format = if patch.is_some() { BodyFormat::Json } else { body_format(headers)? };
    let body = Body { bytes, format };
    let resource = server.registry.resource(&route.gvr)?;
    let Some(name) = route.name.as_deref() else {
        return Err(Status::method_not_allowed(&route.gvr, "update"));
    };
    let namespace =
        scope(&resource.def.namespaced, route.namespace.as_deref().filter(|_| resource.def.namespaced))?;
    if let Some(subresource) = route.subresource.as_deref() {
        let subresource = resource.def.subresource(subresource).ok_or_else(Status::no_such_route)?;
        match &subresource.role {
            role @ SubresourceRole::Scale { .. } => {
                let scale = server
                    .registry
                    .write_scale(&resource, role, namespace, name, patch, &body, context)
                    .await?;
                return Ok(answer::value(StatusCode::OK, &scale, accepted));
            }
            SubresourceRole::Status | SubresourceRole::Part => {}
            SubresourceRole::Action | SubresourceRole::Connect => {
                return Err(Status::method_not_allowed(&route.gvr, "update"));
            }
        }
    }
    let place = Place { namespace, name, part: Part::of(route.subresource.as_deref()) };
    let existed = resource.cache.get(&resource.key(namespace, name)).is_some();
    if patch == Some(PatchKind::Apply) && !existed && place.part == Part::Main {
        authorize_creation(server, route, context, name).await?;
    }
    let object = match patch {
        Some(kind) => server.registry.patch(&resource, place, kind, &body, context).await?,
        None => server.registry.update(&resource, place, &body, context).await?,
    };
    let code = if existed { StatusCode::OK } else { StatusCode::CREATED };
    Ok(answer::object(code, &resource.def, &object, accepted, Included::of(accepted, query)?))
}

pub async fn delete(
    server: &ApiServer,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
    bytes: Bytes,
    context: &mut Context,
) -> Result<Response<ResponseBody>, Status> {
    let accepted = offered(server, route, query, headers)?;
    context.options = write_options(query, "DeleteOptions")?;
    let options = delete_options(query, headers, bytes, context)?;
    let resource = server.registry.resource(&route.gvr)?;
    if route.subresource.is_some() {
        return Err(Status::method_not_allowed(&route.gvr, "delete"));
    }
    let namespace = route.namespace.as_deref().filter(|_| resource.def.namespaced);
    let Some(name) = route.name.as_deref() else {
        let (selection, _) = super::options::list(query)?;
        let items =
            server.registry.delete_collection(&resource, namespace, &selection, &options, context).await?;
        let page = crate::registry::Page {
            items,
            revision: server.registry.caches.revision(),
            continue_token: None,
            remaining: None,
        };
        return answer::list(&resource.def, page, accepted, Included::Metadata).await;
    };
    let namespace = scope(&resource.def.namespaced, namespace)?;
    let deleted = server.registry.delete(&resource, namespace, name, &options, context).await?;
    match deleted {
        Deleted::Waits(object) => {
            Ok(answer::object(StatusCode::OK, &resource.def, &object, accepted, Included::Metadata))
        }
        Deleted::Gone(object) if resource.def.deletion_shows_object() => {
            Ok(answer::object(StatusCode::OK, &resource.def, &object, accepted, Included::Metadata))
        }
        Deleted::Gone(object) => {
            let mut status = Status::success();
            status.code = 0;
            status.details = Some(StatusDetails {
                name: name.to_owned(),
                group: resource.def.gvr.group.to_string(),
                kind: resource.def.gvr.resource.to_string(),
                uid: object.header.uid.to_string(),
                ..StatusDetails::default()
            });
            Ok(answer::status_with(StatusCode::OK, &status, accepted))
        }
    }
}

/// Options from the body, where there is one, and from the query.
fn delete_options(
    query: &Query,
    headers: &HeaderMap,
    bytes: Bytes,
    context: &mut Context,
) -> Result<DeleteOptions, Status> {
    let mut options = if bytes.is_empty() {
        DeleteOptions::default()
    } else {
        let body = decode_value(&Body { bytes, format: body_format(headers)? })?.value;
        if body["dryRun"].as_array().is_some_and(|values| values.iter().any(|value| value == "All")) {
            context.options.dry_run = true;
        }
        read_delete_options(&body)?
    };
    if let Some(text) = query.get("gracePeriodSeconds") {
        let seconds: i64 = text.parse().ok().filter(|seconds| *seconds >= 0).ok_or_else(|| {
            Status::bad_request(format!(
                "gracePeriodSeconds: Invalid value: \"{text}\": must be a number of at least 0"
            ))
        })?;
        options.grace_period_seconds = Some(seconds);
    }
    if let Some(policy) = query.get("propagationPolicy") {
        let from_query = serde_json::json!({"propagationPolicy": policy});
        options.propagation_policy = read_delete_options(&from_query)?.propagation_policy;
    }
    Ok(options)
}
