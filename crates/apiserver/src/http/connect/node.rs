//! `nodes/proxy`: what of a kubelet's own API this node can say.
//!
//! Health, the pods, their containers' logs, the metrics of the process, which is the node's as well, and what
//! is used: `/metrics/resource`, `/metrics/cadvisor`, `/stats/summary`. That is read when it is asked for.

mod cadvisor;
mod resource_metrics;
mod summary;

use std::sync::Arc;

use http::header::ACCEPT;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use sampan_api::{Gvr, Status};
use sampan_base::metrics::{Exposition, Format};
use sampan_client::node_streams::PodRef;
use sampan_client::node_usage::Reading;
use serde_json::{Value, json};

use super::super::{ResponseBody, answer as answers};
use super::proxy::PODS;
use super::{CONTAINERS, ContainerRef};
use crate::ApiServer;
use crate::route::Query;
use crate::streaming;

/// Answers a request for a path below a node.
pub async fn answer(
    server: &ApiServer,
    name: &str,
    path: &str,
    request: &Request<Incoming>,
) -> Result<Response<ResponseBody>, Status> {
    server.registry.get(&Gvr::new("", "v1", "nodes"), None, name)?;
    server.node()?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Status::failure(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ));
    }
    let path = path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        ["healthz"] => Ok(answers::text(StatusCode::OK, "ok")),
        ["pods"] => {
            let json = HeaderValue::from_static("application/json");
            Ok(answers::with_type(StatusCode::OK, json, pods_of(server, name)?.to_string()))
        }
        ["metrics"] => Ok(exposition(request, |format| server.metrics.encode(format))),
        ["metrics", part @ ("resource" | "cadvisor")] => {
            let reading = of_node(name, server.usage()?.reading().await?)?;
            Ok(exposition(request, |format| {
                let mut out = Exposition::new(format);
                match *part {
                    "resource" => resource_metrics::write(&reading, &mut out),
                    _ => cadvisor::write(&reading, &mut out),
                }
                out.finish()
            }))
        }
        ["stats", "summary"] => {
            let window = server.usage()?.window().await?;
            of_node(name, window.now.clone())?;
            let brief =
                Query::parse(request.uri().query().unwrap_or_default()).flag("only_cpu_and_memory")?;
            let document = if brief { summary::brief(&window) } else { summary::document(&window) };
            let json = HeaderValue::from_static("application/json");
            Ok(answers::with_type(StatusCode::OK, json, document.to_string()))
        }
        ["containerLogs", namespace, pod, container] => {
            let part = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
            let query = request.uri().query().unwrap_or_default();
            logs(server, name, [part(namespace), part(pod), part(container)], query).await
        }
        _ => {
            let mut status =
                Status::failure(404, "NotFound", format!("node {name:?} does not serve {path:?}"));
            status.details = Some(Default::default());
            Err(status)
        }
    }
}

/// A reading, where it is of the node that was asked for.
fn of_node(name: &str, reading: Arc<Reading>) -> Result<Arc<Reading>, Status> {
    if reading.node == name {
        return Ok(reading);
    }
    Err(Status::unavailable(format!("node {name:?} cannot be reached from here")))
}

/// Metrics in the format that the client prefers.
fn exposition(request: &Request<Incoming>, write: impl FnOnce(Format) -> String) -> Response<ResponseBody> {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::negotiate(accept.unwrap_or_default());
    answers::with_type(StatusCode::OK, HeaderValue::from_static(format.content_type()), write(format))
}

/// The log of a container of a pod on this node.
async fn logs(
    server: &ApiServer,
    node: &str,
    [namespace, name, container]: [String; 3],
    query: &str,
) -> Result<Response<ResponseBody>, Status> {
    let absent = |what: String| Status::failure(404, "NotFound", what);
    let object = server
        .registry
        .get(&PODS, Some(&namespace), &name)
        .map_err(|_| absent(format!("pod {name:?} does not exist")))?;
    let pod: Value = object.decode().map_err(Status::internal)?;
    if pod.pointer("/spec/nodeName").and_then(Value::as_str) != Some(node) {
        return Err(absent(format!("pod {name:?} does not exist")));
    }
    let known = |list: &str| {
        let containers = pod.pointer(list).and_then(Value::as_array);
        containers.into_iter().flatten().any(|one| one["name"] == *container)
    };
    if !CONTAINERS.into_iter().any(known) {
        return Err(absent(format!("container {container:?} not found in pod {name:?}")));
    }
    let options = streaming::log_options(query, &name)?;
    let pod = PodRef { namespace, name, uid: object.header.uid.to_string() };
    let target = ContainerRef { container, pod };
    let response = streaming::logs(server.node()?.as_ref(), &target, options).await?;
    Ok(response.map(|body| body.map_err(std::io::Error::other).boxed_unsync()))
}

fn pods_of(server: &ApiServer, node: &str) -> Result<Value, Status> {
    let mut items = Vec::new();
    for pod in server.registry.resource(&PODS)?.cache.snapshot().0.values() {
        let value: Value = pod.decode().map_err(Status::internal)?;
        if value.pointer("/spec/nodeName").and_then(Value::as_str) == Some(node) {
            items.push(value);
        }
    }
    Ok(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

#[cfg(test)]
mod tests;
