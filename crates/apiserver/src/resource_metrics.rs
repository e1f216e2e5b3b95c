//! The resource metrics API (`metrics.k8s.io/v1beta1`), for `kubectl top` and whoever scales by usage.
//!
//! Nothing is stored and nothing is measured ahead: a request has the node read what its pods use now, and
//! a rate is over the time since the reading before, from a second to half a minute (`window`, which each
//! answer tells). Who asks after a longer pause waits that one second.
//!
//! The group is aggregated like a remote server's, with one difference: it has no APIService of its own.
//! An APIService that a user makes for it (metrics-server's) is then made without a conflict (Helm refuses
//! to take over objects that it did not make), and its server answers instead of this one.

mod objects;
mod openapi;

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};
use sampan_api::selector::{FieldSelector, Selector};
use sampan_api::table::Verb;
use sampan_api::{Gvr, Status};
use sampan_client::node_usage::Window;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::aggregator::Described;
use crate::http::{Accepted, MetaVersion, Offer, ResponseBody, Shape, accepted, value};
use crate::route::{Query, ResourceRoute};

use objects::Measured;

const GROUP: &str = "metrics.k8s.io";
const VERSION: &str = "v1beta1";
const NODES: Gvr = Gvr::new("", "v1", "nodes");
const PODS: Gvr = Gvr::new("", "v1", "pods");
/// Behind every group of ours, as metrics-server's APIService has it.
const PRIORITY: i64 = 100;

/// Whether a resource is answered here, unless a remote server does.
pub fn serves(gvr: &Gvr) -> bool {
    gvr.group == GROUP && gvr.version == VERSION
}

/// What is discovered.
pub fn described() -> Described {
    let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["get", "list"]});
    let resources = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "metrics.k8s.io/v1beta1",
        "resources": [resource("nodes", "NodeMetrics", false), resource("pods", "PodMetrics", true)]});
    Described {
        group: GROUP.to_owned(),
        version: VERSION.to_owned(),
        group_priority: PRIORITY,
        version_priority: PRIORITY,
        available: true,
        resources: Some(Arc::new(resources)),
        v3: Some(openapi::v3().to_string().into()),
        v2: None,
    }
}

/// The two resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Node,
    Pod,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Node => "NodeMetrics",
            Kind::Pod => "PodMetrics",
        }
    }

    /// What errors call it.
    fn absent(self, name: &str) -> Status {
        let resource = match self {
            Kind::Node => "nodemetrics",
            Kind::Pod => "podmetrics",
        };
        Status::not_found(&Gvr::new(GROUP, VERSION, resource), name)
    }
}

/// Answers a request of somebody who may make it.
pub async fn answer(
    server: &ApiServer,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, Status> {
    let kind = match (&*route.gvr.resource, route.namespace.is_some(), route.subresource.is_some()) {
        ("nodes", false, false) => Kind::Node,
        ("pods", _, false) => Kind::Pod,
        _ => return Err(Status::no_such_route()),
    };
    let accepted = accepted(headers, query, Offer::COMPUTED)?;
    match (route.verb, route.name.as_deref()) {
        (Verb::Get, Some(name)) => {
            if kind == Kind::Pod && route.namespace.is_none() {
                return Err(Status::no_such_route());
            }
            let one = find(server, kind, route.namespace.as_deref(), name).await?;
            Ok(value(StatusCode::OK, &shaped(kind, accepted, query, &[one], false)?, accepted))
        }
        (Verb::List, None) => {
            let chosen = Chosen::read(route, query)?;
            let all = list(server, kind, &chosen).await?;
            Ok(value(StatusCode::OK, &shaped(kind, accepted, query, &all, true)?, accepted))
        }
        _ => Err(Status::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    }
}

/// Which objects a list is of.
struct Chosen {
    namespace: Option<String>,
    labels: Selector,
    fields: FieldSelector,
}

impl Chosen {
    fn read(route: &ResourceRoute, query: &Query) -> Result<Chosen, Status> {
        let labels: Result<Selector, _> = query.get("labelSelector").unwrap_or_default().parse();
        let fields: Result<FieldSelector, _> = query.get("fieldSelector").unwrap_or_default().parse();
        Ok(Chosen {
            namespace: route.namespace.clone(),
            labels: labels.map_err(|error| Status::bad_request(error.to_string()))?,
            fields: fields.map_err(|error| Status::bad_request(error.to_string()))?,
        })
    }

    fn takes(&self, one: &Measured) -> bool {
        let field = |name: &str| match name {
            "metadata.name" => Some(one.name.as_str()),
            "metadata.namespace" => Some(one.namespace.as_deref().unwrap_or_default()),
            _ => None,
        };
        self.namespace.as_deref().is_none_or(|namespace| one.namespace.as_deref() == Some(namespace))
            && self.labels.matches(|key| one.labels.get(key).and_then(Value::as_str))
            && self.fields.matches(field)
    }
}

async fn window(server: &ApiServer) -> Result<Window, Status> {
    server.usage()?.window().await
}

async fn list(server: &ApiServer, kind: Kind, chosen: &Chosen) -> Result<Vec<Measured>, Status> {
    let window = window(server).await?;
    let all = match kind {
        Kind::Node => {
            objects::node(&window, |name| labels(server, &NODES, None, name, None)).into_iter().collect()
        }
        Kind::Pod => objects::pods(&window, |pod| {
            labels(server, &PODS, Some(&pod.namespace), &pod.name, Some(&pod.uid))
        }),
    };
    Ok(all.into_iter().filter(|one| chosen.takes(one)).collect())
}

async fn find(
    server: &ApiServer,
    kind: Kind,
    namespace: Option<&str>,
    name: &str,
) -> Result<Measured, Status> {
    let (gvr, shown) = match kind {
        Kind::Node => (&NODES, name.to_owned()),
        Kind::Pod => (&PODS, format!("{}/{name}", namespace.unwrap_or_default())),
    };
    let absent = || kind.absent(&shown);
    // Nobody measures for what is not there.
    server.registry.get(gvr, namespace, name).map_err(|_| absent())?;
    let chosen = Chosen {
        namespace: namespace.map(str::to_owned),
        labels: Selector::everything(),
        fields: FieldSelector::default(),
    };
    let all = list(server, kind, &chosen).await?;
    all.into_iter().find(|one| one.name == name).ok_or_else(absent)
}

/// The labels of what was measured; `None` where the API knows it no longer.
fn labels(
    server: &ApiServer,
    gvr: &Gvr,
    namespace: Option<&str>,
    name: &str,
    uid: Option<&str>,
) -> Option<serde_json::Map<String, Value>> {
    let object = server.registry.get(gvr, namespace, name).ok()?;
    if uid.is_some_and(|uid| *object.header.uid != *uid) {
        return None;
    }
    let labels = object.header.labels.iter();
    Some(labels.map(|(key, value)| (key.to_string(), Value::from(value.to_string()))).collect())
}

/// The body, in the shape that the client asked for.
fn shaped(
    kind: Kind,
    accepted: Accepted,
    query: &Query,
    all: &[Measured],
    is_list: bool,
) -> Result<Value, Status> {
    let of_meta = |version: MetaVersion, kind: &str, items: Vec<Value>| json!({"kind": kind, "apiVersion": version.api_version(), "metadata": {}, "items": items});
    let metadata = |version: MetaVersion| all.iter().map(|one| one.partial(version.api_version())).collect();
    Ok(match (accepted.shape, all, is_list) {
        (Shape::Table(version), _, _) => {
            objects::table(version.api_version(), all, query.get("includeObject").unwrap_or_default())
        }
        (Shape::Object, [one], false) => one.value.clone(),
        (Shape::Object, _, _) => {
            let items: Vec<&Value> = all.iter().map(|one| &one.value).collect();
            json!({"kind": format!("{}List", kind.name()), "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {}, "items": items})
        }
        (Shape::Metadata(version), [one], false) => one.partial(version.api_version()),
        (Shape::MetadataList(version), _, true) => {
            of_meta(version, "PartialObjectMetadataList", metadata(version))
        }
        (Shape::Metadata(_) | Shape::MetadataList(_), _, _) => {
            let message = "only the following media types are accepted: application/json, application/yaml";
            return Err(Status::failure(406, "NotAcceptable", message));
        }
    })
}
