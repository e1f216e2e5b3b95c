//! `pods/proxy`, `services/proxy` and `nodes/proxy`: HTTP to what runs in the cluster.

use std::sync::Arc;

use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use rand::seq::IndexedRandom;
use sampan_api::{Gvr, Status};
use serde_json::Value;

use super::super::{ResponseBody, answer};
use crate::ApiServer;
use crate::proxy::{self, Manner, Target};
use crate::route::ResourceRoute;

pub(super) const PODS: Gvr = Gvr::new("", "v1", "pods");
const SERVICES: Gvr = Gvr::new("", "v1", "services");
const ENDPOINTS: Gvr = Gvr::new("", "v1", "endpoints");

/// Answers a request below a `proxy` subresource.
pub async fn proxy(
    server: &Arc<ApiServer>,
    request: Request<Incoming>,
    route: &ResourceRoute,
) -> Result<Response<ResponseBody>, Status> {
    let name = route.name.as_deref().unwrap_or_default();
    let namespace = route.namespace.as_deref().unwrap_or_default();
    let uri = request.uri().clone();
    let (prefix, rest) = split_path(uri.path());
    if rest.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
        return redirect(&uri);
    }
    let (scheme, authority) = match route.gvr.resource.as_ref() {
        "pods" => pod(server, namespace, name)?,
        "services" => service(server, namespace, name)?,
        _ => {
            let node = split_name(name)
                .ok_or_else(|| Status::bad_request(format!("invalid node request {name:?}")))?;
            return super::node::answer(server, node.1, rest, &request).await;
        }
    };
    let path = if rest.is_empty() { "/" } else { rest };
    let path = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let target = Target {
        client: &server.proxies,
        upgrades: &server.proxies,
        scheme,
        authority: authority.parse().map_err(|_| Status::bad_request("address not allowed"))?,
        path: path.parse::<PathAndQuery>().map_err(|error| Status::bad_request(error.to_string()))?,
        manner: Manner::Beneath { prefix: prefix.to_owned() },
    };
    proxy::forward(&server.sessions, request, &target).await.map_err(|error| error.status())
}

/// The path up to and with `proxy`, and what follows it.
fn split_path(path: &str) -> (&str, &str) {
    // /api/v1/nodes/<name>/proxy, /api/v1/namespaces/<namespace>/<resource>/<name>/proxy
    let named = if path.trim_start_matches('/').starts_with("api/v1/namespaces/") { 7 } else { 5 };
    let mut parts = 0;
    let mut inside = false;
    for (at, byte) in path.bytes().enumerate() {
        match (inside, byte) {
            (true, b'/') if parts == named => return path.split_at(at),
            (true, b'/') => inside = false,
            (false, other) if other != b'/' => {
                inside = true;
                parts += 1;
            }
            _ => {}
        }
    }
    (path, "")
}

/// Links of a page are relative to its directory: the root has a slash at its end.
fn redirect(uri: &http::Uri) -> Result<Response<ResponseBody>, Status> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(answer::full(""));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let place = format!("{}/{query}", uri.path()).parse().map_err(Status::internal)?;
    response.headers_mut().insert(http::header::LOCATION, place);
    Ok(response)
}

/// `name`, `name:port` or `scheme:name:port`.
fn split_name(text: &str) -> Option<(Scheme, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name] if !name.is_empty() => Some((Scheme::HTTP, name, "")),
        [name, port] if !name.is_empty() => Some((Scheme::HTTP, name, port)),
        ["" | "http", name, port] if !name.is_empty() => Some((Scheme::HTTP, name, port)),
        ["https", name, port] if !name.is_empty() => Some((Scheme::HTTPS, name, port)),
        _ => None,
    }
}

fn host_port(host: &str, port: &str) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port.is_empty() { host } else { format!("{host}:{port}") }
}

fn pod(server: &ApiServer, namespace: &str, name: &str) -> Result<(Scheme, String), Status> {
    let invalid = || Status::bad_request(format!("invalid pod request {name:?}"));
    let (scheme, pod_name, port) = split_name(name).ok_or_else(invalid)?;
    let pod: Value =
        server.registry.get(&PODS, Some(namespace), pod_name)?.decode().map_err(Status::internal)?;
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let first = containers
        .into_iter()
        .flatten()
        .find_map(|container| container.pointer("/ports/0/containerPort").and_then(Value::as_u64));
    let port = match (port, first) {
        ("", Some(first)) => first.to_string(),
        (port, _) => port.to_owned(),
    };
    let address = pod.pointer("/status/podIP").and_then(Value::as_str).unwrap_or_default();
    if !is_allowed(address) {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok((scheme, host_port(address, &port)))
}

/// Whether an address may be a pod's: not this machine's own loopback, nor a link's.
fn is_allowed(address: &str) -> bool {
    match address.parse() {
        Ok(std::net::IpAddr::V4(ip)) => {
            !(ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_unspecified()
                || ip.is_broadcast())
        }
        Ok(std::net::IpAddr::V6(ip)) => {
            !(ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || ip.is_unicast_link_local())
        }
        Err(_) => false,
    }
}

fn service(server: &ApiServer, namespace: &str, name: &str) -> Result<(Scheme, String), Status> {
    let registry = &server.registry;
    let invalid = || Status::bad_request(format!("invalid service request {name:?}"));
    let (scheme, service_name, port) = split_name(name).ok_or_else(invalid)?;
    let mut port = port.to_owned();
    if let Ok(number) = port.parse::<u64>() {
        let service: Value =
            registry.get(&SERVICES, Some(namespace), service_name)?.decode().map_err(Status::internal)?;
        port = port_name(&service, number).ok_or_else(|| {
            Status::unavailable(format!("no service port {number} found for service {service_name:?}"))
        })?;
    }
    let endpoints: Value =
        registry.get(&ENDPOINTS, Some(namespace), service_name)?.decode().map_err(Status::internal)?;
    let subsets = endpoints["subsets"].as_array().map(Vec::as_slice).unwrap_or_default();
    if subsets.is_empty() {
        return Err(Status::unavailable(format!("no endpoints available for service {service_name:?}")));
    }
    // Only what is a pod: an address that somebody wrote there may be anything.
    let is_pod = |address: &&Value| {
        let target = &address["targetRef"];
        let of = target["namespace"].as_str().unwrap_or(namespace);
        let pod_name = target["name"].as_str().unwrap_or_default();
        target["kind"] == "Pod"
            && address["ip"].as_str().is_some_and(is_allowed)
            && registry.get(&PODS, Some(of), pod_name).is_ok_and(|pod| has_address(&pod, &address["ip"]))
    };
    let candidates: Vec<String> = places(subsets, &port)
        .filter(|(address, _)| is_pod(address))
        .map(|(address, port)| host_port(address["ip"].as_str().unwrap_or_default(), &port.to_string()))
        .collect();
    let chosen = candidates.choose(&mut rand::rng()).cloned();
    let chosen =
        chosen.ok_or_else(|| Status::unavailable(format!("no endpoints available for service {name:?}")))?;
    Ok((scheme, chosen))
}

fn has_address(pod: &sampan_api::object::ObjectRef, ip: &Value) -> bool {
    let Ok(pod) = pod.decode::<Value>() else { return false };
    let all = pod.pointer("/status/podIPs").and_then(Value::as_array).into_iter().flatten();
    let mut all = all.map(|one| &one["ip"]).chain([&pod["status"]["podIP"]]);
    all.any(|one| one == ip)
}

fn port_name(service: &Value, number: u64) -> Option<String> {
    let ports = service.pointer("/spec/ports")?.as_array()?;
    let port = ports.iter().find(|port| port["port"].as_u64() == Some(number))?;
    Some(port["name"].as_str().unwrap_or_default().to_owned())
}

/// Ready addresses, each with the number of the port of that name.
fn places<'a>(subsets: &'a [Value], port: &'a str) -> impl Iterator<Item = (&'a Value, u64)> {
    subsets.iter().flat_map(move |subset| {
        let ports = subset["ports"].as_array().into_iter().flatten();
        let number = ports
            .filter(|one| one["name"].as_str().unwrap_or_default() == port)
            .find_map(|one| one["port"].as_u64());
        let addresses = subset["addresses"].as_array().into_iter().flatten();
        number.into_iter().flat_map(move |number| addresses.clone().map(move |address| (address, number)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_split_after_the_subresource() {
        let check =
            |path: &str, prefix: &str, rest: &str| assert_eq!(split_path(path), (prefix, rest), "{path}");
        let service = "/api/v1/namespaces/n/services/https:s:443/proxy";
        check(service, service, "");
        check(&format!("{service}/"), service, "/");
        check(&format!("{service}/a%2Fb//c/"), service, "/a%2Fb//c/");
        check("/api/v1/nodes/n/proxy/pods", "/api/v1/nodes/n/proxy", "/pods");
        check(
            "/api/v1/namespaces/n/pods/proxy/proxy/proxy/x",
            "/api/v1/namespaces/n/pods/proxy/proxy",
            "/proxy/x",
        );
    }

    #[test]
    fn names_may_carry_a_scheme_and_a_port() {
        let check = |text: &str, expected: Option<(Scheme, &str, &str)>| {
            assert_eq!(split_name(text), expected, "{text}")
        };
        check("a", Some((Scheme::HTTP, "a", "")));
        check("a:80", Some((Scheme::HTTP, "a", "80")));
        check("https:a:web", Some((Scheme::HTTPS, "a", "web")));
        check("https:a:", Some((Scheme::HTTPS, "a", "")));
        check("ftp:a:21", None);
        check(":80", None);
        check("", None);
    }

    #[test]
    fn addresses_have_the_number_of_the_named_port() {
        let subsets = [
            json!({"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"name": "a", "port": 80}]}),
            json!({"notReadyAddresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "a", "port": 80}]}),
            json!({"addresses": [{"ip": "10.0.0.4"}], "ports": [{"name": "b", "port": 81}]}),
        ];
        let found: Vec<String> =
            places(&subsets, "a").map(|(at, port)| format!("{}:{port}", at["ip"])).collect();
        assert_eq!(found, ["\"10.0.0.1\":80", "\"10.0.0.2\":80"]);
    }
}
