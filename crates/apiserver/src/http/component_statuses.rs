//! `componentstatuses`: deprecated since 1.19, still served, and never stored. What is asked is what the
//! readiness checks ask.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use sampan_api::object::{Object, ObjectRef};
use sampan_api::selector::{FieldSelector, Selector};
use sampan_api::{Gvr, Status};
use serde_json::{Value, json};

use super::form::Included;
use super::negotiate::{Offer, accepted};
use super::{ResponseBody, answer, health};
use crate::ApiServer;
use crate::registry::Page;
use crate::route::{Query, ResourceRoute};

/// The components by upstream's names, with the parts of this process that they are.
const COMPONENTS: [(&str, &str); 2] = [("controller-manager", "controllers"), ("scheduler", "scheduler")];
const STORE: &str = "etcd-0";

/// Whether a route is answered here.
pub fn serves(gvr: &Gvr) -> bool {
    gvr.group.is_empty() && gvr.resource == "componentstatuses"
}

pub async fn get(
    server: &ApiServer,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, Status> {
    let table = server.registry.table();
    let def = table.get_gvr(&route.gvr).ok_or_else(Status::no_such_route)?;
    let accepted = accepted(headers, query, Offer::BUILT_IN)?;
    let name = route.name.as_deref().unwrap_or_default();
    let all = all(server).await?;
    let found = all.iter().find(|object| *object.header.name == *name);
    let object = found.ok_or_else(|| Status::not_found(&route.gvr, name))?;
    Ok(answer::object(StatusCode::OK, def, object, accepted, Included::of(accepted, query)?))
}

pub async fn list(
    server: &ApiServer,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, Status> {
    let table = server.registry.table();
    let def = table.get_gvr(&route.gvr).ok_or_else(Status::no_such_route)?;
    let accepted = accepted(headers, query, Offer::BUILT_IN)?;
    let refused = |error: &dyn std::error::Error| Status::bad_request(error.to_string());
    let labels: Selector =
        query.get("labelSelector").unwrap_or_default().parse().map_err(|error| refused(&error))?;
    let fields: FieldSelector =
        query.get("fieldSelector").unwrap_or_default().parse().map_err(|error| refused(&error))?;
    let mut items = all(server).await?;
    items.retain(|object| {
        let field = |name: &str| (name == "metadata.name").then_some(&*object.header.name);
        labels.matches(|_| None) && fields.matches(field)
    });
    let page = Page { items, revision: 0, continue_token: None, remaining: None };
    answer::list(def, page, accepted, Included::of(accepted, query)?).await
}

async fn all(server: &ApiServer) -> Result<Vec<ObjectRef>, Status> {
    let gates = server.health.gates();
    let of_gate = |part: &str| gates.iter().find(|(name, _)| *name == part).map(|(_, open)| *open);
    let mut found: Vec<(&str, Option<String>)> = COMPONENTS
        .iter()
        .filter_map(|(name, part)| Some((*name, (!of_gate(part)?).then(|| health::NOT_READY.to_owned()))))
        .collect();
    found.push((STORE, health::store_failure(server).await));
    found.sort_unstable();
    found.into_iter().map(|(name, failure)| object(name, failure)).collect()
}

fn object(name: &str, failure: Option<String>) -> Result<ObjectRef, Status> {
    let condition: Value = match failure {
        None => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Some(why) => json!({"type": "Healthy", "status": "False", "message": why, "error": why}),
    };
    let value = json!({"kind": "ComponentStatus", "apiVersion": "v1",
        "metadata": {"name": name, "creationTimestamp": null}, "conditions": [condition]});
    Object::parse(Bytes::from(value.to_string())).map(Into::into).map_err(Status::internal)
}
