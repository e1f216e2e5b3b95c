//! What extends a cluster, for tests: admission webhooks and an aggregated API, in one server.
//!
//! `sampan-testkit-extension PORT CERTIFICATE KEY` speaks HTTPS. Every review is printed as one line:
//! operation, resource, name, whether it is a dry run, and who asks.
//!
//! - `POST /label` adds the label `labelled=yes`, and warns.
//! - `POST /deny` denies what is named `denied…`.
//! - `POST /slow` never answers.
//! - `POST /convert` converts custom resources: `v1` has a `hostPort`, where `v2` has a `host` and a `port`.
//!   It refuses a host that is called `refused`.
//! - `/apis/extension.example.com/v1` has the resource `flowers`, read only; what is asked for one of them
//!   is answered with the identity that the request was forwarded under.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const MAX_BODY: usize = 8 << 20;
const GROUP: &str = "extension.example.com";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, certificate, key] = arguments.as_slice() else { anyhow::bail!("usage: PORT CERTIFICATE KEY") };
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>().context("the certificate")?;
    let key = PrivateKeyDer::from_pem_file(key).context("the key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(("0.0.0.0", port.parse()?)).await?;
    println!("listening on {port}");
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that breaks off is its own problem.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(plain(StatusCode::BAD_REQUEST, &error.to_string())),
    };
    let path = head.uri.path();
    Ok(match path {
        "/label" | "/deny" => match serde_json::from_slice(&body) {
            Ok(review) => reply(&judge(path, &review)),
            Err(error) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        "/convert" => match serde_json::from_slice(&body) {
            Ok(review) => reply(&convert(&review)),
            Err(error) => plain(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        "/slow" => std::future::pending().await,
        _ => match document(path, &head.headers) {
            Some(document) => reply(&document),
            None => plain(StatusCode::NOT_FOUND, "no such path"),
        },
    })
}

fn plain(code: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = code;
    response
}

fn reply(document: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(document.to_string()));
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

/// The answer to an `AdmissionReview`.
fn judge(path: &str, review: &Value) -> Value {
    let request = &review["request"];
    let text = |pointer: &str| request.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = text("/name");
    let mut resource = format!("{}/{}", text("/resource/version"), text("/resource/resource"));
    if !text("/subResource").is_empty() {
        resource.push_str(&format!("/{}", text("/subResource")));
    }
    println!(
        "{path} {} {resource} {name} dryRun={} user={} kind={} old={}",
        text("/operation"),
        request["dryRun"],
        text("/userInfo/username"),
        text("/kind/kind"),
        !request["oldObject"].is_null(),
    );
    let mut response = json!({"uid": request["uid"], "allowed": true});
    if path == "/label" && request["object"]["metadata"].is_object() {
        let has_labels = request.pointer("/object/metadata/labels").is_some();
        let patch = if has_labels {
            json!([{"op": "add", "path": "/metadata/labels/labelled", "value": "yes"}])
        } else {
            json!([{"op": "add", "path": "/metadata/labels", "value": {"labelled": "yes"}}])
        };
        response["patch"] = STANDARD.encode(patch.to_string()).into();
        response["patchType"] = "JSONPatch".into();
        response["warnings"] = json!(["labelled by a webhook"]);
    }
    if path == "/deny" && name.starts_with("denied") {
        response["allowed"] = false.into();
        response["status"] =
            json!({"message": format!("{name} is not wanted"), "code": 403, "reason": "Forbidden"});
    }
    json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response})
}

/// The answer to a `ConversionReview`.
fn convert(review: &Value) -> Value {
    let request = &review["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = request["objects"].as_array().map_or(&[][..], Vec::as_slice);
    println!("/convert {} to {wanted}", objects.len());
    let converted: Result<Vec<Value>, String> =
        objects.iter().map(|object| converted(object.clone(), wanted)).collect();
    let (result, converted) = match converted {
        Ok(converted) => (json!({"status": "Success"}), converted),
        Err(message) => (json!({"status": "Failure", "message": message}), Vec::new()),
    };
    json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview",
        "response": {"uid": request["uid"], "result": result, "convertedObjects": converted}})
}

fn converted(mut object: Value, wanted: &str) -> Result<Value, String> {
    if object["apiVersion"] == wanted {
        return Ok(object);
    }
    object["apiVersion"] = wanted.into();
    let Some(fields) = object.as_object_mut() else { return Err("not an object".to_owned()) };
    let text = |value: Option<Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    if wanted.ends_with("/v2") {
        let address = text(fields.remove("hostPort")).unwrap_or_default();
        let (host, port) = address.split_once(':').unwrap_or((&address, ""));
        if host == "refused" {
            return Err("that host has no version 2".to_owned());
        }
        fields.insert("host".to_owned(), host.into());
        fields.insert("port".to_owned(), port.into());
    } else {
        let (host, port) = (text(fields.remove("host")), text(fields.remove("port")));
        let address = format!("{}:{}", host.unwrap_or_default(), port.unwrap_or_default());
        fields.insert("hostPort".to_owned(), address.into());
    }
    Ok(object)
}

/// The documents of the aggregated API.
fn document(path: &str, headers: &hyper::HeaderMap) -> Option<Value> {
    let version = json!({"groupVersion": format!("{GROUP}/v1"), "version": "v1"});
    let group = json!({"name": GROUP, "versions": [version], "preferredVersion": version});
    let base = format!("/apis/{GROUP}");
    let rest = path.strip_prefix(&base);
    match (path, rest) {
        ("/apis", _) => Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]})),
        (_, Some("")) => {
            let mut group = group;
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Some(group)
        }
        (_, Some("/v1")) => Some(json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/v1"),
            "resources": [{"name": "flowers", "singularName": "flower", "kind": "Flower", "namespaced": true,
                "verbs": ["get", "list"], "shortNames": ["fl"]}],
        })),
        ("/openapi/v3", _) => Some(json!({"paths": {format!("apis/{GROUP}/v1"):
            {"serverRelativeURL": format!("/openapi/v3/apis/{GROUP}/v1?hash=1")}}})),
        ("/openapi/v2", _) => Some(json!({"swagger": "2.0", "info": {"title": "flowers", "version": "1"},
            "paths": {format!("{base}/v1/"): {}},
            "definitions": {"com.example.Flower": {"type": "object", "x-kubernetes-group-version-kind":
                [{"group": GROUP, "version": "v1", "kind": "Flower"}]}}})),
        (_, Some(rest)) => resource(rest, headers),
        (_, None) if path == format!("/openapi/v3/apis/{GROUP}/v1") => {
            Some(json!({"openapi": "3.0.0", "info": {"title": "flowers", "version": "1"}, "paths": {
                format!("{base}/v1/namespaces/{{namespace}}/flowers/{{name}}"): {"get": {
                    "x-kubernetes-action": "get",
                    "x-kubernetes-group-version-kind": {"group": GROUP, "version": "v1", "kind": "Flower"},
                    "responses": {"200": {"description": "OK"}}}}},
                "components": {"schemas": {"com.example.Flower": {"type": "object",
                    "description": "A flower of the extension.",
                    "x-kubernetes-group-version-kind": [{"group": GROUP, "version": "v1", "kind": "Flower"}]}}}}))
        }
        (_, None) => None,
    }
}

/// `/v1/namespaces/<namespace>/flowers[/<name>]`.
fn resource(rest: &str, headers: &hyper::HeaderMap) -> Option<Value> {
    let parts: Vec<&str> = rest.trim_matches('/').split('/').collect();
    let header = |name: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(",")
    };
    let flower = |namespace: &str, name: &str| {
        json!({"kind": "Flower", "apiVersion": format!("{GROUP}/v1"),
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"user": header("x-remote-user"), "groups": header("x-remote-group")}})
    };
    match parts.as_slice() {
        ["v1", "namespaces", namespace, "flowers"] => Some(json!({
            "kind": "FlowerList", "apiVersion": format!("{GROUP}/v1"), "metadata": {"resourceVersion": "1"},
            "items": [flower(namespace, "rose"), flower(namespace, "tulip")],
        })),
        ["v1", "namespaces", namespace, "flowers", name] => Some(flower(namespace, name)),
        _ => None,
    }
}
