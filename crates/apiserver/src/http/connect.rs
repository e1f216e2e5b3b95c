//! Logs, exec, attach, port-forward and proxies: what reaches through to the node.

use std::sync::Arc;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sampan_api::Status;
use sampan_api::table::Subresource;
use sampan_client::node_streams::PodRef;
use serde_json::Value;

use super::ResponseBody;
use crate::ApiServer;
use crate::registry::Context;
use crate::route::ResourceRoute;
use crate::streaming::{self, CommandQuery, ContainerRef, QueryError, UpgradeResponse};

mod admit;
mod node;
mod proxy;

/// Where a pod's containers are listed.
const CONTAINERS: [&str; 3] = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];

/// Answers a request on a subresource that connects to something.
pub async fn connect(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    route: &ResourceRoute,
    subresource: &Subresource,
    context: &mut Context,
) -> Result<Response<ResponseBody>, Status> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    if subresource.name != "log" {
        admit::admit(server, route, subresource, &query, context).await?;
    }
    match (route.gvr.resource.as_ref(), subresource.name.as_ref()) {
        (_, "proxy") => proxy::proxy(server, request, route).await,
        ("pods", _) => pod(server, request, route, &query).await,
        (resource, name) => {
            Err(Status::failure(501, "NotImplemented", format!("{resource}/{name} is not implemented")))
        }
    }
}

/// Streams of a pod.
async fn pod(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    route: &ResourceRoute,
    query: &str,
) -> Result<Response<ResponseBody>, Status> {
    let subresource = route.subresource.as_deref().unwrap_or_default();
    let (namespace, name) = (route.namespace.as_deref(), route.name.as_deref().unwrap_or_default());
    let object = server.registry.get(&route.gvr, namespace, name)?;
    let value: Value = object.decode().map_err(Status::internal)?;
    let pod = PodRef {
        namespace: namespace.unwrap_or_default().to_owned(),
        name: name.to_owned(),
        uid: object.header.uid.to_string(),
    };
    match subresource {
        "log" => {
            let target = ContainerRef { container: container(&value, name, query)?, pod };
            let options = streaming::log_options(query, name)?;
            if value.pointer("/spec/nodeName").is_none() {
                return Ok(Response::new(super::answer::full("")));
            }
            let node = server.node()?;
            let response = streaming::logs(node.as_ref(), &target, options).await?;
            Ok(response.map(|body| body.map_err(std::io::Error::other).boxed_unsync()))
        }
        "exec" | "attach" => {
            let target = ContainerRef { container: container(&value, name, query)?, pod };
            require_running(&value, &target)?;
            let node = server.node()?;
            let answered = if subresource == "exec" {
                server.sessions.exec(request, node, target, parse(CommandQuery::exec(query))?)
            } else {
                server.sessions.attach(request, node, target, parse(CommandQuery::attach(query))?)
            };
            Ok(boxed(answered?))
        }
        "portforward" => {
            let ports = parse(streaming::port_list(query))?;
            Ok(boxed(server.sessions.port_forward(request, server.node()?, pod, ports)?))
        }
        _ => Err(Status::failure(501, "NotImplemented", format!("pods/{subresource} is not implemented"))),
    }
}

fn boxed(response: UpgradeResponse) -> Response<ResponseBody> {
    response.map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

fn parse<T>(parsed: Result<T, QueryError>) -> Result<T, Status> {
    parsed.map_err(|error| Status::bad_request(error.to_string()))
}

/// The container that a request means: the named one, or the only one.
fn container(pod: &Value, pod_name: &str, query: &str) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let containers = pod.pointer(list).and_then(Value::as_array).into_iter().flatten();
        containers.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
    };
    if let Some(asked) = streaming::container_of(query) {
        if CONTAINERS.into_iter().any(|list| names(list).contains(&asked)) {
            return Ok(asked);
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}")));
    }
    let main = names(CONTAINERS[0]);
    if let [only] = main.as_slice() {
        return Ok(only.clone());
    }
    let mut message =
        format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", main.join(" "));
    let init = names(CONTAINERS[1]);
    if !init.is_empty() {
        message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
    }
    Err(Status::bad_request(message))
}

fn require_running(pod: &Value, target: &ContainerRef) -> Result<(), Status> {
    if pod.pointer("/spec/nodeName").is_none() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", target.pod.name)));
    }
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(Status::bad_request(format!(
            "cannot exec into a container in a completed pod; current phase is {phase}"
        )));
    }
    Ok(())
}
