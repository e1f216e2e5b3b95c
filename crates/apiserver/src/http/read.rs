//! GET on resources: objects and lists.

use http::{HeaderMap, Response, StatusCode};
use sampan_api::Status;
use sampan_api::table::SubresourceRole;

use super::form::Included;
use super::negotiate::{Offer, accepted};
use super::options;
use super::{ResponseBody, answer, component_statuses};
use crate::ApiServer;
use crate::route::{Query, ResourceRoute};

pub async fn get(
    server: &ApiServer,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, Status> {
    if component_statuses::serves(&route.gvr) {
        return component_statuses::get(server, route, query, headers).await;
    }
    let resource = server.registry.resource(&route.gvr)?;
    let accepted = accepted(headers, query, Offer::for_route(&resource.def, route))?;
    let (namespace, name) = (route.namespace.as_deref(), route.name.as_deref().unwrap_or_default());
    match options::revision(query)? {
        None => server.registry.fresh().await?,
        Some(0) => {}
        Some(revision) => server.registry.wait_for_revision(revision).await?,
    }
    if let Some(subresource) = route.subresource.as_deref() {
        let subresource = resource.def.subresource(subresource).ok_or_else(Status::no_such_route)?;
        match &subresource.role {
            role @ SubresourceRole::Scale { .. } => {
                let scale = server.registry.scale(&resource, role, namespace, name).await?;
                return Ok(answer::value(StatusCode::OK, &scale, accepted));
            }
            SubresourceRole::Status | SubresourceRole::Part => {}
            SubresourceRole::Action | SubresourceRole::Connect => {
                return Err(Status::method_not_allowed(&route.gvr, "get"));
            }
        }
    }
    let object = server.registry.get(&route.gvr, namespace, name)?;
    let object = server.registry.in_version(&resource, object).await?;
    let included = Included::of(accepted, query)?;
    Ok(answer::object(StatusCode::OK, &resource.def, &object, accepted, included))
}

pub async fn list(
    server: &ApiServer,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, Status> {
    if component_statuses::serves(&route.gvr) {
        return component_statuses::list(server, route, query, headers).await;
    }
    let resource = server.registry.resource(&route.gvr)?;
    let accepted = accepted(headers, query, Offer::of(&resource.def))?;
    let (options, revision_match) = options::list(query)?;
    let page = server.registry.page(&resource, route.namespace.as_deref(), &options, revision_match).await?;
    answer::list(&resource.def, page, accepted, Included::of(accepted, query)?).await
}
